"""IDs that are given already, as ascending numbers, so that new ones needn't look at all of them.

A million IDs take longer to sort than a night's few hundred new items to name. So a table's numbers
are sorted once and kept with it, and a table that grows from it has them merged with the new ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .groups import Codes, joined, number
from .packing import pack

# uint32 or int64, as the sizes of the codebooks say.
Packed = NDArray[Any]


class HeldIds:
    """M IDs of T tokens that no new item may get.

    codes [M, T] within `sizes` [T]; numbers: as below, where the caller has them already.
    """

    def __init__(self, codes: Codes, sizes: Sequence[int], numbers: Packed | None = None) -> None:
        self.codes, self.sizes = codes, list(sizes)
        if numbers is not None:
            self.numbers = numbers

    def __len__(self) -> int:
        return len(self.codes)

    @cached_property
    def numbers(self) -> Packed:
        """The IDs as numbers, ascending; only where `is_packable`. [M]"""
        numbers = packed(self.codes, self.sizes)
        numbers.sort()
        return numbers

    def prefixes(self, levels: int) -> HeldIds:
        """The first tokens of the held IDs; the IDs themselves, if they have no more."""
        if levels == len(self.sizes):
            return self
        return HeldIds(self.codes[:, :levels], self.sizes[:levels])

    @property
    def are_sorted(self) -> bool:
        """Whether `numbers` is there without work."""
        return "numbers" in self.__dict__


def is_packable(sizes: Sequence[int]) -> bool:
    """Whether every ID has a number of its own in int64."""
    return prod(sizes) <= 2**63


def packed(codes: NDArray[Any], sizes: Sequence[int]) -> Packed:
    """The numbers of `packing.pack`, in half the memory where these fit. codes [N, T] -> [N]"""
    if prod(sizes) > 2**32:
        return pack(codes, sizes)
    numbers = np.zeros(len(codes), dtype=np.uint32)
    for column, size in zip(codes.T, sizes):
        numbers *= np.uint32(size)
        numbers += column.astype(np.uint32)
    return numbers


def ascending(codes: NDArray[Any], held: HeldIds, sizes: Sequence[int]) -> Packed:
    """The numbers of all IDs, new and held ones, ascending. codes [N, T] -> [N + M]

    They are those of `packed` where `is_packable`; elsewhere only numbers of one call compare.
    """
    if not is_packable(sizes) or (len(held) and held.sizes != list(sizes)):
        numbers = number(joined(codes, held.codes), sizes)
        numbers.sort()
        return numbers
    numbers = packed(codes, sizes)
    numbers.sort()
    return merged(numbers, held.numbers) if len(held) else numbers


def merged(left: Packed, right: Packed) -> Packed:
    """Both in order, of which each is; cheap where one is short."""
    few, many = (left, right) if len(left) < len(right) else (right, left)
    return np.insert(many, np.searchsorted(many, few), few) if len(few) else many


def repeated(numbers: Packed) -> Packed:
    """Numbers that come more than once, once each. numbers: ascending"""
    return np.unique(numbers[1:][numbers[1:] == numbers[:-1]])
