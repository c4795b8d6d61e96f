"""TIGER's way: one more token, the ordinal of an item among those that share its codes.

Every row has the token. It is 0 for an item that shares its codes with none and for the first of
those that do; to have the token only where it is needed, leave out the zeros.
"""

from __future__ import annotations

import numpy as np

from .groups import Numbers, joined, number
from .items import Items


def ordinals(items: Items) -> Numbers:
    """The last token of each item: those that are free, in order of rank. -> [N]

    Held IDs have their ordinals in the last column.
    """
    rows, held = len(items.codes), items.held.codes
    everyone = joined(items.codes, held[:, :-1])
    _, ids = np.unique(number(everyone, items.sizes), return_inverse=True)
    mine, theirs = ids[:rows], ids[rows:]

    # The k-th item of an ID, counted from 0, takes the k-th free ordinal.
    order = np.lexsort((items.rank_of(np.arange(rows)), mine))
    k = np.empty(rows, dtype=np.int64)
    k[order] = np.arange(rows) - np.searchsorted(mine[order], mine[order])

    # With the held ordinals h_0 < h_1 < … of the ID, h_t − t free ones lie below h_t: the k-th free
    # one is k + the number of t with h_t − t ≤ k.
    order = np.lexsort((held[:, -1], theirs))
    theirs = theirs[order]
    t = np.arange(len(theirs)) - np.searchsorted(theirs, theirs)
    free_below = np.minimum(held[order, -1] - t, rows)
    steps = theirs * (rows + 1) + free_below
    begin = np.searchsorted(theirs, mine)
    return k + np.searchsorted(steps, mine * (rows + 1) + k, side="right") - begin
