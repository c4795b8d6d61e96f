"""Sums of rows as integers, which come out the same in whatever order they are added.

A value counts ⌊x · 2^s⌉ units of 2^−s. With |x| ≤ M, N values and N · M · 2^s ≤ 2^62 no sum
overflows; a mean is off by at most 2^−s−1, that is N · 2^−62 · M: for a million rows 2^−42 of the
largest value, where float32 rounds a mean of that size by 2^−25.
"""

from __future__ import annotations

import math

from torch import Tensor

# One value must stay below 2^51 units, where adding 1.5 · 2^52 to a float64 rounds it to integers.
_VALUE_BITS, _SUM_BITS = 50, 61


def exponent_for(x: Tensor) -> int:
    """s for rows x [..., N, D], finite."""
    largest = float(x.abs().max()) if x.numel() else 0.0
    _, magnitude = math.frexp(largest)
    rows = max(x.shape[-2] - 1, 0).bit_length()
    return min(_VALUE_BITS, _SUM_BITS - rows) - magnitude
