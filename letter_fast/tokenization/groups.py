"""Groups of rows that share a prefix: one number a prefix, and sorts of those numbers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

# Of items and of IDs; int64 only where PyTorch's operations take it.
Codes = NDArray[np.int32]
Numbers = NDArray[np.int64]


# Rows looked at together, where only some are chosen and temporary arrays of all would be large.
_BLOCK = 1 << 20


class Groups(NamedTuple):
    """Rows of G groups one after the other: rows [R], of group g those from starts[g] on."""

    rows: Numbers
    starts: Numbers  # [G + 1]

    def part(self, chosen: slice) -> Groups:
        """Some of the groups, which lie one after the other."""
        starts = self.starts[chosen.start : chosen.stop + 1]
        return Groups(self.rows[starts[0] : starts[-1]], starts - starts[0])

    def parts(self, most: int) -> Iterator[slice]:
        """All groups, as many at a time as have `most` rows together, and at least one."""
        begin = 0
        while begin + 1 < len(self.starts):
            end = int(np.searchsorted(self.starts, self.starts[begin] + most, side="right")) - 1
            yield slice(begin, max(end, begin + 1))
            begin = max(end, begin + 1)


def number(codes: NDArray[Any], sizes: Sequence[int], below: int = 1) -> Numbers:
    """One int64 per row with the same equality and order as the rows; number · `below` still fits.

    Mixed radix; where that outgrows int64, the prefix so far gives way to its rank among the rows,
    so that only numbers of one call compare.
    codes [N, T] within `sizes` [T] -> [N]
    """
    numbers = np.zeros(len(codes), dtype=np.int64)
    bound = 1
    for column, size in zip(codes.T, sizes):
        if bound * size * below > 2**63:
            distinct, numbers = np.unique(numbers, return_inverse=True)
            bound = len(distinct)
        numbers *= size
        numbers += column
        bound *= size
    return numbers


def rows_that_differ(left: NDArray[Any], right: NDArray[Any]) -> Numbers:
    """The rows in which two arrays [N, T] are not the same."""
    differs = np.zeros(len(left), dtype=bool)
    for one, other in zip(left.T, right.T):
        differs |= one != other
    return np.flatnonzero(differs)


def joined(mine: NDArray[Any], theirs: Codes) -> NDArray[Any]:
    """Both, one after the other; without a copy of the first where the second is empty."""
    return np.concatenate([mine, theirs]) if len(theirs) else mine


def shared(mine: Numbers, theirs: Numbers) -> Numbers:
    """The numbers that `mine` has, and has twice or `theirs` has as well; ascending. Sorts `mine`:
    a copy of a large catalog's would be its largest array."""
    if len(mine) == 0:
        return np.zeros(0, dtype=np.int64)
    mine.sort()
    twice = mine[1:][mine[1:] == mine[:-1]]
    place = np.minimum(np.searchsorted(mine, theirs), len(mine) - 1)
    return np.unique(np.concatenate([twice, theirs[mine[place] == theirs]]))


def ranges(begins: Numbers, ends: Numbers) -> Groups:
    """The rows begins[g] … ends[g] − 1 of each group. [G] each"""
    starts = np.append(0, np.cumsum(ends - begins))
    return Groups(np.arange(starts[-1]) + np.repeat(begins - starts[:-1], ends - begins), starts)


def rows_under(prefixes: Numbers, chosen: Numbers) -> Groups:
    """The rows of each chosen prefix. prefixes [N]; chosen [G] ascending, distinct"""
    if len(chosen) == 0 or len(prefixes) == 0:
        return Groups(np.zeros(0, dtype=np.int64), np.zeros(len(chosen) + 1, dtype=np.int64))
    rows, groups = [], []
    for start in range(0, len(prefixes), _BLOCK):
        block = prefixes[start : start + _BLOCK]
        place = np.minimum(np.searchsorted(chosen, block), len(chosen) - 1)
        inside = np.flatnonzero(chosen[place] == block)
        rows.append(inside + start)
        groups.append(place[inside])
    group = np.concatenate(groups)
    counts = np.bincount(group, minlength=len(chosen))
    order = np.argsort(group, kind="stable")
    return Groups(np.concatenate(rows)[order], np.append(0, np.cumsum(counts)))
