"""IDs that stay: which items have one already, and which IDs are not to be given again."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
from numpy.typing import NDArray

from letter_fast import validation
from letter_fast.catalog.item_ids import ItemIds, in_common, rows_among

from .digests import UNKNOWN, Digests
from .groups import Codes, joined
from .held import HeldIds
from .semantic_ids import SemanticIds

Removed = Literal["reserve", "keep", "free"]
REMOVED: tuple[Removed, ...] = get_args(Removed)
Refresh = Literal["none", "changed"]
REFRESH: tuple[Refresh, ...] = get_args(Refresh)


class Changes(NamedTuple):
    """The fate of an earlier table's items, and the number of others."""

    kept: int
    """Live items that are in the catalog."""
    returned: int
    """Items that were marked as removed and are in the catalog again, with the IDs they had."""
    new: int
    """Items that have no ID yet."""
    absent: int
    """Live items that the catalog lacks."""
    changed: int
    """Of the kept and returned ones, those with another embedding than at first."""
    unknown: int
    """Of the same, those that may have: the table has no digest of their embeddings."""


class Kept(NamedTuple):
    """The match of N items against an earlier table, T tokens an ID."""

    known: NDArray[np.bool_]
    """[N] items that have an ID."""
    codes: Codes
    """[known, T] their IDs, in order."""
    digests: Digests
    """[known] of their embeddings when they got their IDs; where that is unknown, of today's."""
    absent_ids: ItemIds
    """[A] items the catalog lacks and that stay in the table."""
    absent_codes: Codes
    """[A, T] their IDs."""
    absent_digests: Digests
    """[A]"""
    absent_live: NDArray[np.bool_]
    """[A] those of them that are not removed."""
    margins: NDArray[np.float32] | None
    """[known, L], if the table has margins of L levels."""
    absent_margins: NDArray[np.float32] | None
    """[A, L], likewise."""
    changes: Changes
    held: HeldIds
    """All IDs that no new item may get."""


class Keeping(NamedTuple):
    """Rules for keeping an earlier table.

    removed: the fate of items that the catalog lacks. "reserve" marks them as removed and reserves
        their IDs for them, should they come back; "keep" leaves them live, for a catalog of new
        items only; "free" drops them, and their IDs may be given to others.
    max_removed: largest share of live items that may be lacking; None sets no limit.
    refresh: "changed" encodes items anew whose embedding has changed; their old IDs become free.
        "none" lets every item keep its ID.
    """

    removed: Removed = "reserve"
    max_removed: float | None = None
    refresh: Refresh = "none"

    def check(self) -> None:
        """ValueError if a choice is none."""
        validation.choice(self.removed, REMOVED, "removed")
        validation.choice(self.refresh, REFRESH, "refresh")
        limit = self.max_removed
        if limit is not None and not (isinstance(limit, int | float) and 0 <= limit <= 1):
            raise ValueError(f"max_removed must be a share from 0 to 1, got {limit!r}")


def keep(
    ids: ItemIds,
    existing: SemanticIds | None,
    sizes: list[int],
    policy: str,
    keeping: Keeping,
    digests_of: Callable[[NDArray[np.int64]], Digests],
) -> Kept:
    """Looks the items `ids` [N] up in an earlier table, which may be none.

    sizes: the model's codebooks; digests_of: of the embeddings of chosen items, ascending.
    Raises:
        ValueError: the table has other codebooks, or names items by another type, or more of its
            items are lacking than may be.
    """
    tokens = len(sizes) + (policy == "suffix")
    if existing is None:
        nobody, no_digests = np.zeros((0, tokens), dtype=np.int32), np.zeros(0, dtype=np.uint64)
        unknown = np.zeros(len(ids), dtype=bool)
        changes = Changes(0, 0, len(ids), 0, 0, 0)
        return Kept(
            unknown, nobody, no_digests, ids.filter(unknown), nobody, no_digests, unknown[:0],
            None, None, changes, HeldIds(nobody, [1] * tokens),
        )  # fmt: skip
    _check_fits(ids, existing, sizes, policy)
    both = in_common(ids, existing.names)
    assert both is not None  # as checked
    mine, theirs = both
    row = rows_among(mine, theirs)
    known = row.is_valid().to_numpy(zero_copy_only=False)
    places = row.drop_null().to_numpy().astype(np.int64)
    absent = np.ones(len(existing), dtype=bool)
    absent[places] = False

    present = digests_of(np.flatnonzero(known))
    recorded = np.zeros(len(existing), np.uint64) if existing.digests is None else existing.digests
    before = recorded[places]
    changed = (before != UNKNOWN) & (before != present)
    live = int(existing.is_live[places].sum())
    changes = Changes(
        kept=live,
        returned=len(places) - live,
        new=len(ids) - len(places),
        absent=int((absent & existing.is_live).sum()),
        changed=int(changed.sum()),
        unknown=int((before == UNKNOWN).sum()),
    )
    _check_changes(changes, existing, absent & existing.is_live, keeping)
    if keeping.refresh == "changed":
        known[np.flatnonzero(known)[changed]] = False
        places, before, present = places[~changed], before[~changed], present[~changed]
    if keeping.removed == "free":
        absent[:] = False
    margins = existing.margins
    if margins is not None and margins.shape[1] != len(sizes):
        margins = None
    absent_live = _chosen(existing.is_live, absent)
    codes, absent_codes = existing.codes[places], _chosen(existing.codes, absent)
    if len(codes) + len(absent_codes) == len(existing):
        held = existing.held_ids
    else:
        held = HeldIds(joined(codes, absent_codes), existing.sizes)
    return Kept(
        known,
        codes,
        np.where(before == UNKNOWN, present, before),
        ItemIds.known(theirs).filter(absent),
        absent_codes,
        _chosen(recorded, absent),
        absent_live if keeping.removed == "keep" else np.zeros_like(absent_live),
        None if margins is None else margins[places],
        None if margins is None else _chosen(margins, absent),
        changes,
        held,
    )


def _chosen(column: NDArray[Any], rows: NDArray[np.bool_]) -> NDArray[Any]:
    """Chosen rows of a column; without a copy if they are all."""
    return column if rows.all() else column[rows]


def _check_fits(ids: ItemIds, existing: SemanticIds, sizes: list[int], policy: str) -> None:
    tokens = len(sizes) + (policy == "suffix")
    if len(existing.sizes) != tokens or existing.sizes[: len(sizes)] != sizes:
        wanted = f"{sizes} and a suffix" if policy == "suffix" else str(sizes)
        raise ValueError(
            f"the existing IDs have codebooks of {existing.sizes}; this model with "
            f"unique={policy!r} needs {wanted}"
        )
    if in_common(ids, existing.names) is None:
        raise ValueError(
            f"the existing IDs are of items named by {existing.names.kind} "
            f"({existing.names.type}), these by {ids.kind} ({ids.type})"
        )


def _check_changes(
    changes: Changes, existing: SemanticIds, lacking: NDArray[np.bool_], keeping: Keeping
) -> None:
    """Refuses or warns where the catalog hardly is that of the table. lacking [M]: its rows"""
    both, live = changes.kept + changes.returned, int(existing.is_live.sum())
    if keeping.removed != "keep" and changes.absent:
        first = existing.names[int(lacking.argmax())]
        lacks = (
            f"the catalog lacks {changes.absent:,} of {live:,} live items of {existing.name}, the "
            f"first is {first!r}"
        )
        if keeping.max_removed is not None and changes.absent > keeping.max_removed * live:
            raise ValueError(
                f"{lacks}: more than --max-removed (max_removed) {keeping.max_removed:g} allows; "
                'if it holds only new items, --removed keep (removed="keep") leaves the others '
                "live"
            )
        if 2 * changes.absent > live:
            fate = "lose their IDs" if keeping.removed == "free" else "are marked as removed"
            warnings.warn(
                f"{lacks}; that is more than half, and they {fate}. If it holds only new items, "
                '--removed keep (removed="keep") leaves the others live',
                stacklevel=4,
            )
    if 2 * changes.changed > both:
        warnings.warn(
            f"{changes.changed:,} of {both:,} items that have an ID have another embedding than "
            f"when {existing.name} was made, more than half: are these the same items, embedded "
            "in the same way?",
            stacklevel=4,
        )
