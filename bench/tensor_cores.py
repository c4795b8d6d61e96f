"""python -m bench.tensor_cores: how this card's tensor cores add, against what γ assumes.

kernels/triton/score.py bounds the error of P products in float32 by (9/8·P + 16) units of 2⁻²³ of
the sum of magnitudes: a block of b products and the accumulator are aligned to their largest,
truncated F bits behind its leading one, and the sum is truncated to float32. Assumed are b ≥ 8, and
F ≥ 24 where b < 16, else F ≥ 23. Sums of known terms tell:

    1 − 1 + 2⁻³⁰ at place j    2⁻³⁰ is lost in the block of the ones, and kept in a later one:  b
    1 + n·2⁻ᶠ, n = 2^(f − 23)  more than 1 only if f bits are kept:                             F
    1 + (P − 1)·(a little less than 2⁻²³)   loses the most there is to lose:     the bound itself

Each on a tile of the wide instruction (wgmma, tcgen05 where the card has it) and of the narrow.
"""

from __future__ import annotations

import sys
from typing import NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

_UNIT = 2.0**-23
_LENGTHS = (32, 64, 128, 256)
# Rows and warps of a tile: 16 rows are one mma.sync; 64 of four warps one wgmma on sm_90.
TILES = ((16, 1), (64, 4))


class Sums(NamedTuple):
    """block b; bits F; worst: of each length P, the largest error found over its bound."""

    block: int
    bits: int
    worst: float

    @property
    def fault(self) -> str:
        """The part of the assumption that doesn't hold; empty where all does."""
        least = 24 if self.block < 16 else 23
        if self.block < 8:
            return f"blocks of {self.block} products, fewer than 8"
        if self.bits < least:
            return f"{self.bits} fraction bits in blocks of {self.block}, fewer than {least}"
        return f"an error of {self.worst:.2f} times the bound" if self.worst > 1 else ""


@triton.jit
def products_kernel(a, b, out, P: tl.constexpr, ROWS: tl.constexpr):
    """out [ROWS, ROWS] = a [ROWS, P] · b [P, ROWS], one product of tensor cores."""
    row = tl.arange(0, ROWS)
    p = tl.arange(0, P)
    left = tl.load(a + row[:, None] * P + p[None, :])
    right = tl.load(b + p[:, None] * ROWS + row[None, :])
    tl.store(out + row[:, None] * ROWS + row[None, :], tl.dot(left, right))


def sums(terms: Tensor, rows: int, warps: int) -> Tensor:
    """Of each row of terms [T ≤ rows, P], 11 bits at most each, as the tensor cores add it; [T]"""
    T, P = terms.shape
    mantissa, exponent = torch.frexp(terms.double())
    half = exponent // 2
    left, right = terms.new_zeros((2, rows, P), dtype=torch.float64)
    left[:T] = torch.ldexp(mantissa, half)
    right[:T] = torch.ldexp(torch.ones_like(mantissa), exponent - half)
    a, b = left.half(), right.half().T.contiguous()
    out = torch.empty((rows, rows), dtype=torch.float32, device=terms.device)
    with torch.cuda.device_of(out):
        products_kernel[(1,)](a, b, out, P, rows, num_warps=warps)
    return out.diagonal()[:T]


def measure(device: torch.device, rows: int, warps: int) -> Sums:
    """b, F and the worst sum of one tile."""
    P = 32
    tests = torch.zeros(16, P, device=device, dtype=torch.float64)
    places = torch.arange(2, P, 2, device=device)  # a block has an even number of products
    tests[:, 0], tests[:, 1] = 1.0, -1.0
    tests[torch.arange(len(places)), places] = 2.0**-30
    kept = sums(tests[: len(places)] * 2.0**14, rows, warps) > 0
    block = int(places[kept].min()) if bool(kept.any()) else P

    tests = torch.zeros(4, P, device=device, dtype=torch.float64)
    for i, bits in enumerate(range(23, 27)):
        tests[i, 0], tests[i, 1 : 1 + 2 ** (bits - 23)] = 1.0, 2.0**-bits
    got = sums(tests * 2.0**14, rows, warps) > 2.0**14
    seen = [22 + i for i in range(1, 5) if bool(got[:i].all())]
    bits = max(seen, default=22)

    worst = 0.0
    for length in _LENGTHS:
        terms = torch.full((2, length), _UNIT * (1 - 2.0**-10), device=device, dtype=torch.float64)
        terms[:, 0] = 1.0
        terms[1, 1:] *= -1
        terms *= 2.0**14
        error = (sums(terms, rows, warps).double() - terms.sum(dim=1)).abs()
        units = error / (_UNIT * terms.abs().sum(dim=1))
        worst = max(worst, float(units.max()) / (1.125 * length + 16))
    return Sums(block, bits, worst)


def main() -> None:
    if not torch.cuda.is_available():
        sys.exit(f"tensor_cores needs a CUDA device; torch {torch.__version__} sees none")
    faults = []
    for rows, warps in TILES:
        found = measure(torch.device("cuda"), rows, warps)
        print(
            f"{rows} rows, {warps} warps: blocks of {found.block}, {found.bits} fraction bits, "
            f"worst error {found.worst:.2f} of the bound",
            flush=True,
        )
        if found.fault:
            faults.append(f"γ does not hold on this card ({rows} rows): {found.fault}")
    sys.exit("\n".join(faults))


if __name__ == "__main__":
    main()
