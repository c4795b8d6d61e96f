"""Codes with more rows than room give rows away, the cheapest move first.

In a group, code k has room for `capacity` rows less its taken places. While some code holds more
rows than that, of all moves of a row from such a code to one with room, that of least

    ‖x − e_to‖² − ‖x − e_from‖²

is made; of equal ones, that of the row first by code, content and rank, to the lowest code. Among
equal rows of a code the last in rank goes first.
"""

from __future__ import annotations

import heapq
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from ..refusals import check_groups
from .groups import Floats, Integers, canonical_order, classes, squared_distances


def evict_codes(
    x: Tensor,
    codebook: Tensor,
    starts: Tensor,
    home: Tensor,
    rank: Tensor,
    taken: Tensor,
    taken_starts: Tensor,
    capacity: int,
) -> Tensor:
    """In each group, codes that hold more rows than they have room for give rows away.

    A code has room for `capacity` rows less how often it is taken; the cheapest moves are made
    first. Arguments as for `distinct_codes`, home: any codes -> codes [R] int64
    """
    check_groups(x, codebook, starts, home, taken, taken_starts)
    codes = home.clone().numpy()
    bounds, taken_bounds = starts.tolist(), taken_starts.tolist()
    for group, (begin, end) in enumerate(pairwise(bounds)):
        mine = taken[taken_bounds[group] : taken_bounds[group + 1]].numpy()
        room = capacity - np.bincount(mine, minlength=len(codebook))
        rows, own = x[begin:end].numpy(), codes[begin:end]
        order = canonical_order(rows, rank[begin:end].numpy())
        order = order[np.argsort(own[order], kind="stable")]
        own[order] = _spilled(rows[order], codebook.numpy(), own[order], room)
    return torch.from_numpy(codes)


def _spilled(rows: Floats, words: Floats, codes: Integers, room: Integers) -> Integers:
    """The group's codes. rows [n, D] by code, then canonical; room [K] before anyone moves in."""
    codes = codes.copy()
    room = room - np.bincount(codes, minlength=len(words))
    # Equal rows of one code stand together: members of a class, of which the last goes first.
    split = classes(np.column_stack([rows, codes]))
    left = np.bincount(split, minlength=len(rows))

    def best_move(first: int) -> tuple[float, int, int]:
        distance = squared_distances(rows[first], words)
        to = int(np.where(room > 0, distance, np.inf).argmin())
        return float(distance[to] - distance[codes[first]]), first, to

    over = np.unique(split[room[codes] < 0]).tolist()
    moves = [best_move(first) for first in over] if (room > 0).any() else []
    heapq.heapify(moves)
    while moves:
        _, first, to = heapq.heappop(moves)
        own = codes[first]
        if room[own] >= 0:
            continue
        if room[to] > 0:
            left[first] -= 1
            codes[first + left[first]] = to
            room[own] += 1
            room[to] -= 1
        if left[first] and (room > 0).any():
            heapq.heappush(moves, best_move(first))
    return codes
