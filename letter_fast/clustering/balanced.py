"""k-means and assignment with bounded cluster sizes, at least total cost, with a certificate.

    minimise Σ_i ‖x_i − e_{a(i)}‖²   with   min_k ≤ |{i : a(i) = k}| ≤ max_k

The kernels find the optimum and prices that prove it; kernels/cpp/assignment/transport.h states
the method.
k-means-constrained, which LETTER's code uses, minimises unsquared distances rounded to 1/1000: its
labels cost more here, and `cost="distance"` poses its problem.
"""

from __future__ import annotations

import math
from typing import Literal, NamedTuple, get_args

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from letter_fast import kernels, ops, validation
from letter_fast.kernels.transport import assign

from .fixed_point import exponent_for
from .kmeans import check_effort, check_rows, check_start
from .seeding import for_each, starts

Cost = Literal["squared", "distance"]
COSTS: tuple[Cost, ...] = get_args(Cost)


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
    x: ArrayLike,
    centroids: ArrayLike,
    min_size: int | ArrayLike,
    max_size: int | ArrayLike,
    *,
    cost: Cost = "squared",
) -> AssignmentResult:
    """The cheapest assignment with min_size ≤ rows in each cluster ≤ max_size.

    x [N, D], centroids [K, D], sizes int or [K]. cost: "squared" distance, or "distance", which
    holds an N × K float64 table.
    Raises:
        ValueError: no assignment can meet the bounds, or rows or centroids hold NaN or Inf.
    """
    validation.choice(cost, COSTS, "cost")
    table = validation.codebook(centroids, "centroids")
    points = validation.matrix(x)
    validation.floats(points, table.shape[1])
    rows = check_rows(points, 1) if len(points) else points.float()
    validation.together(points, {"centroids": table})
    low, high = check_bounds(len(rows), len(table), min_size, max_size)
    if len(rows) == 0:
        return AssignmentResult(
            torch.zeros(0, dtype=torch.int64, device=rows.device), 0.0, 0.0, 0.0
        )
    if cost == "distance":
        distances = _distances(rows, table)
        found = assign(distances, low.numpy(), high.numpy())
        labels = torch.from_numpy(found.labels).to(rows.device)
        return AssignmentResult(labels, found.cost, found.bound, found.cost - found.bound)
    _, labels, total, bound = ops.balanced_lloyd(rows[None], table[None], low, high, 1, 0.0, 0)
    return AssignmentResult(labels[0], float(total), float(bound), float(total - bound))


def balanced_kmeans(
    x: ArrayLike,
    k: int,
    min_size: int | ArrayLike | None = None,
    max_size: int | ArrayLike | None = None,
    *,
    init: Tensor | None = None,
    restarts: int = 1,
    iterations: int = 100,
    tolerance: float = 1e-4,
    seed: int = 0,
) -> BalancedKMeansResult:
    """k-means whose assignments are the cheapest ones within the size bounds; the last is proven.

    x [N, D]; the bounds, int or [K], default to N // 2K and ⌈2N / K⌉.
    init: [K, D], centroids to begin the only run from, instead of rows that k-means‖ picks.
    Raises:
        ValueError: as `kmeans` and `balanced_assign`, or init with restarts.
    """
    check_effort(restarts, iterations, tolerance)
    k, seed = validation.integer(k, "k"), validation.integer(seed, "seed")
    rows = check_rows(x, k)
    first = None
    if init is not None:
        if restarts != 1:
            raise ValueError(f"from init there is one run: restarts must be 1, got {restarts}")
        first = check_start(init, k, rows.shape[1], "init")[None]
        validation.together(rows, {"init": first})
    return balanced_kmeans_of_each(
        rows[None],
        k,
        min_size,
        max_size,
        first=first,
        restarts=restarts,
        iterations=iterations,
        tolerance=tolerance,
        seeds=[seed],
    )[0]


def balanced_kmeans_of_each(
    x: Tensor,
    k: int,
    min_size: int | ArrayLike | None = None,
    max_size: int | ArrayLike | None = None,
    *,
    first: Tensor | None = None,
    restarts: int,
    iterations: int,
    tolerance: float,
    seeds: list[int],
) -> list[BalancedKMeansResult]:
    """`balanced_kmeans` of P problems of one size at once: small ones run side by side.

    x [P, N, D] float32, finite; seeds [P]; first [P · restarts, K, D], to begin from
    """
    problems, n, _ = x.shape
    low, high = check_bounds(
        n,
        k,
        n // (2 * k) if min_size is None else min_size,
        math.ceil(2 * n / k) if max_size is None else max_size,
    )
    with kernels.quiet_torch(x.device):
        if first is None:
            first = starts(x, k, seeds, restarts)
        centroids, labels, cost, bound = ops.balanced_lloyd(
            for_each(x, restarts),
            first,
            low,
            high,
            iterations,
            tolerance,
            exponent_for(x),
        )
    best = cost.view(problems, restarts).argmin(dim=1).tolist()
    results = []
    for problem, restart in enumerate(best):
        at = problem * restarts + restart
        total = float(cost[at])
        results.append(
            BalancedKMeansResult(centroids[at], labels[at], total, total - float(bound[at]))
        )
    return results


def check_bounds(
    rows: int, k: int, min_size: int | ArrayLike, max_size: int | ArrayLike
) -> tuple[Tensor, Tensor]:
    """Sizes as [K] int64 on the CPU, where the prices live."""
    low, high = _sizes(min_size, k, "min_size"), _sizes(max_size, k, "max_size")
    high = high.clamp(max=rows)
    if bool((low < 0).any()) or bool((low > high).any()):
        raise ValueError(
            f"sizes must satisfy 0 ≤ min_size ≤ max_size, and min_size ≤ N: got min_size "
            f"{min_size!r}, max_size {max_size!r} for {rows} rows"
        )
    if int(low.sum()) > rows or int(high.sum()) < rows:
        raise ValueError(
            f"{rows} rows can't fill {k} clusters within the bounds: together they hold "
            f"{int(low.sum())} to {int(high.sum())}"
        )
    return low.contiguous(), high.contiguous()


def _sizes(size: int | ArrayLike, k: int, name: str) -> Tensor:
    if hasattr(size, "__index__") and not isinstance(size, np.ndarray | Tensor):
        return torch.full((k,), validation.integer(size, name, 0, validation.MOST))
    found = validation.integers(size, name).cpu()
    if found.shape not in ((), (k,)):
        raise ValueError(f"{name} must be an integer or [{k}], got shape {list(found.shape)}")
    return found.expand(k)


def _distances(rows: Tensor, centroids: Tensor) -> NDArray[np.float64]:
    """‖x_i − e_k‖, [N, K]."""
    points, words = rows.double().cpu(), centroids.double().cpu()
    distances: NDArray[np.float64] = torch.stack(
        [(points - word).square().sum(dim=1).sqrt() for word in words], dim=1
    ).numpy()
    return distances
