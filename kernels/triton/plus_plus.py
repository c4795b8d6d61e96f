"""Greedy k-means++ on the host: points are a sample, and each draw waits for the last."""

from __future__ import annotations

from torch import Tensor

from letter_fast.kernels.cpp import plus_plus as on_the_host


def plus_plus(points: Tensor, weights: Tensor, draws: Tensor) -> Tensor:
    """points [P, N, D] float32 and weights [P, N] float64, integers; draws [P, K, T] float64
    -> picks [P, K] int64
    """
    return on_the_host(points.cpu(), weights.cpu(), draws.cpu()).to(points.device)
