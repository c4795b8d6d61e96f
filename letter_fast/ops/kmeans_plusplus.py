"""letter_fast::kmeans_plusplus: the picks of greedy k-means++."""

from __future__ import annotations

import torch
from torch import Tensor

from letter_fast import kernels
from letter_fast.kernels import reference

from . import checks


@torch.library.custom_op("letter_fast::kmeans_plusplus", mutates_args=())
def kmeans_plusplus(points: Tensor, weights: Tensor, draws: Tensor) -> Tensor:
    """K of N weighted points, each pick the best of T tries; see kernels/cpp/kmeans_plusplus.cpp.

    points [P, N, D] float32 and weights [P, N] float64: integers, with Σ weight · distance² < 2⁵³
    and some weight > 0; draws [P, K, T] float64 in [0, 1) -> picks [P, K] int64
    """
    checks.rows("points", points, checks.FLOAT32, 3)
    problems, rows, _ = points.shape
    checks.tensor("weights", weights, checks.FLOAT64, (problems, rows), points.device, strided=True)
    checks.tensor(
        "draws", draws, checks.FLOAT64, (problems, None, None), points.device, strided=True
    )
    checks.at_least("problems, points, picks and tries", min(*weights.shape, *draws.shape), 1)
    if not bool(((draws >= 0) & (draws < 1)).all()):
        raise ValueError("draws must lie in [0, 1)")
    if not bool((weights >= 0).all()):
        raise ValueError("weights must be at least 0")
    return kernels.implementation(reference.kmeans_plusplus, points.device)(points, weights, draws)


@kmeans_plusplus.register_fake
def _(points: Tensor, weights: Tensor, draws: Tensor) -> Tensor:
    return draws.new_empty(draws.shape[:2], dtype=torch.int64)
