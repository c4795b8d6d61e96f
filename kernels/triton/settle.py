"""The rows no screen certified: float64, then exact sums.

    d_k = Σ_j (r_j − e_kj)² + offset_k        |computed − exact| ≤ E_k = (D + 8)·2⁻⁵²·(Σ + |offset|)

A float64 difference of two float32 numbers and its square err by 2⁻⁵³ of themselves each, a sum of
D squares in any order by D·2⁻⁵³ of itself, nothing cancels and nothing leaves float64's range; the
offset, the bound and d ± E add a few 2⁻⁵³ more: D + 8, and twice for good measure. Whoever could be
least, d_k − E_k ≤ min(d + E), stays; if more than one does, exact.py decides among them.

In:  x [N, D] any strides; codebooks [ΣK, D] float32; offset [ΣK] float64; allowed [ΣK] int8;
     a queue of (row, level)s, of which the codes of lower levels stand in `codes`; `residuals`
     [programs, D] float32, a row of it a program's own.
Out: codes [N, L] int64; −1 at all levels if x or, with `mark`, a residual isn't finite, or no
     codeword is allowed.

A program takes one row at a time: rows left over are few, and K·D differences fill a block. Where
the last screen has named who may be nearest, named_kernel first looks at these alone.

Its threads share the residual through memory. A value of BLOCK_D elements lies in every warp's
registers, but one warp stores it: so a barrier stands between each store and the loads after it,
and between each load and the stores after it. On gfx942 too a barrier is enough: the waves of a
program share their vector cache in order (LLVM's release fence of a work-group waits for no store
there). bench/races.py checks the compiled kernels for it.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from .codebook import Packed
from .exact import exact_least
from .queue import Queue, dequeue, enqueue
from .residual_at import residual_before, residual_of_row
from .tiles import architecture, block_shape, named_shape, programs, settle_blocks

_NONE = tl.constexpr(2147483647)


@triton.jit
def publish(place, r, inside):
    """Stores r for the other threads of the program to read after a barrier; 1 if it is finite.

    What is tested is r itself, equal in all warps: read back, it might still be the old one in a
    warp other than the storing one, and warps that disagree would part at the next barrier.
    """
    tl.store(place, r, mask=inside)
    return tl.min((tl.abs(r) < float("inf")).to(tl.int32), axis=0)


@triton.jit
def distances(
    r_row,
    codebook,
    offset,
    allowed,
    k,
    inside,
    D,
    HAS_OFFSET: tl.constexpr,
    BLOCK_K: tl.constexpr,
    BLOCK_D: tl.constexpr,
):
    """d and E of codewords k [BLOCK_K]; d = inf where k is not inside or not allowed."""
    inside = inside & (tl.load(allowed + k, mask=inside, other=0) != 0)
    total = tl.zeros([BLOCK_K], tl.float64)
    for d0 in range(0, D, BLOCK_D):
        d = d0 + tl.arange(0, BLOCK_D)
        mask = inside[:, None] & (d < D)[None, :]
        r = tl.load(r_row + d, mask=d < D, other=0.0).to(tl.float64)
        word = codebook + k.to(tl.int64)[:, None] * D + d[None, :]
        gap = r[None, :] - tl.load(word, mask=mask, other=0.0).to(tl.float64)
        total += tl.sum(gap * gap, axis=1)
    size = total
    if HAS_OFFSET:
        shift = tl.load(offset + k, mask=inside, other=0.0)
        size = total + tl.abs(shift)
        total += shift
    error = size * ((D + 8) * 2.0**-52)
    return tl.where(inside, total, float("inf")), tl.where(inside, error, 0.0)


@triton.jit
def nearest_of_row(
    r_row,
    codebook,
    offset,
    allowed,
    K,
    D,
    HAS_OFFSET: tl.constexpr,
    BLOCK_K: tl.constexpr,
    BLOCK_D: tl.constexpr,
):
    """argmin_k d_k of one row; _NONE if no codeword is allowed."""
    lane = tl.arange(0, BLOCK_K)
    ceiling = tl.full([], float("inf"), tl.float64)
    for k0 in range(0, K, BLOCK_K):
        k = k0 + lane
        d, error = distances(
            r_row, codebook, offset, allowed, k, k < K, D, HAS_OFFSET, BLOCK_K, BLOCK_D
        )
        ceiling = tl.minimum(ceiling, tl.min(d + error, axis=0))
    number = 0
    code = _NONE
    for k0 in range(0, K, BLOCK_K):
        k = k0 + lane
        d, error = distances(
            r_row, codebook, offset, allowed, k, k < K, D, HAS_OFFSET, BLOCK_K, BLOCK_D
        )
        staying = (d - error <= ceiling) & (d < float("inf"))
        number += tl.sum(staying.to(tl.int32), axis=0)
        code = tl.minimum(code, tl.min(tl.where(staying, k, _NONE), axis=0))
    if number > 1:
        # The best so far takes lane 0 of each tile. Those before it are beaten already.
        for k0 in range(0, K, BLOCK_K - 1):
            k = tl.where(lane == 0, code, k0 + lane - 1)
            inside = (k < K) & ((lane == 0) | (k > code))
            d, error = distances(
                r_row, codebook, offset, allowed, k, inside, D, HAS_OFFSET, BLOCK_K, BLOCK_D
            )
            staying = (d - error <= ceiling) & (d < float("inf"))
            if tl.sum(staying.to(tl.int32), axis=0) > 1:
                r = r_row + 0 * k
                e = codebook + k.to(tl.int64) * D
                code = exact_least(r, e, offset + k, k, staying, D, HAS_OFFSET, BLOCK_K, BLOCK_D)
    return code


@triton.jit(do_not_specialize=["L", "level", "first", "rows"])
def named_kernel(
    x,
    stride_n,
    stride_d,
    D,
    L,
    level,
    first,
    rows,
    codebooks,
    offset,
    starts,
    codes,
    facts,
    words,
    queue,
    count,
    left,
    left_count,
    HAS_OFFSET: tl.constexpr,
    LANES: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_D: tl.constexpr,
):
    """Queued rows among the codewords that the last screen named; who isn't sure joins `left`."""
    total = tl.load(count)
    start = tl.load(starts + level)
    for block in range(tl.program_id(0), tl.cdiv(total, BLOCK_N), tl.num_programs(0)):
        i = tl.cast(block, tl.int64) * BLOCK_N + tl.arange(0, BLOCK_N)
        live = i < total
        row, _ = dequeue(queue, i, live)
        at = tl.where(live, row - first, 0)
        place = words + at[:, None] * LANES + tl.arange(0, LANES)[None, :]
        k = tl.load(place, mask=live[:, None], other=-1)
        d_k = tl.zeros([BLOCK_N, LANES], tl.float64)
        for d0 in range(0, D, BLOCK_D):
            d = d0 + tl.arange(0, BLOCK_D)
            r = residual_before(
                x, stride_n, stride_d, row, live, d, D, L, level, codebooks, starts, codes
            )
            word = (start + k.to(tl.int64))[:, :, None] * D + d[None, None, :]
            mask = (k >= 0)[:, :, None] & (d < D)[None, None, :]
            e = tl.load(codebooks + word, mask=mask, other=0.0)
            gap = r.to(tl.float64)[:, None, :] - e.to(tl.float64)
            d_k += tl.sum(gap * gap, axis=2)
        size = d_k
        if HAS_OFFSET:
            shift = tl.load(offset + start + k, mask=k >= 0, other=0.0)
            size = d_k + tl.abs(shift)
            d_k += shift
        error = size * ((D + 8) * 2.0**-52)
        d_k = tl.where(k >= 0, d_k, float("inf"))
        staying = (d_k - error <= tl.min(d_k + error, axis=1)[:, None]) & (k >= 0)
        # A row that settle.py may have to mark has an infinite size there.
        sure = tl.sum(staying.to(tl.int32), axis=1) == 1
        sure = sure & (tl.load(facts + rows + at) < float("inf"))
        code = tl.max(tl.where(staying, k, -1), axis=1)
        tl.store(codes + row * L + level, code.to(tl.int64), mask=live & sure)
        enqueue(left, left_count, row, level, live & (sure == 0))


@triton.jit(do_not_specialize=["N", "L", "mark", "until"])
def settle_kernel(
    x,
    stride_n,
    stride_d,
    N,
    D,
    L,
    mark,
    until,
    codebooks,
    offset,
    allowed,
    starts,
    sizes,
    codes,
    queue,
    count,
    residuals,
    HAS_OFFSET: tl.constexpr,
    BLOCK_K: tl.constexpr,
    BLOCK_D: tl.constexpr,
):
    r_row = residuals + tl.program_id(0).to(tl.int64) * D
    for i in range(tl.program_id(0), tl.load(count), tl.num_programs(0)):
        row, first = dequeue(queue, i, True)
        finite = 1
        tl.debug_barrier()  # the row before is done with r_row
        for d0 in range(0, D, BLOCK_D):
            d = d0 + tl.arange(0, BLOCK_D)
            r = residual_of_row(
                x, stride_n, stride_d, row, d, D, L, first, codebooks, starts, codes
            )
            finite = tl.minimum(finite, publish(r_row + d, r, d < D))

        for level in range(first, until):
            if finite == 1:
                tl.debug_barrier()  # r_row is written
                start = tl.load(starts + level)
                K = tl.load(sizes + level).to(tl.int32)
                code = nearest_of_row(
                    r_row,
                    codebooks + start * D,
                    offset + start,
                    allowed + start,
                    K,
                    D,
                    HAS_OFFSET,
                    BLOCK_K,
                    BLOCK_D,
                )
                if code == _NONE:
                    finite = 0
                else:
                    tl.store(codes + row * L + level, code.to(tl.int64))
                    for d0 in range(0, D, BLOCK_D):
                        d = d0 + tl.arange(0, BLOCK_D)
                        r = tl.load(r_row + d, mask=d < D, other=0.0)
                        r -= tl.load(codebooks + (start + code) * D + d, mask=d < D, other=0.0)
                        tl.debug_barrier()  # this part of r_row is read
                        good = publish(r_row + d, r, d < D)
                        tl.debug_barrier()
                        finite = tl.minimum(finite, tl.maximum(good, 1 - mark))

        if finite == 0:
            tl.debug_barrier()  # the stores above come first
            for level in range(L):
                tl.store(codes + row * L + level, tl.full([], -1, tl.int64))


def settle(
    x: Tensor,
    codebooks: Tensor,
    offset: Tensor | None,
    packed: Packed,
    codes: Tensor,
    queue: Queue,
    mark: bool = True,
    until: int | None = None,
) -> None:
    """Decides the queued (row, level)s and what follows them, up to level `until`."""
    N, D = x.shape
    L = codes.shape[1]
    shifted = offset is not None
    grid = programs(N, 1, x.device, persistent=True)
    settle_kernel[(grid,)](
        x,
        x.stride(0),
        x.stride(1),
        N,
        D,
        L,
        int(mark),
        L if until is None else until,
        codebooks,
        packed.allowed if offset is None else offset,
        packed.allowed,
        packed.layout.starts,
        packed.layout.sizes,
        codes,
        *queue,
        torch.empty((grid, D), dtype=torch.float32, device=x.device),
        HAS_OFFSET=shifted,
        **block_shape(settle_blocks(architecture(x.device))[shifted], D),
    )


def settle_named(
    x: Tensor,
    rows: range,
    level: int,
    codebooks: Tensor,
    offset: Tensor | None,
    packed: Packed,
    codes: Tensor,
    facts: Tensor,
    words: Tensor,
    queue: Queue,
    left: Queue,
) -> None:
    """One level of the slab's queued rows, of whom words [slab, lanes] names who may be nearest."""
    shape = named_shape(words.shape[1], architecture(x.device))
    named_kernel[(programs(len(rows), shape["BLOCK_N"], x.device, persistent=True),)](
        x,
        x.stride(0),
        x.stride(1),
        x.shape[1],
        codes.shape[1],
        level,
        rows.start,
        len(rows),
        codebooks,
        codebooks if offset is None else offset,
        packed.layout.starts,
        codes,
        facts,
        words,
        *queue,
        *left,
        HAS_OFFSET=offset is not None,
        **shape,
    )
