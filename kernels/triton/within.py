"""Every codeword whose score ‖x − e_k‖² + offset_k exceeds the row's least by at most `slack`.

    candidates_kernel:  fp16 scores (score.py)  ->  a bit for each codeword that could be listed
    pairs_kernel:       bits                    ->  (row, word) pairs, in order
    costs_kernel:       pairs                   ->  c = Σ_d (x_d − e_d)² in float64
    PyTorch:            the rows' least scores, which pairs stay, the rows' starts

In:  x [N, D] any strides; codebook [K, D] float32; offset [K] float64.
Out: starts [N + 1] int64; words [A] int32, ascending in a row; costs [A] float64, no offset added.

Float64 numbers alone decide who is listed: c_k, its squares added one by one from d = 0 to D − 1,
f_k = c_k + offset_k, and f_k ≤ f_min + slack, each operation rounded. None of it depends on the
device, so neither do the lists. The screen may only let too many through. In its units, which are
½β², and with the letters of score.py, a listed codeword has

    score_k ≤ min score + ½β²·slack + 2·bound + η·((ρn + w)² + 2|bias| + w²),    η = (D + 8)·2⁻⁵²

The last term is float64's rounding of f_k and f_min (docs/bounds.md). It matters where x is so far
from all codewords that float64 can't tell them apart. The bound is one fp16 product's, enlarged by
2⁻²² of the scores' size for the roundings of the right-hand side. What may still be lost to
underflow, of ½β²·slack or of a bias where all codewords are 0, is less than 2⁻¹⁰⁰.

The bits take K/8 bytes a row, slab by slab; nothing else grows with N·K. How many pairs there are
and how many stay decides sizes: the host waits twice a slab.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.nn.functional import pad

from .codebook import Packed, pack
from .score import NEVER, error_bound
from .screen_wide import split_rows
from .tiles import NARROW_LIMIT, PAIR_ROWS, PAIRS, SLAB_BYTES, WIDE_STEP, narrow, padded_width, wide

# Roundings of the right-hand side, as a share of the scores' size.
_SUM = tl.constexpr(2.0**-22 * (1 + 2.0**-7))
_LEAST = tl.constexpr(2.0**-100)


@triton.jit
def tile_scores(
    v, words, bias, rho, P, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr, BLOCK_D: tl.constexpr
):
    """bias + ρ·(v·w): v points to BLOCK_N rows of halves, words to BLOCK_K slots."""
    product = tl.zeros([BLOCK_N, BLOCK_K], tl.float32)
    for d0 in range(0, P, BLOCK_D):
        d = d0 + tl.arange(0, BLOCK_D)
        a = tl.load(v[:, None] + d[None, :])
        b = tl.load(words[None, :] + d[:, None])
        product = tl.dot(a, b, product, input_precision="ieee")
    return product * rho[:, None] + bias[None, :]


@triton.jit
def as_bits(flags):
    """flags [rows, columns] -> [rows, columns/32] int32, the first column in the lowest bit."""
    place = tl.arange(0, flags.shape[1]) % 32
    spread = flags.to(tl.int32) << place[None, :]
    return tl.sum(tl.reshape(spread, [flags.shape[0], flags.shape[1] // 32, 32]), axis=2)


@triton.jit
def lowest_bit(group):
    """The lowest bit that is set, and its place: the exponent of a power of two, even of −2³¹."""
    lowest = group & -group
    return lowest, ((lowest.to(tl.float32).to(tl.int32, bitcast=True) >> 23) & 255) - 127


@triton.jit(do_not_specialize=["rows", "K"])
def candidates_kernel(
    rows,
    D,
    K,
    slack,
    high,
    bias,
    exponent,
    limits,
    halves,
    facts,
    bits,
    counts,
    P,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
    BLOCK_D: tl.constexpr,
):
    lane = tl.arange(0, BLOCK_K)
    i = tl.program_id(0) * BLOCK_N + tl.arange(0, BLOCK_N)
    live = i < rows
    i = tl.where(live, i, 0)
    v = halves + i.to(tl.int64) * P
    rho = tl.load(facts + i)

    best = tl.full([BLOCK_N], NEVER, tl.float32)
    for k in range(0, K, BLOCK_K):
        word_bias = tl.load(bias + k + lane)
        words = high + tl.cast(k, tl.int64) * P + lane * P
        score = tile_scores(v, words, word_bias, rho, P, BLOCK_N, BLOCK_K, BLOCK_D)
        best = tl.minimum(best, tl.min(score, axis=1))

    n = tl.load(facts + rows + i)
    rest = tl.load(facts + 3 * rows + i)
    w = tl.load(limits)
    size = rho * (n + rest) * w + tl.load(limits + 4)
    bound = error_bound(rho, n, n, rest, limits, P, False) + _SUM * size
    reach = rho * n + w
    float64 = (reach * reach + 2 * tl.load(limits + 4) + w * w) * ((D + 8) * 2.0**-52)
    beta = ((tl.load(exponent) + 896).to(tl.int64) << 52).to(tl.float64, bitcast=True)
    allowance = (0.5 * beta * beta * tl.load(slack) * (1 + 2.0**-20)).to(tl.float32)
    ceiling = best + (allowance + 2 * bound + float64) * (1 + 2.0**-20) + _LEAST

    number = tl.zeros([BLOCK_N], tl.int32)
    for k in range(0, K, BLOCK_K):
        word_bias = tl.load(bias + k + lane)
        words = high + tl.cast(k, tl.int64) * P + lane * P
        score = tile_scores(v, words, word_bias, rho, P, BLOCK_N, BLOCK_K, BLOCK_D)
        # NaN anywhere: the row takes every codeword there is.
        near = ((score > ceiling[:, None]) == 0) & (word_bias < 0.5 * NEVER)[None, :]
        number += tl.sum(near.to(tl.int32), axis=1)
        place = (k // 32 + tl.arange(0, BLOCK_K // 32))[None, :] * rows + i[:, None]
        tl.store(bits + place, as_bits(near), mask=live[:, None])
    tl.store(counts + i, number.to(tl.int64), mask=live)


@triton.jit(do_not_specialize=["rows", "K"])
def pairs_kernel(bits, starts, pair_rows, words, rows, K, BLOCK_N: tl.constexpr):
    i = tl.program_id(0) * BLOCK_N + tl.arange(0, BLOCK_N)
    live = i < rows
    at = tl.load(starts + i, mask=live, other=0)
    for k in range(0, K, 32):
        group = tl.load(bits + (k // 32) * rows + i, mask=live, other=0)
        while tl.max((group != 0).to(tl.int32), axis=0) > 0:
            found = group != 0
            lowest, place = lowest_bit(group)
            tl.store(pair_rows + at, i.to(tl.int64), mask=found)
            tl.store(words + at, k + place, mask=found)
            at += found.to(tl.int64)
            group ^= lowest


@triton.jit(do_not_specialize=["number"])
def costs_kernel(
    x, stride_n, stride_d, codebook, pair_rows, words, costs, number, D, BLOCK: tl.constexpr
):
    """A thread takes a pair, and four columns a step, which is one load. Compiled without FMA."""
    at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    live = at < number
    row = tl.load(pair_rows + at, mask=live, other=0)
    word = tl.load(words + at, mask=live, other=0).to(tl.int64)
    total = tl.zeros([BLOCK], tl.float64)
    for d0 in range(0, D, 4):
        d = (d0 + tl.arange(0, 4))[None, :]
        inside = live[:, None] & (d < D)
        a = tl.load(x + row[:, None] * stride_n + d.to(tl.int64) * stride_d, mask=inside, other=0.0)
        b = tl.load(codebook + word[:, None] * D + d, mask=inside, other=0.0)
        gap = a.to(tl.float32).to(tl.float64) - b.to(tl.float64)
        even, odd = tl.split(tl.reshape(gap * gap, [BLOCK, 2, 2]))
        first, third = tl.split(even)
        second, fourth = tl.split(odd)
        total = total + first + second + third + fourth
    tl.store(costs + at, total, mask=live)


def within(
    x: Tensor, codebook: Tensor, offset: Tensor, slack: float
) -> tuple[Tensor, Tensor, Tensor]:
    """x [N, D], codebook [K, D] float32, offset [K] float64, slack ≥ 0
    -> starts [N + 1] int64, words [A] int32, costs [A] float64

    Row i's codewords are words[starts[i] : starts[i + 1]]. One that isn't finite, or whose offset
    isn't, is never among them; a row that isn't has none.
    """
    K, D = codebook.shape
    P = padded_width(D)
    packed = pack(codebook, [K], offset, P, False)
    margin = torch.full((1,), slack, dtype=torch.float64, device=x.device)
    starts = [x.new_zeros(1, dtype=torch.int64)]
    words = [x.new_empty(0, dtype=torch.int32)]
    costs = [x.new_empty(0, dtype=torch.float64)]
    found = 0
    slab = max(1, SLAB_BYTES // (4 * P + len(packed.bias) // 8))
    for rows in x.split(slab) if len(x) > 0 else ():
        with torch.cuda.device_of(x):
            ends, slab_words, slab_costs = _slab(rows, codebook, offset, margin, packed)
        starts.append(ends + found)
        words.append(slab_words)
        costs.append(slab_costs)
        found += len(slab_words)
    return torch.cat(starts), torch.cat(words), torch.cat(costs)


def _slab(
    x: Tensor, codebook: Tensor, offset: Tensor, slack: Tensor, packed: Packed
) -> tuple[Tensor, Tensor, Tensor]:
    """`within` for a few rows; of the starts all but the first, 0."""
    N = len(x)
    bits, counts = _candidates(x, codebook, slack, packed)
    starts = pad(counts.cumsum(0), (1, 0))
    rows, words, costs = _pairs(x, codebook, bits, starts)
    scores = costs + offset[words]
    least = scores.new_full((N,), torch.inf).scatter_reduce(0, rows, scores, "amin")
    stays = (scores <= (least + slack)[rows]) & (scores < torch.inf)
    listed = stays.nonzero().squeeze(1)
    ends = pad(stays.cumsum(0), (1, 0))[starts[1:]]
    return ends, words[listed], costs[listed]


def _candidates(
    x: Tensor, codebook: Tensor, slack: Tensor, packed: Packed
) -> tuple[Tensor, Tensor]:
    """Codewords that could be listed. -> bits [S/32, N] int32, and their number [N] int64"""
    N, (K, D) = len(x), codebook.shape
    slots, P = packed.high.shape
    halves = torch.empty((2, N, P), dtype=torch.float16, device=x.device)
    facts = torch.empty((5, N), dtype=torch.float32, device=x.device)
    bits = torch.empty((slots // 32, N), dtype=torch.int32, device=x.device)
    counts = torch.empty(N, dtype=torch.int64, device=x.device)
    tile = narrow(D, x.device)[0] if D <= NARROW_LIMIT else wide((K,), x.device)[1]
    split_rows(x, range(N), 0, codebook, packed, counts[:, None], halves, facts)
    candidates_kernel[(triton.cdiv(N, tile.rows),)](
        N,
        D,
        K,
        slack,
        packed.high,
        packed.bias,
        packed.exponent,
        packed.limits,
        halves,
        facts,
        bits,
        counts,
        P,
        BLOCK_N=tile.rows,
        BLOCK_K=tile.words,
        BLOCK_D=min(WIDE_STEP, P),
        num_warps=tile.warps,
        num_stages=tile.stages,
    )
    return bits, counts


def _pairs(
    x: Tensor, codebook: Tensor, bits: Tensor, starts: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """The bits that are set, in order -> rows [C] int64, words [C] int32, costs [C] float64"""
    N, (K, D) = len(x), codebook.shape
    number = int(starts[-1])
    rows = torch.empty(number, dtype=torch.int64, device=x.device)
    words = torch.empty(number, dtype=torch.int32, device=x.device)
    costs = torch.empty(number, dtype=torch.float64, device=x.device)
    if number > 0:
        pairs_kernel[(triton.cdiv(N, PAIR_ROWS),)](
            bits, starts, rows, words, N, K, BLOCK_N=PAIR_ROWS, num_warps=1
        )
        costs_kernel[(triton.cdiv(number, PAIRS),)](
            x,
            x.stride(0),
            x.stride(1),
            codebook,
            rows,
            words,
            costs,
            number,
            D,
            BLOCK=PAIRS,
            num_warps=4,
            enable_fp_fusion=False,
        )
    return rows, words, costs
