"""Collaborative embeddings in the order of the catalog."""

from __future__ import annotations

from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from letter_fast import validation

from .embeddings import Embeddings
from .errors import CatalogError
from .item_ids import places_of

CfMissing = Literal["error", "mask"]
CF_MISSING: tuple[CfMissing, ...] = get_args(CfMissing)


def align_cf(
    embeddings: Embeddings, cf: Embeddings, missing: CfMissing = "error", by_row: bool = False
) -> Embeddings:
    """The rows of `cf` that belong to the rows of `embeddings`.

    By item id where both sides have ids, row by row where neither has.
    missing: items without a row in `cf` are an error, or ("mask") get a row of zeros, which
        training and evaluation take for no CF.
    by_row: row by row whatever they have: the caller knows that row i of both is one item.
    Raises:
        CatalogError: only one side has ids, items without a row in `cf`, none with one, or (row by
            row) different numbers of rows.
    """
    validation.choice(missing, CF_MISSING, "cf_missing")
    if by_row or (embeddings.item_ids is None and cf.item_ids is None):
        if cf.rows != embeddings.rows:
            raise CatalogError(
                f"{cf.name} has {cf.rows} rows, {embeddings.name} has {embeddings.rows}; give both "
                "item ids, or the same rows"
            )
        return cf
    if embeddings.item_ids is None or cf.item_ids is None:
        with_ids, without = (
            (embeddings, cf) if embeddings.item_ids is not None else (cf, embeddings)
        )
        raise CatalogError(
            f"{with_ids.name} names its items by {with_ids.named_by}, {without.name} has row "
            "numbers only: give both item ids, or insist that row i of both is one item "
            "(--cf-by-row, cf_by_row=True)"
        )
    wanted = embeddings.item_ids
    index = places_of(wanted, cf.item_ids)
    if index.null_count and (missing == "error" or index.null_count == embeddings.rows):
        first = int(index.is_null().to_numpy(zero_copy_only=False).argmax())
        raise CatalogError(
            f"{cf.name} lacks {index.null_count} of {embeddings.rows} items of {embeddings.name}, "
            f"the first is {wanted[first]!r}"
            + (
                "; with cf_missing='mask' (--cf-missing mask) they have no CF"
                if missing == "error"
                else ""
            )
        )
    place = index.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int64)
    return _Reordered(cf, place, embeddings)


class _Reordered(Embeddings):
    """Chosen rows of another source; −1 stands for zeros."""

    def __init__(self, source: Embeddings, index: NDArray[np.int64], order: Embeddings) -> None:
        self.name, self.rows, self.width = source.name, len(index), source.width
        self.item_ids, self.columns = order.item_ids, source.columns
        self._source, self._index = source, index

    def _slice(self, start: int, stop: int) -> NDArray[Any]:
        return self._chosen(self._index[start:stop])

    def _take(self, index: NDArray[np.int64]) -> NDArray[Any]:
        return self._chosen(self._index[index])

    def _chosen(self, place: NDArray[np.int64]) -> NDArray[Any]:
        absent = place < 0
        if not absent.any():
            return self._source._take(place)
        rows = np.array(self._source._take(place.clip(min=0)))
        rows[absent] = 0
        return rows
