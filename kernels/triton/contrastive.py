"""Mean in-batch InfoNCE and its gradients: attention's online softmax, tile by tile.

    p_ij = exp(q_i·h_j − log Σ_j exp q_i·h_j)
    ∂q_i = (Σ_j p_ij h_j − h_i)/B        ∂h_j = (Σ_i p_ij q_i − [j < B] q_j)/B

In:  q [B, D], h [M, D] contiguous float32; for ∂h also log_total [B] float64.
Out: log_total and row losses [B] float64, ∂q [B, D]; ∂h [M, D] float32.
A program owns BLOCK_N rows of the result and passes over all of the other side, so that no sum
depends on an order. Products are float32 in value: three TF32 ones on NVIDIA (tiles.py says why).
Above D = 128 a tile of both sides doesn't fit in registers: the reference takes over.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from .. import reference
from .tiles import MEAN_ROWS, NARROW_LIMIT, Tile, contrastive_tile, padded_width, product_precision


@triton.jit(do_not_specialize=["B", "M"])
def contrastive_kernel(
    q,
    h,
    log_total,
    row_loss,
    gradient,
    B,
    M,
    D,
    WITH_GRADIENT: tl.constexpr,
    PRECISION: tl.constexpr,
    P: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
):
    row = tl.program_id(0).to(tl.int64) * BLOCK_N + tl.arange(0, BLOCK_N)
    d = tl.arange(0, P)
    live = row < B
    inside = live[:, None] & (d < D)[None, :]
    q_tile = tl.load(q + row[:, None] * D + d[None, :], mask=inside, other=0.0)
    highest = tl.full([BLOCK_N], float("-inf"), tl.float32)
    total = tl.zeros([BLOCK_N], tl.float64)
    own = tl.zeros([BLOCK_N], tl.float32)
    out = tl.zeros([BLOCK_N, P], tl.float32)
    for start in range(0, M, BLOCK_K):
        column = start + tl.arange(0, BLOCK_K).to(tl.int64)
        mask = (column < M)[:, None] & (d < D)[None, :]
        h_tile = tl.load(h + column[:, None] * D + d[None, :], mask=mask, other=0.0)
        score = tl.dot(q_tile, tl.trans(h_tile), input_precision=PRECISION)
        score = tl.where((column < M)[None, :], score, float("-inf"))
        own += tl.sum(tl.where(column[None, :] == row[:, None], score, 0.0), axis=1)
        higher = tl.maximum(highest, tl.max(score, axis=1))
        factor = tl.exp(highest - higher)
        weight = tl.exp(score - higher[:, None])
        total = total * factor.to(tl.float64) + tl.sum(weight, axis=1).to(tl.float64)
        if WITH_GRADIENT:
            product = tl.dot(weight, h_tile, input_precision=PRECISION)
            out = out * factor[:, None] + product
        highest = higher
    logarithm = highest.to(tl.float64) + tl.log(total)
    tl.store(log_total + row, logarithm, mask=live)
    tl.store(row_loss + row, logarithm - own.to(tl.float64), mask=live)
    if WITH_GRADIENT:
        h_own = tl.load(h + row[:, None] * D + d[None, :], mask=inside, other=0.0)
        out = (out * (1.0 / total).to(tl.float32)[:, None] - h_own) / B
        tl.store(gradient + row[:, None] * D + d[None, :], out, mask=inside)


@triton.jit(do_not_specialize=["B", "M"])
def contrastive_gradient_h_kernel(
    q,
    h,
    log_total,
    gradient,
    B,
    M,
    D,
    PRECISION: tl.constexpr,
    P: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
):
    row = tl.program_id(0).to(tl.int64) * BLOCK_N + tl.arange(0, BLOCK_N)
    d = tl.arange(0, P)
    inside = (row < M)[:, None] & (d < D)[None, :]
    h_tile = tl.load(h + row[:, None] * D + d[None, :], mask=inside, other=0.0)
    out = tl.zeros([BLOCK_N, P], tl.float32)
    for start in range(0, B, BLOCK_K):
        column = start + tl.arange(0, BLOCK_K).to(tl.int64)
        mask = (column < B)[:, None] & (d < D)[None, :]
        q_tile = tl.load(q + column[:, None] * D + d[None, :], mask=mask, other=0.0)
        # In two float32 parts: rounded to one, a shift of 100 would cost p its last five bits.
        shift = tl.load(log_total + column, mask=column < B, other=0.0)
        high = shift.to(tl.float32)
        low = (shift - high.to(tl.float64)).to(tl.float32)
        score = tl.dot(h_tile, tl.trans(q_tile), input_precision=PRECISION)
        weight = tl.exp(score - high[None, :] - low[None, :])  # of padding: 1, times rows of 0
        out += tl.dot(weight, q_tile, input_precision=PRECISION)
    own = inside & (row < B)[:, None]
    out -= tl.load(q + row[:, None] * D + d[None, :], mask=own, other=0.0)
    tl.store(gradient + row[:, None] * D + d[None, :], out / B, mask=inside)


@triton.jit(do_not_specialize=["B"])
def mean_kernel(row_loss, loss, B, BLOCK: tl.constexpr):
    """One program: the mean of row_loss [B] float64, as float32."""
    total = tl.zeros([BLOCK], tl.float64)
    for first in range(0, B, BLOCK):
        row = first + tl.arange(0, BLOCK)
        total += tl.load(row_loss + row, mask=row < B, other=0.0)
    tl.store(loss, (tl.sum(total, axis=0) / B).to(tl.float32))


def contrastive(q: Tensor, h: Tensor, with_gradient: bool) -> tuple[Tensor, Tensor, Tensor]:
    """q [B, D], h [M ≥ B, D] float32 -> loss [], log_total [B] float64, gradient [B or 0, D]"""
    B, D = q.shape
    if D > NARROW_LIMIT:
        return reference.contrastive(q, h, with_gradient)
    log_total = torch.empty(B, dtype=torch.float64, device=q.device)
    row_loss, loss = torch.empty_like(log_total), q.new_empty(())
    gradient = torch.empty_like(q if with_gradient else q[:0])
    tile = contrastive_tile(D, q.device)
    with torch.cuda.device_of(q):
        contrastive_kernel[(triton.cdiv(B, tile.rows),)](
            q,
            h,
            log_total,
            row_loss,
            gradient,
            B,
            len(h),
            D,
            WITH_GRADIENT=with_gradient,
            **_options(tile, q),
        )
        mean_kernel[1,](row_loss, loss, B, BLOCK=MEAN_ROWS)
    return loss, log_total, gradient


def contrastive_gradient_h(q: Tensor, h: Tensor, log_total: Tensor) -> Tensor:
    """q [B, D], h [M, D] float32, log_total [B] float64 -> gradient of h [M, D]"""
    M, D = h.shape
    if D > NARROW_LIMIT:
        return reference.contrastive_gradient_h(q, h, log_total)
    gradient = torch.empty_like(h)
    tile = contrastive_tile(D, q.device)
    with torch.cuda.device_of(q):
        contrastive_gradient_h_kernel[(triton.cdiv(M, tile.rows),)](
            q, h, log_total, gradient, len(q), M, D, **_options(tile, q)
        )
    return gradient


def _options(tile: Tile, q: Tensor) -> dict[str, int | str]:
    return {
        "PRECISION": product_precision(q.device),
        "P": padded_width(q.shape[1]),
        "BLOCK_N": tile.rows,
        "BLOCK_K": tile.words,
        "num_warps": tile.warps,
        "num_stages": tile.stages,
    }
