"""letter_fast::distinct_codes: within each group, distinct codes at the least total distance."""

from __future__ import annotations

import torch
from torch import Tensor

from letter_fast import kernels


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
    backend = kernels.pick(x.device)
    return backend.distinct_codes(x, codebook, starts, home, rank, taken, taken_starts)


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
