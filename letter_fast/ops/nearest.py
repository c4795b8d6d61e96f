"""letter_fast::nearest: code = argmin_k ‖x − e_k‖² + offset_k."""

from __future__ import annotations

import torch
from torch import Tensor

from letter_fast import kernels
from letter_fast.kernels import reference

from . import checks


@torch.library.custom_op("letter_fast::nearest", mutates_args=())
def nearest(x: Tensor, codebook: Tensor, offset: Tensor | None) -> tuple[Tensor, Tensor]:
    """x [N, D] floating point, codebook [K, D] float32, offset [K] float64 or None
    -> code [N] int64, score [N] float64; −1 and NaN for a row with NaN or Inf.
    """
    checks.rows("x", x, checks.SEARCHED)
    words = checks.codebook(codebook, x)
    if offset is not None:
        checks.tensor("offset", offset, checks.FLOAT64, (words,), x.device)
    return kernels.implementation(reference.nearest, x.device)(x, codebook, offset)


@nearest.register_fake
def _(x: Tensor, codebook: Tensor, offset: Tensor | None) -> tuple[Tensor, Tensor]:
    rows = x.shape[:1]
    return x.new_empty(rows, dtype=torch.int64), x.new_empty(rows, dtype=torch.float64)
