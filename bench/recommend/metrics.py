"""Recall and NDCG of one relevant item, and whether two kinds of IDs differ by more than noise."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

CUTS = (5, 10)
NAMES = tuple(f"{name}@{cut}" for name in ("recall", "ndcg") for cut in CUTS)


def gains(ranks: NDArray[np.int64], name: str) -> NDArray[np.float64]:
    """The value of each case, whose mean is the metric. ranks [M] from 0 -> [M]"""
    kind, cut = name.split("@")
    hit = ranks < int(cut)
    if kind == "recall":
        return hit.astype(np.float64)
    return np.where(hit, 1.0 / np.log2(ranks + 2.0), 0.0)


def summary(ranks: NDArray[np.int64]) -> dict[str, float]:
    """All metrics, of all cases."""
    return {name: round(float(gains(ranks, name).mean()), 5) for name in NAMES}


class Difference(NamedTuple):
    """Mean of one less mean of the other, and the interval that holds it in 95 % of draws."""

    mean: float
    low: float
    high: float


def compare(
    ours: Sequence[NDArray[np.int64]], other: Sequence[NDArray[np.int64]], name: str,
    draws: int = 2000,
) -> Difference:  # fmt: skip
    """Paired over the test cases: a bootstrap that draws cases and, apart for each kind, seeds.

    ours, other: ranks [M] of each seed; the cases are the same. With few seeds the interval is
    narrower than it should be: three say little about how seeds vary.
    """
    ours_gains, other_gains = (
        np.stack([gains(ranks, name) for ranks in runs]) for runs in (ours, other)
    )
    draw = np.random.default_rng(0)
    cases = ours_gains.shape[1]
    found = np.empty(draws)
    for number in range(draws):
        # How often each case is drawn: one product instead of a copy of all cases.
        weight = np.bincount(draw.integers(cases, size=cases), minlength=cases) / cases
        a, b = (
            (runs @ weight)[draw.integers(len(runs), size=len(runs))].mean()
            for runs in (ours_gains, other_gains)
        )
        found[number] = a - b
    low, high = np.quantile(found, [0.025, 0.975])
    mean = ours_gains.mean() - other_gains.mean()
    return Difference(float(mean), float(low), float(high))


def to_hits(ranks: NDArray[np.int64]) -> dict[str, Any]:
    """Ranks as JSON holds them: the cases that were hit within the largest cut."""
    cases = np.flatnonzero(ranks < max(CUTS))
    return {"cases": len(ranks), "hit": cases.tolist(), "rank": ranks[cases].tolist()}


def from_hits(hits: dict[str, Any]) -> NDArray[np.int64]:
    """The inverse of `to_hits`; misses get the largest cut."""
    ranks = np.full(hits["cases"], max(CUTS), dtype=np.int64)
    ranks[hits["hit"]] = hits["rank"]
    return ranks
