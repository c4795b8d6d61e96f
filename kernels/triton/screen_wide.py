"""One level of the residual search for any D: split the residual, then a product with arg-min.

    split_kernel:        r = x − Σ_{l'<l} e_{c_l'}  ->  v = αr = high + 2⁻¹¹·low + rest (score.py)
    screen_wide_kernel:  score_k = bias_k + ρ·(v·w_k) over tiles of codewords, certify
    low_kernel:          low, of the rows that are left to three products

In:  x [N, D] any strides; codes [N, L] of the levels before; the packed slots of this level; with
     THREE, a queue of (row, level)s.
Between: halves [2, rows, P] float16, high and low; facts [5, rows] float32: ρ, ‖v‖, ‖2⁻¹¹low‖, and
     the norm of the rest without and with `low`. ‖v‖ = ∞ for a row to leave to settle.py: one that
     isn't finite, or so large that its next residual might not be.
Out: found [N, L], the codes of certified rows; the others join `left`. Marked rows (codes −1) are
     passed over. With THREE also words [rows, lanes] int32: who may be nearest (score.named).
     With RUNNER_UP the level's codes are known: `found` is the nearest of all others.

The residual is made again from x and the codes at each level: that costs L reads of x but no [N, D]
float32. Rows go in slabs whose halves stay within SLAB_BYTES. A program streams all codewords of
the level past its BLOCK_N rows; nothing N×K is stored.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from .codebook import Packed
from .queue import Queue, dequeue, enqueue
from .residual_at import residual_before
from .score import (
    CHUNK,
    NEVER,
    best_two,
    better_two,
    certified,
    error_bound,
    index_bits,
    keep_two,
    key_unit,
    named,
    power_of_two,
    rest_norm,
    row_exponent,
    split,
    square_sum,
    stays_finite,
)
from .tiles import SLAB_BYTES, WIDE_STEP, ScreenTile, architecture, programs, split_shape


@triton.jit(do_not_specialize=["first", "rows", "L", "level"])
def split_kernel(
    x,
    stride_n,
    stride_d,
    first,
    rows,
    D,
    L,
    level,
    codebooks,
    starts,
    exponent,
    codes,
    halves,
    facts,
    P,
    BLOCK_N: tl.constexpr,
    BLOCK_D: tl.constexpr,
):
    i = tl.program_id(0) * BLOCK_N + tl.arange(0, BLOCK_N)
    live = i < rows
    row = first + i.to(tl.int64)
    finite = tl.full([BLOCK_N], 1, tl.int32)
    peak = tl.zeros([BLOCK_N], tl.float32)
    for d0 in range(0, P, BLOCK_D):
        d = d0 + tl.arange(0, BLOCK_D)
        r = residual_before(
            x, stride_n, stride_d, row, live, d, D, L, level, codebooks, starts, codes
        )
        finite = tl.minimum(finite, tl.min((tl.abs(r) < float("inf")).to(tl.int32), axis=1))
        peak = tl.maximum(peak, tl.max(tl.abs(r), axis=1))

    peak = tl.where(finite == 1, peak, 0.0)
    beta = tl.load(exponent + level)
    alpha = row_exponent(peak, beta)
    size = tl.zeros([BLOCK_N], tl.float32)
    low_size = tl.zeros([BLOCK_N], tl.float32)
    rest_size = tl.zeros([BLOCK_N], tl.float32)
    rest_low_size = tl.zeros([BLOCK_N], tl.float32)
    for d0 in range(0, P, BLOCK_D):  # these rows still lie in the first-level cache
        d = d0 + tl.arange(0, BLOCK_D)
        r = residual_before(
            x, stride_n, stride_d, row, live, d, D, L, level, codebooks, starts, codes
        )
        v = r * power_of_two(alpha)[:, None]
        v_high, v_low, rest, rest_low = split(v)
        place = i.to(tl.int64)[:, None] * P + d[None, :]
        tl.store(halves + place, v_high, mask=live[:, None])
        size += square_sum(v)
        low_size += square_sum(v_low.to(tl.float32))
        rest_size += square_sum(rest)
        rest_low_size += square_sum(rest_low)

    safe = (finite == 1) & stays_finite(alpha, beta)
    tl.store(facts + i, power_of_two(127 + beta - alpha), mask=live)
    size = tl.where(safe, tl.sqrt(size), float("inf"))
    tl.store(facts + rows + i, size, mask=live)
    tl.store(facts + 2 * rows + i, tl.sqrt(low_size) * 2.0**-11, mask=live)
    tl.store(facts + 3 * rows + i, rest_norm(rest_size, P), mask=live)
    tl.store(facts + 4 * rows + i, rest_norm(rest_low_size, P), mask=live)


@triton.jit(do_not_specialize=["first", "rows", "L", "level"])
def low_kernel(
    x,
    stride_n,
    stride_d,
    first,
    rows,
    D,
    L,
    level,
    codebooks,
    starts,
    exponent,
    codes,
    halves,
    facts,
    queue,
    count,
    P,
    BLOCK_N: tl.constexpr,
    BLOCK_D: tl.constexpr,
):
    total = tl.load(count).to(tl.int32)
    low = halves + tl.cast(rows, tl.int64) * P
    for block in range(tl.program_id(0), tl.cdiv(total, BLOCK_N), tl.num_programs(0)):
        at = block * BLOCK_N + tl.arange(0, BLOCK_N)
        live = at < total
        row, _ = dequeue(queue, at, live)
        i = tl.where(live, row - first, 0)
        rho = tl.load(facts + i)
        alpha = 127 + tl.load(exponent + level) - (rho.to(tl.int32, bitcast=True) >> 23)
        for d0 in range(0, P, BLOCK_D):
            d = d0 + tl.arange(0, BLOCK_D)
            r = residual_before(
                x, stride_n, stride_d, row, live, d, D, L, level, codebooks, starts, codes
            )
            halves_of_v = split(r * power_of_two(alpha)[:, None])
            tl.store(low + i[:, None] * P + d[None, :], halves_of_v[1], mask=live[:, None])


@triton.jit(do_not_specialize=["first", "rows", "L", "level"])
def screen_wide_kernel(
    first,
    rows,
    L,
    level,
    high,
    low,
    bias,
    limits,
    slots,
    sizes,
    halves,
    facts,
    codes,
    found,
    words,
    queue,
    count,
    left,
    left_count,
    P,
    THREE: tl.constexpr,
    RUNNER_UP: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
    LANES: tl.constexpr,
    NEAR: tl.constexpr,
    BLOCK_D: tl.constexpr,
):
    lane = tl.arange(0, BLOCK_K)
    total = rows
    if THREE:
        total = tl.load(count).to(tl.int32)
    slot = tl.load(slots + level)
    level_high = high + slot * P
    level_low = low + slot * P
    level_bias = bias + slot
    of_level = limits + level * 5
    K = tl.load(sizes + level).to(tl.int32)
    bits = index_bits(tl.minimum(K, CHUNK), BLOCK_K)

    for block in range(tl.program_id(0), tl.cdiv(total, BLOCK_N), tl.num_programs(0)):
        i = block * BLOCK_N + tl.arange(0, BLOCK_N)
        live = i < total
        if THREE:
            queued, _ = dequeue(queue, i, live)
            i = (queued - first).to(tl.int32)
        i = tl.where(live, i, 0)
        row = first + i.to(tl.int64)
        v_high = halves + i.to(tl.int64)[:, None] * P
        v_low = v_high + tl.cast(rows, tl.int64) * P
        rho = tl.load(facts + i)

        size = tl.load(facts + rows + i)
        low_size = tl.load(facts + 2 * rows + i)
        rest_size = tl.load(facts + (4 if THREE else 3) * rows + i)
        bound = error_bound(rho, size, low_size, rest_size, of_level, P, THREE)
        unit = key_unit(rho, size, rest_size, bound, of_level, bits)
        if RUNNER_UP:
            own = tl.load(codes + row * L + level, mask=live, other=0).to(tl.int32)

        best = tl.zeros([BLOCK_N], tl.int32)
        second = tl.zeros([BLOCK_N], tl.int32)
        code = tl.zeros([BLOCK_N], tl.int32)
        for start in range(0, K, CHUNK):
            first_key = tl.zeros([BLOCK_N, LANES], tl.uint32)
            second_key = tl.zeros([BLOCK_N, LANES], tl.uint32)
            for k in range(start, tl.minimum(start + CHUNK, K), BLOCK_K):
                tile = tl.cast(k, tl.int64) * P  # K·P may pass 2³¹
                word = lane[None, :] * P
                product = tl.zeros([BLOCK_N, BLOCK_K], tl.float32)
                small = tl.zeros([BLOCK_N, BLOCK_K], tl.float32)
                for d0 in range(0, P, BLOCK_D):
                    d = d0 + tl.arange(0, BLOCK_D)
                    a = tl.load(v_high + d[None, :])
                    b = tl.load(level_high + tile + word + d[:, None])
                    product = tl.dot(a, b, product, input_precision="ieee")
                    if THREE:
                        b_low = tl.load(level_low + tile + word + d[:, None])
                        small = tl.dot(a, b_low, small, input_precision="ieee")
                        a_low = tl.load(v_low + d[None, :])
                        small = tl.dot(a_low, b, small, input_precision="ieee")
                if THREE:
                    product += small * 2.0**-11
                score = product * rho[:, None] + tl.load(level_bias + k + lane)[None, :]
                if RUNNER_UP:
                    score = tl.where((k + lane)[None, :] == own[:, None], NEVER, score)
                first_key, second_key = keep_two(
                    first_key, second_key, score, k - start, unit, bits, NEAR
                )
            one, two, where = best_two(first_key, second_key, bits, BLOCK_K, NEAR)
            if THREE and not RUNNER_UP:
                names = named(first_key, second_key, one, unit, bound, bits, BLOCK_K, NEAR)
                names = tl.where(K > CHUNK, -2, names)
                place = i.to(tl.int64)[:, None] * LANES + tl.arange(0, LANES)[None, :]
                tl.store(words + place, names, mask=live[:, None])
            best, second, code = better_two(best, second, code, one, two, start + where)

        decided = certified(best, second, unit, bound)
        marked = tl.load(codes + row * L, mask=live & ((level > 0) | RUNNER_UP), other=0) < 0
        place = found + row * L + level
        tl.store(place, code.to(tl.int64), mask=live & decided & (marked == 0))
        enqueue(left, left_count, row, level, live & (decided == 0) & (marked == 0))


def slab_of(N: int, P: int, device: torch.device) -> tuple[int, Tensor, Tensor]:
    """The rows of a slab, at most N, and memory for its halves [2, slab, P] and facts [5, slab]."""
    slab = min(N, max(1, SLAB_BYTES // (4 * P)))
    halves = torch.empty((2, slab, P), dtype=torch.float16, device=device)
    return slab, halves, torch.empty((5, slab), dtype=torch.float32, device=device)


def split_rows(
    x: Tensor,
    rows: range,
    level: int,
    codebooks: Tensor,
    packed: Packed,
    codes: Tensor,
    halves: Tensor,
    facts: Tensor,
) -> None:
    """Residuals of the slab `rows` before `level`, as halves and facts."""
    P = packed.high.shape[1]
    shape = split_shape(P, architecture(x.device))
    split_kernel[(triton.cdiv(len(rows), shape["BLOCK_N"]),)](
        *_split_arguments(x, rows, level, codebooks, packed, codes, halves, facts),
        P,
        **shape,
    )


def split_low(
    x: Tensor,
    rows: range,
    level: int,
    codebooks: Tensor,
    packed: Packed,
    codes: Tensor,
    halves: Tensor,
    facts: Tensor,
    queue: Queue,
) -> None:
    """The low halves of the queued rows of the slab."""
    P = packed.high.shape[1]
    shape = split_shape(P, architecture(x.device))
    grid = programs(len(rows), shape["BLOCK_N"], x.device, persistent=True)
    low_kernel[(grid,)](
        *_split_arguments(x, rows, level, codebooks, packed, codes, halves, facts),
        *queue,
        P,
        **shape,
    )


def _split_arguments(
    x: Tensor,
    rows: range,
    level: int,
    codebooks: Tensor,
    packed: Packed,
    codes: Tensor,
    halves: Tensor,
    facts: Tensor,
) -> tuple[Tensor | int, ...]:
    """The arguments that split_kernel and low_kernel share."""
    shape = (rows.start, len(rows), x.shape[1], codes.shape[1], level)
    layout = (codebooks, packed.layout.starts, packed.exponent)
    return x, *x.stride(), *shape, *layout, codes, halves, facts


def screen_wide(
    rows: range,
    level: int,
    packed: Packed,
    codes: Tensor,
    halves: Tensor,
    facts: Tensor,
    queue: Queue | None,
    left: Queue,
    tile: ScreenTile,
    runners: Tensor | None = None,
    words: Tensor | None = None,
) -> None:
    """One level of the slab with one product, or of the `queue` with three; for the codes, then
    with `words` to fill, or, where codes are known, for the runners-up."""
    three = queue is not None
    P = packed.high.shape[1]
    screen_wide_kernel[(programs(len(rows), tile.rows, codes.device, persistent=three),)](
        rows.start,
        len(rows),
        codes.shape[1],
        level,
        packed.high,
        packed.low,
        packed.bias,
        packed.limits,
        packed.layout.slots,
        packed.layout.sizes,
        halves,
        facts,
        codes,
        codes if runners is None else runners,
        codes if words is None else words,
        *(queue or left),
        *left,
        P,
        THREE=three,
        RUNNER_UP=runners is not None,
        BLOCK_N=tile.rows,
        BLOCK_K=tile.words,
        LANES=tile.lanes,
        NEAR=tile.near,
        BLOCK_D=min(WIDE_STEP, P),
        num_warps=tile.warps,
        num_stages=tile.stages,
    )
