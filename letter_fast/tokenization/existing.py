"""IDs that stay: which items have one already, and which IDs are not to be given again."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from letter_fast import validation

from .groups import Codes, joined
from .semantic_ids import SemanticIds

REMOVED = ("reserve", "free")


class Kept(NamedTuple):
    """What an earlier table means for N items, T tokens an ID."""

    known: NDArray[np.bool_]
    """[N] items that have an ID."""
    codes: Codes
    """[known, T] their IDs, in order."""
    absent_ids: pa.Array
    """[A] items the catalog lacks and whose IDs stay reserved."""
    absent_codes: Codes
    """[A, T] their IDs."""
    margins: NDArray[np.float32] | None
    """[known, L], if the table has margins of L levels."""
    absent_margins: NDArray[np.float32] | None
    """[A, L], likewise."""

    @property
    def held(self) -> Codes:
        """All IDs that no new item may get."""
        return joined(self.codes, self.absent_codes)


def keep(
    ids: pa.Array,
    existing: SemanticIds | None,
    sizes: list[int],
    policy: str,
    removed: str = "reserve",
) -> Kept:
    """Looks the items `ids` [N] up in an earlier table, which may be none.

    sizes: the model's codebooks; removed: what becomes of the IDs of items that `ids` lacks.
    Raises:
        ValueError: the table has other codebooks, or names items by another type.
    """
    validation.choice(removed, REMOVED, "removed")
    tokens = len(sizes) + (policy == "suffix")
    if existing is None:
        nobody = np.zeros((0, tokens), dtype=np.int64)
        return Kept(np.zeros(len(ids), dtype=bool), nobody, ids[:0], nobody, None, None)
    if len(existing.sizes) != tokens or existing.sizes[: len(sizes)] != sizes:
        wanted = f"{sizes} and a suffix" if policy == "suffix" else str(sizes)
        raise ValueError(
            f"the existing IDs have codebooks of {existing.sizes}; this model with "
            f"unique={policy!r} needs {wanted}"
        )
    if ids.type != existing.item_ids.type:
        raise ValueError(
            f"the existing IDs are of items named by {existing.item_ids.type}, these by {ids.type}"
        )
    row = pc.index_in(ids, value_set=existing.item_ids)
    known = row.is_valid().to_numpy(zero_copy_only=False)
    places = row.drop_null().to_numpy().astype(np.int64)
    absent = np.ones(len(existing), dtype=bool)
    absent[places] = False
    if removed == "free":
        absent[:] = False
    margins = existing.margins
    if margins is not None and margins.shape[1] != len(sizes):
        margins = None
    return Kept(
        known,
        existing.codes[places],
        existing.item_ids.filter(pa.array(absent)),
        existing.codes[absent],
        None if margins is None else margins[places],
        None if margins is None else margins[absent],
    )
