"""Assignment to clusters of bounded size, at least total cost, with a certificate.

    minimise Σ_i c_{i,a(i)}   with   min_k ≤ n_k = |{i : a(i) = k}| ≤ max_k

is a transportation problem; its dual has one price λ_k per cluster:

    g(λ) = Σ_i min_k (c_ik + λ_k) − Σ_k (λ_k⁺ max_k − λ_k⁻ min_k)

Prices first climb g (each moves against its cluster's imbalance) until few rows are misplaced. Then
the assignment a(i) = argmin_k c_ik + λ_k is repaired along cheapest paths of the cluster graph: the
edge a → b costs w(a, b) = min over members i of a of (c_ib + λ_b) − (c_ia + λ_a) ≥ 0, and one more
node T, of price 0, takes up what the bounds leave free: k → T (room below max_k, cost −λ_k) and
T → k (members above min_k, cost λ_k). Moving one member per edge of a cheapest path and lowering
prices by the path distances keeps every w ≥ 0, so that the end is an optimum (successive shortest
paths; Ahuja, Magnanti and Orlin 1993, §9.7), and g(λ) proves it.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from letter_fast import validation

from .kmeans import check_rows, cluster_means, plus_plus

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

COSTS = ("squared", "distance")
# Passes of price ascent before the repair, at most.
_ASCENT_PASSES = 60


class AssignmentResult(NamedTuple):
    """labels [N] int64; cost Σ_i c_{i,label}; bound ≤ the optimum; gap = cost − bound."""

    labels: Tensor
    cost: float
    bound: float
    gap: float


class BalancedKMeansResult(NamedTuple):
    """centroids [K, D] float32, labels [N] int64, inertia, gap of the last assignment."""

    centroids: Tensor
    labels: Tensor
    inertia: float
    gap: float


def balanced_assign(
    x: Tensor,
    centroids: Tensor,
    min_size: int | Tensor,
    max_size: int | Tensor,
    *,
    cost: str = "squared",
) -> AssignmentResult:
    """The cheapest assignment with min_size ≤ rows in each cluster ≤ max_size.

    x [N, D], centroids [K, D], sizes int or [K]; cost: "squared" distance, or "distance".
    Holds an N × K float64 table.
    Raises:
        ValueError: no assignment can meet the bounds, or rows hold NaN or Inf.
    """
    validation.choice(cost, COSTS, "cost")
    table = validation.codebook(centroids, "centroids")
    rows = check_rows(x, 1) if len(x) else validation.rows(x, table.shape[1])
    low, high = _bounds(len(rows), len(table), min_size, max_size)
    costs = _costs(rows, table, cost)
    labels, prices = _solve(costs, low, high, np.zeros(len(table)))
    return _certified(costs, labels, prices, low, high, x.device)


def balanced_kmeans(
    x: Tensor,
    k: int,
    min_size: int | None = None,
    max_size: int | None = None,
    *,
    restarts: int = 1,
    iterations: int = 100,
    tolerance: float = 1e-4,
    seed: int = 0,
) -> BalancedKMeansResult:
    """k-means whose every assignment is the cheapest one within the size bounds.

    x [N, D]; the bounds default to N // 2K and ⌈2N / K⌉.
    Raises:
        ValueError: as `kmeans` and `balanced_assign`.
    """
    rows = check_rows(x, k)
    low, high = _bounds(
        len(rows),
        k,
        len(rows) // (2 * k) if min_size is None else min_size,
        math.ceil(2 * len(rows) / k) if max_size is None else max_size,
    )
    runs = (
        _balanced_lloyd(rows, plus_plus(rows, k, seed, restart), low, high, iterations, tolerance)
        for restart in range(max(restarts, 1))
    )
    return min(runs, key=lambda run: run.inertia)


def _balanced_lloyd(
    rows: Tensor,
    centroids: Tensor,
    low: Integers,
    high: Integers,
    iterations: int,
    tolerance: float,
) -> BalancedKMeansResult:
    prices = np.zeros(len(centroids))
    best = math.inf
    for _ in range(max(iterations, 1)):
        costs = _costs(rows, centroids, "squared")
        labels, prices = _solve(costs, low, high, prices)
        result = _certified(costs, labels, prices, low, high, rows.device)
        if best - result.cost <= tolerance * result.cost:
            break
        best = result.cost
        centroids, _ = cluster_means(rows, result.labels, centroids)
    return BalancedKMeansResult(centroids, result.labels, result.cost, result.gap)


def _bounds(
    rows: int, k: int, min_size: int | Tensor, max_size: int | Tensor
) -> tuple[Integers, Integers]:
    low = np.broadcast_to(np.asarray(min_size, dtype=np.int64), (k,))
    high = np.minimum(np.broadcast_to(np.asarray(max_size, dtype=np.int64), (k,)), rows)
    if (low < 0).any() or (low > high).any():
        raise ValueError(
            f"sizes must satisfy 0 ≤ min_size ≤ max_size, and min_size ≤ N: got min_size "
            f"{min_size}, max_size {max_size} for {rows} rows"
        )
    if low.sum() > rows or high.sum() < rows:
        raise ValueError(
            f"{rows} rows can't fill {k} clusters within the bounds: together they hold "
            f"{low.sum()} to {high.sum()}"
        )
    return low, high


def _costs(rows: Tensor, centroids: Tensor, kind: str) -> Floats:
    """c_ik, [N, K] float64."""
    points, words = rows.double().cpu(), centroids.double().cpu()
    squared = points.square().sum(1)[:, None] + words.square().sum(1) - 2.0 * points @ words.T
    squared = squared.clamp_(min=0.0)
    costs: Floats = (squared.sqrt_() if kind == "distance" else squared).numpy()
    return costs


def _certified(
    costs: Floats,
    labels: Integers,
    prices: Floats,
    low: Integers,
    high: Integers,
    device: torch.device,
) -> AssignmentResult:
    cost = float(costs[np.arange(len(labels)), labels].sum())
    bound = _dual(costs, prices, low, high)
    return AssignmentResult(
        torch.from_numpy(labels).to(device), cost, min(bound, cost), max(cost - bound, 0.0)
    )


def _dual(costs: Floats, prices: Floats, low: Integers, high: Integers) -> float:
    """g(λ)."""
    cheapest = (costs + prices).min(axis=1).sum() if len(costs) else 0.0
    return float(cheapest - (np.maximum(prices, 0) @ high - np.maximum(-prices, 0) @ low))


def _solve(costs: Floats, low: Integers, high: Integers, prices: Floats) -> tuple[Integers, Floats]:
    """Optimal labels and the prices that prove them, from any starting prices."""
    prices = _ascend(costs, low, high, prices)
    labels = (costs + prices).argmin(axis=1) if len(costs) else np.zeros(0, dtype=np.int64)
    return _repair(costs, labels.astype(np.int64), low, high, prices)


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
