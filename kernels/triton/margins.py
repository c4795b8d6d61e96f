"""The margin of a level's codeword, by which the next one is farther, and the error it leaves.

    margin_l = min_{k ≠ c_l} d_k − d_{c_l},    d_k = ‖r_{l−1} − e_k‖² + offset_k
    error_l = ‖r_l‖²

over the allowed codewords: infinite if there is no other one. Sums are float64.

The screens find the runner-up as they found the code (screen_wide.py, RUNNER_UP): where their
bound makes certain who is least of all others, two distances make the margin.

    margins_kernel       rows with a runner-up at a level: two distances; every row's errors
    margins_left_kernel  the (row, level)s no screen certifies: all distances

In:  x [N, D] any strides; codes and runners [N, L] int64, a runner-up −1 where none is certain.
Out: margins and errors [N, L] float32; NaN for a marked row.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from .codebook import Packed
from .queue import Queue, dequeue, queues
from .residual_at import residual_before, residual_of_row
from .screen_wide import screen_wide, slab_of, split_low, split_rows
from .settle import distances
from .tiles import (
    MARGINS,
    architecture,
    block_shape,
    measured_shape,
    programs,
    runner_up,
)


@triton.jit(do_not_specialize=["N", "L"])
def margins_kernel(
    x,
    stride_n,
    stride_d,
    N,
    D,
    L,
    codebooks,
    offset,
    starts,
    codes,
    runners,
    margins,
    errors,
    HAS_OFFSET: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_D: tl.constexpr,
):
    row = tl.program_id(0).to(tl.int64) * BLOCK_N + tl.arange(0, BLOCK_N)
    live = row < N
    marked = tl.load(codes + row * L, mask=live, other=-1) < 0
    for level in range(L):
        place = row * L + level
        start = tl.load(starts + level)
        code = tl.load(codes + place, mask=live, other=-1)
        other = tl.load(runners + place, mask=live, other=-1)
        nearest = tl.zeros([BLOCK_N], tl.float64)
        next_ = tl.zeros([BLOCK_N], tl.float64)
        error = tl.zeros([BLOCK_N], tl.float64)
        for d0 in range(0, D, BLOCK_D):
            d = d0 + tl.arange(0, BLOCK_D)
            r = residual_before(
                x, stride_n, stride_d, row, live, d, D, L, level, codebooks, starts, codes
            )
            word = codebooks + start * D + d[None, :]
            inside = (d < D)[None, :]
            e = tl.load(word + code[:, None] * D, mask=inside & (code >= 0)[:, None], other=0.0)
            gap = r.to(tl.float64) - e.to(tl.float64)
            nearest += tl.sum(gap * gap, axis=1)
            after = (r - e).to(tl.float64)
            error += tl.sum(after * after, axis=1)
            e = tl.load(word + other[:, None] * D, mask=inside & (other >= 0)[:, None], other=0.0)
            gap = r.to(tl.float64) - e.to(tl.float64)
            next_ += tl.sum(gap * gap, axis=1)
        if HAS_OFFSET:
            nearest += tl.load(offset + start + code, mask=code >= 0, other=0.0)
            next_ += tl.load(offset + start + other, mask=other >= 0, other=0.0)
        margin = tl.maximum(next_ - nearest, 0.0)
        margin = tl.where(marked, float("nan"), margin).to(tl.float32)
        tl.store(margins + place, margin, mask=live & ((other >= 0) | marked))
        error = tl.where(marked, float("nan"), error).to(tl.float32)
        tl.store(errors + place, error, mask=live)


@triton.jit
def margin_of_row(
    r_row,
    codebook,
    offset,
    allowed,
    code,
    K,
    D,
    HAS_OFFSET: tl.constexpr,
    BLOCK_K: tl.constexpr,
    BLOCK_D: tl.constexpr,
):
    """The least d of the other allowed codewords, less d_code; inf if there is none."""
    lane = tl.arange(0, BLOCK_K)
    chosen = tl.full([], float("inf"), tl.float64)
    other = tl.full([], float("inf"), tl.float64)
    for k0 in range(0, K, BLOCK_K):
        k = k0 + lane
        d, _ = distances(
            r_row, codebook, offset, allowed, k, k < K, D, HAS_OFFSET, BLOCK_K, BLOCK_D
        )
        chosen = tl.minimum(chosen, tl.min(tl.where(k == code, d, float("inf")), axis=0))
        other = tl.minimum(other, tl.min(tl.where(k == code, float("inf"), d), axis=0))
    return tl.maximum(other - chosen, 0.0)


@triton.jit(do_not_specialize=["L"])
def margins_left_kernel(
    x,
    stride_n,
    stride_d,
    D,
    L,
    codebooks,
    offset,
    allowed,
    starts,
    sizes,
    codes,
    margins,
    queue,
    count,
    residuals,
    HAS_OFFSET: tl.constexpr,
    BLOCK_K: tl.constexpr,
    BLOCK_D: tl.constexpr,
):
    """A program takes one row at a time, whose residual its threads share as in settle.py."""
    r_row = residuals + tl.program_id(0).to(tl.int64) * D
    for i in range(tl.program_id(0), tl.load(count), tl.num_programs(0)):
        row, level = dequeue(queue, i, True)
        tl.debug_barrier()  # the row before is done with r_row
        for d0 in range(0, D, BLOCK_D):
            d = d0 + tl.arange(0, BLOCK_D)
            r = residual_of_row(
                x, stride_n, stride_d, row, d, D, L, level, codebooks, starts, codes
            )
            tl.store(r_row + d, r, mask=d < D)
        tl.debug_barrier()  # r_row is written
        start = tl.load(starts + level)
        margin = margin_of_row(
            r_row,
            codebooks + start * D,
            offset + start,
            allowed + start,
            tl.load(codes + row * L + level),
            tl.load(sizes + level).to(tl.int32),
            D,
            HAS_OFFSET,
            BLOCK_K,
            BLOCK_D,
        )
        tl.store(margins + row * L + level, margin.to(tl.float32))


def measure(
    x: Tensor,
    codebooks: Tensor,
    offset: Tensor | None,
    packed: Packed,
    codes: Tensor,
    margins: Tensor,
    errors: Tensor,
) -> None:
    """Fills margins and errors [N, L], slab by slab and level by level."""
    (N, D), L, P = x.shape, codes.shape[1], packed.high.shape[1]
    runners = torch.full_like(codes, -1)
    slab, halves, facts = slab_of(N, P, x.device)
    first, second, lengths = queues(slab, x.device)
    one, three = runner_up(x.device)
    for start in range(0, N, slab):
        rows = range(start, min(N, start + slab))
        for level in range(L):
            lengths.zero_()
            split_rows(x, rows, level, codebooks, packed, codes, halves, facts)
            at = (rows, level, packed, codes, halves, facts)
            screen_wide(*at, None, first, one, runners)
            split_low(x, rows, level, codebooks, packed, codes, halves, facts, first)
            screen_wide(*at, first, second, three, runners)
            _measure_left(x, codebooks, offset, packed, codes, second, margins)
    shape = measured_shape(triton.next_power_of_2(D), architecture(x.device))
    margins_kernel[(triton.cdiv(N, shape["BLOCK_N"]),)](
        x,
        x.stride(0),
        x.stride(1),
        N,
        D,
        L,
        codebooks,
        codebooks if offset is None else offset,
        packed.layout.starts,
        codes,
        runners,
        margins,
        errors,
        HAS_OFFSET=offset is not None,
        **shape,
    )


def _measure_left(
    x: Tensor,
    codebooks: Tensor,
    offset: Tensor | None,
    packed: Packed,
    codes: Tensor,
    queue: Queue,
    margins: Tensor,
) -> None:
    """Margins of the queued (row, level)s."""
    N, D = x.shape
    grid = programs(N, 1, x.device, persistent=True)
    margins_left_kernel[(grid,)](
        x,
        x.stride(0),
        x.stride(1),
        D,
        codes.shape[1],
        codebooks,
        packed.allowed if offset is None else offset,
        packed.allowed,
        packed.layout.starts,
        packed.layout.sizes,
        codes,
        margins,
        *queue,
        torch.empty((grid, D), dtype=torch.float32, device=x.device),
        HAS_OFFSET=offset is not None,
        **block_shape(MARGINS, D),
    )
