"""letter_fast::balanced_lloyd: k-means with the cheapest assignment within size bounds."""

from __future__ import annotations

import torch
from torch import Tensor

from letter_fast import kernels
from letter_fast.kernels import reference

from . import checks


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
    checks.rows("x", x, checks.FLOAT32, 3)
    problems, rows, width = x.shape
    checks.tensor("centroids", centroids, checks.FLOAT32, (problems, None, width), x.device)
    clusters, host = centroids.shape[1], torch.device("cpu")
    checks.tensor("low", low, checks.INT64, (clusters,), host)
    checks.tensor("high", high, checks.INT64, (clusters,), host)
    checks.at_least("iterations", iterations, 1)
    checks.at_least("tolerance", tolerance, 0)
    checks.exponent(exponent)
    checks.at_least("problems, rows and clusters", min(problems, rows, clusters), 1)
    if bool((low < 0).any()) or bool((low > high).any()):
        raise ValueError("low must be at least 0 and at most high")
    if not int(low.sum()) <= rows <= int(high.clamp(max=rows).sum()):
        raise ValueError(f"{rows} rows can't fill clusters of these sizes")
    if not bool(torch.stack([*x.aminmax(), *centroids.aminmax()]).isfinite().all()):
        raise ValueError(kernels.NOT_FINITE)
    return kernels.implementation(reference.balanced_lloyd, x.device)(
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
