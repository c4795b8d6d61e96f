"""Greedy k-means++ on the host: points are a sample, and each draw waits for the last."""

from __future__ import annotations

from torch import Tensor

from .. import host


def kmeans_plusplus(points: Tensor, weights: Tensor, draws: Tensor) -> Tensor:
    """points [P, N, D] float32 and weights [P, N] float64, integers; draws [P, K, T] float64
    -> picks [P, K] int64
    """
    picks: Tensor = host().kmeans_plusplus(points.cpu(), weights.cpu(), draws.cpu())
    return picks.to(points.device)
