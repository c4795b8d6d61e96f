"""Lloyd's k-means on the exact nearest-codeword search, with float64 sums in row order."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from letter_fast import ops, validation

# k-means++ looks at this many rows per centroid at most.
_SEEDING_ROWS = 64


class KMeansResult(NamedTuple):
    """centroids [K, D] float32, labels [N] int64, inertia = Σ_i ‖x_i − c_label‖²."""

    centroids: Tensor
    labels: Tensor
    inertia: float


def kmeans(
    x: Tensor,
    k: int,
    *,
    restarts: int = 1,
    iterations: int = 100,
    tolerance: float = 1e-4,
    seed: int = 0,
) -> KMeansResult:
    """The best of `restarts` runs from k-means++ starts.

    x [N, D]; stops when an iteration lowers the inertia by less than `tolerance` of it.
    A cluster left empty moves to the row that is farthest from its centroid. With fewer distinct
    rows than k, centroids repeat.
    Raises:
        ValueError: k > N or k < 1, or rows with NaN or Inf.
    """
    rows = check_rows(x, k)
    runs = (
        _lloyd(rows, start, iterations, tolerance)
        for start in starts(rows[None], k, [seed], max(restarts, 1))
    )
    return min(runs, key=lambda run: run.inertia)


def check_rows(x: Tensor, k: int) -> Tensor:
    """`x` as float32 rows that k clusters can be made of; ValueError otherwise."""
    if x.dim() != 2:
        raise ValueError(f"x must be [N, D], got shape {list(x.shape)}")
    rows = validation.rows(x, x.shape[1]).float()
    if not 1 <= k <= len(rows):
        raise ValueError(f"k must lie between 1 and the number of rows: k = {k}, N = {len(rows)}")
    finite = rows.isfinite().all(dim=1)
    validation.finite_codes(finite.long() - 1)
    return rows


def starts(x: Tensor, k: int, seeds: list[int], restarts: int) -> Tensor:
    """k-means++ starts of `restarts` runs of each problem, on a sample of its rows.

    x [P, N, D] float32, seeds [P] -> [P · restarts, k, D]
    """
    samples, draws = [], []
    for rows, seed in zip(x, seeds):
        for restart in range(restarts):
            generator = torch.Generator().manual_seed((seed * 1_000_003 + restart) % 2**63)
            if len(rows) > _SEEDING_ROWS * k:
                chosen = torch.randperm(len(rows), generator=generator)[: _SEEDING_ROWS * k]
                samples.append(rows[chosen.sort().values.to(rows.device)])
            else:
                samples.append(rows)
            draws.append(torch.rand(k, generator=generator, dtype=torch.float64))
    shared = all(sample is samples[0] for sample in samples)
    stacked = samples[0].expand(len(samples), -1, -1) if shared else torch.stack(samples)
    picks = ops.plus_plus(stacked, torch.stack(draws).to(x.device))
    return torch.stack([sample[pick] for sample, pick in zip(samples, picks)])


def cluster_means(rows: Tensor, labels: Tensor, previous: Tensor) -> tuple[Tensor, Tensor]:
    """Mean of each cluster's rows, added in float64; an empty one keeps its `previous` centroid.

    rows [N, D], labels [N], previous [K, D] -> means [K, D] float32, sizes [K] int64
    """
    k = len(previous)
    sums = rows.new_zeros(previous.shape, dtype=torch.float64).index_add_(0, labels, rows.double())
    sizes = torch.bincount(labels, minlength=k)
    means = (sums / sizes.clamp(min=1)[:, None]).float()
    return torch.where(sizes[:, None] > 0, means, previous), sizes


def _lloyd(rows: Tensor, centroids: Tensor, iterations: int, tolerance: float) -> KMeansResult:
    inertia = math.inf
    labels, distance = ops.nearest(rows, centroids, None)
    for _ in range(iterations):
        moved, sizes = cluster_means(rows, labels, centroids)
        empty = (sizes == 0).nonzero().squeeze(1)
        if len(empty):
            far = distance.argsort(descending=True, stable=True)[: len(empty)]
            moved[empty] = rows[far]
        new_labels, new_distance = ops.nearest(rows, moved, None)
        now = float(new_distance.sum())
        if now > inertia:  # a reseeded cluster may cost more than it saves
            break
        done = inertia - now <= tolerance * now
        centroids, labels, distance, inertia = moved, new_labels, new_distance, now
        if done:
            break
    return KMeansResult(centroids, labels, float(distance.sum()))
