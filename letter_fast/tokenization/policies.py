"""Collision resolution: four policies for items whose codes coincide.

none      keep collisions.
letter    LETTER's public rounds: every group of colliding items is encoded anew at its last level
          by Sinkhorn among themselves, up to 20 times; may leave some. (letter.py)
suffix    TIGER: one more token, the ordinal within the group; 0 where none is needed. (suffix.py)
optimal   within each group that shares a prefix, distinct last codes at least total distortion (an
          exact assignment). What a prefix has no room for moves to the cheapest beside it. All IDs
          are unique. (optimal.py)

IDs that are held already, by items of an earlier table, stay as they are, whatever the policy; new
items get their IDs around them. No result depends on the order of the rows.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from letter_fast import kernels, validation
from letter_fast.codebooks import Codebooks, searched

from .codes import check_codes
from .groups import (
    Codes,
    joined,
    number,
    rows_that_differ,
    rows_under,
    shared,
)
from .held import HeldIds, ascending
from .items import Items, LatentRows
from .letter import sinkhorn_rounds
from .optimal import unique_codes
from .statistics import CollisionStatistics, statistics_of
from .suffix import ordinals

Policy = Literal["none", "letter", "suffix", "optimal"]
POLICIES: tuple[Policy, ...] = get_args(Policy)


@dataclass(frozen=True)
class ResolutionReport:
    """The changes that a policy made."""

    policy: str
    before: CollisionStatistics
    """Of the IDs as encoded and those held already."""
    after: CollisionStatistics
    """Of all IDs."""
    moved: int
    """Items that have other codes than they were encoded to."""
    moved_at_level: list[int]
    """Of those, how many first differ at each level."""
    added_distortion: float
    """Mean growth of ‖z − q‖² over all items."""
    added_distortion_of_moved: float
    """The same over the items that moved."""
    rounds: int
    """Rounds of Sinkhorn ("letter")."""
    leftovers: int
    """Items that still share their ID."""
    seconds: float

    def to_dict(self) -> dict[str, Any]:
        """Plain values, without the seconds: equal work gives equal files."""
        facts = asdict(self)
        del facts["seconds"]
        return facts


class Resolution(NamedTuple):
    """codes [N, L] int32, or [N, L + 1] after "suffix"; sizes of their codebooks; the report."""

    codes: Codes
    sizes: list[int]
    report: ResolutionReport


def resolve(
    codes: ArrayLike,
    latents: LatentRows | ArrayLike,
    codebooks: Codebooks,
    policy: Policy = "optimal",
    *,
    sizes: Sequence[int] | None = None,
    order: ArrayLike | None = None,
    held: HeldIds | ArrayLike | None = None,
) -> Resolution:
    """Gives new items their IDs.

    codes [N, L] integers, as encoded; latents [N, D], of which only the rows concerned are read;
    codebooks L × [K_l, D], or [ΣK, D] and their sizes [L].
    order [N]: rank of each item, which settles ties (say, by item id); None takes row order.
    held [M, L], or [M, L + 1] for "suffix": IDs of other items, not to be given again.
    Raises:
        ValueError: codes outside their codebooks, arguments that don't fit each other, more items
            than IDs, held IDs that collide ("optimal"), or codebooks or latents with NaN or Inf.
    """
    began = time.perf_counter()
    validation.choice(policy, POLICIES, "unique")
    items = _checked(codes, latents, searched(codebooks, sizes), policy, order, held)
    levels, sizes = len(items.sizes), items.sizes
    ids = ascending(items.codes, items.held.prefixes(levels), sizes)
    before = statistics_of(ids)
    result, rounds = items.codes, 0
    with kernels.quiet_torch(torch.device("cpu")):
        if policy == "letter":
            result, rounds = sinkhorn_rounds(items)
        elif policy == "suffix":
            suffix = ordinals(items)
            result = np.column_stack([items.codes, suffix.astype(np.int32)])
            used = max(suffix.max(initial=0), items.held.codes[:, -1].max(initial=0))
            sizes = [*sizes, int(used) + 1]
        elif policy == "optimal":
            result = unique_codes(items, ids)
        del ids  # of a large catalog they are half as large as the codes

        moved = rows_that_differ(result[:, :levels], items.codes)
        growth = items.growth(moved, items.codes[moved], result[moved, :levels])
    report = summarize(
        policy, items.codes, result, items.held, sizes, float(growth.sum()), rounds, before
    )
    return Resolution(result, sizes, replace(report, seconds=time.perf_counter() - began))


def summarize(
    policy: str,
    codes: Codes,
    result: Codes,
    held: HeldIds,
    sizes: list[int],
    growth: float,
    rounds: int,
    before: CollisionStatistics | None = None,
) -> ResolutionReport:
    """The report of a policy that made `result` [N, T] of `codes` [N, L], in 0 seconds.

    sizes [T]; growth: of ‖z − q‖² over all items; rounds: of "letter"; before: of codes and held
    IDs, if they have been counted.
    """
    levels = codes.shape[1]
    if before is None:
        before = statistics_of(ascending(codes, held.prefixes(levels), sizes[:levels]))
    moved = rows_that_differ(result[:, :levels], codes)
    differs = result[moved, :levels] != codes[moved]
    after = statistics_of(ascending(result, held, sizes))
    return ResolutionReport(
        policy=policy,
        before=before,
        after=after,
        moved=len(differs),
        moved_at_level=np.bincount(differs.argmax(axis=1), minlength=levels).tolist(),
        added_distortion=growth / max(len(result), 1),
        added_distortion_of_moved=growth / max(len(differs), 1),
        rounds=rounds,
        leftovers=_leftovers(result, held, sizes) if after.distinct < after.items else 0,
        seconds=0.0,
    )


def _leftovers(codes: Codes, held: HeldIds, sizes: list[int]) -> int:
    ids = number(joined(codes, held.codes), sizes)
    mine = ids[: len(codes)]
    return len(rows_under(mine, shared(mine.copy(), ids[len(codes) :])).rows)


def _checked(
    codes: ArrayLike,
    latents: LatentRows | ArrayLike,
    codebooks: tuple[Tensor, list[int]],
    policy: str,
    order: ArrayLike | None,
    held: HeldIds | ArrayLike | None,
) -> Items:
    words, sizes = codebooks
    tables = list(words.cpu().split(sizes))
    own = np.asarray(codes)
    rows: Any = latents if hasattr(latents, "shape") else validation.tensor(latents, "latents")
    if tuple(rows.shape) != (len(own), tables[0].shape[1]):
        raise ValueError(
            f"latents must be [{len(own)}, {tables[0].shape[1]}] for {len(own)} rows of codes "
            f"and codebooks of width {tables[0].shape[1]}, got {list(rows.shape)}"
        )
    tokens = len(sizes) + (policy == "suffix")
    check_codes("codes", own, sizes)
    taken = held if isinstance(held, HeldIds) else _held(held, sizes, tokens, policy)
    rank = None if order is None else np.asarray(order, dtype=np.int64)
    if rank is not None and rank.shape != (len(own),):
        raise ValueError(f"order must have a rank for each of {len(own)} rows, got {rank.shape}")
    return Items(own.astype(np.int32, copy=False), rows, tables, rank, taken)


def _held(held: ArrayLike | None, sizes: list[int], tokens: int, policy: str) -> HeldIds:
    """Held IDs that are given as codes; those of a table have been checked."""
    taken = np.zeros((0, tokens), dtype=np.int32) if held is None else np.asarray(held)
    if taken.ndim != 2 or taken.shape[1] != tokens:
        raise ValueError(
            f"held IDs must have {tokens} tokens for unique={policy!r}, got {list(taken.shape)}"
        )
    check_codes("held IDs", taken[:, : len(sizes)], sizes)
    suffixes = [int(column.max(initial=0)) + 1 for column in taken.T[len(sizes) :]]
    return HeldIds(taken.astype(np.int32, copy=False), [*sizes, *suffixes])
