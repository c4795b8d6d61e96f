"""Codes with more rows than room give rows away, the cheapest first: spill_codes.cpp does it."""

from __future__ import annotations

from torch import Tensor

from .groups import solve


def spill_codes(
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
    return solve("lf_spill_codes", x, codebook, starts, home, rank, taken, taken_starts, capacity)
