"""The ids of a catalog's items: unique, of one type, and in the order of the rows.

Two columns that are joined need not have one type: integers are equal by value, text and bytes if
the bytes are the text's UTF-8.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from .errors import CatalogError
from .id_types import ItemId, as_arrow, canonical


class ItemIds:
    """Item ids that have been checked: to have an `ItemIds` is the proof.

    Args:
        values: [N], an Arrow array, or what makes one: a list, a NumPy or pandas array, a tensor;
            or ItemIds.
        where: what messages call them; place: what they call row i.

    Attributes:
        array: [N], of one type of `id_types`, none null, all different.

    Raises:
        CatalogError: a type that doesn't identify items, or a null or repeated id.
    """

    def __init__(
        self, values: Any, where: str = "item ids", place: Callable[[int], str] = "row {}".format
    ) -> None:
        self.array: pa.Array = (
            values.array if isinstance(values, ItemIds) else _checked(values, where, place)
        )

    @classmethod
    def known(cls, array: pa.Array) -> ItemIds:
        """Ids that need no check, because of where the caller has them from."""
        ids = cls.__new__(cls)
        ids.array = array
        return ids

    @classmethod
    def row_numbers(cls, rows: int) -> ItemIds:
        """0, 1, …, for items that are named by their rows."""
        return cls.known(pa.array(np.arange(rows)))

    def __len__(self) -> int:
        return len(self.array)

    def __getitem__(self, row: int) -> ItemId:
        found: ItemId = self.array[row].as_py()
        return found

    def __arrow_array__(self, type: pa.DataType | None = None) -> pa.Array:
        return self.array if type is None else self.array.cast(type)

    def to_pylist(self) -> list[ItemId]:
        """As values of Python."""
        found: list[ItemId] = self.array.to_pylist()
        return found

    @property
    def type(self) -> pa.DataType:
        """One of string, int64, uint64 and binary."""
        return self.array.type

    @property
    def kind(self) -> str:
        """The type of the ids in plain words; ids of one kind have a type in common."""
        if pa.types.is_integer(self.type):
            return "integers"
        return "text" if self.type == pa.string() else "bytes"

    @cached_property
    def ascending(self) -> bool:
        """Whether they are sorted, as those of most catalogs are."""
        return len(self) < 2 or bool(pc.all(pc.less(self.array[:-1], self.array[1:])).as_py())

    def ranks(self) -> NDArray[np.int64] | None:
        """The place of each among all, if they were sorted; None if they are. -> [N]"""
        if self.ascending:
            return None
        if not pa.types.is_integer(self.type):
            ranked = pc.rank(self.array, tiebreaker="first").to_numpy()
            return np.asarray(ranked, dtype=np.int64)
        ranks = np.empty(len(self), dtype=np.int64)
        ranks[np.argsort(self.array.to_numpy())] = np.arange(1, len(self) + 1)
        return ranks

    def filter(self, chosen: NDArray[np.bool_]) -> ItemIds:
        """The ids of chosen rows. [N] bool"""
        return self if chosen.all() else ItemIds.known(self.array.filter(pa.array(chosen)))

    def with_others(self, others: ItemIds) -> ItemIds:
        """These ids and then `others`; the caller knows that no id is in both."""
        if len(others) == 0 and others.type == self.type:
            return self
        return ItemIds.known(concat([self.array, others.array]))


def in_common(left: ItemIds, right: ItemIds) -> tuple[pa.Array, pa.Array] | None:
    """Both in one type in which equal ids are equal values, or None where no type holds both.

    None holds integers and text, nor integers below 0 and beyond int64.
    """
    return _in_common(left.array, right.array)


def _in_common(left: pa.Array, right: pa.Array) -> tuple[pa.Array, pa.Array] | None:
    if left.type == right.type:
        return left, right
    kinds = (left.type, right.type)
    if all(map(pa.types.is_integer, kinds)):
        signed = left if left.type == pa.int64() else right
        if len(signed) and pc.min(signed).as_py() < 0:
            return None
        return left.cast(pa.uint64()), right.cast(pa.uint64())
    if any(map(pa.types.is_integer, kinds)):
        return None
    return left.cast(pa.binary()), right.cast(pa.binary())


def concat(parts: list[pa.Array]) -> pa.Array:
    """All ids of several arrays, each of a type of `id_types`, in one array.

    Raises:
        CatalogError: no type holds them all.
    """
    whole, *rest = parts
    for kind in {part.type for part in rest} - {whole.type}:
        both = _in_common(whole, pa.concat_arrays([part for part in rest if part.type == kind]))
        if both is None:
            raise CatalogError(
                f"item ids of {whole.type} and {kind} have no type in common: write all as text"
            )
        whole = both[0]
    return pa.concat_arrays([part.cast(whole.type) for part in parts])


def places_of(wanted: ItemIds, there: ItemIds) -> pa.Array:
    """The row in `there` of each of `wanted`, null where it has none; 17 and "17" name one item."""
    both = in_common(wanted, there)
    if both is None:
        digits = (
            ids.array.cast(pa.string()) if pa.types.is_integer(ids.type) else ids.array
            for ids in (wanted, there)
        )
        both = _in_common(*digits)
    assert both is not None
    return pc.index_in(both[0], value_set=both[1])


def rows_among(wanted: pa.Array, there: pa.Array) -> pa.Array:
    """The row in `there` of each of `wanted`, of the same type, null where it has none."""
    if 8 * len(wanted) > len(there):
        return pc.index_in(wanted, value_set=there)
    # A hash table of the few is built, not one of the many; of these, only those are looked up that
    # lie between the least and the greatest of the few.
    if len(wanted) == 0:
        return pa.nulls(0, pa.int32())
    ends = pc.min_max(wanted)
    between = pc.and_(pc.greater_equal(there, ends["min"]), pc.less_equal(there, ends["max"]))
    rows = np.flatnonzero(between.to_numpy(zero_copy_only=False))
    place = pc.index_in(there.take(pa.array(rows)), value_set=wanted)
    found = np.full(len(wanted), -1)
    is_wanted = place.is_valid().to_numpy(zero_copy_only=False)
    found[place.drop_null().to_numpy()] = rows[is_wanted]
    return pa.array(found, mask=found < 0)


def _checked(values: Any, where: str, place: Callable[[int], str]) -> pa.Array:
    ids = canonical(as_arrow(values, where), where)
    if ids.null_count:
        first = int(ids.is_null().to_numpy(zero_copy_only=False).argmax())
        raise CatalogError(f"{where}: {ids.null_count} are null, the first in {place(first)}")
    if _all_differ(ids):
        return ids
    codes = ids.dictionary_encode().indices.to_numpy(zero_copy_only=False)
    seen = np.unique(codes, return_index=True)[1]
    repeat = int(np.setdiff1d(np.arange(len(codes)), seen)[0])
    raise CatalogError(
        f"{where}: {len(codes) - len(seen)} are repeated, the first is {ids[repeat].as_py()!r} "
        f"in {place(repeat)}, after {place(int(seen[codes[repeat]]))}; item ids must be unique"
    )


def _all_differ(ids: pa.Array) -> bool:
    """Whether no id comes twice. Numbers are sorted: a hash table would take ten times the room."""
    if not pa.types.is_integer(ids.type):
        return len(ids.dictionary_encode().dictionary) == len(ids)
    numbers = np.sort(ids.to_numpy())
    return bool((numbers[1:] != numbers[:-1]).all())
