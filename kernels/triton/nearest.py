"""code = argmin_k ‖x − e_k‖² + offset_k: the residual search with one level, and the score.

In:  x [N, D] any strides, codebook [K, D] float32, offset [K] float64, code [N, 1] int64.
Out: score [N] float64 of the chosen codeword, by differences in float64; NaN for a marked row.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from .residual_search import search


@triton.jit(do_not_specialize=["N"])
def score_kernel(
    x,
    stride_n,
    stride_d,
    codebook,
    offset,
    code,
    score,
    N,
    D,
    HAS_OFFSET: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_D: tl.constexpr,
):
    row = tl.program_id(0).to(tl.int64) * BLOCK_N + tl.arange(0, BLOCK_N)
    k = tl.load(code + row, mask=row < N, other=-1)
    total = tl.zeros([BLOCK_N], tl.float64)
    for d0 in range(0, D, BLOCK_D):
        d = d0 + tl.arange(0, BLOCK_D)
        mask = (k >= 0)[:, None] & (d < D)[None, :]
        r = tl.load(
            x + row[:, None] * stride_n + d.to(tl.int64)[None, :] * stride_d, mask=mask, other=0.0
        )
        e = tl.load(codebook + k[:, None] * D + d[None, :], mask=mask, other=0.0)
        gap = r.to(tl.float32).to(tl.float64) - e.to(tl.float64)
        total += tl.sum(gap * gap, axis=1)
    if HAS_OFFSET:
        total += tl.load(offset + k, mask=k >= 0, other=0.0)
    tl.store(score + row, tl.where(k >= 0, total, float("nan")), mask=row < N)


def nearest(x: Tensor, codebook: Tensor, offset: Tensor | None) -> tuple[Tensor, Tensor]:
    """x [N, D], codebook [K, D] float32, offset [K] float64 -> code [N] int64, score [N] float64"""
    N, D = x.shape
    codes, _ = search(x, codebook, [len(codebook)], offset, mark=False)
    score = torch.empty(N, dtype=torch.float64, device=x.device)
    if N > 0:
        width = min(128, triton.next_power_of_2(D))
        rows = 2048 // width
        with torch.cuda.device_of(x):
            score_kernel[(triton.cdiv(N, rows),)](
                x,
                x.stride(0),
                x.stride(1),
                codebook,
                codebook if offset is None else offset,
                codes,
                score,
                N,
                D,
                HAS_OFFSET=offset is not None,
                BLOCK_N=rows,
                BLOCK_D=width,
            )
    return codes[:, 0], score
