"""Distinct codes within each group of rows, none of them taken, at the least total distance.

    minimise Σ_i c_{i,a(i)},   c_ik = ‖x_i − e_k‖²,   a one to one

by shortest augmenting paths (Jonker and Volgenant 1987). With a price v_k ≤ 0 per code, 0 while it
is free, and u_i = c_{i,a(i)} − v_{a(i)} for a matched row, c_ik − u_i − v_k ≥ 0 holds for all i and
k; then the matched rows are matched at the least total cost. To start with, all prices are 0, and
each row whose nearest code is free and wanted by none before it has that code.

Rows are added in canonical order: by their elements, equal rows by rank. Of codes reached at the
same length the lowest comes first. Equal rows stand for each other: a path that has come to one has
come to all, and at the end the nearest of their codes goes to the first.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from ..refusals import NO_ROOM, check_groups
from .groups import Floats, Integers, canonical_order, classes, squared_distances


def distinct_codes(
    x: Tensor,
    codebook: Tensor,
    starts: Tensor,
    home: Tensor,
    rank: Tensor,
    taken: Tensor,
    taken_starts: Tensor,
) -> Tensor:
    """Distinct codes within each group, none of them taken there, at the least Σ ‖x_i − e‖².

    Group g is the rows starts[g] … starts[g + 1] − 1, its taken codes those of `taken` between
    taken_starts[g] and [g + 1]; it has no more rows than codes that aren't taken. home: each
    row's nearest code; rank settles which of equal rows comes first.
    x [R, D], codebook [K, D] float32, contiguous; starts [G + 1], home and rank [R], taken [T],
    taken_starts [G + 1] int64 -> codes [R] int64
    """
    check_groups(x, codebook, starts, home, taken, taken_starts)
    codes = np.empty(len(home), dtype=np.int64)
    bounds, taken_bounds = starts.tolist(), taken_starts.tolist()
    words = codebook.numpy()
    for group, (begin, end) in enumerate(pairwise(bounds)):
        rows = x[begin:end].numpy()
        order = canonical_order(rows, rank[begin:end].numpy())
        mine = taken[taken_bounds[group] : taken_bounds[group + 1]].numpy()
        codes[begin + order] = _Matching(
            rows[order], words, home[begin:end].numpy()[order], mine
        ).codes()
    return torch.from_numpy(codes)


_FREE = -1


class _Matching:
    """One group. rows [n, D] in canonical order, words [K, D], home [n], taken [T]"""

    def __init__(self, rows: Floats, words: Floats, home: Integers, taken: Integers) -> None:
        self.rows, self.words, self.home = rows, words, home
        self.class_of = classes(rows)
        self.usable = np.ones(len(words), dtype=bool)
        self.usable[taken] = False
        self.owner = np.full(len(words), _FREE)
        self.match = np.full(len(rows), _FREE)
        self.price = np.zeros(len(words))

    def codes(self) -> Integers:
        """The code of each row."""
        if len(self.rows) > self.usable.sum():
            raise ValueError(NO_ROOM)
        for row, code in enumerate(self.home):
            if self.usable[code] and self.owner[code] == _FREE:
                self.owner[code], self.match[row] = row, code
        for row in np.flatnonzero(self.match == _FREE).tolist():
            self._augment(row)
        for first in np.unique(self.class_of):
            equal = self.class_of == first
            codes = np.sort(self.match[equal])
            distance = squared_distances(self.rows[first], self.words)[codes]
            self.match[equal] = codes[np.argsort(distance, kind="stable")]
        return self.match

    def _augment(self, start: int) -> None:
        reach = np.full(len(self.words), np.inf)
        through = np.full(len(self.words), _FREE)
        open_ = self.usable.copy()
        floor, row = 0.0, start
        while True:
            distance = squared_distances(self.rows[row], self.words)
            own = self.match[row]
            base = 0.0 if own == _FREE else distance[own] - self.price[own]
            length = np.maximum(floor + ((distance - self.price) - base), floor)
            shorter = self.usable & (length < reach)
            reach[shorter], through[shorter] = length[shorter], row
            equals = self.match[self.class_of == self.class_of[row]]
            open_[equals[equals != _FREE]] = False
            end = int(np.where(open_, reach, np.inf).argmin())
            floor, row = float(reach[end]), int(self.owner[end])
            if row == _FREE:
                break
        nearer = (self.owner != _FREE) & (reach < floor)
        self.price[nearer] -= floor - reach[nearer]
        while end != _FREE:
            row = int(through[end])
            self.owner[end] = row
            end, self.match[row] = int(self.match[row]), end
