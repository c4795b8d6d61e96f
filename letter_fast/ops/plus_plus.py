"""letter_fast::plus_plus: the picks of greedy k-means++."""

from __future__ import annotations

import torch
from torch import Tensor

from letter_fast import kernels


@torch.library.custom_op("letter_fast::plus_plus", mutates_args=())
def plus_plus(points: Tensor, weights: Tensor, draws: Tensor) -> Tensor:
    """K of N weighted points, each pick the best of T tries; see kernels/cpp/plus_plus.h.

    points [P, N, D] float32 and weights [P, N] float64: integers, with Σ weight · distance² < 2⁵³
    and some weight > 0; draws [P, K, T] float64 in [0, 1) -> picks [P, K] int64
    """
    return kernels.pick(points.device).plus_plus(points, weights, draws)


@plus_plus.register_fake
def _(points: Tensor, weights: Tensor, draws: Tensor) -> Tensor:
    return draws.new_empty(draws.shape[:2], dtype=torch.int64)
