"""Size-constrained k-means: passes over the rows on the GPU, prices and repair on the host.

    host   prices from a sample of the rows (kernels/cpp/balanced.cpp), and from it the slack
    GPU    within: the arcs of all rows at these prices
    host   ascent and repair along them (kernels/cpp/transport.h), until they would need more arcs
    GPU    code_sums: the means of what the host has assigned

Only arcs (12 bytes each, one to three a row), prices and labels cross the bus. The assignment of
the last iteration is proven by arcs that were collected at the very prices, or by a bound that its
cost has reached. Prices and repair are C++: without the native library the reference does it all.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from letter_fast.kernels.cpp.balanced_lloyd import priced_lloyd
from letter_fast.kernels.cpp.transport import Transport, transport

from .. import host, reference
from .code_sums import code_sums
from .within import within

# Rows that the first prices are found on.
_SAMPLE = 1 << 16
# Share of the rows that are to have more than one arc, and rows that tell which slack does it.
_CONTESTED, _SLACK_ROWS = 0.3, 4096


def balanced_lloyd(
    x: Tensor,
    centroids: Tensor,
    low: Tensor,
    high: Tensor,
    iterations: int,
    tolerance: float,
    exponent: int,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """x [P, N, D], centroids [P, K, D] float32, low and high [K] int64 on the CPU
    -> centroids [P, K, D] float32, labels [P, N] int64, cost and bound [P] float64
    """
    if host() is reference:
        found = reference.balanced_lloyd(
            x.cpu(), centroids.cpu(), low, high, iterations, tolerance, exponent
        )
        return tuple(each.to(x.device) for each in found)  # type: ignore[return-value]
    runs = [
        _lloyd(rows, start, low, high, iterations, tolerance, exponent)
        for rows, start in zip(x, centroids)
    ]
    means, last = zip(*runs)
    labels = torch.stack([each.labels for each in last]).to(x.device)
    totals = x.new_tensor([[each.cost, each.bound] for each in last], dtype=torch.float64)
    return torch.stack(means), labels, totals[:, 0], totals[:, 1]


def _lloyd(
    rows: Tensor,
    centroids: Tensor,
    low: Tensor,
    high: Tensor,
    iterations: int,
    tolerance: float,
    exponent: int,
) -> tuple[Tensor, Transport]:
    prices = _first_prices(rows, centroids, low, high)
    before = math.inf
    for iteration in range(1, iterations + 1):
        last = iteration == iterations
        found = _assign(rows, centroids, low, high, prices, last)
        if last:
            break
        if before - found.cost <= tolerance * found.cost:
            found = _assign(rows, centroids, low, high, found.prices, True)
            break
        before, prices = found.cost, found.prices
        labels = found.labels.to(rows.device)
        sums, sizes = code_sums(rows, labels, len(centroids), exponent)
        means = (sums.double() / 2.0**exponent / sizes.clamp(min=1)[:, None]).float()
        centroids = torch.where(sizes[:, None] > 0, means, centroids)
    return centroids, found


def _first_prices(rows: Tensor, centroids: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """Prices [K] of an assignment of every n-th row, with bounds in proportion."""
    sample = rows[:: -(-len(rows) // _SAMPLE)].cpu()
    share = len(sample) / len(rows)
    fewer, more = (low * share).floor().long(), (high * share).ceil().long()
    return priced_lloyd(sample[None], centroids.cpu()[None], fewer, more, 1, 0.0, 0)[4][0]


def _assign(
    rows: Tensor, centroids: Tensor, low: Tensor, high: Tensor, prices: Tensor, proven: bool
) -> Transport:
    slack = _slack(rows, centroids, prices)
    while True:
        starts, words, costs = within(rows, centroids, prices.to(rows.device), slack)
        found = transport(starts.cpu(), words.cpu(), costs.cpu(), low, high, slack, prices)
        certain = found.bound >= found.cost or bool((found.prices == prices).all())
        if found.done and (certain or not proven):
            return found
        # Each collection covers the slack anew; unless it was enough, the next one takes more.
        slack = slack if found.done else 2 * slack
        prices = found.prices


def _slack(rows: Tensor, centroids: Tensor, prices: Tensor) -> float:
    """The gap from a row's best score to its next that a share of the rows doesn't exceed."""
    if len(centroids) == 1:
        return 0.0
    sample = rows[:: -(-len(rows) // _SLACK_ROWS)].double()
    words = centroids.double()
    scores = torch.cdist(sample, words, compute_mode="donot_use_mm_for_euclid_dist").square()
    scores += prices.to(rows.device)
    best, second = scores.topk(2, dim=1, largest=False).values.unbind(dim=1)
    gap = float((second - best).quantile(_CONTESTED))
    return max(gap, 2.0**-40 * float(scores.abs().max()))
