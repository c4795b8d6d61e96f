"""The nearest of several codewords where float64 can't tell: sums in fixed point, top down.

    ‖r − e‖² + offset = Σ_j (r_j² − 2r_j·e_j + e_j²) + offset =: Σ_t t        T = 3D + 1 terms

Each product is exact in float64: 24 + 24 bits, a multiple of 2⁻²⁹⁸ and less than 2²⁵⁸. For a window
of 32 bits at weight 2^w let f(t, w) = trunc(t·2⁻ʷ) and

    A_k(w) = 2³²·A_k(w + 32) + Σ_t [f(t, w) − 2³²·f(t, w + 32)],    A_k(top) = 0

Then A_k(w) = Σ_t f(t, w), because f(t, top) = 0; and as |f(t, w) − t·2⁻ʷ| < 1, a codeword whose A
exceeds the least by 2T or more is farther and leaves. At the bottom, where every t is a multiple of
2^w, A is the sum itself: who then has the least is nearest, several are equal.

Float64 holds all of it exactly. The bracket is an integer of at most 2³² in magnitude; after the
least is subtracted, the A of those who stay are below 2T < 2¹⁵, so that the next A is below
2³²·(2T + T) < 2⁴⁸. Contraction to FMA changes nothing: no operation rounds.
Weights beyond 2^±330 occur only with offsets, whose exponents span −1074 … 1024.
"""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def scaled(t, e):
    """t·2^e in two steps, each factor a normal float64 (|e| ≤ 2000)."""
    half = e // 2
    return t * two_to(half) * two_to(e - half)


@triton.jit
def two_to(e):
    return ((e + 1023).to(tl.int64) << 52).to(tl.float64, bitcast=True)


@triton.jit
def _trunc(v):
    return tl.where(v < 0, tl.ceil(v), tl.floor(v))


@triton.jit
def window(t, w):
    """f(t, w) − 2³²·f(t, w + 32).

    From |t| ≥ 2^(w+85) on, t is a multiple of 2^(w+32) and has nothing here; the scaled value may
    even be infinite. Below, both parts are exact and so is their difference, an integer ≤ 2³².
    """
    v = scaled(t, -w)
    inside = _trunc(v) - _trunc(scaled(t, -w - 32)) * 4294967296.0
    return tl.where(tl.abs(v) < 2.0**85, inside, 0.0)


@triton.jit
def exact_least(
    r,
    e,
    offset,
    rank,
    staying,
    D,
    HAS_OFFSET: tl.constexpr,
    BLOCK_K: tl.constexpr,
    BLOCK_D: tl.constexpr,
):
    """The least rank of the nearest pairs (r, e) that are `staying`.

    r and e [BLOCK_K] point to D float32 each, offset to one float64; rank [BLOCK_K] int32.
    """
    weight = 258
    bottom = -298
    if HAS_OFFSET:
        weight = 1024
        bottom = -1074
    total = tl.zeros([BLOCK_K], tl.float64)
    number = tl.sum(staying.to(tl.int32), axis=0)
    while (number > 1) & (weight > bottom):
        weight -= 32
        total *= 4294967296.0
        for d0 in range(0, D, BLOCK_D):
            d = (d0 + tl.arange(0, BLOCK_D))[None, :]
            mask = staying[:, None] & (d < D)
            a = tl.load(r[:, None] + d, mask=mask, other=0.0).to(tl.float64)
            b = tl.load(e[:, None] + d, mask=mask, other=0.0).to(tl.float64)
            terms = window(a * a, weight) + window(-2.0 * a * b, weight) + window(b * b, weight)
            total += tl.sum(terms, axis=1)
        if HAS_OFFSET:
            total += window(tl.load(offset, mask=staying, other=0.0), weight)
        total -= tl.min(tl.where(staying, total, float("inf")), axis=0)
        staying = staying & (total < 6.0 * D + 2)
        total = tl.where(staying, total, 0.0)
        number = tl.sum(staying.to(tl.int32), axis=0)
    return tl.min(tl.where(staying & (total == 0), rank, 2147483647), axis=0)
