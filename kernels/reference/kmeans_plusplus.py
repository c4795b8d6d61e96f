"""Greedy k-means++: of a few points, drawn as k-means++ does, the one that leaves least."""

from __future__ import annotations

import torch
from torch import Tensor


def kmeans_plusplus(points: Tensor, weights: Tensor, draws: Tensor) -> Tensor:
    """Greedy k-means++: of T points drawn ∝ weight · squared distance to the picks so far, the
    one that leaves least; the first pick is drawn ∝ weight.

    points [P, N, D] float32 and weights [P, N] float64: integers, with Σ weight · distance²
    < 2⁵³, so that sums are exact; draws [P, K, T] float64 in [0, 1) -> picks [P, K] int64, none
    twice while points are distinct.
    """
    return torch.stack(list(map(_pick, points.double(), weights, draws)))


def _pick(points: Tensor, weights: Tensor, draws: Tensor) -> Tensor:
    picks = _draw(weights, draws[0, :1]).tolist()
    nearest = _distance(points, picks[0])
    for draw in draws[1:]:
        mass = weights * nearest
        if not bool(mass.any()):  # every point is where a pick is
            break
        tries = _draw(mass, draw)
        left = [torch.minimum(nearest, _distance(points, point)) for point in tries.tolist()]
        best = int(torch.stack([weights @ distance for distance in left]).argmin())
        picks.append(int(tries[best]))
        nearest = left[best]
    others = [point for point in range(len(points)) if point not in set(picks)]
    spare = [picks[0]] * len(draws)
    return torch.tensor((picks + others + spare)[: len(draws)], device=points.device)


def _distance(points: Tensor, pick: int) -> Tensor:
    return (points - points[pick]).square().sum(dim=1)


def _draw(mass: Tensor, uniform: Tensor) -> Tensor:
    """Indices, each i with probability mass_i / Σ mass. mass [N], integers; uniform [T]"""
    cumulative = mass.cumsum(0)
    total = cumulative[-1]
    return torch.searchsorted(
        cumulative, (uniform * total).floor().clamp(max=total - 1), right=True
    )
