"""Sums of the rows of each code, in integers: Σ rint(x · 2ˢ), to even in the middle."""

from __future__ import annotations

import torch
from torch import Tensor

from ..refusals import check_codes

# Rows at once: bounds the memory, not the result.
_BLOCK_ROWS = 1 << 16


def cluster_sums(x: Tensor, codes: Tensor, count: int, exponent: int) -> tuple[Tensor, Tensor]:
    """Σ rint(x · 2^exponent), to even in the middle, over the rows of each code; and how many.

    Integers: the same bits in any order. |x| · 2^exponent ≤ 2^51, and no sum reaches 2^63; rows
    of code −1 count nowhere and may hold anything.

    x [N, D], codes [N] int64 < count -> sums [count, D] int64, counts [count] int64
    """
    check_codes(codes[:, None], [count])
    sums = x.new_zeros((count, x.shape[1]), dtype=torch.int64)
    for rows, names in zip(x.split(_BLOCK_ROWS), codes.split(_BLOCK_ROWS)):
        counted = names >= 0
        steps = (rows[counted].double() * 2.0**exponent).round().long()
        sums.index_add_(0, names[counted], steps)
    return sums, torch.bincount(codes[codes >= 0], minlength=count)
