"""All levels of the residual search for D ≤ 128, as far as fp16 scores certify.

    per level:  v = αr;  score_k = bias_k + ρ·(v·w_k);  certify;  r ← r − e_code        (score.py)

In:  x [N, D] any strides; codebooks [ΣK, D] float32; the packed slots; with THREE, a queue of items
     row·2¹⁶ + level, of which the codes of lower levels stand in `codes`.
Out: codes [N, L] int64 up to the first level a row can't certify there; that row joins `left`.
     So does a row with NaN, Inf or, with `mark`, a residual that may overflow: settle.py marks it.

Each program holds BLOCK_N rows in registers through all levels and streams the codewords past them
in tiles of BLOCK_K; S·P < 2³¹, as offsets of 64 bits would spill. Later levels of a row that
stopped are computed in vain: 1 to 10 % of rows stop, and leaving the tile would cost more.

All that a row has, r included, is to lie in threads as the products do: then nothing of it goes
through shared memory. Triton decides that. Anchors of a layout are the loads from memory and the
products; it follows them from the last in the program to the first, a vector takes the first
layout that reaches it, and a tile takes the products' if that does. So a codeword is loaded and
taken from r before the products, at the beginning of the next level, and it is taken by `tl.where`,
whose mask comes from them. bench/roofline.py counts the instructions, and fails if it is otherwise.
"""

from __future__ import annotations

import triton
import triton.language as tl
from torch import Tensor

from .codebook import Packed
from .queue import Queue, dequeue, enqueue
from .score import (
    CHUNK,
    best_two,
    better_two,
    certified,
    error_bound,
    index_bits,
    keep_two,
    key_unit,
    power_of_two,
    rest_norm,
    row_exponent,
    split,
    square_sum,
    stays_finite,
)
from .tiles import ScreenTile, programs


@triton.jit(do_not_specialize=["N", "L", "mark"])
def screen_kernel(
    x,
    stride_n,
    stride_d,
    N,
    D,
    L,
    mark,
    codebooks,
    high,
    low,
    bias,
    exponent,
    limits,
    starts,
    sizes,
    slots,
    codes,
    queue,
    count,
    left,
    left_count,
    THREE: tl.constexpr,
    P: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
    LANES: tl.constexpr,
    NEAR: tl.constexpr,
):
    d = tl.arange(0, P)
    lane = tl.arange(0, BLOCK_K)
    total = N
    if THREE:
        total = tl.load(count)

    for block in range(tl.program_id(0), tl.cdiv(total, BLOCK_N), tl.num_programs(0)):
        i = tl.cast(block, tl.int64) * BLOCK_N + tl.arange(0, BLOCK_N)
        live = i < total
        row = i
        first = tl.zeros([BLOCK_N], tl.int32)
        if THREE:
            row, first = dequeue(queue, i, live)

        inside = live[:, None] & (d < D)[None, :]
        r = tl.load(
            x + row[:, None] * stride_n + d.to(tl.int64)[None, :] * stride_d, mask=inside, other=0.0
        )
        r = r.to(tl.float32)
        finite = tl.min((tl.abs(r) < float("inf")).to(tl.int32), axis=1) == 1  # NaN < inf: no
        r = tl.where(finite[:, None], r, 0.0)
        stop = tl.where(finite, L, 0)  # the first level not decided here
        code = tl.zeros([BLOCK_N], tl.int32)

        for level in range(L):
            going = (stop == L) & (level > 0)
            word = tl.load(starts + tl.maximum(level - 1, 0)) * D + tl.where(going, code, 0) * D
            e = tl.load(codebooks + word[:, None] + d[None, :], mask=(d < D)[None, :], other=0.0)
            r = tl.where(going[:, None], r - e, r)

            beta = tl.load(exponent + level)
            alpha = row_exponent(tl.max(tl.abs(r), axis=1), beta)
            rho = power_of_two(127 + beta - alpha)
            v = r * power_of_two(alpha)[:, None]
            v_high, v_low, rest, rest_low = split(v)

            # Before the tiles, so that only the fp16 halves of v live on through them.
            size = tl.sqrt(square_sum(v))
            low_size = size
            rest_size = rest_norm(square_sum(rest), P)
            if THREE:
                low_size = tl.sqrt(square_sum(v_low.to(tl.float32))) * 2.0**-11
                rest_size = rest_norm(square_sum(rest_low), P)
            of_level = limits + level * 5
            bound = error_bound(rho, size, low_size, rest_size, of_level, P, THREE)
            K = tl.load(sizes + level).to(tl.int32)
            bits = index_bits(tl.minimum(K, CHUNK), BLOCK_K)
            unit = key_unit(rho, size, rest_size, bound, of_level, bits)

            slot = tl.multiple_of(tl.load(slots + level), BLOCK_K)
            level_high = high + slot * P
            level_low = low + slot * P
            level_bias = bias + slot
            best = tl.zeros([BLOCK_N], tl.int32)
            second = tl.zeros([BLOCK_N], tl.int32)
            for start in range(0, K, CHUNK):
                first_key = tl.zeros([BLOCK_N, LANES], tl.uint32)
                second_key = tl.zeros([BLOCK_N, LANES], tl.uint32)
                for k in range(start, tl.minimum(start + CHUNK, K), BLOCK_K):
                    k = tl.multiple_of(k, BLOCK_K)
                    place = lane[None, :] * P + d[:, None]
                    w_high = tl.load(level_high + k * P + place)
                    product = tl.dot(v_high, w_high, input_precision="ieee")
                    if THREE:
                        w_low = tl.load(level_low + k * P + place)
                        small = tl.dot(v_high, w_low, input_precision="ieee")
                        small = tl.dot(v_low, w_high, small, input_precision="ieee")
                        product += small * 2.0**-11
                    score = product * rho[:, None] + tl.load(level_bias + k + lane)[None, :]
                    first_key, second_key = keep_two(
                        first_key, second_key, score, k - start, unit, bits, NEAR
                    )
                one, two, where = best_two(first_key, second_key, bits, BLOCK_K, NEAR)
                best, second, code = better_two(best, second, code, one, two, start + where)

            decided = certified(best, second, unit, bound)
            decided = decided & (stays_finite(alpha, beta) | (mark == 0))
            place = codes + row * L + level
            if THREE:
                known = level < first
                code = tl.where(
                    known, tl.load(place, mask=live & known, other=0).to(tl.int32), code
                )
                decided = decided | known
            stop = tl.where((stop == L) & (decided == 0), level, stop)
            tl.store(place, code.to(tl.int64), mask=live & (stop == L))

        enqueue(left, left_count, row, stop, live & (stop < L))


def screen(
    x: Tensor,
    codebooks: Tensor,
    packed: Packed,
    codes: Tensor,
    queue: Queue | None,
    left: Queue,
    tile: ScreenTile,
    mark: bool,
) -> None:
    """One pass with one fp16 product over all rows, or with three over the `queue`."""
    N, D = x.shape
    L = codes.shape[1]
    three = queue is not None
    screen_kernel[(programs(N, tile.rows, x.device, persistent=three),)](
        x,
        x.stride(0),
        x.stride(1),
        N,
        D,
        L,
        int(mark),
        codebooks,
        packed.high,
        packed.low,
        packed.bias,
        packed.exponent,
        packed.limits,
        packed.layout.starts,
        packed.layout.sizes,
        packed.layout.slots,
        codes,
        *(queue or left),
        *left,
        THREE=three,
        P=packed.high.shape[1],
        BLOCK_N=tile.rows,
        BLOCK_K=tile.words,
        LANES=tile.lanes,
        NEAR=tile.near,
        num_warps=tile.warps,
        num_stages=tile.stages,
    )
