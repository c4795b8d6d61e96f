"""letter_fast::distinct_codes: within each group, distinct codes at the least total distance."""

from __future__ import annotations

import torch
from torch import Tensor

from letter_fast import kernels
from letter_fast.kernels import reference

from . import checks


@torch.library.custom_op("letter_fast::distinct_codes", mutates_args=())
def distinct_codes(
    x: Tensor,
    codebook: Tensor,
    starts: Tensor,
    home: Tensor,
    rank: Tensor,
    taken: Tensor,
    taken_starts: Tensor,
) -> Tensor:
    """x [R, D], codebook [K, D] float32, starts [G + 1], home and rank [R], taken [T],
    taken_starts [G + 1] int64 -> codes [R] int64
    """
    check_groups(x, codebook, starts, home, rank, taken, taken_starts)
    return kernels.implementation(reference.distinct_codes, x.device)(
        x, codebook, starts, home, rank, taken, taken_starts
    )


@distinct_codes.register_fake
def _(
    x: Tensor,
    codebook: Tensor,
    starts: Tensor,
    home: Tensor,
    rank: Tensor,
    taken: Tensor,
    taken_starts: Tensor,
) -> Tensor:
    return torch.empty_like(home)


def check_groups(
    x: Tensor,
    codebook: Tensor,
    starts: Tensor,
    home: Tensor,
    rank: Tensor,
    taken: Tensor,
    taken_starts: Tensor,
) -> None:
    """Refuses what doesn't describe groups of rows; the kernels look at the numbers."""
    checks.tensor("x", x, checks.FLOAT32, (None, None), x.device)
    checks.codebook(codebook, x)
    checks.tensor("starts", starts, checks.INT64, (None,), x.device)
    checks.at_least("the length of starts", len(starts), 1)
    checks.tensor("home", home, checks.INT64, (len(x),), x.device)
    checks.tensor("rank", rank, checks.INT64, (len(x),), x.device)
    checks.tensor("taken", taken, checks.INT64, (None,), x.device)
    checks.tensor("taken_starts", taken_starts, checks.INT64, (len(starts),), x.device)
