"""Sums of rows as integers, which come out the same in whatever order they are added.

A value counts rint(x · 2^s) units of 2^−s. With |x| ≤ M, N values and N · M · 2^s ≤ 2^62 no sum
overflows; a mean is off by at most 2^−s−1, that is N · 2^−60 · M, or 2^−50 · M for less than a
thousand rows: for a million rows 2^−40 of the largest value, where float32 rounds a mean of that
size by 2^−25.
"""

from __future__ import annotations

import math

from torch import Tensor

# One value must stay below 2^51 units, where adding 1.5 · 2^52 to a float64 rounds it to integers.
_VALUE_BITS, _SUM_BITS = 50, 61


def exponent(largest: float, count: int) -> int:
    """s for `count` values of magnitudes up to `largest`."""
    _, magnitude = math.frexp(largest)
    return min(_VALUE_BITS, _SUM_BITS - max(count - 1, 0).bit_length()) - magnitude


def exponent_for(x: Tensor) -> int:
    """s for rows x [..., N, D], finite."""
    return exponent(float(x.abs().max()) if x.numel() else 0.0, x.shape[-2])
