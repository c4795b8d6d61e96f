"""k-means++ starts, drawn on the host: the rows are a sample, and each draw waits for the last."""

from __future__ import annotations

from torch import Tensor

from letter_fast.kernels.cpp import plus_plus as on_the_host


def plus_plus(x: Tensor, draws: Tensor) -> Tensor:
    """x [P, N, D] float32, draws [P, K] float64 -> rows [P, K] int64"""
    return on_the_host(x.cpu(), draws.cpu()).to(x.device)
