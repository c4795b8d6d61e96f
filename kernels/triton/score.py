"""The steps that the screens share: split a row, bound the error of its scores, keep the best two.

Units are those of codebook.py. With v = αr, α a power of two a row, and ρ = β/α,

    score_k = bias_k + ρ·(v·w_k)                 v = high + 2⁻¹¹·low + rest, as w

one fp16 pass:    v·w ≈ high·high
fp16×3:           v·w ≈ high·high + 2⁻¹¹(high·low + low·high)         (Ootomo and Yokota, 2022)

Error bound, from the norms of this row's and the level's largest *actual* leftovers (Cauchy–
Schwarz; a-priori roundings would be several times larger), n = ‖v‖ + ‖rest‖:

    |score − exact| ≤ ρ(n·‖Δw‖ + ‖Δv‖·‖w‖ + ‖low v‖·‖low w‖)            what the split leaves out
                    + ρ·γ(n‖w‖ + 2(n‖low w‖ + ‖low v‖‖w‖))              accumulation
                    + 2⁻²²(ρ·n·‖w‖ + |bias|)                            bias, final sum
                    + u/2                                               the key, see below

γ = (9/8·P + 16)·2⁻²³ for P products in float32 on a tensor core that adds blocks of b ≥ 8 products
with F fraction bits, F ≥ 24 where b < 16, else F ≥ 23. docs/bounds.md derives it and names the
cards; tests/kernels/triton/test_tensor_core_sums.py runs the screens on such sums.
Products of fp16 numbers neither underflow nor round in float32. A core may take v's subnormal
halves, below 2⁻¹⁴, for 0: P·2⁻¹⁴ is more than √P of those and of the low ones', and is added to
‖rest‖; w has none. A half that overflows leaves ‖rest‖ = ∞. Everything here is rounded to nearest
in float32 over at most 4096 terms, and α·r may lose bits below 2⁻¹⁴⁹: both are less than the 2⁻⁷ by
which the bound is enlarged.

A row is certified when its two smallest scores differ by more than twice the bound; then no other
codeword is as near. They are found as the two largest keys, a score and its codeword's number in
one unsigned integer, so that a maximum carries both:

    key_k = bits(origin − score_k)·2ᵇ + k  mod 2³²,        origin = (2²³ + 2³¹⁻ᵇ)·u,  b ≥ 9

bits() are those of a float32. With |score| < 2³⁰⁻ᵇ·u, u a power of two a row, origin − score lies
in [2²³u, 2²⁴u): there floats are the multiples of u, and consecutive ones have consecutive bits.
The product leaves the lowest 32 − b of these bits above the number, and drops sign, exponent and
what is the same for all of the row. A codeword that can't win has bias 2¹²⁶: its bits are 0. Three
instructions of the FMA's pipe make a key and 2.5 or 3 maxima place it; the ALU, which has half the
lanes on sm_90, is what binds the screens.
"""

from __future__ import annotations

import triton
import triton.language as tl

NEVER = tl.constexpr(2.0**126)
_SLACK = tl.constexpr(1 + 2.0**-7)
_UNIT = tl.constexpr(2.0**-23)
_HALF_NORMAL = tl.constexpr(2.0**-14)
_LOW = tl.constexpr(2.0**-11)
# β/α is kept within 2^±60 so that no score overflows; a row outside is clipped: its bound sees it.
_RATIO = tl.constexpr(60)
# Biased exponents of α and β above which a residual can't overflow.
_SMALLEST_SCALE = tl.constexpr(17)
# Codewords that keys tell apart at a time, so that 19 bits are left for a score.
CHUNK = tl.constexpr(8192)


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
def split(v, NORMAL: tl.constexpr = False):
    """v [rows, P] -> high and low [rows, P] fp16 and the rests without and with `low`, float32.

    NORMAL: no subnormal halves; without them a core that takes those for 0 multiplies as others do.
    """
    high = v.to(tl.float16)
    if NORMAL:
        high = tl.where(tl.abs(v) < _HALF_NORMAL, 0.0, v).to(tl.float16)
    left = v - high.to(tl.float32)
    low = (left * 2048.0).to(tl.float16)
    if NORMAL:
        low = tl.where(tl.abs(left * 2048.0) < _HALF_NORMAL, 0.0, left * 2048.0).to(tl.float16)
    return high, low, left, left - low.to(tl.float32) * _LOW


@triton.jit
def square_sum(v):
    return tl.sum(v * v, axis=1)


@triton.jit
def error_bound(rho, size, low, rest, limits, P, THREE: tl.constexpr):
    """The bound above of each row, less the key's: ‖v‖, ‖2⁻¹¹low‖, ‖rest‖ [rows]; limits: the five
    of its level."""
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
    final = 2 * _UNIT * (rho * n * w + bias)
    return _SLACK * (rho * lost + rho * gamma * accumulated + final)


@triton.jit
def rest_norm(square, P):
    """‖rest‖ from its square, and what subnormal halves may add to it."""
    return tl.sqrt(square) + P * _HALF_NORMAL


@triton.jit
def stays_finite(alpha, beta):
    """Whether the next residual does: |r| < 2¹⁶/α and |e| < 2¹⁵/β, so that they sum to < 2¹²⁷."""
    return (alpha > _SMALLEST_SCALE) & (beta > _SMALLEST_SCALE)


@triton.jit
def index_bits(K, BLOCK_K: tl.constexpr):
    """b: enough for K in whole tiles, and at least 9, so that sign and exponent leave the key."""
    last = (tl.cdiv(K, BLOCK_K) * BLOCK_K - 1).to(tl.float32)
    return tl.maximum((last.to(tl.int32, bitcast=True) >> 23) - 126, 9)


@triton.jit
def key_unit(rho, size, rest, bound, limits, bits):
    """u of each row; inf, which certifies nothing, where `origin` would come near 2¹²⁶."""
    exact = rho * (size + rest) * tl.load(limits) + tl.load(limits + 4)
    largest = tl.abs(_SLACK * exact + bound)  # NaN has any sign
    biased = (largest.to(tl.int32, bitcast=True) >> 23) + bits - 29
    return tl.where(biased > 204, float("inf"), power_of_two(tl.maximum(biased, 30)))


@triton.jit
def keep_two(first, second, score, index, unit, bits, NEAR: tl.constexpr):
    """Two largest keys a lane, [rows, lanes] each, with a tile of scores from codeword `index` on.

    A lane has columns of the tile that one thread has in its registers, so that nothing is moved:
    of an MMA's result every 8th, or 16th if two warps share a row; of Blackwell's, NEAR, a run of
    them. The keys leave out what the lanes have in common with them, see best_two.
    """
    lanes: tl.constexpr = first.shape[1]
    column = tl.arange(0, score.shape[1])
    if NEAR:
        column = column % (score.shape[1] // lanes)
    else:
        column = column - column % lanes
    origin = unit * ((1 << 23) + (1 << (31 - bits))).to(tl.float32)
    fixed = (origin[:, None] - score).to(tl.uint32, bitcast=True)
    # By way of float32, so that no compiler sees a power of two: for a shift and a sum it would
    # take the ALU.
    key = fixed * power_of_two(127 + bits).to(tl.uint32) + column[None, :].to(tl.uint32)
    a, b = _halves(key, NEAR)
    one, two = tl.maximum(a, b), tl.minimum(a, b)
    for _ in tl.static_range(7):
        if one.shape[1] > lanes:
            a, b = _halves(one, NEAR)
            c, d = _halves(two, NEAR)
            one, two = tl.maximum(a, b), tl.maximum(tl.minimum(a, b), tl.maximum(c, d))
    one += tl.cast(index, tl.uint32)
    two += tl.cast(index, tl.uint32)
    return tl.maximum(first, one), tl.maximum(tl.minimum(first, one), tl.maximum(second, two))


@triton.jit
def _halves(key, NEAR: tl.constexpr):
    """Every second column and the others; or, not NEAR, the left half and the right one."""
    if NEAR:
        parted = tl.reshape(key, [key.shape[0], key.shape[1] // 2, 2])
    else:
        parted = tl.permute(tl.reshape(key, [key.shape[0], 2, key.shape[1] // 2]), [0, 2, 1])
    return tl.split(parted)


@triton.jit
def best_two(first, second, bits, BLOCK_K: tl.constexpr, NEAR: tl.constexpr):
    """(origin − score)/u, up to a constant, of the row's smallest score and of the next, and the
    codeword of the first.

    With the lanes' numbers, keys are distinct. The largest but one is found modulo 2³²: less the
    largest, that is 0 and all others are at the top.
    """
    lane = tl.arange(0, first.shape[1])
    if NEAR:
        lane = lane * (BLOCK_K // first.shape[1])
    first += lane[None, :].to(tl.uint32)
    one = tl.max(first, axis=1)
    two = tl.maximum(tl.max(first - one[:, None], axis=1) + one, tl.max(second, axis=1))
    code = one.to(tl.int32, bitcast=True) & ((1 << bits) - 1)
    return (one >> bits).to(tl.int32), (two >> bits).to(tl.int32), code


@triton.jit
def better_two(best, second, code, one, two, where):
    """best_two of the codewords so far, with that of the next ones."""
    second = tl.maximum(tl.minimum(best, one), tl.maximum(second, two))
    return tl.maximum(best, one), second, tl.where(one > best, where, code)


@triton.jit
def named(first, second, best, unit, bound, bits, BLOCK_K: tl.constexpr, NEAR: tl.constexpr):
    """The codewords that may be nearest where none is certain, [rows, lanes]: −1 in lanes without
    one, −2 in all lanes of a row where some may be missing.

    best: what best_two gives. A lane whose second key is within reach may have lost a third.
    """
    lane = tl.arange(0, first.shape[1])
    if NEAR:
        lane = lane * (BLOCK_K // first.shape[1])
    first += lane[None, :].to(tl.uint32)
    reach = (2 * bound + unit)[:, None]
    one = (first >> bits).to(tl.int32)
    two = (second >> bits).to(tl.int32)
    near = (one > 0) & (((best[:, None] - one).to(tl.float32) * unit[:, None] > reach) == 0)
    lost = (two > 0) & (((best[:, None] - two).to(tl.float32) * unit[:, None] > reach) == 0)
    some = tl.max(near.to(tl.int32), axis=1) > tl.max(lost.to(tl.int32), axis=1)
    code = first.to(tl.int32, bitcast=True) & ((1 << bits) - 1)
    return tl.where(some[:, None], tl.where(near, code, -1), -2)


@triton.jit
def certified(best, second, unit, bound):
    """Whether the row's nearest codeword is known, by what best_two gives. NaN anywhere is a no."""
    return (best > 0) & ((best - second).to(tl.float32) * unit > 2 * bound + unit)
