"""python -m bench.exactness: are the codes the reference's, on data meant to break them?

    python -m bench.exactness                    10⁸ row-levels
    python -m bench.exactness --millions 1       a quick look
    python -m bench.exactness --device cuda      the Triton kernels on a GPU

Each case draws a shape and data of one kind, and compares the device's backend with the reference
on the same device. On a CPU the instruction set, the threads and the split into batches change
from case to case. Exit status 1 where a single code differs.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable

import torch
from torch import Tensor

from letter_fast import kernels
from letter_fast.kernels.cpp import library

# Distances and rows of a case, at most: the reference takes a second or so for them.
_DISTANCES, _ROWS = 1 << 26, 1 << 18

Case = tuple[Tensor, list[Tensor]]


class Draw:
    """Random numbers of one case."""

    def __init__(self, seed: int, device: torch.device) -> None:
        self.generator = torch.Generator(device).manual_seed(seed)
        self.device = device

    def normal(self, *shape: int) -> Tensor:
        return torch.randn(*shape, generator=self.generator, device=self.device)

    def integers(self, low: int, high: int, *shape: int) -> Tensor:
        return torch.randint(low, high, shape, generator=self.generator, device=self.device)

    def one_of(self, *values: int) -> int:
        return values[int(self.integers(0, len(values), 1))]


def gaussian(draw: Draw, n: int, d: int, sizes: list[int]) -> Case:
    return draw.normal(n, d), [draw.normal(k, d) * 0.8**level for level, k in enumerate(sizes)]


def clustered(draw: Draw, n: int, d: int, sizes: list[int]) -> Case:
    centres = draw.normal(50, d)
    x = centres[draw.integers(0, 50, n)] + 0.3 * draw.normal(n, d)
    books, residual = [], x
    for k in sizes:
        books.append(residual[draw.integers(0, n, k)] + 0.05 * draw.normal(k, d))
        residual = residual[:4096] - books[-1][draw.integers(0, k, min(n, 4096))]
        residual = residual[draw.integers(0, len(residual), n)]
    return x, books


def duplicated(draw: Draw, n: int, d: int, sizes: list[int]) -> Case:
    x, books = clustered(draw, n, d, sizes)
    return x, [book[draw.integers(0, max(1, len(book) // 2), len(book))] for book in books]


def near_ties(draw: Draw, n: int, d: int, sizes: list[int]) -> Case:
    """Rows one float32 step off the middle of two codewords, to either side."""
    books = [draw.normal(k, d) for k in sizes]
    a, b = (books[0][draw.integers(0, sizes[0], n)].double() for _ in range(2))
    x = ((a + b) / 2).float()
    toward = torch.where(draw.integers(0, 2, n, d) > 0, torch.inf, -torch.inf)
    here = draw.integers(0, d, n, 1) == torch.arange(d, device=draw.device)
    return torch.where(here, torch.nextafter(x, toward), x), books


def grid(draw: Draw, n: int, d: int, sizes: list[int]) -> Case:
    return draw.integers(-3, 4, n, d).float(), [draw.integers(-3, 4, k, d).float() for k in sizes]


def scaled(power: int) -> Callable[[Draw, int, int, list[int]], Case]:
    def make(draw: Draw, n: int, d: int, sizes: list[int]) -> Case:
        x, books = clustered(draw, n, d, sizes)
        return x * 10.0**power, [book * 10.0**power for book in books]

    return make


def mixed(draw: Draw, n: int, d: int, sizes: list[int]) -> Case:
    x, books = clustered(draw, n, d, sizes)
    scale = torch.logspace(-6, 6, n, device=draw.device)
    return x * scale[:, None], books


KINDS: dict[str, Callable[[Draw, int, int, list[int]], Case]] = {
    "gaussian": gaussian,
    "clustered": clustered,
    "duplicated codewords": duplicated,
    "1 ulp from a tie": near_ties,
    "grid": grid,
    "large (1e9)": scaled(9),
    "small (1e-9)": scaled(-9),
    "rows of mixed scale": mixed,
    "huge (1e30)": scaled(30),
    "tiny (1e-30)": scaled(-30),
    "denormal (1e-41)": scaled(-41),
}
# The reference settles ties row by row in Python: fewer rows there.
_SLOW = {"1 ulp from a tie": 40, "grid": 400}


def compare(kind: str, seed: int, device: torch.device) -> tuple[int, int]:
    """One case. -> row-levels compared, and how many codes differ"""
    draw = Draw(seed, device)
    small = draw.one_of(0, 1, 1, 1)  # most rows in small shapes, most work in large ones
    d = draw.one_of(1, 2, 3, 5, 8, 13) if small else draw.one_of(16, 31, 32, 33, 64, 130, 768)
    words = (2, 5, 17, 40) if small else (64, 256, 300, 1000)
    sizes = [draw.one_of(*words) for _ in range(draw.one_of(1, 2, 3, 4))]
    rows = max(64, min(_ROWS, _DISTANCES // (sum(sizes) * d)) // _SLOW.get(kind, 1))
    x, books = KINDS[kind](draw, rows, d, sizes)
    table = torch.cat(books)
    offset = None  # a third of the cases have prices
    if seed % 3 == 0:
        spread = 10.0 ** draw.one_of(-6, 0, 3) * x.square().sum(1).mean().clamp(max=1e30).double()
        offset = spread * draw.normal(len(table)).double()
    with kernels.use_backend("reference"):
        expected = kernels.pick(device).residual_search(x, table, sizes, offset, False)[0]
    batch = max(1, rows // draw.one_of(1, 2, 7))
    threads = torch.get_num_threads()
    if device.type == "cpu":
        sets = library.instruction_sets()
        os.environ["LETTER_FAST_INSTRUCTION_SET"] = sets[seed // len(KINDS) % len(sets)]
        torch.set_num_threads(1 + seed // len(KINDS) % 3)
    fast = kernels.pick(device)
    found = torch.cat(
        [fast.residual_search(part, table, sizes, offset, False)[0] for part in x.split(batch)]
    )
    torch.set_num_threads(threads)
    return expected.numel(), int((found != expected).sum())


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.exactness", description=__doc__)
    parser.add_argument("--millions", type=float, default=100.0, help="row-levels (100)")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    options = parser.parse_args()
    device = torch.device(options.device)
    totals = dict.fromkeys(KINDS, 0)
    wrong = dict.fromkeys(KINDS, 0)
    begin, seed = time.perf_counter(), 0
    while sum(totals.values()) < options.millions * 1e6:
        for kind in KINDS:
            seed += 1
            compared, differing = compare(kind, seed, device)
            totals[kind] += compared
            wrong[kind] += differing
    for kind in KINDS:
        print(f"{kind:24} {totals[kind]:>13,} row-levels, {wrong[kind]} differ")
    print(f"{sum(totals.values()):,} in {time.perf_counter() - begin:.0f} s, {seed} cases")
    sys.exit(1 if any(wrong.values()) else 0)


if __name__ == "__main__":
    main()
