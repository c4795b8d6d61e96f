"""How far two versions of an ID table are apart.

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
import pyarrow as pa
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from .semantic_ids import SemanticIds

# Codes in use that a level is matched by: the table of co-occurrences takes 2 GiB there.
_MOST_CODES = 16_384


@dataclass(frozen=True)
class TableDiff:
    """Items of two tables, old and new; shares are of the items both have (0 if there are none)."""

    old_items: int
    new_items: int
    kept: int
    """Items in both, with the same ID."""
    moved: int
    """Items in both, with another ID."""
    added: int
    removed: int
    churn: list[float]
    """Per level: share of items whose code changed."""
    churn_matched: list[float]
    """The same after the best permutation of the level's codes."""
    same_prefix: list[float]
    """Per length 1 … T: share of items that keep so many first codes."""
    same_prefix_matched: list[float]
    """The same after those permutations."""

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


def diff(old: SemanticIds, new: SemanticIds) -> TableDiff:
    """Compares two tables item by item; of tables with different T, the levels both have.

    Raises:
        ValueError: a level uses too many codes to be matched.
    """
    named = new.item_ids
    if named.type != old.item_ids.type:  # 17 and "17" name one item
        named = named.cast(pa.string())
        if pa.types.is_integer(old.item_ids.type):
            old = SemanticIds(old.codes, old.sizes, old.item_ids.cast(pa.string()))
    place = old.rows_of_items(named)
    common = place >= 0
    before, after = old.codes[place[common]], new.codes[common]
    levels = min(len(old.sizes), len(new.sizes))
    raw = before[:, :levels] == after[:, :levels]
    matched = np.column_stack(
        [_best_match(before[:, level], after[:, level], level) for level in range(levels)]
    )
    whole = raw.all(axis=1) & (len(old.sizes) == len(new.sizes))
    kept = int(whole.sum())
    return TableDiff(
        old_items=len(old),
        new_items=len(new),
        kept=kept,
        moved=len(raw) - kept,
        added=len(new) - len(raw),
        removed=len(old) - len(raw),
        churn=_shares(~raw),
        churn_matched=_shares(~matched),
        same_prefix=_shares(np.logical_and.accumulate(raw, axis=1)),
        same_prefix_matched=_shares(np.logical_and.accumulate(matched, axis=1)),
    )


def _best_match(
    before: NDArray[np.int64], after: NDArray[np.int64], level: int
) -> NDArray[np.bool_]:
    """Which items agree after the one-to-one renaming of old codes under which most do. [M]"""
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
