"""letter_fast::residuals: what the codes of a search leave of its rows."""

from __future__ import annotations

import torch
from torch import Tensor

from letter_fast import kernels
from letter_fast.kernels import reference

from . import checks


@torch.library.custom_op("letter_fast::residuals", mutates_args=())
def residuals(x: Tensor, codebooks: Tensor, sizes: list[int], codes: Tensor) -> Tensor:
    """x [N, D] floating point, codebooks [ΣK, D] float32, codes [N, L] int64 of a search
    -> [N, D] float32; NaN for a row that has no codes
    """
    checks.rows("x", x, checks.SEARCHED)
    checks.levels(sizes, checks.codebook(codebooks, x))
    checks.tensor("codes", codes, checks.INT64, (len(x), len(sizes)), x.device)
    return kernels.implementation(reference.residuals, x.device)(x, codebooks, sizes, codes)


@residuals.register_fake
def _(x: Tensor, codebooks: Tensor, sizes: list[int], codes: Tensor) -> Tensor:
    return x.new_empty(x.shape, dtype=torch.float32)
