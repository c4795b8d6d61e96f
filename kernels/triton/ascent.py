"""Prices of clusters of bounded size, climbed on the device while the host only launches.

    g(λ) = Σ_i min_k (c_ik + λ_k) − Σ_k (λ_k⁺ high_k − λ_k⁻ low_k),    c_ik = ‖x_i − e_k‖²

    a pass:  search        the rows' codes with λ as offsets         (residual_search.py)
             count_kernel  how many rows each code has               -> n_k
             step_kernel   g's subgradient n_k − high_k or n_k − low_k moves λ_k against itself

In:  x [N, D] any strides; centroids [K, D] float32; low and high [K] int64; prices [K] float64.
Out: the prices of the pass that misplaced the fewest rows, and how many: Σ_k |subgradient_k|.

A price's step grows by half while its subgradient keeps its sign, and halves where it turns; the
move is the step times the excess, in parts of N/K, at most 1. Codes are exact, counts are integers,
and each operation on a price rounds in float64 as it does elsewhere (no FMA): from the same prices
and steps all devices come to the same bits, those of the formula in
tests/kernels/triton/test_ascent.py.

Counting goes through shared memory: a program adds up COUNT_ROWS codes below COUNT_BINS, then one
atomic a bin, 62,000 for 10⁶ rows and 256 clusters where an atomic a row would queue at few
addresses. With more clusters there are more programs, which read the codes again: 8 bytes a row.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from .residual_search import search

COUNT_ROWS, COUNT_BINS = 4096, 256
STEP_WORDS = 256
# Rows that say how far clusters lie apart, and elements of their table of distances.
SAMPLE_ROWS, SAMPLE_ELEMENTS = 2048, 1 << 22
# A step begins as this part of what lies between a row's best cluster and its third, and never is
# more than that times the second: a group of clusters that no row wants drew in all rows without.
FIRST_STEP, LARGEST_STEP = 0.25, 4.0


class Start(NamedTuple):
    """The beginning of an ascent: prices [K] float64, and scale [] float64, a power of two or 0."""

    prices: Tensor
    scale: Tensor


class Ascent(NamedTuple):
    """The best pass: prices [K] float64, misplaced [] int64."""

    prices: Tensor
    misplaced: Tensor


@triton.jit(do_not_specialize=["N", "K", "number"])
def count_kernel(codes, counts, N, K, number, BLOCK_N: tl.constexpr, BINS: tl.constexpr):
    """counts[number, k] += rows of code k."""
    chunks = tl.cdiv(K, BINS)
    first = tl.program_id(0) % chunks * BINS
    i = tl.cast(tl.program_id(0) // chunks, tl.int64) * BLOCK_N + tl.arange(0, BLOCK_N)
    code = tl.load(codes + i, mask=i < N, other=-1).to(tl.int32) - first
    inside = (code >= 0) & (code < BINS) & (i < N)
    found = tl.histogram(tl.where(inside, code, 0), BINS, mask=inside)
    bin_ = first + tl.arange(0, BINS)
    place = counts + tl.cast(number, tl.int64) * K + bin_
    tl.atomic_add(place, found.to(tl.int64), mask=(bin_ < K) & (found > 0), sem="relaxed")


@triton.jit
def _excess(count, low, high, price):
    """g's subgradient: at price 0 the nearest to 0 of all there are."""
    above = count - high
    below = count - low
    between = tl.maximum(above, 0) + tl.minimum(below, 0)
    return tl.where(price > 0, above, tl.where(price < 0, below, between))


@triton.jit(
    do_not_specialize=["K", "number"],
    do_not_specialize_on_alignment=["least", "next_least"],
)
def step_kernel(
    counts,
    low,
    high,
    state,
    next_state,
    limits,
    least,
    next_least,
    kept,
    K,
    number,
    BLOCK: tl.constexpr,
):
    """state [3, K] float64: price, step, the sign of its last excess; limits [2] float64: the
    largest step, and what part of its step one row is worth. One program."""
    lane = tl.arange(0, BLOCK)
    largest = tl.load(limits)
    a_row = tl.load(limits + 1)
    counts += tl.cast(number, tl.int64) * K
    total = tl.zeros([BLOCK], tl.int64)
    for k0 in range(0, K, BLOCK):
        k = k0 + lane
        inside = k < K
        price = tl.load(state + k, mask=inside, other=0.0)
        step = tl.load(state + K + k, mask=inside, other=0.0)
        before = tl.load(state + 2 * K + k, mask=inside, other=0.0)
        count = tl.load(counts + k, mask=inside, other=0)
        excess = _excess(
            count,
            tl.load(low + k, mask=inside, other=0),
            tl.load(high + k, mask=inside, other=0),
            price,
        )
        total += tl.abs(excess)
        excess = excess.to(tl.float64)
        sign = (excess > 0).to(tl.float64) - (excess < 0).to(tl.float64)
        turn = sign * before
        step = tl.where(turn > 0, 1.5 * step, tl.where(turn < 0, 0.5 * step, step))
        step = tl.minimum(step, largest)
        moved = price + sign * (step * tl.minimum(tl.abs(excess) * a_row, 1.0))
        # Where its bound stops binding, a price stops before it changes sign.
        moved = tl.where(moved * price < 0, 0.0, moved)
        tl.store(next_state + k, moved, mask=inside)
        tl.store(next_state + K + k, step, mask=inside)
        tl.store(next_state + 2 * K + k, sign, mask=inside)

    misplaced = tl.sum(total, axis=0)
    fewest = tl.load(least)
    tl.store(next_least, tl.minimum(fewest, misplaced))
    if misplaced < fewest:
        for k0 in range(0, K, BLOCK):
            k = k0 + lane
            price = tl.load(state + k, mask=k < K, other=0.0)
            tl.store(kept + k, price, mask=k < K)


def begin(x: Tensor, centroids: Tensor, low: Tensor) -> Start:
    """Prices at which each cluster alone would get its least number of rows; from a sample.

    x [N, D], centroids [K, D] float32, low [K] int64. The scale is what lies between a row's best
    cluster and its third best, typically; where that is nothing, what lies between all of them.
    """
    N, K = len(x), len(centroids)
    distances = sampled_distances(x, centroids)
    S = len(distances)
    gaps = (distances - distances.amin(dim=1, keepdim=True)).sort(dim=0).values
    wanted = (low * S + N - 1) // N
    prices = -gaps.gather(0, (wanted - 1).clamp(min=0)[None])[0]
    prices = torch.where(wanted > 0, prices, 0.0)

    near = distances.topk(min(3, K), dim=1, largest=False).values
    typical = (near[:, -1] - near[:, 0]).median()
    typical = torch.where(typical > 0, typical, gaps[-1].mean())
    return Start(prices, torch.where(typical > 0, typical / typical.frexp().mantissa, 0.0))


def sampled_distances(x: Tensor, centroids: Tensor) -> Tensor:
    """‖x_i − e_k‖² of every n-th row, [S, K] float64."""
    rows = max(1, min(SAMPLE_ROWS, SAMPLE_ELEMENTS // len(centroids)))
    sample = x[:: -(-len(x) // rows)].double()
    words = centroids.double()
    return torch.cdist(sample, words, compute_mode="donot_use_mm_for_euclid_dist").square()


def ascend(
    x: Tensor, centroids: Tensor, low: Tensor, high: Tensor, start: Start, step: float, passes: int
) -> Ascent:
    """x [N, D], centroids [K, D] float32, low and high [K] int64, all on the device; the first
    step is `step` times the scale.
    """
    N, K, device = len(x), len(centroids), x.device
    counts = torch.zeros((passes, K), dtype=torch.int64, device=device)
    least = torch.full((passes + 1,), torch.iinfo(torch.int64).max, device=device)
    state = torch.zeros(3 * K, dtype=torch.float64, device=device)
    following = torch.empty_like(state)
    state[:K] = start.prices
    state[K : 2 * K] = step * start.scale
    limits = torch.full((2,), min(K / N, 1.0), dtype=torch.float64, device=device)
    limits[0] = LARGEST_STEP * start.scale
    kept = start.prices.clone()
    for number in range(passes):
        codes, _ = search(x, centroids, [K], state[:K], mark=False)
        with torch.cuda.device_of(x):
            count_kernel[(triton.cdiv(N, COUNT_ROWS) * triton.cdiv(K, COUNT_BINS),)](
                codes, counts, N, K, number, BLOCK_N=COUNT_ROWS, BINS=COUNT_BINS, num_warps=8
            )
            step_kernel[(1,)](
                counts,
                low,
                high,
                state,
                following,
                limits,
                least[number:],
                least[number + 1 :],
                kept,
                K,
                number,
                BLOCK=STEP_WORDS,
                num_warps=4,
                enable_fp_fusion=False,
            )
        state, following = following, state
    return Ascent(kept, least[-1])
