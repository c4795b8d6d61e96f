"""letter_fast::sinkhorn_codes: codes of each group of rows by Sinkhorn's uniform mapping."""

from __future__ import annotations

import torch
from torch import Tensor

from letter_fast import kernels
from letter_fast.kernels import reference

from . import checks


@torch.library.custom_op("letter_fast::sinkhorn_codes", mutates_args=())
def sinkhorn_codes(
    x: Tensor, codebook: Tensor, starts: Tensor, epsilon: float, sweeps: int
) -> Tensor:
    """x [N, D] floating point, codebook [K, D] float32, starts [G + 1] int64 on the CPU
    -> codes [N] int64; −1 for a row with NaN or Inf
    """
    checks.rows("x", x, checks.SEARCHED)
    checks.codebook(codebook, x)
    checks.tensor("starts", starts, checks.INT64, (None,), torch.device("cpu"))
    checks.at_least("the length of starts", len(starts), 1)
    checks.at_least("epsilon", epsilon, 1e-300)
    if not 1 <= sweeps <= checks.MOST_SWEEPS:
        raise ValueError(f"sweeps must lie between 1 and {checks.MOST_SWEEPS}, got {sweeps}")
    return kernels.implementation(reference.sinkhorn_codes, x.device)(
        x, codebook, starts, epsilon, sweeps
    )


@sinkhorn_codes.register_fake
def _(x: Tensor, codebook: Tensor, starts: Tensor, epsilon: float, sweeps: int) -> Tensor:
    return x.new_empty(x.shape[:1], dtype=torch.int64)
