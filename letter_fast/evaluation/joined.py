"""An ID table beside a catalog: the row of each of the catalog's items, by item id."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from letter_fast.catalog import Embeddings
from letter_fast.catalog.id_types import ItemId
from letter_fast.catalog.item_ids import ItemIds, places_of
from letter_fast.quantizer import ResidualQuantizer
from letter_fast.tokenization import SemanticIds
from letter_fast.tokenization.digests import UNKNOWN, Digests


class JoinedTable(NamedTuple):
    """The rows of a table for the N items of a catalog, in their order."""

    codes: NDArray[np.int32]
    """[N, T]"""
    digests: Digests | None
    """[N] of the embeddings that the IDs were made from."""
    beyond: int
    """Live items of the table that the catalog lacks."""
    first_beyond: ItemId | None

    def changed(self, digests: Digests) -> int | None:
        """Items with another embedding than their ID was made from; None if one is unknown.

        digests [N] of today's
        """
        if self.digests is None or (self.digests == UNKNOWN).any():
            return None
        return int((self.digests != digests).sum())


def joined(
    table: SemanticIds, catalog: Embeddings, quantizer: ResidualQuantizer, with_removed: bool
) -> JoinedTable:
    """The rows of the catalog's items, all of which must be there.

    with_removed: also as removed ones.
    Raises:
        ValueError: items are missing or removed, or the IDs don't fit the model's codebooks.
    """
    sizes, levels = quantizer.codebook_sizes, quantizer.levels
    if table.sizes[:levels] != sizes or len(table.sizes) > levels + 1:
        raise ValueError(
            f"{table.name} has codebooks of {table.sizes}, the model of {sizes}: its codes are not "
            "this model's"
        )
    items, names = catalog.item_ids, table.names
    if items is None:
        items = ItemIds.row_numbers(catalog.rows)
        if items.kind != names.kind:
            first = table.item_ids[:1].to_pylist()
            raise ValueError(
                f"{catalog.name} has no item ids, but {table.name} names items ({first}, …): give "
                "the catalog with its ids"
            )
    row = places_of(items, names)
    _refuse(table, catalog, items, row.is_null(), "lacks", "tokenize with --existing first")
    rows = row.to_numpy().astype(np.int64)
    live = table.is_live | with_removed
    _refuse(
        table, catalog, items, pa.array(~live[rows]), "has marked as removed",
        "tokenize with --existing brings them back, --with-removed (with_removed=True) measures "
        "them all the same",
    )  # fmt: skip
    live[rows] = False
    return JoinedTable(
        table.codes[rows],
        None if table.digests is None else table.digests[rows],
        int(live.sum()),
        names[int(live.argmax())] if live.any() else None,
    )


def _refuse(
    table: SemanticIds, catalog: Embeddings, items: ItemIds, bad: Any, what: str, instead: str
) -> None:
    count = bad.true_count
    if count:
        first = items[bad.index(True).as_py()]
        raise ValueError(
            f"{table.name} {what} {count:,} of {catalog.rows:,} items of {catalog.name}, the first "
            f"is {first!r}: {instead}"
        )
