"""Two items with one ID can't both be named: four ways to deal with that.

none      keep collisions.
letter    LETTER's public rounds: every group of colliding items is encoded anew at its last level
          by Sinkhorn among themselves, up to 20 times; may leave some.
suffix    TIGER: one more token, the ordinal within the group.
optimal   within each group that shares a prefix, distinct last codes at least total distortion (an
          exact assignment). Where a group outnumbers the last codebook, those the assignment leaves
          over move to the nearest prefix with room, so that every ID is unique.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from letter_fast import validation
from letter_fast.clustering import sinkhorn_codes

Codes = NDArray[np.int64]

POLICIES = ("none", "letter", "suffix", "optimal")
_ROUNDS = 20
_EPSILON, _SWEEPS = 0.003, 50


@dataclass(frozen=True)
class CollisionStatistics:
    """collision_rate = 1 − distinct / items; colliding = share of items that share their ID."""

    items: int
    distinct: int
    collision_rate: float
    colliding: float
    largest_group: int


@dataclass(frozen=True)
class ResolutionReport:
    """What a policy changed. added_distortion: mean growth of ‖z − q‖² over all items."""

    policy: str
    before: CollisionStatistics
    after: CollisionStatistics
    moved: int
    added_distortion: float
    rounds: int

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


class Resolution(NamedTuple):
    """codes [N, L], or [N, L + 1] after "suffix"; sizes of their codebooks; the report."""

    codes: Codes
    sizes: list[int]
    report: ResolutionReport


def collision_statistics(codes: Codes) -> CollisionStatistics:
    """Both of the field's definitions, and the largest group. codes [N, T]"""
    if len(codes) == 0:
        return CollisionStatistics(0, 0, 0.0, 0.0, 0)
    _, counts = np.unique(codes, axis=0, return_counts=True)
    colliding = int(counts[counts > 1].sum())
    return CollisionStatistics(
        len(codes),
        len(counts),
        1.0 - len(counts) / len(codes),
        colliding / len(codes),
        int(counts.max()),
    )


def resolve(
    codes: Codes,
    latents: Tensor,
    codebooks: Sequence[Tensor],
    policy: str = "optimal",
    *,
    order: NDArray[np.int64] | None = None,
    fixed: NDArray[np.bool_] | None = None,
    reserved: Codes | None = None,
) -> Resolution:
    """Applies a policy.

    codes [N, L] int64 as encoded; latents [N, D]; codebooks L × [K_l, D].
    order [N]: rank of each item, which settles ties (say, by item id); None takes row order.
    fixed [N] ("optimal"): rows whose codes must stay as they are; reserved [M, L]: IDs not to use.
    Raises:
        ValueError: more items than there are IDs, or fixed rows that collide.
    """
    validation.choice(policy, POLICIES, "unique")
    tables = [table.detach().cpu().double().numpy() for table in codebooks]
    points = latents.detach().cpu().double().numpy()
    sizes = [len(table) for table in tables]
    rank = np.arange(len(codes)) if order is None else order
    before = collision_statistics(codes)
    result, rounds = codes.copy(), 0
    if policy == "letter":
        result, rounds = _letter_rounds(result, latents.detach().cpu(), codebooks)
    elif policy == "suffix":
        suffix = _ordinals(codes, rank)
        result = np.column_stack([codes, suffix])
        sizes = [*sizes, int(suffix.max(initial=0)) + 1]
    elif policy == "optimal":
        held = np.zeros(len(codes), dtype=bool) if fixed is None else fixed
        taken = np.zeros((0, len(sizes)), dtype=np.int64) if reserved is None else reserved
        result = _Assignment(result, points, tables, rank, held, taken).solve()
    levels = len(tables)
    moved = (result[:, :levels] != codes).any(axis=1)
    growth = _distortion(points[moved], tables, result[moved, :levels]) - _distortion(
        points[moved], tables, codes[moved]
    )
    after = collision_statistics(result)
    report = ResolutionReport(
        policy, before, after, int(moved.sum()), float(growth.sum()) / max(len(codes), 1), rounds
    )
    return Resolution(result, sizes, report)


def _quantized(tables: Sequence[NDArray[np.float64]], codes: Codes) -> NDArray[np.float64]:
    total = np.zeros((len(codes), tables[0].shape[1]))
    for level, table in enumerate(tables[: codes.shape[1]]):
        total += table[codes[:, level]]
    return total


def _distortion(
    points: NDArray[np.float64], tables: Sequence[NDArray[np.float64]], codes: Codes
) -> NDArray[np.float64]:
    squares: NDArray[np.float64] = np.square(points - _quantized(tables, codes)).sum(axis=1)
    return squares


def _groups(codes: Codes) -> list[NDArray[np.int64]]:
    """Rows that share all their codes, for every tuple that occurs more than once."""
    if len(codes) == 0 or codes.shape[1] == 0:
        return [np.arange(len(codes))] if len(codes) > 1 else []
    _, group, counts = np.unique(codes, axis=0, return_inverse=True, return_counts=True)
    rows = np.argsort(group.ravel(), kind="stable")
    ends = np.cumsum(counts)
    return [rows[end - count : end] for end, count in zip(ends, counts) if count > 1]


def _ordinals(codes: Codes, rank: NDArray[np.int64]) -> NDArray[np.int64]:
    suffix = np.zeros(len(codes), dtype=np.int64)
    for rows in _groups(codes):
        suffix[rows[np.argsort(rank[rows], kind="stable")]] = np.arange(len(rows))
    return suffix


def _letter_rounds(codes: Codes, latents: Tensor, codebooks: Sequence[Tensor]) -> tuple[Codes, int]:
    last = codebooks[-1].detach().cpu().float()
    residual = latents.float()
    for level, table in enumerate(codebooks[:-1]):
        residual = residual - table.detach().cpu().float()[torch.from_numpy(codes[:, level])]
    for done in range(_ROUNDS):
        groups = _groups(codes)
        if not groups:
            return codes, done
        for rows in groups:
            new = sinkhorn_codes(residual[torch.from_numpy(rows)], last, _EPSILON, _SWEEPS)
            codes[rows, -1] = new.numpy()
    return codes, _ROUNDS


class _Assignment:
    """The "optimal" policy: state while groups are settled one by one."""

    def __init__(
        self,
        codes: Codes,
        points: NDArray[np.float64],
        tables: Sequence[NDArray[np.float64]],
        rank: NDArray[np.int64],
        fixed: NDArray[np.bool_],
        reserved: Codes,
    ) -> None:
        self.codes, self.points, self.tables = codes, points, tables
        self.rank, self.fixed = rank, fixed
        sizes = [len(table) for table in tables]
        # IDs below a prefix of each length: ∏ of the sizes after it, as exact integers.
        self.room = [1]
        for size in reversed(sizes):
            self.room.insert(0, self.room[0] * size)
        self.held = np.concatenate([codes[fixed], reserved])
        if len(codes) - int(fixed.sum()) + len(self.held) > self.room[0]:
            raise ValueError(
                f"{len(codes)} items can't have unique IDs: codebooks of {sizes} make only "
                f"{self.room[0]}; use larger codebooks or one more level"
            )
        if len(np.unique(self.held, axis=0)) < len(self.held):
            raise ValueError("IDs that must stay as they are collide with each other")
        self.spilled: list[int] = []

    def solve(self) -> Codes:
        """Unique codes for all rows; fixed ones unchanged."""
        free = np.flatnonzero(~self.fixed)
        everything = np.concatenate([self.codes[free], self.held])
        crowded = np.zeros(len(everything), dtype=bool)
        for rows in _groups(everything):
            crowded[rows] = True
        for members in _groups(everything[:, :-1]):
            if crowded[members].any():
                mine = members < len(free)
                self._settle(free[members[mine]], everything[members[~mine]])
        if self.spilled:
            self._place_spilled()
        return self.codes

    def _settle(self, rows: NDArray[np.int64], held: Codes) -> None:
        """Distinct last codes for `rows`, which share a prefix; leftovers go to `spilled`."""
        if len(rows) == 0:
            return
        rows = self._canonical(rows)
        residual = self.points[rows] - _quantized(self.tables, self.codes[rows, :-1])
        last = self.tables[-1]
        columns = np.setdiff1d(np.arange(len(last)), held[:, -1])
        cost = (
            np.square(residual).sum(1)[:, None]
            + np.square(last[columns]).sum(1)
            - 2.0 * residual @ last[columns].T
        )
        chosen, place = linear_sum_assignment(cost)
        self.codes[rows[chosen], -1] = columns[place]
        self.spilled += np.delete(rows, chosen).tolist()

    def _canonical(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """`rows` in an order that depends on the items, not on where they stand in the file."""
        keys = [self.rank[rows], *self.points[rows].T[::-1]]
        return rows[np.lexsort(keys)]

    def _place_spilled(self) -> None:
        """Gives each leftover the nearest free ID, level by level, leaving full prefixes out."""
        levels = len(self.tables)
        gone = np.zeros(len(self.codes), dtype=bool)
        gone[self.spilled] = True
        settled = np.concatenate([self.codes[~gone & ~self.fixed], self.held]).tolist()
        used: dict[tuple[int, ...], int] = {}
        for code in settled:
            for depth in range(levels + 1):
                key = tuple(code[:depth])
                used[key] = used.get(key, 0) + 1
        for row in self._canonical(np.array(self.spilled)).tolist():
            path = self.codes[row, :-1].tolist()
            # The longest part of the item's own prefix that still has room below it.
            while used.get(tuple(path), 0) >= self.room[len(path)]:
                path.pop()
            residual = (
                self.points[row] - _quantized(self.tables, np.array([path], dtype=np.int64))[0]
            )
            for depth in range(len(path), levels):
                table = self.tables[depth]
                for code in np.argsort(np.square(residual - table).sum(1), kind="stable").tolist():
                    if used.get((*path, code), 0) < self.room[depth + 1]:
                        break
                path.append(code)
                residual = residual - table[code]
            self.codes[row] = path
            for depth in range(levels + 1):
                key = tuple(path[:depth])
                used[key] = used.get(key, 0) + 1
