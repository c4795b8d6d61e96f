"""Codes of neighbouring levels side by side; a row that is marked at one is marked at all.

In: parts [N, L_i], strided rows. Out: codes [N, Σ L_i]. int64. A program takes BLOCK_N rows.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from .tiles import DRAWS


@triton.jit(do_not_specialize=["N"])
def joined_codes_kernel(
    parts,
    codes,
    N,
    WIDTHS: tl.constexpr,
    STARTS: tl.constexpr,
    L: tl.constexpr,
    BLOCK_N: tl.constexpr,
):
    row = tl.program_id(0).to(tl.int64) * BLOCK_N + tl.arange(0, BLOCK_N)
    least = tl.zeros([BLOCK_N], tl.int64)
    for part in tl.static_range(len(WIDTHS)):
        for level in range(WIDTHS[part]):
            code = tl.load(parts[part] + row * WIDTHS[part] + level, mask=row < N, other=0)
            least = tl.minimum(least, code)
    for part in tl.static_range(len(WIDTHS)):
        for level in range(WIDTHS[part]):
            code = tl.load(parts[part] + row * WIDTHS[part] + level, mask=row < N, other=0)
            code = tl.where(least < 0, -1, code)
            tl.store(codes + row * L + STARTS[part] + level, code, mask=row < N)


def joined_codes(parts: list[Tensor]) -> Tensor:
    """parts [N, L_i] int64 -> codes [N, Σ L_i]"""
    widths = [part.shape[1] for part in parts]
    N, L = len(parts[0]), sum(widths)
    codes = parts[0].new_empty((N, L))
    if N > 0:
        with torch.cuda.device_of(codes):
            joined_codes_kernel[triton.cdiv(N, DRAWS),](
                tuple(part.contiguous() for part in parts),
                codes,
                N,
                WIDTHS=tuple(widths),
                STARTS=tuple(sum(widths[:part]) for part in range(len(widths))),
                L=L,
                BLOCK_N=DRAWS,
            )
    return codes
