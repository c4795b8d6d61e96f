"""letter_fast::plus_plus: the starts of k-means++."""

from __future__ import annotations

import torch
from torch import Tensor

from letter_fast import kernels


@torch.library.custom_op("letter_fast::plus_plus", mutates_args=())
def plus_plus(x: Tensor, draws: Tensor) -> Tensor:
    """x [P, N, D] float32, draws [P, K] float64 in [0, 1) -> rows [P, K] int64"""
    return kernels.pick(x.device).plus_plus(x, draws)


@plus_plus.register_fake
def _(x: Tensor, draws: Tensor) -> Tensor:
    return draws.new_empty(draws.shape, dtype=torch.int64)
