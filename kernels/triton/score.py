"""What the screens share: split a row, bound the error of its scores, keep the best two.

Units are those of codebook.py. With v = αr, α a power of two a row, and ρ = β/α,

    score_k = bias_k + ρ·(v·w_k)                 v = high + 2⁻¹¹·low + rest, as w

one fp16 pass:    v·w ≈ high·high
fp16×3:           v·w ≈ high·high + 2⁻¹¹(high·low + low·high)         (Ootomo and Yokota, 2022)

Error bound, from the norms of this row's and the level's largest *actual* leftovers (Cauchy–
Schwarz; a-priori roundings would be several times larger), n = ‖v‖ + ‖rest‖:

    |score − exact| ≤ ρ(n·‖Δw‖ + ‖Δv‖·‖w‖ + ‖low v‖·‖low w‖)            what the split leaves out
                    + ρ·γ(n‖w‖ + 2(n‖low w‖ + ‖low v‖‖w‖))              accumulation
                    + (2⁻²² + packing)(ρ·n·‖w‖ + |bias|)                bias, final sum, packing

γ = (9/8·P + 16)·2⁻²³ for P products in float32 on a tensor core. It aligns a block of b products
and the accumulator to their largest, truncates them F bits behind its leading one, and truncates
the sum to float32: at most (b + 1)·2^(23−F) + 1 units of 2⁻²³ of the sum of magnitudes a block, P/b
blocks (Fasi, Higham, Mikaitis and Pranesh, 2021; Blanchard et al., 2020). Assumed are b ≥ 8, and
F ≥ 24 where b < 16, else F ≥ 23: then P/b·((b + 1)·2^(23−F) + 1) ≤ 9/8·P. From compute capability
8.0 on that holds (8, 24 on A100; 16, 25 on H100, by the same literature); tests/kernels/
test_tensor_core_sums.py runs the screens on such sums. V100 (4, 23) is beyond γ.
Products of normal fp16 numbers neither underflow nor round in float32. Everything here is
rounded to nearest in float32 over at most 4096 terms, and α·r may lose bits below 2⁻¹⁴⁹: both are
less than the 2⁻⁷ by which the bound is enlarged.

A row is certified when its two smallest scores differ by more than twice the bound; then no other
codeword is as near.
"""

from __future__ import annotations

import triton
import triton.language as tl

NEVER = tl.constexpr(2.0**126)
_SLACK = tl.constexpr(1 + 2.0**-7)
_UNIT = tl.constexpr(2.0**-23)
_HALF_MAX = tl.constexpr(65504.0)
_HALF_NORMAL = tl.constexpr(2.0**-14)
_LOW = tl.constexpr(2.0**-11)
# β/α is kept within 2^±60 so that no score overflows; a row outside is clipped: its bound sees it.
_RATIO = tl.constexpr(60)


@triton.jit
def row_exponent(peak, beta):
    """Biased exponent of α that puts the row's largest element, `peak`, into [2¹⁴, 2¹⁵)."""
    own = 268 - (peak.to(tl.int32, bitcast=True) >> 23)
    own = tl.minimum(own, tl.minimum(beta + _RATIO, 254))
    return tl.maximum(own, tl.maximum(beta - _RATIO, 1))


@triton.jit
def power_of_two(biased):
    return (biased << 23).to(tl.float32, bitcast=True)


@triton.jit
def half(v):
    """float16, clipped to its range and without subnormals, which a tensor core may flush."""
    clipped = tl.minimum(tl.maximum(v, -_HALF_MAX), _HALF_MAX)
    return tl.where(tl.abs(v) < _HALF_NORMAL, 0.0, clipped).to(tl.float16)


@triton.jit
def split(v):
    """v [rows, P] -> high and low [rows, P] fp16 and the rests without and with `low`, float32."""
    high = half(v)
    left = v - high.to(tl.float32)
    low = half(left * 2048.0)
    return high, low, left, left - low.to(tl.float32) * _LOW


@triton.jit
def square_sum(v):
    return tl.sum(v * v, axis=1)


@triton.jit
def error_bound(rho, size, low, rest, limits, P, THREE: tl.constexpr, PACKING: tl.constexpr):
    """The bound above of each row: ‖v‖, ‖2⁻¹¹low‖, ‖rest‖ [rows]; limits: the five of its level."""
    w = tl.load(limits)
    w_low = tl.load(limits + 1)
    w_rest = tl.load(limits + 2)
    bias = tl.load(limits + 4)
    gamma = (1.125 * P + 16) * _UNIT
    n = size + rest
    lost = n * w_rest + rest * w
    accumulated = n * w
    if THREE:
        w_rest = tl.load(limits + 3)
        lost = n * w_rest + rest * w + low * w_low
        accumulated = n * w + 2 * (n * w_low + low * w)
    final = (2 * _UNIT + PACKING) * (rho * n * w + bias)
    return _SLACK * (rho * lost + rho * gamma * accumulated + final)


@triton.jit
def best_two(score, lane, BLOCK_K: tl.constexpr, PACKED: tl.constexpr):
    """The smallest score of each row, its lane, and the smallest of the other lanes.

    Packed, a score's low bits give way to its lane: that moves it by at most BLOCK_K·2⁻²³ of
    itself, makes the row's keys distinct, and so finds index and runner-up with two minima and one
    compare.
    """
    if PACKED:
        bits = score.to(tl.int32, bitcast=True)
        key = ((bits & -BLOCK_K) | lane[None, :]).to(tl.float32, bitcast=True)
        first = tl.min(key, axis=1)
        second = tl.min(tl.where(key == first[:, None], NEVER, key), axis=1)
        at = first.to(tl.int32, bitcast=True) & (BLOCK_K - 1)
    else:
        first = tl.min(score, axis=1)
        at = tl.min(tl.where(score == first[:, None], lane[None, :], BLOCK_K - 1), axis=1)
        second = tl.min(tl.where(lane[None, :] == at[:, None], NEVER, score), axis=1)
    return first, at, second


@triton.jit
def certified(first, second, bound, PACKED: tl.constexpr):
    """Whether the smallest score's codeword is the nearest. NaN anywhere is a no."""
    clear = (second - first > 2 * bound) & (first < 0.5 * NEVER)
    if PACKED:  # a key this small could lose its lane to a flush of subnormals
        clear = clear & (tl.abs(first) > 2.0**-100)
    return clear
