"""Both ways through an ID table, for whole batches, by sorted arrays instead of dictionaries.

Each index is built on first use and takes O(log N) a lookup. For 10 M rows a dictionary of tuples
needs gigabytes; these need 4 to 12 bytes a row and what the trie takes.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from letter_fast.catalog.id_types import ItemId
from letter_fast.catalog.item_ids import ItemIds

from .trie import PrefixTrie, lexicographic_order

Rows = NDArray[np.int64]


class ItemIndex:
    """Item id → row."""

    def __init__(self, ids: ItemIds) -> None:
        self.ids = ids.array
        self._ascending = ids.ascending

    @cached_property
    def _order(self) -> NDArray[Any] | None:
        """The rows of the ids, ascending; None if they ascend already, as in most catalogs."""
        if self._ascending:
            return None
        return _compact(pc.sort_indices(self.ids).to_numpy())

    def row(self, wanted: ItemId) -> int:
        """The row of one id, −1 of an unknown one."""
        ranks = range(len(self.ids))
        rank = bisect_left(ranks, wanted, key=lambda rank: self.ids[self._row(rank)].as_py())
        row = self._row(rank) if rank < len(self.ids) else -1
        return row if row >= 0 and self.ids[row].as_py() == wanted else -1

    def rows(self, wanted: pa.Array) -> Rows:
        """The row of each id, −1 of an unknown one. wanted [B], of the ids' type -> [B]"""
        rounds = len(self.ids).bit_length()
        if len(wanted) * rounds >= len(self.ids):  # one pass with a hash table costs less
            places = pc.fill_null(pc.index_in(wanted, value_set=self.ids), -1)
            found: Rows = places.to_numpy(zero_copy_only=False).astype(np.int64)
            return found
        low = np.zeros(len(wanted), dtype=np.int64)
        high = np.full(len(wanted), len(self.ids), dtype=np.int64)
        for _ in range(rounds):
            middle = (low + high) // 2
            below = pc.less(self._at(middle), wanted).to_numpy(zero_copy_only=False)
            below &= low < high
            low, high = np.where(below, middle + 1, low), np.where(below, high, middle)
        equal = pc.equal(self._at(low), wanted).to_numpy(zero_copy_only=False)
        return np.where(equal & (low < len(self.ids)), self._places(low), -1)

    def _row(self, rank: int) -> int:
        return rank if self._order is None else int(self._order[rank])

    def _at(self, ranks: Rows) -> pa.Array:
        return self.ids.take(pa.array(self._places(ranks)))

    def _places(self, ranks: Rows) -> Rows:
        ranks = np.minimum(ranks, len(self.ids) - 1)
        return ranks if self._order is None else self._order[ranks].astype(np.int64)


class CodeIndex:
    """Codes → rows, one or (with collisions) several, of which preferred ones come first.

    codes [N, T] within `sizes` [T]; preferred [N]
    """

    def __init__(
        self, codes: NDArray[Any], sizes: Sequence[int], preferred: NDArray[np.bool_]
    ) -> None:
        if preferred.all():
            order = lexicographic_order(codes, sizes)
        else:
            first = np.argsort(~preferred, kind="stable")
            order = first[lexicographic_order(codes[first], sizes)]
        self.trie = PrefixTrie(codes, sizes, order)
        # Where in `order` the rows of each distinct ID begin; without collisions, at its rank.
        self._begins: NDArray[Any] | None = None
        if len(self.trie) < len(codes):
            fresh = np.zeros(len(codes) + 1, dtype=bool)
            fresh[[0, -1]] = True
            for column in codes.T:
                code = column[order]
                fresh[1:-1] |= code[1:] != code[:-1]
            self._begins = _compact(np.flatnonzero(fresh))
        self._order = _compact(order)

    def rows(self, codes: NDArray[Any]) -> Rows:
        """The first row of each ID, −1 of one that names nothing. codes [B, T] -> [B]"""
        rank = self._ranks(codes)
        if len(self.trie) == 0:
            return rank
        place = rank.clip(min=0)
        if self._begins is not None:
            place = self._begins[place]
        return np.where(rank < 0, -1, self._order[place])

    def all_rows(self, codes: Sequence[int]) -> Rows:
        """The rows of one ID, ascending. codes [T]"""
        rank = int(self._ranks(np.array([codes]))[0])
        return self._of(rank) if rank >= 0 else np.zeros(0, dtype=np.int64)

    def shared(self) -> list[Rows]:
        """The rows of every ID that names several, in the order of the IDs."""
        if self._begins is None:
            return []
        return [self._of(int(rank)) for rank in np.flatnonzero(np.diff(self._begins) > 1)]

    def _ranks(self, codes: NDArray[Any]) -> Rows:
        if codes.ndim != 2 or codes.shape[1] != len(self.trie.sizes):
            raise ValueError(f"an ID has {len(self.trie.sizes)} codes, got {list(codes.shape)}")
        return self.trie.nodes(codes)

    def _of(self, rank: int) -> Rows:
        begin, end = (
            (rank, rank + 1) if self._begins is None else self._begins[rank : rank + 2].tolist()
        )
        return np.sort(self._order[begin:end]).astype(np.int64)


def _compact(rows: NDArray[Any]) -> NDArray[Any]:
    """Row numbers in half the memory, where they fit."""
    return rows.astype(np.int32) if len(rows) < 2**31 else rows
