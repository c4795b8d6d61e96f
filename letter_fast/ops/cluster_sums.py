"""letter_fast::cluster_sums: what the rows of each code add up to, in fixed point."""

from __future__ import annotations

import torch
from torch import Tensor

from letter_fast import kernels
from letter_fast.kernels import reference

from . import checks


@torch.library.custom_op("letter_fast::cluster_sums", mutates_args=())
def cluster_sums(x: Tensor, codes: Tensor, count: int, exponent: int) -> tuple[Tensor, Tensor]:
    """x [N, D] floating point, codes [N] int64, −1 counts nowhere
    -> sums [count, D] int64 of rint(x · 2^exponent), counts [count] int64; see
       `kernels.fixed_point` for the exponent.
    """
    checks.rows("x", x, checks.SEARCHED)
    checks.tensor("codes", codes, checks.INT64, (len(x),), x.device, strided=True)
    checks.at_least("count", count, 0)
    checks.exponent(exponent)
    return kernels.implementation(reference.cluster_sums, x.device)(x, codes, count, exponent)


@cluster_sums.register_fake
def _(x: Tensor, codes: Tensor, count: int, exponent: int) -> tuple[Tensor, Tensor]:
    return (
        x.new_empty((count, x.shape[1]), dtype=torch.int64),
        x.new_empty((count,), dtype=torch.int64),
    )
