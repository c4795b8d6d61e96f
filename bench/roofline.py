"""Lower bound of the compiled search's time, predicted from its instructions. Nothing is measured.

    python -m bench.roofline [--only NAME] [--target NAME] [--update]

Compiles the search's kernels as compile_report.py does and counts the instructions of each loop by
pipe. The exit code is 1 if

  - scores go from one layout to another through shared memory in an inner loop,
  - an atomic waits for all of memory (MEMBAR),
  - a loop has over 5 % more instructions than in bench/results/roofline.json.

From the counts follow bounds: a multiprocessor issues 4 warps' instructions a clock, each pipe
takes some lanes a clock, caches and memory give some bytes. A prediction is the largest of
these for each kernel, the kernels of a call added up: no stall, no wait for memory, no tail. The
truth is above, by as much as a GPU will tell. A "?" stands where the loops aren't recognised, as on
sm_100.
"""

from __future__ import annotations

import argparse
import json
import math
import re
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path

from rich.console import Console
from rich.table import Table

from letter_fast.kernels.triton import score, tiles
from letter_fast.kernels.triton.balanced_lloyd import (
    COARSE,
    COARSE_PASSES,
    CONTESTED,
    LAST_PASSES,
)

from .compile_report import MEMBAR, Case, built, cases, read_cubin
from .sass import Loop, hot_loops
from .workloads import W1, W2, W3, Workload

COMMITTED = Path(__file__).parent / "results" / "roofline.json"
LAUNCHES = Path(__file__).parents[1] / "tests" / "fake_cuda" / "launches.json"
GROWTH = 1.05
TARGETS = ("sm_80", "sm_90", "sm_100")
KERNELS: tuple[str, ...] = (
    "screen",
    "screen ×3",
    "screen wide",
    "screen wide ×3",
    "split",
    "split low",
    "settle",
    "settle named",
    "runner-up",
    "runner-up ×3",
    "margins",
    "screen paths",
    "list",
    "extend",
    "pack words",
    "pack slots",
    "code sums",
    "cluster sizes",
    "price step",
    "layers forward",
    "layers backward",
    "layers backward, many",
    "layers sums",
)

# Those whose products are what they store, and are laid out for that.
PRODUCTS_STORED = ("layers",)
# Those that store a bit a score, 32 in a word.
BITS_STORED = ("screen paths",)

# Lanes a clock of a multiprocessor by pipe, as remembered of "Throughput of Native Arithmetic
# Instructions" in the CUDA C++ Programming Guide for compute capability 8.0 and 9.0 and not looked
# up; 10.0 is taken as 9.0.
LANES = {
    "sm_80": {"alu": 64, "fma": 64, "fp64": 32, "xu": 16, "memory": 32},
    "sm_90": {"alu": 64, "fma": 128, "fp64": 64, "xu": 16, "memory": 32},
    "sm_100": {"alu": 64, "fma": 128, "fp64": 64, "xu": 16, "memory": 32},
}
ISSUE = 4 * 32  # lanes: one warp a scheduler and clock


@dataclass(frozen=True)
class Card:
    """Rates per second, in units of 10⁹: multiprocessors, clock and HBM of the SXM cards, as
    remembered of NVIDIA's datasheets and not looked up; H100's clock under load and the L2 rates
    are estimates.
    """

    target: str
    multiprocessors: int
    clock: float  # GHz
    tensor: int  # fp16 operations a clock and multiprocessor
    hbm: int  # GB/s
    l2: int  # GB/s


CARDS = {
    "A100": Card("sm_80", 108, 1.41, 2048, 2039, 4500),
    "H100": Card("sm_90", 132, 1.755, 4096, 3350, 5500),
    "H200": Card("sm_90", 132, 1.755, 4096, 4800, 5500),
    "B200": Card("sm_100", 148, 1.85, 8192, 8000, 5500),
}

# Shares of rows that one product and then three leave over (per level for W2). The first, and W2's
# second, come from simulations on the CPU; the second of W1 and W3 is assumed.
LEFT = {"W1": (0.08, 0.0005), "W2": (0.07, 0.014), "W3": (0.04, 0.001)}
# Of the runners-up, as many times as many: a runner-up and the third lie closer. Assumed.
RUNNERS = 3
# Share of the rows that settle has no names for: two codewords in question, in one lane by chance.
UNNAMED = 1 / 8
# Seconds: a launch of PyTorch's and of Triton's on the host; the least time of one on the device.
HOST_TORCH, HOST_TRITON, DEVICE = 4e-6, 12e-6, 2.5e-6
# Of a balanced assignment: collections that the repair asked for, and its seconds on one processor
# for each row with a choice and collection. The most and the largest of simulations with the CPU's
# searches in place of a GPU's: 40,000 to 300,000 rows, sizes of N/2K to 2N/K.
COLLECTIONS, REPAIR = 5, 0.4e-6
# Widths of LETTER's default encoder, which the decoder mirrors. Sinkhorn's sweeps and codewords.
WIDTHS = (384, 2048, 1024, 512, 256, 128, 64, 32)
SWEEPS, WORDS = 50, 256
# Seconds until all programs of a cooperative launch have met. Assumed.
MEETING = 1.5e-6


@dataclass(frozen=True)
class Kernel:
    """The compiled kernel of one case."""

    case: Case
    target: str
    loops: list[Loop]  # innermost first
    problems: list[str]

    @property
    def name(self) -> str:
        return f"{self.target} {self.case.name} {self.case.config}"


def compile_kernel(case: Case, target: str) -> Kernel:
    compiled = built(case, target)
    _, _, sass = read_cubin(compiled.asm["cubin"])
    problems = []
    if converted(case, compiled.asm["ttgir"]):
        problems.append("scores change their layout in a loop")
    if MEMBAR.search(sass):
        problems.append("an atomic waits for all of memory")
    return Kernel(case, target, hot_loops(sass), problems)


def converted(case: Case, ttgir: str) -> bool:
    """Whether numbers other than the product's operands are converted in the loop that has the
    product, more than one a row or word; or, where that loop goes along D, more than a quarter of
    a tile in the loop over tiles around it.

    A kernel of BITS_STORED may convert a bit a score: so few move that the rows' stores are
    together.
    """
    if not case.tensor_core or case.name.startswith(PRODUCTS_STORED):
        return False
    rows, words = case.constants["BLOCK_N"], case.constants["BLOCK_K"]
    most = {1: rows}
    if "BLOCK_D" in case.constants:
        most[2] = rows * words // 4
    conversion = re.compile(r"ttg\.convert_layout .*tensor<([\dx]+)x([fi]32), .*-> tensor<\1x\2, ")
    for around, allowed in most.items():
        for loop in product_loops(ttgir, around):
            moved = {found.groups() for found in conversion.finditer(loop)}
            moved = {each for each in moved if each[0] != str(words)}
            if case.name in BITS_STORED:
                moved.discard((f"{rows}x{words // 32}", "i32"))
            if any(math.prod(map(int, shape.split("x"))) > allowed for shape, _ in moved):
                return True
    return False


def product_loops(ttgir: str, around: int = 1) -> list[str]:
    """The innermost loops with a product, as text; or the loops so many steps out."""
    open_: list[tuple[bool, list[str], int]] = [(False, [], 0)]
    found = []
    for line in ttgir.splitlines():
        if line.strip().startswith("}") and len(open_) > 1:
            loop, lines, depth = open_.pop()
            body = "\n".join(lines)
            has_product = re.search(r"\b(?:tt\.dot|ttng\.\w*mma|ttg\.\w*dot\w*)\b|_dot\b", body)
            # Of the loops around the innermost product, how many have been closed.
            depth = depth + 1 if loop and (has_product or depth) else depth
            if loop and depth == around:
                found.append(body)
            outer, text, most = open_[-1]
            open_[-1] = (outer, [*text, body], max(most, depth))
        if line.split(" loc(")[0].rstrip().endswith("{"):
            open_.append(("scf.for" in line or "scf.while" in line, [], 0))
        else:
            open_[-1][1].append(line)
    return found


def grown(kernel: Kernel, committed: dict[str, list[int]]) -> list[str]:
    """Loops that have more instructions than the committed report allows."""
    found = [loop.instructions for loop in kernel.loops]
    allowed = committed.get(kernel.name)
    if allowed is None:
        return ["is not in bench/results/roofline.json: run with --update"]
    if len(found) != len(allowed):
        return [f"has {len(found)} loops around its product, not {len(allowed)}"]
    return [
        f"has {now} instructions at depth {loop.depth}, not {then}"
        for loop, now, then in zip(kernel.loops, found, allowed)
        if now > GROWTH * then
    ]


def clocks(loop: Loop, case: Case, target: str) -> float:
    """Clocks of a multiprocessor that a round of `loop` of one program takes at least."""
    lanes = 32 * case.warps
    rates = LANES[target]
    issue = lanes * loop.instructions / ISSUE
    return max(issue, *(lanes * loop.pipes.get(pipe, 0) / rate for pipe, rate in rates.items()))


def narrow_ms(kernel: Kernel, of: Workload, rows: float, card: Card) -> float:
    """A narrow screen: tiles in chunks of codewords in levels in blocks of rows."""
    if len(kernel.loops) != 5:
        return math.nan  # the compiler made other loops of them
    tile, chunk, level, block, _ = kernel.loops
    shape = kernel.case.constants
    products = 3 if shape["THREE"] else 1
    tensor = 2 * products * shape["BLOCK_N"] * shape["BLOCK_K"] * shape["P"] / card.tensor
    a_tile = max(clocks(tile, kernel.case, kernel.target), tensor)
    tiles_ = sum(-(-size // shape["BLOCK_K"]) for size in of.sizes)
    a_block = tiles_ * a_tile + chunks(of) * clocks(chunk, kernel.case, kernel.target)
    a_block += len(of.sizes) * clocks(level, kernel.case, kernel.target)
    a_block += clocks(block, kernel.case, kernel.target)
    work = rows / shape["BLOCK_N"] * a_block / card.multiprocessors / (card.clock * 1e9)
    halves = 2 if shape["THREE"] else 1
    words = rows / shape["BLOCK_N"] * tiles_ * shape["BLOCK_K"] * shape["P"] * 2 * halves
    return 1e3 * float(max(work, words / (card.l2 * 1e9), rows * of.bytes / (card.hbm * 1e9)))


def chunks(of: Workload) -> int:
    """Rounds of the loop over CHUNK codewords at a time, of a row."""
    return sum(-(-size // score.CHUNK.value) for size in of.sizes)


def wide_ms(kernel: Kernel, of: Workload, rows: float, card: Card) -> float:
    """A wide screen, all levels: steps of D in tiles in chunks of codewords in blocks of rows."""
    if len(kernel.loops) != 5:
        return math.nan
    step, tile, chunk, block, _ = kernel.loops
    shape = kernel.case.constants
    products = 3 if shape["THREE"] else 1
    steps = -(-of.dim // shape["BLOCK_D"])
    operations = 2 * products * shape["BLOCK_N"] * shape["BLOCK_K"] * shape["BLOCK_D"]
    a_step = max(clocks(step, kernel.case, kernel.target), operations / card.tensor)
    a_tile = steps * a_step + clocks(tile, kernel.case, kernel.target)
    blocks = rows / shape["BLOCK_N"]
    number = blocks * sum(-(-size // shape["BLOCK_K"]) for size in of.sizes)
    work = number * a_tile + blocks * chunks(of) * clocks(chunk, kernel.case, kernel.target)
    work += blocks * len(of.sizes) * clocks(block, kernel.case, kernel.target)
    work /= card.multiprocessors * card.clock * 1e9
    halves = 2 if shape["THREE"] else 1
    traffic = number * (shape["BLOCK_N"] + shape["BLOCK_K"]) * of.dim * 2 * halves
    return 1e3 * float(max(work, traffic / (card.l2 * 1e9)))


def exact_ms(elements: float, card: Card) -> float:
    """Differences in float64: each converts a codeword's element, squares and adds."""
    rates = LANES[card.target]
    an_element = max(1 / rates["xu"], 2 / rates["fp64"])
    return 1e3 * elements * an_element / card.multiprocessors / (card.clock * 1e9)


def settled_ms(of: Workload, rows: float, lanes: int, card: Card) -> float:
    """All codewords twice, or, with lanes, those that the last screen names, once."""
    unnamed = UNNAMED if lanes else 1.0
    words = sum(unnamed * 2 * size + (1 - unnamed) * lanes for size in of.sizes)
    return exact_ms(rows * of.dim * words, card)


def seconds(
    kernel: Kernel, rounds: tuple[float, ...], card: Card, programs: float = math.inf
) -> float:
    """Of all a kernel's loops, from the innermost out, so many rounds each, in all programs."""
    loops = kernel.loops[-len(rounds) :]
    total = sum(n * clocks(loop, kernel.case, kernel.target) for n, loop in zip(rounds, loops))
    return total / min(programs, card.multiprocessors) / (card.clock * 1e9)


def predictions(kernels: list[Kernel], name: str) -> dict[str, dict[str, float]]:
    """Parts of each prediction, in ms, on the card `name`."""
    card = CARDS[name]
    of_card = [kernel for kernel in kernels if kernel.target == card.target]

    def kernel(name: str, start: str = "") -> Kernel:
        return next(k for k in of_card if k.case.name == name and k.case.config.startswith(start))

    def search(of: Workload, rows: int) -> dict[str, float]:
        three, exact = LEFT[of.name]
        packing = 1e3 * 2 * DEVICE
        if of.dim <= tiles.NARROW_LIMIT:
            width = f"P={tiles.padded_width(of.dim)} "
            return {
                "packing": packing,
                "one product": narrow_ms(kernel("screen", width), of, rows, card),
                "three": narrow_ms(kernel("screen ×3", width), of, three * rows, card),
                "settle": settled_ms(of, exact * rows, 0, card),
            }
        split = (1 + three) * len(of.sizes) * rows * of.dim * 6 / (card.hbm * 1e9)
        lanes = kernel("screen wide ×3").case.constants["LANES"]
        return {
            "packing": packing,
            "split": 1e3 * split,
            "one product": wide_ms(kernel("screen wide"), of, rows, card),
            "three": wide_ms(kernel("screen wide ×3"), of, three * rows, card),
            "settle": settled_ms(of, exact * rows, lanes, card),
        }

    def margins(of: Workload, rows: int) -> dict[str, float]:
        three, exact = (RUNNERS * share for share in LEFT[of.name])
        elements = len(of.sizes) * rows * of.dim
        return {
            "codes": sum(search(of, rows).values()),
            "split": 1e3 * (1 + three) * elements * 6 / (card.hbm * 1e9),
            "runners-up": wide_ms(kernel("runner-up"), of, rows, card)
            + wide_ms(kernel("runner-up ×3"), of, three * rows, card),
            "two distances and the error": exact_ms(4 * elements, card),
            "all distances": settled_ms(of, exact * rows, 0, card) / 2,
        }

    def beam(of: Workload, rows: int, width: int) -> dict[str, float]:
        screen, listing, extend = kernel("screen paths", "P=32 "), kernel("list"), kernel("extend")
        paths = rows * (1 + width * (len(of.sizes) - 1))
        shape = screen.case.constants
        tiles_ = 2 * max(of.sizes) / shape["BLOCK_K"] * paths / shape["BLOCK_N"]
        groups = paths * max(of.sizes) / 32 / tiles.PAIR_ROWS
        each = (tiles_, tiles_, paths / shape["BLOCK_N"])
        return {
            "split": 1e3 * paths * of.dim * 6 / (card.hbm * 1e9),
            "screen": 1e3 * seconds(screen, each, card),
            "lists": 1e3 * seconds(listing, (groups, groups), card),
            "extend": 1e3 * seconds(extend, (len(of.sizes) * rows,), card),
        }

    million = 1_000_000
    one_level = Workload("W1", "", W1.dim, W1.sizes[:1], 0)
    reading = 1e3 * million * 4 * W1.dim / (card.hbm * 1e9)
    counts = json.loads(LAUNCHES.read_text())
    step = [counts[case] for case in counts if case.startswith("LETTER's step: ")]
    triton, torch = (sum(part) for part in zip(*step))
    host = 1e3 * (triton * HOST_TRITON + torch * HOST_TORCH)

    def on_device(precision: str, operations: float) -> dict[str, float]:
        """Of a step, whose products do so many operations a clock and multiprocessor."""
        rate = operations * card.multiprocessors * card.clock * 1e9
        torch_products, own_products = encoder_and_decoder(kernel, precision, rate, card)
        products = len(torch_products) + len(own_products)
        plan = 8 * 1024 * WORDS / (card.l2 * 1e9)  # a sweep reads it twice
        return {
            "PyTorch's products": 1e3 * sum(max(each, DEVICE) for each in torch_products),
            "own products": 1e3 * sum(max(each, DEVICE) for each in own_products),
            "Sinkhorn": 1e3 * ((2 * SWEEPS + 1) * MEETING + 2 * SWEEPS * plan),
            "other launches": 1e3 * (triton + torch - products - 1) * DEVICE,
        }

    float32 = on_device("ieee", 2 * LANES[card.target]["fma"])
    tf32 = on_device("tf32", card.tensor / 2)

    def passes(number: int, rows: int) -> float:
        """Of the ascent: the search, counts and step, or their launches if those take more."""
        count, step = kernel("cluster sizes"), kernel("price step")
        counts = seconds(count, (rows / count.case.constants["BLOCK_N"],), card)
        device = sum(search(one_level, rows).values()) + 1e3 * max(DEVICE, counts)
        device += 1e3 * max(DEVICE, seconds(step, (1.0, 1.0), card, programs=1))
        return number * max(device, 1e3 * (7 * HOST_TRITON + HOST_TORCH))

    lists = 2 * search(one_level, million)["one product"] + 1e3 * 0.75e9 / (card.hbm * 1e9)
    return {
        **{of.name: search(of, million) for of in (W1, W2, W3)},
        "k-means, an iteration of 1 M × 32, K = 256": {
            **search(one_level, million),
            "scores and sums": 2 * reading,
        },
        "balanced assignment of 1 M × 32, K = 256": {
            f"{COARSE_PASSES} passes over a row in {COARSE}": passes(
                COARSE_PASSES, million // COARSE
            ),
            f"{LAST_PASSES} over all": passes(LAST_PASSES, million),
            f"{COLLECTIONS} collections": COLLECTIONS * lists,
            "repair on the host": 1e3 * COLLECTIONS * CONTESTED * million * REPAIR,
            "certificate": sum(search(one_level, million).values()) + 2 * reading,
        },
        "W1 with margins": margins(W1, million),
        "W2 with margins": margins(W2, million),
        "beam 8 of W1": beam(W1, million, 8),
        **{
            f"LETTER's step, 1,024 rows, {kind}": parts
            for precision, device in (("float32", float32), ("TF32", tf32))
            for kind, parts in (
                (f"{precision}, captured", device),
                (f"{precision}, eager", {"host": host, "device": sum(device.values())}),
            )
        },
    }


def encoder_and_decoder(
    kernel: Callable[[str, str], Kernel], precision: str, rate: float, card: Card
) -> tuple[list[float], list[float]]:
    """Seconds of each launch of mlp.py in a step of 1,024 rows: PyTorch's, and its own.

    kernel(name, precision): a compiled kernel; rate: operations a second of PyTorch's products.
    """
    rows = 1024
    torch_products: list[float] = []
    own: list[float] = []
    step = kernel("layers forward", precision).case.constants
    for widths, with_x in ((WIDTHS, False), (WIDTHS[::-1], True)):
        few = 0.0
        for place, (D, K) in enumerate(pairwise(widths)):
            if D * K <= tiles.MANY_WEIGHTS:
                few += math.ceil(K / step["BLOCK_K"]) * math.ceil(D / step["BLOCK_D"])
                continue
            torch_products += [2 * rows * D * K / rate] * 2  # forward, and the weights' gradient
            if place > 0 or with_x:
                many = kernel("layers backward, many", precision)
                shape = many.case.constants
                of_a_round = shape["BLOCK_N"] * shape["BLOCK_K"] * shape["BLOCK_D"]
                rounds = rows * D * K / of_a_round
                own.append(seconds_of_hot(many, rounds, card))
        programs = rows / step["BLOCK_N"]
        for name in ("layers forward", "layers backward"):
            own.append(seconds_of_hot(kernel(name, precision), programs * few, card, programs))
        sums = kernel("layers sums", precision)
        shape = sums.case.constants
        rounds = sum(shape["TILES"]) * rows / shape["BLOCK_N"]
        own.append(seconds_of_hot(sums, rounds, card, sum(shape["TILES"])))
    return torch_products, own


def seconds_of_hot(kernel: Kernel, rounds: float, card: Card, programs: float = math.inf) -> float:
    """Of so many rounds of a kernel's innermost loop, in all programs."""
    clocks_ = rounds * clocks(kernel.loops[0], kernel.case, kernel.target)
    return clocks_ / min(programs, card.multiprocessors) / (card.clock * 1e9)


def shown(ms: float) -> str:
    return "?" if math.isnan(ms) else f"{ms:.2f}"


def show(kernels: list[Kernel]) -> None:
    console = Console(width=None if sys.stdout.isatty() else 150)
    columns = ("issued", "alu", "fma", "fp64", "xu", "memory", "tensor", "barriers", "shared")
    table = Table("kernel", "depth", *columns, title="Instructions of a thread, a round")
    for kernel in kernels:
        for loop in kernel.loops:
            numbers = [loop.pipes.get(pipe, 0) for pipe in columns[1:7]]
            row = [loop.depth, loop.instructions, *numbers, loop.barriers, loop.shared]
            table.add_row(kernel.name, *map(str, row))
    console.print(table)
    table = Table("workload", "card", "ms", "of which", title="Predictions: nothing is measured")
    for name, card in CARDS.items():
        if card.target not in {kernel.target for kernel in kernels}:
            continue
        for work, parts in predictions(kernels, name).items():
            of_which = ", ".join(f"{part} {shown(ms)}" for part, ms in parts.items())
            total = max(parts.values()) if "eager" in work else sum(parts.values())
            table.add_row(work, name, shown(total), of_which)
    console.print(table)
    for name, card in CARDS.items():
        console.print(f"{name}: {asdict(card)}, lanes {LANES[card.target]}")


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="predictions from compiled code, without a GPU")
    parser.add_argument("--only", default="", help="check only kernels whose name starts with this")
    parser.add_argument("--target", choices=TARGETS, action="append", help="only these targets")
    parser.add_argument("--update", action="store_true", help="write the committed counts")
    options = parser.parse_args(arguments)
    if options.update and (options.only or options.target):
        parser.error("--update writes all counts: leave --only and --target away")
    kernels = [
        compile_kernel(case, target)
        for target in options.target or TARGETS
        for case in cases(target)
        if case.name in KERNELS and case.name.startswith(options.only)
    ]
    if options.update:
        counts = {k.name: [loop.instructions for loop in k.loops] for k in kernels}
        lines = ",\n".join(
            f" {json.dumps(name, ensure_ascii=False)}: {json.dumps(of)}"
            for name, of in counts.items()
        )
        COMMITTED.write_text(f"{{\n{lines}\n}}\n")
    committed = json.loads(COMMITTED.read_text()) if COMMITTED.exists() else {}
    problems = [
        f"{kernel.name}: {problem}"
        for kernel in kernels
        for problem in kernel.problems + grown(kernel, committed)
    ]
    if not options.only:
        show(kernels)
    for problem in problems:
        print(problem)
    return int(bool(problems))


if __name__ == "__main__":
    raise SystemExit(main())
