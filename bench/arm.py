"""Lower bound of the ARM screen's time, predicted from its instructions. Nothing here is measured.

    make test-arm; python -m bench.arm [LIBRARY]

Counts the instructions of the loop over panels of codewords (screen.h's score_tile) in a library
for ARM, by default that of `make test-arm`, and predicts from them a bound of the screen's time for
a row and level. A processor starts so many vector instructions, loads, stores and instructions of
any kind a cycle; a store of a vector also takes a vector pipe. The prediction is the largest of
these: no stall, no miss, and nothing but the screen. The truth is above. What a processor starts is
an assumption, PROCESSORS; for older ones than those only the counts are given.
"""

from __future__ import annotations

import math
import re
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from .workloads import W1, W2, W3, Workload

LIBRARY = Path("build/arm/letter_fast/kernels/cpp/native.so")
SETS = ("neon", "neon_dotprod", "neon_i8mm")
ROWS = {"neon": 2, "neon_dotprod": 4, "neon_i8mm": 4}  # kRows of vector_neon.h
PANEL, BLOCK, SHORT = 16, 32, 16  # kPanelWords, kBlockWidth and kShortWidth of the screen
_LINE = re.compile(r"^\s*([0-9a-f]+):\s+(\S+)\s*(.*)$")


@dataclass(frozen=True)
class Processor:
    """Instructions that may start in a cycle; a multiplication of any kind is one of `vector`."""

    ghz: float
    vector: int
    loads: int
    stores: int
    all: int
    sets: tuple[str, ...]


PROCESSORS = {
    "Neoverse N1 (Graviton 2)": Processor(2.5, 2, 2, 2, 4, ("neon", "neon_dotprod")),
    "Neoverse V1 (Graviton 3)": Processor(2.6, 4, 3, 2, 8, SETS),
    "Apple M1": Processor(3.2, 4, 3, 2, 8, ("neon", "neon_dotprod")),
    "Apple M2": Processor(3.5, 4, 3, 2, 8, SETS),
}


def kind(name: str, operands: str) -> Counter[str]:
    """The parts of a processor that an instruction takes."""
    vector = re.match(r"\{?[vqsd]\d", operands) is not None
    pair = 2 if name in ("ldp", "stp") else 1
    if name.startswith(("ld", "prf")):
        return Counter(all=1, loads=pair, vector=int(name == "ld1r"))
    if name.startswith("st"):
        return Counter(all=1, stores=pair, vector=pair * vector)
    return Counter(all=1, vector=int(vector))


def panel_loop(text: str) -> tuple[Counter[str], Counter[str]]:
    """Instructions of a score_tile's loop over panels: outside and inside of that over blocks.

    With one block all is outside.
    """
    lines = [(int(m[1], 16), m[2], m[3]) for m in map(_LINE.match, text.splitlines()) if m]
    loops = []
    for at, name, operands in lines:
        target = re.match(r"(?:[wx]\d+, )?([0-9a-f]+) <", operands)
        if name.startswith(("b.", "cbnz", "cbz")) and target and int(target[1], 16) < at:
            loops.append((int(target[1], 16), at))
    multiply = [at for at, name, _ in lines if name in ("smlal", "sdot", "smmla")]
    holding = [loop for loop in loops if loop[0] <= multiply[-1] <= loop[1]]
    outer = max(holding, key=lambda loop: loop[1] - loop[0])
    inner = min(holding, key=lambda loop: loop[1] - loop[0])
    counts = Counter[str](), Counter[str]()
    for at, name, operands in lines:
        if outer[0] <= at <= outer[1]:
            is_inner = inner != outer and inner[0] <= at <= inner[1]
            counts[is_inner].update(kind(name, operands))
    return counts


def loops(library: Path) -> dict[tuple[str, str], tuple[Counter[str], Counter[str]]]:
    """Set and template arguments of score_tile -> its loop."""
    tool = ["aarch64-linux-gnu-objdump", "--disassemble", "--demangle", "--no-show-raw-insn"]
    text = subprocess.run([*tool, library], check=True, stdout=subprocess.PIPE, text=True).stdout
    found = {}
    for function in text.split("\n\n"):
        head = re.search(r"<void lf::(\w+)::\(.*?\)::score_tile<(.*?)>\(.*>:$", function, re.M)
        if head and head[1] in SETS:
            found[head[1], head[2]] = panel_loop(function)
    return found


def of_row_level(
    loop: tuple[Counter[str], Counter[str]], workload: Workload, set_: str
) -> dict[str, float]:
    """Instructions of a row at one level of a workload, on average over its levels."""
    blocks = 1 if workload.dim <= BLOCK else math.ceil(workload.dim / BLOCK)
    panels = sum(math.ceil(size / PANEL) for size in workload.sizes) / len(workload.sizes)
    outside, inside = loop
    return {name: panels * (outside[name] + blocks * inside[name]) / ROWS[set_] for name in outside}


def main() -> None:
    found = loops(Path(sys.argv[1]) if len(sys.argv) > 1 else LIBRARY)
    for workload in (W1, W2, W3):
        tile = "4, true" if workload.dim <= SHORT else "8, true"
        if workload.dim > BLOCK:
            tile = "8, false"
        print(f"{workload.name}: D = {workload.dim}, K = {workload.sizes[0]}, a row and level")
        for set_ in SETS:
            takes = of_row_level(found[set_, tile], workload, set_)
            counts = ", ".join(f"{value:,.0f} {name}" for name, value in takes.items())
            print(f"  {set_}: {counts}")
            for name, processor in PROCESSORS.items():
                if set_ == processor.sets[-1]:
                    cycles = max(value / getattr(processor, key) for key, value in takes.items())
                    print(f"    {name}: {cycles / processor.ghz:,.0f} ns (predicted)")


if __name__ == "__main__":
    main()
