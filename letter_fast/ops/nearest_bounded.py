"""letter_fast::nearest_bounded: `nearest` after the codewords moved, from what was known before."""

from __future__ import annotations

import torch
from torch import Tensor

from letter_fast import kernels
from letter_fast.kernels import reference

from . import checks


@torch.library.custom_op("letter_fast::nearest_bounded", mutates_args=())
def nearest_bounded(
    x: Tensor, codebook: Tensor, codes: Tensor, bounds: Tensor, movement: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """x [N, D] floating point, codebook [K, D] float32, codes [N] int64 (−1: not known),
    bounds [N] and movement [K] float32
    -> code [N] int64 and score [N] float64 as `nearest` gives them, lower [N] float32.
    """
    checks.rows("x", x, checks.SEARCHED)
    words = checks.codebook(codebook, x)
    checks.tensor("codes", codes, checks.INT64, (len(x),), x.device, strided=True)
    checks.tensor("bounds", bounds, checks.FLOAT32, (len(x),), x.device, strided=True)
    checks.tensor("movement", movement, checks.FLOAT32, (words,), x.device, strided=True)
    return kernels.implementation(reference.nearest_bounded, x.device)(
        x, codebook, codes, bounds, movement
    )


@nearest_bounded.register_fake
def _(
    x: Tensor, codebook: Tensor, codes: Tensor, bounds: Tensor, movement: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    rows = x.shape[:1]
    return (
        x.new_empty(rows, dtype=torch.int64),
        x.new_empty(rows, dtype=torch.float64),
        x.new_empty(rows, dtype=torch.float32),
    )
