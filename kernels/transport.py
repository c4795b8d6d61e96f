"""The cheapest assignment with bounded cluster sizes, for costs given as a table.

    minimise Σ_i c_{i,a(i)}   with   low_k ≤ n_k = |{i : a(i) = k}| ≤ high_k

is a transportation problem; its dual has one price λ_k per cluster:

    g(λ) = Σ_i min_k (c_ik + λ_k) − Σ_k (λ_k⁺ high_k − λ_k⁻ low_k)

Prices first climb g (each moves against its cluster's imbalance) until few rows are misplaced. Then
the assignment a(i) = argmin_k c_ik + λ_k is repaired along cheapest paths of the cluster graph: the
edge a → b costs w(a, b) = min over members i of a of (c_ib + λ_b) − (c_ia + λ_a) ≥ 0, and one more
node T, of price 0, takes up what the bounds leave free: k → T (room below high_k, cost −λ_k) and
T → k (members above low_k, cost λ_k). Moving one member per edge of a cheapest path and lowering
prices by the path distances keeps every w ≥ 0, so that the end is an optimum (successive shortest
paths; Ahuja, Magnanti and Orlin 1993, §9.7), and g(λ) proves it.

The specification `reference.balanced_lloyd` assigns by it; so does a cost of which there is no
kernel, whatever the backend.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

# Passes of price ascent before the repair, at most.
_ASCENT_PASSES = 60


class Assignment(NamedTuple):
    """labels [N] int64; cost Σ_i c_{i,label}; bound = g(λ) ≤ the optimum; prices [K]."""

    labels: Integers
    cost: float
    bound: float
    prices: Floats


def assign(
    costs: Floats, low: Integers, high: Integers, prices: Floats | None = None
) -> Assignment:
    """The cheapest assignment. costs [N, K], low and high [K]; prices [K] to start from."""
    start = np.zeros(len(low)) if prices is None else prices
    start = _ascend(costs, low, high, start)
    labels = (costs + start).argmin(axis=1) if len(costs) else np.zeros(0, dtype=np.int64)
    labels, end = _repair(costs, labels.astype(np.int64), low, high, start)
    cost = float(costs[np.arange(len(labels)), labels].sum())
    return Assignment(labels, cost, min(_dual(costs, end, low, high), cost), end)


def _dual(costs: Floats, prices: Floats, low: Integers, high: Integers) -> float:
    """g(λ)."""
    cheapest = (costs + prices).min(axis=1).sum() if len(costs) else 0.0
    return float(cheapest - (np.maximum(prices, 0) @ high - np.maximum(-prices, 0) @ low))


def _ascend(costs: Floats, low: Integers, high: Integers, prices: Floats) -> Floats:
    """Ascends g: a price's step grows while its imbalance keeps its sign, and shrinks if not."""
    n, k = costs.shape
    if n == 0 or k == 1:
        return np.zeros(k)
    spread = float(costs.mean() - costs.min(axis=1).mean())
    step = np.full(k, 0.1 * spread)
    before = np.zeros(k)
    best, kept = -math.inf, prices
    for _ in range(_ASCENT_PASSES):
        shifted = costs + prices
        counts = np.bincount(shifted.argmin(axis=1), minlength=k)
        value = float(
            shifted.min(axis=1).sum()
            - (np.maximum(prices, 0) @ high - np.maximum(-prices, 0) @ low)
        )
        if value > best:
            best, kept = value, prices
        # The subgradient of g: an over-full cluster grows dearer, an under-full one cheaper.
        excess = np.where(
            prices > 0, counts - high, np.where(prices < 0, counts - low, 0)
        ) + np.where(prices == 0, np.maximum(counts - high, 0) + np.minimum(counts - low, 0), 0)
        if not excess.any():
            return prices
        agree = np.sign(excess) * before
        step = np.where(agree > 0, 1.3 * step, np.where(agree < 0, 0.4 * step, step))
        before = np.sign(excess)
        size = step * np.minimum(np.abs(excess) / np.maximum(n / k, 1.0), 1.0)
        moved = prices + before * size
        # A price stops at 0, where its bound no longer binds, before it changes sign.
        prices = np.where(moved * prices < 0, 0.0, moved)
    return kept


def _repair(
    costs: Floats, labels: Integers, low: Integers, high: Integers, prices: Floats
) -> tuple[Integers, Floats]:
    """Cheapest augmenting paths until every bound holds; see the head of this file."""
    k = len(prices)
    sink = k
    counts = np.bincount(labels, minlength=k)
    # What complementary slackness asks each cluster to send to T at these prices.
    flow = np.where(prices > 0, high, np.where(prices < 0, low, np.clip(counts, low, high)))
    excess = np.append(counts - flow, flow.sum() - len(labels))
    potential = np.append(prices, 0.0)
    # edge[a, b] = min over members of (c_ib − c_ia), and the member that attains it.
    edge = np.full((k + 1, k + 1), np.inf)
    member = np.zeros((k, k), dtype=np.int64)
    for cluster in range(k):
        _refresh(costs, labels, cluster, edge, member)

    while (excess > 0).any():
        edge[:k, sink] = np.where(flow < high, 0.0, np.inf)
        edge[sink, :k] = np.where(flow > low, 0.0, np.inf)
        reduced = np.maximum(edge + potential - potential[:, None], 0.0)
        distance, parent = _cheapest_paths(reduced, excess > 0)
        ends = np.where(excess < 0, distance, np.inf)
        end = int(ends.argmin())
        potential -= np.minimum(distance, distance[end])

        node = end
        touched = set()
        moves = []
        while parent[node] >= 0:
            origin = int(parent[node])
            if node == sink:
                flow[origin] += 1
            elif origin == sink:
                flow[node] -= 1
            else:
                moves.append((int(member[origin, node]), node))
                touched |= {origin, node}
            node = origin
        excess[node] -= 1
        excess[end] += 1
        for row, cluster in moves:
            labels[row] = cluster
        for cluster in touched:
            _refresh(costs, labels, cluster, edge, member)
    prices = potential[:k] - potential[sink]
    return labels, prices


def _refresh(costs: Floats, labels: Integers, cluster: int, edge: Floats, member: Integers) -> None:
    """Recomputes the edges that leave `cluster`."""
    k = member.shape[0]
    rows = np.flatnonzero(labels == cluster)
    if len(rows) == 0:
        edge[cluster, :k] = np.inf
        return
    extra = costs[rows] - costs[rows, cluster][:, None]
    first = extra.argmin(axis=0)
    member[cluster] = rows[first]
    edge[cluster, :k] = extra[first, np.arange(k)]
    edge[cluster, cluster] = np.inf


def _cheapest_paths(reduced: Floats, sources: NDArray[np.bool_]) -> tuple[Floats, Integers]:
    """Distances from the nearest source and each node's predecessor, by sweeps of Bellman–Ford."""
    nodes = np.arange(len(reduced))
    distance = np.where(sources, 0.0, np.inf)
    parent = np.full(len(reduced), -1)
    for _ in nodes:
        through = distance[:, None] + reduced
        origin = through.argmin(axis=0)
        shorter = through[origin, nodes] < distance
        if not shorter.any():
            break
        distance = np.where(shorter, through[origin, nodes], distance)
        parent = np.where(shorter, origin, parent)
    return distance, parent
