"""The residuals that codes leave of rows, as kernels/reference/residuals.py defines it.

In:  x [N, D] any strides; codebooks [ΣK, D] float32; codes [N, L] int64.  Out: [N, D] float32.
A program takes BLOCK_N rows × BLOCK_D columns through all levels.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from .codebook import layout_of
from .tiles import walk_shape


@triton.jit(do_not_specialize=["N", "L"])
def residuals_kernel(
    x,
    stride_n,
    stride_d,
    codes,
    codebooks,
    starts,
    residuals,
    N,
    D,
    L,
    BLOCK_N: tl.constexpr,
    BLOCK_D: tl.constexpr,
):
    row = tl.program_id(0).to(tl.int64) * BLOCK_N + tl.arange(0, BLOCK_N)
    d = tl.program_id(1).to(tl.int64) * BLOCK_D + tl.arange(0, BLOCK_D)
    inside = (row < N)[:, None] & (d < D)[None, :]
    valid = tl.load(codes + row * L, mask=row < N, other=-1) >= 0
    mask = inside & valid[:, None]
    place = x + row[:, None] * stride_n + d[None, :] * stride_d
    r = tl.load(place, mask=mask, other=float("nan")).to(tl.float32)
    for level in range(L):
        code = tl.load(codes + row * L + level, mask=valid, other=0)
        word = (tl.load(starts + level) + code)[:, None] * D + d[None, :]
        r -= tl.load(codebooks + word, mask=mask, other=0.0)
    tl.store(residuals + row[:, None] * D + d[None, :], r, mask=inside)


def residuals(x: Tensor, codebooks: Tensor, sizes: list[int], codes: Tensor) -> Tensor:
    """x [N, D], codebooks [ΣK, D] float32, codes [N, L] int64 -> [N, D] float32"""
    N, D = x.shape
    left = torch.empty((N, D), dtype=torch.float32, device=x.device)
    if N > 0:
        shape = walk_shape(D)
        grid = triton.cdiv(N, shape["BLOCK_N"]), triton.cdiv(D, shape["BLOCK_D"])
        starts = layout_of(tuple(sizes), x.device).starts
        with torch.cuda.device_of(x):
            residuals_kernel[grid](
                x, *x.stride(), codes, codebooks, starts, left, N, D, len(sizes), **shape
            )
    return left
