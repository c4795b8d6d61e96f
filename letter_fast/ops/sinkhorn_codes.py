"""letter_fast::sinkhorn_codes: codes of each group of rows by Sinkhorn's uniform mapping."""

from __future__ import annotations

import torch
from torch import Tensor

from letter_fast import kernels


@torch.library.custom_op("letter_fast::sinkhorn_codes", mutates_args=())
def sinkhorn_codes(
    x: Tensor, codebook: Tensor, starts: Tensor, epsilon: float, sweeps: int
) -> Tensor:
    """x [N, D] floating point, codebook [K, D] float32, starts [G + 1] int64 on the CPU
    -> codes [N] int64; −1 for a row with NaN or Inf
    """
    return kernels.pick(x.device).sinkhorn_codes(x, codebook, starts, epsilon, sweeps)


@sinkhorn_codes.register_fake
def _(x: Tensor, codebook: Tensor, starts: Tensor, epsilon: float, sweeps: int) -> Tensor:
    return x.new_empty(x.shape[:1], dtype=torch.int64)
