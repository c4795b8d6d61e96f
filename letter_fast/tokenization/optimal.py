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
    ids = _in_order(items, codes)
    for level in range(len(items.sizes) - 1):
        if _relieve(items, codes, level, ids):
            ids = _in_order(items, codes)
    _separate(items, codes, ids)
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


def _relieve(items: Items, codes: Codes, level: int, ids: Numbers) -> bool:
    """Moves items at this level until no code has more than IDs below it; writes `codes`.

    ids [N + M]: as `_in_order` has them. -> whether any moved
    """
    room = prod(items.sizes[level + 1 :])
    if room >= len(ids):
        return False
    nodes = _nodes(items, codes, level, ids)
    overfull = np.unique(nodes[:-room][nodes[:-room] == nodes[room:]] // items.sizes[level])
    del nodes
    if len(overfull) == 0:
        return False
    mine, taken = _members(items, codes, level, overfull)
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
    return len(moved) > 0


def _separate(items: Items, codes: Codes, ids: Numbers) -> None:
    """Distinct last codes wherever IDs collide, and held IDs don't; writes `codes`."""
    level, last = len(items.sizes) - 1, items.codebooks[-1]
    nodes = _nodes(items, codes, level, ids)
    crowded = np.unique(nodes[1:][nodes[1:] == nodes[:-1]] // len(last))
    del nodes
    if len(crowded) == 0:
        return
    mine, taken = _members(items, codes, level, crowded)
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


def _in_order(items: Items, codes: Codes) -> Numbers:
    """The numbers of all IDs, the items' own and the held ones, ascending."""
    ids = number(joined(codes, items.held), items.sizes)
    ids.sort()
    return ids


def _nodes(items: Items, codes: Codes, level: int, ids: Numbers) -> Numbers:
    """The numbers of all prefixes up to `level`, ascending; that of its part before is // size."""
    if prod(items.sizes) <= 2**63:  # digits, of which the last ones are left out
        return ids // prod(items.sizes[level + 1 :])
    size = items.sizes[level]
    nodes = _prefixes(items, codes, level) * size
    nodes += joined(codes[:, level], items.held[:, level])
    nodes.sort()
    return nodes


def _prefixes(items: Items, codes: Codes, level: int) -> Numbers:
    """The numbers of all prefixes before `level`: the items' own, then those of held IDs."""
    everyone = joined(codes[:, :level], items.held[:, :level])
    return number(everyone, items.sizes[:level], below=items.sizes[level])


def _members(items: Items, codes: Codes, level: int, chosen: Numbers) -> tuple[Groups, Groups]:
    """The items, and the held IDs, of each chosen prefix before `level`."""
    prefixes = _prefixes(items, codes, level)
    return rows_under(prefixes[: len(codes)], chosen), rows_under(prefixes[len(codes) :], chosen)
