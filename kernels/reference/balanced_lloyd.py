"""k-means with clusters of bounded size: each assignment is the cheapest, and certified.

Here the whole N × K table of costs exists, and `transport` solves each assignment.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from ..transport import Assignment, Floats, assign


def balanced_lloyd(
    x: Tensor,
    centroids: Tensor,
    low: Tensor,
    high: Tensor,
    iterations: int,
    tolerance: float,
    exponent: int,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Lloyd's iterations of P problems; the last assignment is the cheapest with low ≤ sizes ≤
    high, earlier ones may fall short of bounds and optimum, each backend as suits it.

    Stops after `iterations` assignments, or when one lowers the cost by at most `tolerance` of
    it. Means are integer sums in units of 2^−exponent. Rows and centroids are finite.

    x [P, N, D], centroids [P, K, D] float32, low and high [K] int64
    -> centroids [P, K, D] float32 and labels [P, N] int64 of the last assignment, its cost
       Σ ‖x − e_label‖² and a proven lower bound of it, [P] float64
    """
    runs = [
        _lloyd(rows, start, low, high, iterations, tolerance, exponent)
        for rows, start in zip(x, centroids)
    ]
    means = torch.stack([run[0] for run in runs])
    labels = torch.stack([torch.from_numpy(run[1].labels) for run in runs]).to(x.device)
    cost, bound = (
        torch.tensor([getattr(run[1], name) for run in runs], dtype=torch.float64)
        for name in ("cost", "bound")
    )
    return means, labels, cost, bound


def _lloyd(
    rows: Tensor,
    centroids: Tensor,
    low: Tensor,
    high: Tensor,
    iterations: int,
    tolerance: float,
    exponent: int,
) -> tuple[Tensor, Assignment]:
    bounds = low.cpu().numpy(), high.cpu().numpy()
    prices = np.zeros(len(centroids))
    before = math.inf
    iteration = 0
    while True:
        iteration += 1
        found = assign(_costs(rows, centroids), *bounds, prices)
        if iteration >= iterations or before - found.cost <= tolerance * found.cost:
            return centroids, found
        before, prices = found.cost, found.prices
        labels = torch.from_numpy(found.labels).to(rows.device)
        centroids = _means(rows, labels, centroids, exponent)


def _means(rows: Tensor, labels: Tensor, previous: Tensor, exponent: int) -> Tensor:
    """Means of integer sums in units of 2^−exponent; an empty cluster keeps its centroid."""
    units = (rows.double() * 2.0**exponent).round().long()
    sums = units.new_zeros(previous.shape).index_add_(0, labels, units).double()
    sizes = torch.bincount(labels, minlength=len(previous))[:, None]
    means = (sums / 2.0**exponent / sizes.clamp(min=1)).float()
    return torch.where(sizes > 0, means, previous)


def _costs(rows: Tensor, centroids: Tensor) -> Floats:
    """‖x_i − e_k‖² by differences, [N, K] float64."""
    points, words = rows.double().cpu(), centroids.double().cpu()
    table: Floats = torch.stack(
        [(points - word).square().sum(dim=1) for word in words], dim=1
    ).numpy()
    return table
