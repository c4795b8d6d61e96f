"""Recommenders without IDs: the most popular items, and those had together with the last one."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from .data import Cases, Dataset
from .metrics import CUTS


def ranks(dataset: Dataset, name: str, cases: Cases) -> NDArray[np.int64]:
    """The place of each target, from 0, if items are ordered by `name`; beyond the cuts: the cut.

    popularity: by interactions in training. co-occurrence: by users who had the item and the last
    one of the history, then by popularity. Equal items: the first row first. -> [M]
    """
    seen = np.concatenate([np.asarray(s, dtype=np.int64) for s in dataset.sequences])
    popular = np.bincount(seen, minlength=dataset.items) / (len(seen) + 1.0)  # below 1 each
    if name == "popularity":
        order = np.argsort(-popular, kind="stable")
        place = np.empty(dataset.items, dtype=np.int64)
        place[order] = np.arange(dataset.items)
        return np.minimum(place[cases.targets], max(CUTS))
    together = _together(dataset)
    found = np.empty(len(cases.targets), dtype=np.int64)
    for row, (history, target) in enumerate(zip(cases.histories, cases.targets)):
        score = together[[history[-1]]].toarray()[0] + popular
        score[history[-1]] = popular[history[-1]]  # with itself says nothing
        better = score > score[target]
        equal = np.flatnonzero(score == score[target])
        found[row] = better.sum() + np.searchsorted(equal, target)
    return np.minimum(found, max(CUTS))


def _together(dataset: Dataset) -> sparse.csr_matrix:
    """The number of users who had both items. [N, N]"""
    pairs = [(user, item) for user, s in enumerate(dataset.sequences) for item in set(s)]
    users, items = np.array(pairs).T
    shape = (len(dataset.sequences), dataset.items)
    had = sparse.csr_matrix((np.ones(len(users)), (users, items)), shape=shape)
    return (had.T @ had).tocsr()
