"""The parts that the assignments within groups of rows share."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Integers = NDArray[np.int64]


def squared_distances(x: Floats, words: Floats) -> NDArray[np.float64]:
    """Σ_d (x_d − e_kd)² in float64, summed in the order of d. x [D], words [K, D] -> [K]"""
    total = np.zeros(len(words))
    for value, column in zip(x.astype(np.float64), words.T.astype(np.float64), strict=True):
        total += np.square(value - column)
    return total


def canonical_order(rows: Floats, rank: Integers) -> NDArray[Any]:
    """Rows by their elements, equal ones by rank: independent of where they stand."""
    return np.lexsort([rank, *rows.T[::-1]])


def classes(rows: Floats) -> Integers:
    """The first of the rows equal to each, which stand together. rows [n, D] -> [n]"""
    first = np.arange(len(rows))
    first[1:][(rows[1:] == rows[:-1]).all(axis=1)] = 0
    return np.maximum.accumulate(first)
