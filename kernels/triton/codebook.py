"""Codebooks as the screens want them: scaled to fp16's range, split in two halves, padded.

With β a power of two a level, w = −βe is split into w = high + 2⁻¹¹·low + rest, where `high` and
`low` are fp16. Scores are ranked in units of β⁻²:

    β²(½‖e‖² − r·e + ½offset) = bias + (βr)·w        bias = ½‖w‖² + ½β²·offset

The `limits` are the largest norms over a level; every term of the screens' error bound is linear in
them (score.py).

Of equal codewords of a level only the first of those with the least offset may win, so that they
don't tie with one another. Equal codewords have equal hashes: a codeword is compared with the first
that has its hash. Two unequal ones of equal hash could hide a duplicate behind them; that costs
time, not codes, as the exact stage breaks the tie.

    words_kernel    a codeword's hash and largest element
    slots_kernel    β from its level's largest element, the first of its hash, then the slots

Two launches, as β must know the whole level before the first slot is scaled. The second reads the
level's K hashes once for BLOCK_S slots: K²/BLOCK_S loads, 4 M for K = 8192.
"""

from __future__ import annotations

from functools import lru_cache
from itertools import accumulate
from typing import NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from .score import power_of_two, split
from .tiles import pack_shape

# Slots of a level are padded to this, so that no tile of codewords needs a mask.
SLOTS = 256
# Bias of a slot that can't win. Finite, so that no tile ever holds inf − inf; far above any score
# (those stay below 2¹⁰² in the units above).
NEVER = 2.0**126
_NEVER = tl.constexpr(NEVER)
# Norms are rounded up to float32 with this factor.
_UP = tl.constexpr(1 + 2.0**-20)
_NONE = tl.constexpr(2147483647)
# Biases are clipped here; a limit beyond is infinite, so that nothing is certified.
_REACH = tl.constexpr(2.0**100)
# splitmix64's multipliers, less their top bits, which would make them negative.
_MIX = tl.constexpr(0x1E3779B97F4A7C15)
_MIX_AGAIN = tl.constexpr(0x3F58476D1CE4E5B9)


class Layout(NamedTuple):
    """The place of each level; integers only, so it is kept per list of sizes."""

    counts: tuple[int, ...]  # [L] on the host, as sizes
    starts: Tensor  # [L] int64, first row in the codebooks
    sizes: Tensor  # [L] int64
    slots: Tensor  # [L] int64, first padded slot
    level: Tensor  # [ΣK] int64, the level of a codeword
    groups: Tensor  # [S/SLOTS] int64, the level of SLOTS slots


class Packed(NamedTuple):
    """S slots of width P ≥ D, and what is known of each level."""

    high: Tensor  # [S, P] float16
    low: Tensor  # [S, P] float16
    bias: Tensor  # [S] float32
    exponent: Tensor  # [L] int32, biased float32 exponent of β
    limits: Tensor  # [L, 5] float32: max ‖w‖, ‖2⁻¹¹low‖, ‖w − high‖, ‖rest‖, |bias|
    allowed: Tensor  # [ΣK] int8: finite, and, unless equal ones count, the first among equals
    layout: Layout


@triton.jit(do_not_specialize=["total", "entries"])
def words_kernel(
    codebooks,
    offset,
    hashes,
    peaks,
    limits,
    total,
    D,
    entries,
    HAS_OFFSET: tl.constexpr,
    BLOCK_S: tl.constexpr,
    BLOCK_D: tl.constexpr,
):
    """hashes [ΣK] int64; peaks [ΣK] float32: largest |element|, −1 of a codeword that isn't finite.
    Also sets the `entries` of limits to 0 for the maxima to come."""
    word = tl.program_id(0) * BLOCK_S + tl.arange(0, BLOCK_S)
    live = word < total
    hashed = tl.zeros([BLOCK_S], tl.int64)
    peak = tl.zeros([BLOCK_S], tl.float32)
    finite = tl.full([BLOCK_S], 1, tl.int32)
    for d0 in range(0, D, BLOCK_D):
        d = d0 + tl.arange(0, BLOCK_D)
        place = codebooks + word.to(tl.int64)[:, None] * D + d[None, :]
        e = tl.load(place, mask=live[:, None] & (d < D)[None, :], other=0.0)
        finite = tl.minimum(finite, tl.min((tl.abs(e) < float("inf")).to(tl.int32), axis=1))
        peak = tl.maximum(peak, tl.max(tl.abs(e), axis=1))
        odd = (d + 1).to(tl.int64) * _MIX
        odd = ((odd ^ (odd >> 31)) * _MIX_AGAIN) | 1
        key = tl.where(e == 0.0, 0.0, e).to(tl.int32, bitcast=True)  # −0 equals 0
        mixed = key.to(tl.int64) * odd[None, :]
        hashed += tl.sum(mixed ^ (mixed >> 29), axis=1)
    good = finite == 1
    if HAS_OFFSET:
        good = good & (tl.abs(tl.load(offset + word, mask=live, other=0.0)) < float("inf"))
    tl.store(hashes + word, hashed, mask=live)
    tl.store(peaks + word, tl.where(good, peak, -1.0), mask=live)
    for first in range(tl.program_id(0) * BLOCK_S, entries, tl.num_programs(0) * BLOCK_S):
        entry = first + tl.arange(0, BLOCK_S)
        tl.store(limits + entry, tl.zeros([BLOCK_S], tl.int32), mask=entry < entries)


@triton.jit
def _raise_limit(limit, norm):
    """The maximum of what stands there and norm, rounded up. Floats ≥ 0 are in order as int32."""
    raised = norm * _UP
    raised = tl.where(raised < _REACH, raised, float("inf")).to(tl.float32)
    tl.atomic_max(limit, raised.to(tl.int32, bitcast=True), sem="relaxed")


@triton.jit
def slots_kernel(
    codebooks,
    offset,
    hashes,
    peaks,
    starts,
    sizes,
    slots,
    groups,
    high,
    low,
    bias,
    exponent,
    limits,
    allowed,
    D,
    P,
    HAS_OFFSET: tl.constexpr,
    DISTINCT: tl.constexpr,
    SLOTS: tl.constexpr,
    BLOCK_S: tl.constexpr,
    BLOCK_K: tl.constexpr,
    BLOCK_D: tl.constexpr,
):
    """A program fills BLOCK_S slots of one level; those beyond its K repeat the last codeword."""
    slot = tl.program_id(0) * BLOCK_S
    level = tl.load(groups + slot // SLOTS)
    start = tl.load(starts + level)
    K = tl.load(sizes + level).to(tl.int32)
    at = (slot - tl.load(slots + level)).to(tl.int32) + tl.arange(0, BLOCK_S)
    filled = at < K
    own = tl.minimum(at, K - 1)
    word = start + own
    hashed = tl.load(hashes + word)

    peak = tl.full([], 0.0, tl.float32)
    first = tl.full([BLOCK_S], _NONE, tl.int32)  # of equal hash
    least = tl.full([BLOCK_S], float("inf"), tl.float64)
    for k0 in range(0, K, BLOCK_K):
        k = k0 + tl.arange(0, BLOCK_K)
        theirs = tl.load(peaks + start + k, mask=k < K, other=-1.0)
        peak = tl.maximum(peak, tl.max(theirs, axis=0))
        if DISTINCT:
            other = tl.load(hashes + start + k, mask=k < K, other=0)
            same = (other[None, :] == hashed[:, None]) & (theirs >= 0)[None, :]
            if HAS_OFFSET:
                shift = tl.load(offset + start + k, mask=k < K, other=0.0)
                shift = tl.where(same, shift[None, :], float("inf"))
                lowest = tl.min(shift, axis=1)
                same = same & (shift == lowest[:, None])
                here = tl.min(tl.where(same, k[None, :], _NONE), axis=1)
                first = tl.where(lowest < least, here, first)
                least = tl.minimum(least, lowest)
            else:
                first = tl.minimum(first, tl.min(tl.where(same, k[None, :], _NONE), axis=1))

    valid = tl.load(peaks + word) >= 0
    if DISTINCT:
        twin = tl.where(first == _NONE, own, first)
        another = twin != own
        equal = tl.full([BLOCK_S], 1, tl.int32)
        for d0 in range(0, D, BLOCK_D):
            d = d0 + tl.arange(0, BLOCK_D)
            mask = another[:, None] & (d < D)[None, :]
            mine = tl.load(codebooks + word[:, None] * D + d[None, :], mask=mask, other=0.0)
            its = (start + twin)[:, None] * D + d[None, :]
            its = tl.load(codebooks + its, mask=mask, other=0.0)
            equal = tl.minimum(equal, tl.min((mine == its).to(tl.int32), axis=1))
        valid = valid & ((another & (equal == 1)) == 0)

    # The largest element lands in [2¹⁴, 2¹⁵): 268 is 127 + 141, see score.row_exponent.
    biased = tl.minimum(tl.maximum(268 - (peak.to(tl.int32, bitcast=True) >> 23), 1), 254)
    biased = tl.where(peak > 0, biased, 127)
    beta = power_of_two(biased)
    size = tl.zeros([BLOCK_S], tl.float64)
    low_size = tl.zeros([BLOCK_S], tl.float64)
    left_size = tl.zeros([BLOCK_S], tl.float64)
    rest_size = tl.zeros([BLOCK_S], tl.float64)
    for d0 in range(0, P, BLOCK_D):
        d = d0 + tl.arange(0, BLOCK_D)
        mask = valid[:, None] & (d < D)[None, :]
        e = tl.load(codebooks + word[:, None] * D + d[None, :], mask=mask, other=0.0)
        w = -e * beta
        w_high, w_low, left, rest = split(w, NORMAL=True)
        place = (slot.to(tl.int64) + tl.arange(0, BLOCK_S))[:, None] * P + d[None, :]
        tl.store(high + place, w_high)
        tl.store(low + place, w_low)
        size += tl.sum(w.to(tl.float64) * w.to(tl.float64), axis=1)
        low_size += tl.sum(w_low.to(tl.float64) * w_low.to(tl.float64), axis=1)
        left_size += tl.sum(left.to(tl.float64) * left.to(tl.float64), axis=1)
        rest_size += tl.sum(rest.to(tl.float64) * rest.to(tl.float64), axis=1)

    shifted = 0.5 * size
    if HAS_OFFSET:
        shift = tl.load(offset + word, mask=valid, other=0.0)
        shifted += 0.5 * beta.to(tl.float64) * beta.to(tl.float64) * shift
    limit = limits + level * 5
    _raise_limit(limit, tl.sqrt(tl.max(size, axis=0)))
    _raise_limit(limit + 1, tl.sqrt(tl.max(low_size, axis=0)) * 2.0**-11)
    _raise_limit(limit + 2, tl.sqrt(tl.max(left_size, axis=0)))
    _raise_limit(limit + 3, tl.sqrt(tl.max(rest_size, axis=0)))
    _raise_limit(limit + 4, tl.max(tl.abs(shifted), axis=0))
    shifted = tl.minimum(tl.maximum(shifted, -_REACH), _REACH)
    shifted = tl.where(valid & filled, shifted, _NEVER).to(tl.float32)
    tl.store(bias + slot + tl.arange(0, BLOCK_S), shifted)
    tl.store(allowed + word, valid.to(tl.int8), mask=filled)
    tl.store(exponent + level, biased)


def pack(
    codebooks: Tensor,
    sizes: list[int],
    offset: Tensor | None,
    width: int,
    distinct: bool = True,
) -> Packed:
    """codebooks [ΣK, D] float32, offset [ΣK] float64; `width` is P.

    distinct: of equal codewords only the first of those with the least offset is allowed.
    """
    (total, D), L, device = codebooks.shape, len(sizes), codebooks.device
    layout = layout_of(tuple(sizes), device)
    S = SLOTS * len(layout.groups)
    high, low = torch.empty((2, S, width), dtype=torch.float16, device=device).unbind(0)
    limits = torch.empty((L, 5), dtype=torch.float32, device=device)
    packed = Packed(
        high=high,
        low=low,
        bias=torch.empty(S, dtype=torch.float32, device=device),
        exponent=torch.empty(L, dtype=torch.int32, device=device),
        limits=limits,
        allowed=torch.empty(total, dtype=torch.int8, device=device),
        layout=layout,
    )
    codebooks = codebooks.contiguous()
    hashes = torch.empty(total, dtype=torch.int64, device=device)
    peaks = torch.empty(total, dtype=torch.float32, device=device)
    shape = pack_shape(width, device)
    shifts = codebooks if offset is None else offset.contiguous()
    shifted = offset is not None
    with torch.cuda.device_of(codebooks):
        words_kernel[(triton.cdiv(total, shape["BLOCK_S"]),)](
            codebooks,
            shifts,
            hashes,
            peaks,
            limits.view(torch.int32),
            total,
            D,
            limits.numel(),
            HAS_OFFSET=shifted,
            BLOCK_S=shape["BLOCK_S"],
            BLOCK_D=shape["BLOCK_D"],
        )
        slots_kernel[(S // shape["BLOCK_S"],)](
            codebooks,
            shifts,
            hashes,
            peaks,
            layout.starts,
            layout.sizes,
            layout.slots,
            layout.groups,
            packed.high,
            packed.low,
            packed.bias,
            packed.exponent,
            limits.view(torch.int32),
            packed.allowed,
            D,
            width,
            HAS_OFFSET=shifted,
            DISTINCT=distinct,
            SLOTS=SLOTS,
            **shape,
        )
    return packed


@lru_cache(maxsize=64)
def layout_of(sizes: tuple[int, ...], device: torch.device) -> Layout:
    """The places of the levels' codewords and padded slots."""
    starts = [0, *accumulate(sizes)]
    groups = torch.tensor([-(-size // SLOTS) for size in sizes])
    level = torch.arange(len(sizes))
    return Layout(
        counts=sizes,
        starts=torch.tensor(starts[:-1]).to(device),
        sizes=torch.tensor(sizes).to(device),
        slots=(SLOTS * (groups.cumsum(0) - groups)).to(device),
        level=level.repeat_interleave(torch.tensor(sizes)).to(device),
        groups=level.repeat_interleave(groups).to(device),
    )
