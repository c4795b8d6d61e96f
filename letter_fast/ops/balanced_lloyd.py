"""letter_fast::balanced_lloyd: k-means with the cheapest assignment within size bounds."""

from __future__ import annotations

import torch
from torch import Tensor

from letter_fast import kernels


@torch.library.custom_op("letter_fast::balanced_lloyd", mutates_args=())
def balanced_lloyd(
    x: Tensor,
    centroids: Tensor,
    low: Tensor,
    high: Tensor,
    iterations: int,
    tolerance: float,
    exponent: int,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """x [P, N, D], centroids [P, K, D] float32, low and high [K] int64
    -> centroids [P, K, D] float32, labels [P, N] int64, cost and bound [P] float64
    """
    return kernels.pick(x.device).balanced_lloyd(
        x, centroids, low, high, iterations, tolerance, exponent
    )


@balanced_lloyd.register_fake
def _(
    x: Tensor,
    centroids: Tensor,
    low: Tensor,
    high: Tensor,
    iterations: int,
    tolerance: float,
    exponent: int,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    problems = x.shape[:1]
    return (
        torch.empty_like(centroids),
        x.new_empty(x.shape[:2], dtype=torch.int64),
        x.new_empty(problems, dtype=torch.float64),
        x.new_empty(problems, dtype=torch.float64),
    )
