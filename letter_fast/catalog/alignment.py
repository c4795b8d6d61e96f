"""Collaborative embeddings in the order of the catalog."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from letter_fast import validation

from .embeddings import CatalogError, Embeddings

CF_MISSING = ("error", "mask")


def align_cf(embeddings: Embeddings, cf: Embeddings, missing: str = "error") -> Embeddings:
    """The rows of `cf` that belong to the rows of `embeddings`.

    By item id where both sides have ids, otherwise row by row.
    missing: items without a row in `cf` are an error, or ("mask") get a row of zeros, which
        training and evaluation take for no CF.
    Raises:
        CatalogError: items without a row in `cf`, none with one, or (row by row) different numbers
            of rows.
    """
    validation.choice(missing, CF_MISSING, "cf_missing")
    if embeddings.item_ids is None or cf.item_ids is None:
        if cf.rows != embeddings.rows:
            raise CatalogError(
                f"{cf.name} has {cf.rows} rows, {embeddings.name} has {embeddings.rows}; give both "
                "item ids, or the same rows"
            )
        return cf
    wanted, there = embeddings.item_ids, cf.item_ids
    if wanted.type != there.type:  # 17 and "17" name one item
        wanted, there = wanted.cast(pa.string()), there.cast(pa.string())
    index = pc.index_in(wanted, value_set=there)
    if index.null_count and (missing == "error" or index.null_count == embeddings.rows):
        first = int(index.is_null().to_numpy(zero_copy_only=False).argmax())
        raise CatalogError(
            f"{cf.name} lacks {index.null_count} of {embeddings.rows} items of {embeddings.name}, "
            f"the first is {wanted[first].as_py()!r}"
            + (
                "; with cf_missing='mask' (--cf-missing mask) they have no CF"
                if missing == "error"
                else ""
            )
        )
    place = index.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int64)
    return _Reordered(cf, place, wanted)


class _Reordered(Embeddings):
    """Chosen rows of another source; −1 stands for zeros."""

    def __init__(self, source: Embeddings, index: NDArray[np.int64], item_ids: pa.Array) -> None:
        self.name, self.rows, self.width = source.name, len(index), source.width
        self.item_ids = item_ids
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
