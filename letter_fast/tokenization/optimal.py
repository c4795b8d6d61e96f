"""Unique IDs at the least added distortion, level by level.

From the first level to the last but one: no prefix may have more items than IDs below it. Where one
does, items move to the next codes beside it that have room, the cheapest move first (added distance
to the codeword of that level), and find their later codes anew. That is greedy: it makes no room by
moving an item on.

At the last level: within each prefix that has a collision, all items get distinct last codes, of
those no earlier item holds, at the least total distortion. That is exact, for the items a prefix
has by then. An item of a prefix without collision stays as it is.

So the result is the optimum of a single codebook, and of more where no prefix is over-full, among
all IDs that keep every item's prefix. Every ID is unique whatever the input: a level leaves no
prefix with more items than IDs, and the next shares them out.
"""

from __future__ import annotations

from math import prod

import numpy as np
import torch

from letter_fast import ops

from .groups import Codes, Groups, Numbers, joined, number, rows_under, shared
from .items import Items


def unique_codes(items: Items) -> Codes:
    """Codes [N, L] that differ from each other and from all that are held.

    Raises:
        ValueError: there are more items than IDs, or the held IDs collide.
    """
    _check_room(items)
    codes = items.codes.copy()
    for level in range(len(items.sizes) - 1):
        _relieve(items, codes, level)
    _separate(items, codes)
    return codes


def _check_room(items: Items) -> None:
    sizes, wanted = items.sizes, len(items.codes) + len(items.held)
    if wanted > prod(sizes):
        raise ValueError(
            f"{wanted} items can't have unique IDs: codebooks of {sizes} make only {prod(sizes)}; "
            "use larger codebooks or one more level"
        )
    twice = shared(number(items.held, sizes), np.zeros(0, dtype=np.int64))
    if len(twice):
        raise ValueError(
            f"{len(twice)} IDs that must stay as they are collide with each other: resolve the "
            'table they come from first, or use unique="suffix"'
        )


def _relieve(items: Items, codes: Codes, level: int) -> None:
    """Moves items at this level until no code has more than IDs below it; writes `codes`."""
    room = prod(items.sizes[level + 1 :])
    if room >= len(codes) + len(items.held):
        return
    prefixes, nodes = _numbers(items, codes, level)
    nodes.sort()
    overfull = np.unique(nodes[:-room][nodes[:-room] == nodes[room:]] // items.sizes[level])
    del nodes
    mine, taken = _members(prefixes, len(codes), overfull)
    if len(mine.rows) == 0:
        return
    residuals = items.residuals(mine.rows, codes[mine.rows, :level])
    before = codes[mine.rows, level].astype(np.int64)
    after = ops.evict_codes(
        residuals,
        items.codebooks[level],
        torch.from_numpy(mine.starts),
        torch.from_numpy(before),
        torch.from_numpy(items.rank_of(mine.rows)),
        torch.from_numpy(items.held[taken.rows, level]).long(),
        torch.from_numpy(taken.starts),
        room,
    )
    moved = np.flatnonzero(after.numpy() != before)
    code = after[torch.from_numpy(moved)]
    later = residuals[torch.from_numpy(moved)] - items.codebooks[level][code]
    below = slice(level + 1, None)
    found = ops.residual_search(
        later, torch.cat(items.codebooks[below]), items.sizes[below], None, False
    )
    codes[mine.rows[moved], level] = code.numpy()
    codes[mine.rows[moved], below] = found[0].numpy()


def _separate(items: Items, codes: Codes) -> None:
    """Distinct last codes wherever IDs collide; writes `codes`."""
    level, last = len(items.sizes) - 1, items.codebooks[-1]
    prefixes, ids = _numbers(items, codes, level)
    crowded = np.unique(shared(ids[: len(codes)], ids[len(codes) :]) // len(last))
    del ids
    mine, taken = _members(prefixes, len(codes), crowded)
    for part in mine.parts(items.at_once):
        new, old = mine.part(part), taken.part(part)
        residuals = items.residuals(new.rows, codes[new.rows, :level])
        found = ops.distinct_codes(
            residuals,
            last,
            torch.from_numpy(new.starts),
            ops.nearest(residuals, last, None)[0],
            torch.from_numpy(items.rank_of(new.rows)),
            torch.from_numpy(items.held[old.rows, level]).long(),
            torch.from_numpy(old.starts),
        )
        codes[new.rows, level] = found.numpy()


def _numbers(items: Items, codes: Codes, level: int) -> tuple[Numbers, Numbers]:
    """Of the prefixes before `level`, and with its code; the items' own, then those of held IDs."""
    size = items.sizes[level]
    everyone = joined(codes[:, : level + 1], items.held[:, : level + 1])
    prefixes = number(everyone[:, :level], items.sizes[:level], below=size)
    nodes = prefixes * size
    nodes += everyone[:, level]
    return prefixes, nodes


def _members(prefixes: Numbers, rows: int, chosen: Numbers) -> tuple[Groups, Groups]:
    """The items, and the held IDs, of each chosen prefix."""
    return rows_under(prefixes[:rows], chosen), rows_under(prefixes[rows:], chosen)
