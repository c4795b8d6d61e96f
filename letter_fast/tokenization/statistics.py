"""Rates of items that share their ID, by both of the field's definitions."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from .groups import number
from .held import Packed


@dataclass(frozen=True)
class CollisionStatistics:
    """collision_rate = 1 − distinct / items; colliding = share of items that share their ID."""

    items: int
    distinct: int
    collision_rate: float
    colliding: float
    largest_group: int


def collision_statistics(codes: ArrayLike) -> CollisionStatistics:
    """Both of the field's definitions, and the largest group. codes [N, T]

    Raises:
        ValueError: they are not integers of that shape.
    """
    codes = np.asarray(codes)
    if codes.shape[:1] != (0,) and (codes.ndim != 2 or not np.issubdtype(codes.dtype, np.integer)):
        raise ValueError(f"codes must be integers [N, T], got {codes.dtype} {list(codes.shape)}")
    if len(codes) == 0:
        return CollisionStatistics(0, 0, 0.0, 0.0, 0)
    lowest = np.minimum(codes.min(axis=0), 0)
    sizes = codes.max(axis=0).astype(np.int64) - lowest + 1
    ids = number(codes - lowest if lowest.any() else codes, sizes.tolist())
    ids.sort()
    return statistics_of(ids)


def statistics_of(ids: Packed) -> CollisionStatistics:
    """The same, of IDs as ascending numbers. [N]"""
    if len(ids) == 0:
        return CollisionStatistics(0, 0, 0.0, 0.0, 0)
    same = ids[1:] == ids[:-1]
    shared = np.append(same, False) | np.append(False, same)
    groups = np.unique(ids[shared], return_counts=True)[1]
    distinct = len(ids) - int(same.sum())
    return CollisionStatistics(
        len(ids),
        distinct,
        1.0 - distinct / len(ids),
        int(shared.sum()) / len(ids),
        int(groups.max(initial=1)),
    )
