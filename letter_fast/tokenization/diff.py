"""The distance between two versions of an ID table.

A tokenizer trained anew numbers its codewords anew: every code changes, though the same items may
lie together as before. A residual quantizer has one codebook a level, whatever the prefix, so what
a new numbering can do is one permutation a level; the best one is found on the co-occurrence of old
and new codes over all items both tables have (an exact assignment). What still differs then really
moved. A permutation for each prefix would be no relabelling of any model, and where groups are
small it would fit almost any change.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from letter_fast import validation
from letter_fast.catalog.item_ids import places_of

from .provenance import check_table, same_model
from .semantic_ids import SemanticIds

# Codes in use that a level is matched by: the table of co-occurrences takes 2 GiB there.
_MOST_CODES = 16_384


@dataclass(frozen=True)
class TableDiff:
    """Items of two tables, old and new; shares are of the items both have (0 if there are none).

    Items are the live ones, unless removed ones were asked for as well.
    """

    old_items: int
    new_items: int
    kept: int
    """Items in both, with the same ID."""
    moved: int
    """Items in both, with another ID."""
    added: int
    """Items of the new table that the old one doesn't know."""
    returned: int
    """Items of the new table that are marked as removed in the old one."""
    removed: int
    """Items of the old table that the new one doesn't have, or marks as removed."""
    same_model: bool | None
    """Whether one model made both; None if a table doesn't say which."""
    churn: list[float]
    """Per level: share of items whose code changed."""
    churn_matched: list[float]
    """The same after the best permutation of the level's codes."""
    same_prefix: list[float]
    """Per length 1 … T: share of items that keep this number of first codes."""
    same_prefix_matched: list[float]
    """The same after those permutations."""

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


def diff(old: SemanticIds, new: SemanticIds, with_removed: bool = False) -> TableDiff:
    """Compares two tables item by item; of tables with different T, the levels both have.

    with_removed: items that are marked as removed count like others.
    Raises:
        ValueError: a level uses too many codes to be matched.
    """
    check_table(old, "old")
    check_table(new, "new")
    validation.flags(with_removed=with_removed)
    there, here = (
        np.ones(len(table), dtype=bool) if with_removed else table.is_live for table in (old, new)
    )
    named = new.names.filter(here)
    place = places_of(named, old.names).fill_null(-1).to_numpy().astype(np.int64)
    known = place >= 0
    common = known & np.append(there, False)[place]
    before, after = old.codes[place[common]], new.codes[here][common]
    levels = min(len(old.sizes), len(new.sizes))
    raw = before[:, :levels] == after[:, :levels]
    matched = np.column_stack(
        [_best_match(before[:, level], after[:, level], level) for level in range(levels)]
    )
    whole = raw.all(axis=1) & (len(old.sizes) == len(new.sizes))
    kept = int(whole.sum())
    return TableDiff(
        old_items=int(there.sum()),
        new_items=len(named),
        kept=kept,
        moved=len(raw) - kept,
        added=int((~known).sum()),
        returned=int((known & ~common).sum()),
        removed=int(there.sum()) - len(raw),
        same_model=same_model(old.metadata, new.metadata),
        churn=_shares(~raw),
        churn_matched=_shares(~matched),
        same_prefix=_shares(np.logical_and.accumulate(raw, axis=1)),
        same_prefix_matched=_shares(np.logical_and.accumulate(matched, axis=1)),
    )


def _best_match(
    before: NDArray[np.int64], after: NDArray[np.int64], level: int
) -> NDArray[np.bool_]:
    """The items that agree under the one-to-one renaming of old codes with most such items. [M]"""
    old, row = np.unique(before, return_inverse=True)
    new, column = np.unique(after, return_inverse=True)
    if max(len(old), len(new)) > _MOST_CODES:
        raise ValueError(
            f"level {level + 1} uses {max(len(old), len(new)):,} codes; they are matched up to "
            f"{_MOST_CODES:,}"
        )
    together = np.bincount(row * len(new) + column, minlength=len(old) * len(new))
    chosen, partner = linear_sum_assignment(together.reshape(len(old), len(new)), maximize=True)
    renamed = np.full(len(old), -1)
    renamed[chosen] = partner
    agree: NDArray[np.bool_] = renamed[row] == column
    return agree


def _shares(marked: NDArray[np.bool_]) -> list[float]:
    shares: list[float] = (marked.sum(axis=0) / max(len(marked), 1)).tolist()
    return shares
