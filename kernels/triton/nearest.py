"""code = argmin_k ‖x − e_k‖² + offset_k: the residual search with one level, and the score.

In:  x [N, D] any strides, codebook [K, D] float32, offset [K] float64, code [N, 1] int64.
Out: score [N] float64 of the chosen codeword, by differences in float64; NaN for a marked row.

A score is the same bits on every backend, which makes k-means' inertia, the iteration it stops at
and the rows that refill empty clusters the same too. Squares are added in eight lanes, lane j those
of the columns d ≡ j (mod 8) in turn, and the lanes in a tree: 4 + 4, 2 + 2, 1 + 1. Compiled without
FMA, so that each operation rounds as it does elsewhere.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from .residual_search import search

# Rows a program scores: two lanes of a row a thread.
SCORE_ROWS = 64


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
):
    row = tl.program_id(0).to(tl.int64) * BLOCK_N + tl.arange(0, BLOCK_N)
    k = tl.load(code + row, mask=row < N, other=-1)
    lanes = tl.zeros([BLOCK_N, 8], tl.float64)
    for d0 in range(0, D, 8):
        d = d0 + tl.arange(0, 8)
        mask = (k >= 0)[:, None] & (d < D)[None, :]
        r = tl.load(
            x + row[:, None] * stride_n + d.to(tl.int64)[None, :] * stride_d, mask=mask, other=0.0
        )
        e = tl.load(codebook + k[:, None] * D + d[None, :], mask=mask, other=0.0)
        gap = r.to(tl.float32).to(tl.float64) - e.to(tl.float64)
        lanes += gap * gap
    # Of two numbers each, in which order doesn't matter.
    fours = tl.sum(tl.reshape(lanes, [BLOCK_N, 2, 4]), axis=1)
    twos = tl.sum(tl.reshape(fours, [BLOCK_N, 2, 2]), axis=1)
    total = tl.sum(twos, axis=1)
    if HAS_OFFSET:
        total += tl.load(offset + k, mask=k >= 0, other=0.0)
    tl.store(score + row, tl.where(k >= 0, total, float("nan")), mask=row < N)


def nearest(x: Tensor, codebook: Tensor, offset: Tensor | None) -> tuple[Tensor, Tensor]:
    """x [N, D], codebook [K, D] float32, offset [K] float64 -> code [N] int64, score [N] float64"""
    codes, _ = search(x, codebook, [len(codebook)], offset, mark=False)
    return codes[:, 0], scores(x, codebook, offset, codes)


def scores(x: Tensor, codebook: Tensor, offset: Tensor | None, codes: Tensor) -> Tensor:
    """‖x − e_code‖² + offset_code, [N] float64. codes: N int64, contiguous."""
    N, D = x.shape
    score = torch.empty(N, dtype=torch.float64, device=x.device)
    if N > 0:
        with torch.cuda.device_of(x):
            score_kernel[(triton.cdiv(N, SCORE_ROWS),)](
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
                BLOCK_N=SCORE_ROWS,
                enable_fp_fusion=False,
            )
    return score
