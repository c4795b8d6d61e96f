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

    def of_rows(self) -> Numbers:
        """The group of each row. -> [R]"""
        return np.repeat(np.arange(len(self.starts) - 1), np.diff(self.starts))

    def only(self, chosen: NDArray[np.bool_]) -> Groups:
        """The same groups with some of their rows only. chosen [R]"""
        return Groups(self.rows[chosen], np.append(0, np.cumsum(chosen))[self.starts])

    def those(self, chosen: NDArray[np.bool_]) -> Groups:
        """Some of the groups. chosen [G]"""
        found = ranges(self.starts[:-1][chosen], self.starts[1:][chosen])
        return Groups(self.rows[found.rows], found.starts)

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
    return _rows_under((prefixes[part] for part in _blocks(len(prefixes))), chosen)


def rows_with(codes: NDArray[Any], sizes: Sequence[int], chosen: Numbers) -> Groups:
    """The same of all codes [N, T] whose `number`, which fits int64, is chosen."""
    return _rows_under((number(codes[part], sizes) for part in _blocks(len(codes))), chosen)


def _blocks(rows: int) -> Iterator[slice]:
    return (slice(start, start + _BLOCK) for start in range(0, rows, _BLOCK))


def _rows_under(blocks: Iterator[Numbers], chosen: Numbers) -> Groups:
    if len(chosen) == 0:
        return Groups(np.zeros(0, dtype=np.int64), np.zeros(1, dtype=np.int64))
    # A search among all that are chosen takes many times as long as a look at one byte, which says
    # of most numbers that they are none of them.
    shift = np.uint64(64 - min(len(chosen).bit_length() + 4, 24))
    likely = np.zeros(1 << (64 - int(shift)), dtype=bool)
    likely[_spread(chosen) >> shift] = True
    rows, groups, begin = [np.zeros(0, dtype=np.int64)], [np.zeros(0, dtype=np.int64)], 0
    for block in blocks:
        maybe = np.flatnonzero(likely[_spread(block) >> shift])
        place = np.minimum(np.searchsorted(chosen, block[maybe]), len(chosen) - 1)
        inside = chosen[place] == block[maybe]
        rows.append(maybe[inside] + begin)
        groups.append(place[inside])
        begin += len(block)
    group = np.concatenate(groups)
    counts = np.bincount(group, minlength=len(chosen))
    order = np.argsort(group, kind="stable")
    return Groups(np.concatenate(rows)[order], np.append(0, np.cumsum(counts)))


def _spread(numbers: Numbers) -> NDArray[np.uint64]:
    """Numbers whose highest bits differ where any of these do, nearly always."""
    return numbers.view(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
