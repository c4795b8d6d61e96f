"""LETTER's way: items that share an ID are encoded anew at the last level by Sinkhorn.

As in its public code, each group of colliding items is a Sinkhorn batch of its own, at ε = 0.003
and 50 sweeps, and what collides then is tried again, up to 20 rounds. Collisions may be left: equal
items, for one, never part. An ID that an earlier item holds takes part as a row that lies on its
codeword.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from letter_fast.clustering import sinkhorn_codes

from .groups import Codes, Groups, Numbers, joined, number, rows_under, shared
from .items import Items

_ROUNDS = 20
_EPSILON, _SWEEPS = 0.003, 50


class Rounds(NamedTuple):
    """codes [N, L], and how many rounds there were."""

    codes: Codes
    rounds: int


def sinkhorn_rounds(items: Items) -> Rounds:
    """Codes after as many rounds as it takes, or 20."""
    codes, last = items.codes.copy(), items.codebooks[-1]
    everyone = joined(codes, items.held.codes)
    prefixes = number(everyone[:, :-1], items.sizes[:-1], below=len(last))
    ids = prefixes * len(last) + everyone[:, -1]
    # A new last code leaves the prefix as it is: only rows of these prefixes can ever collide.
    crowded = np.unique(shared(ids[: len(codes)], ids[len(codes) :]) // len(last))
    affected = rows_under(prefixes, crowded).rows
    affected = affected[np.argsort(affected >= len(codes), kind="stable")]
    mine = affected[affected < len(codes)]
    prefixes, code = prefixes[affected], everyone[affected, -1]
    rank = np.concatenate([items.rank_of(mine), np.full(len(affected) - len(mine), -1)])
    on_codewords = last[torch.from_numpy(code[len(mine) :]).long()]
    residuals = torch.cat([items.residuals(mine, codes[mine, :-1]), on_codewords])

    for rounds in range(_ROUNDS + 1):
        ids = prefixes * len(last) + code
        groups = rows_under(ids, shared(ids[: len(mine)].copy(), ids[len(mine) :]))
        if len(groups.rows) == 0 or rounds == _ROUNDS:
            break
        rows = _in_canonical_order(groups, residuals, rank)
        chosen = sinkhorn_codes(
            residuals[torch.from_numpy(rows)],
            last,
            _EPSILON,
            _SWEEPS,
            torch.from_numpy(groups.starts),
        ).numpy()
        free = rows < len(mine)
        code[rows[free]] = chosen[free]
    codes[mine, -1] = code[: len(mine)]
    return Rounds(codes, rounds)


def _in_canonical_order(groups: Groups, residuals: Tensor, rank: Numbers) -> Numbers:
    """Each group's rows by content, then rank: its sums can't depend on where they stand."""
    group = np.repeat(np.arange(len(groups.starts) - 1), np.diff(groups.starts))
    content = residuals[torch.from_numpy(groups.rows)].numpy().T[::-1]
    return groups.rows[np.lexsort([rank[groups.rows], *content, group])]
