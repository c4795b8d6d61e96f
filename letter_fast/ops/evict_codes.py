"""letter_fast::evict_codes: within each group, codes with more rows than room give rows away."""

from __future__ import annotations

import torch
from torch import Tensor

from letter_fast import kernels
from letter_fast.kernels import reference

from . import checks
from .distinct_codes import check_groups


@torch.library.custom_op("letter_fast::evict_codes", mutates_args=())
def evict_codes(
    x: Tensor,
    codebook: Tensor,
    starts: Tensor,
    home: Tensor,
    rank: Tensor,
    taken: Tensor,
    taken_starts: Tensor,
    capacity: int,
) -> Tensor:
    """x [R, D], codebook [K, D] float32, starts [G + 1], home and rank [R], taken [T],
    taken_starts [G + 1] int64 -> codes [R] int64
    """
    check_groups(x, codebook, starts, home, rank, taken, taken_starts)
    checks.at_least("capacity", capacity, 0)
    return kernels.implementation(reference.evict_codes, x.device)(
        x, codebook, starts, home, rank, taken, taken_starts, capacity
    )


@evict_codes.register_fake
def _(
    x: Tensor,
    codebook: Tensor,
    starts: Tensor,
    home: Tensor,
    rank: Tensor,
    taken: Tensor,
    taken_starts: Tensor,
    capacity: int,
) -> Tensor:
    return torch.empty_like(home)
