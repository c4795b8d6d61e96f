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
from numpy.typing import NDArray

from letter_fast import ops

from .groups import Codes, Groups, Numbers, joined, number, ranges, rows_under, rows_with
from .held import Packed, ascending, is_packable, packed, repeated
from .items import Items


def unique_codes(items: Items, ids: Packed) -> Codes:
    """Codes [N, L] that differ from each other and from all that are held.

    ids [N + M]: `ascending` of items and held IDs.
    Raises:
        ValueError: there are more items than IDs, or the held IDs collide.
    """
    _check_room(items)
    codes = items.codes.copy()
    for level in range(len(items.sizes) - 1):
        if _relieve(items, codes, level, ids):
            ids = ascending(codes, items.held, items.sizes)
    _separate(items, codes, ids)
    return codes


def _check_room(items: Items) -> None:
    sizes, wanted = items.sizes, len(items.codes) + len(items.held)
    if wanted > prod(sizes):
        raise ValueError(
            f"{wanted} items can't have unique IDs: codebooks of {sizes} make only {prod(sizes)}; "
            "use larger codebooks or one more level"
        )
    if len(twice := _twice(items)):
        raise ValueError(
            f"{len(twice)} IDs that must stay as they are collide with each other: resolve the "
            'table they come from first, or use unique="suffix"'
        )


def _relieve(items: Items, codes: Codes, level: int, ids: Packed) -> bool:
    """Moves items at this level until no code has more than IDs below it; writes `codes`.

    ids [N + M]: `ascending` of codes and held IDs. -> whether any moved
    """
    room = prod(items.sizes[level + 1 :])
    if room >= len(ids):
        return False
    numbers, width = _numbers_of_prefixes(items, codes, level, ids)
    # Where more items are than IDs, some ID comes twice: no other prefix need be looked at.
    first = np.unique(repeated(numbers) // width) * width
    count = np.searchsorted(numbers, first + (width - 1), "right") - np.searchsorted(numbers, first)
    overfull = np.unique(first[count > room] // width // items.sizes[level])
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
        torch.from_numpy(taken.rows),
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


def _separate(items: Items, codes: Codes, ids: Packed) -> None:
    """Distinct last codes wherever IDs collide, and held IDs don't; writes `codes`."""
    level, last = len(items.sizes) - 1, items.codebooks[-1]
    shared = repeated(_numbers_of_prefixes(items, codes, level, ids)[0])
    crowded = np.unique(shared // len(last))
    if len(crowded) == 0:
        return
    mine, taken = _members(items, codes, level, crowded)
    if items.are_nearest and is_packable(items.sizes):
        met = _separate_sharers(items, codes, mine, taken, shared)
        mine, taken = mine.those(met), taken.those(met)
    for part in mine.parts(items.together):
        codes[mine.part(part).rows, level] = _distinct(
            items, codes, mine.part(part), taken.part(part)
        )


def _separate_sharers(
    items: Items, codes: Codes, mine: Groups, taken: Groups, shared: Packed
) -> NDArray[np.bool_]:
    """Distinct last codes for the items whose ID another has, as if no others were in their prefix.

    Only their latents are read. Each path of `distinct_codes` starts at one of them and ends at a
    code that is free, which never becomes free again. An item that is alone with its ID lies on its
    nearest code; a path that comes to that code ends there if the item is left out. So if none of
    these codes has been given away, no path has come to one, and all went as they would have gone.

    mine, taken: the items of each prefix, and the codes taken there; shared: IDs that several have.
    -> [G] prefixes where one has been given away; the items there have the codes they had.
    """
    level, last = len(items.sizes) - 1, len(items.codebooks[-1])
    ids = packed(codes[mine.rows], items.sizes)
    shares = shared[np.minimum(np.searchsorted(shared, ids), len(shared) - 1)] == ids
    sharers, others = mine.only(shares), mine.only(~shares)
    met = np.zeros(len(mine.starts) - 1, dtype=bool)
    for part in sharers.parts(items.together):
        some, beside = sharers.part(part), others.part(part)
        found, group = _distinct(items, codes, some, taken.part(part)), some.of_rows()
        theirs = beside.of_rows() * last + codes[beside.rows, level]
        here = met[part]
        here[group[np.isin(group * last + found, theirs)]] = True
        apart = ~here[group]
        codes[some.rows[apart], level] = found[apart]
    return met


def _distinct(items: Items, codes: Codes, new: Groups, old: Groups) -> Numbers:
    """Distinct last codes of the items of each prefix, of those that aren't taken. -> [R]"""
    level, last = len(items.sizes) - 1, items.codebooks[-1]
    residuals = items.residuals(new.rows, codes[new.rows, :level])
    found = ops.distinct_codes(
        residuals,
        last,
        torch.from_numpy(new.starts),
        ops.nearest(residuals, last, None)[0],
        torch.from_numpy(items.rank_of(new.rows)),
        torch.from_numpy(old.rows),
        torch.from_numpy(old.starts),
    )
    return np.asarray(found.numpy(), dtype=np.int64)


def _twice(items: Items) -> Packed:
    """The held IDs that come more than once."""
    if is_packable(items.sizes):
        return repeated(items.held.numbers)
    return repeated(np.sort(number(items.held.codes, items.sizes)))


def _numbers_of_prefixes(items: Items, codes: Codes, level: int, ids: Packed) -> tuple[Packed, int]:
    """Numbers of all IDs, ascending, and how many of them an ID's prefix up to `level` has.

    The number of a prefix before `level` is // that // the size of the level.
    """
    if is_packable(items.sizes):  # digits, of which the last ones are of no interest
        return ids, prod(items.sizes[level + 1 :])
    numbers = _prefixes(items, codes, level) * items.sizes[level]
    numbers += joined(codes[:, level], items.held.codes[:, level])
    numbers.sort()
    return numbers, 1


def _prefixes(items: Items, codes: Codes, level: int) -> Numbers:
    """The numbers of all prefixes before `level`: the items' own, then those of held IDs."""
    everyone = joined(codes[:, :level], items.held.codes[:, :level])
    return number(everyone, items.sizes[:level], below=items.sizes[level])


def _members(items: Items, codes: Codes, level: int, chosen: Packed) -> tuple[Groups, Groups]:
    """The items of each chosen prefix before `level`, and the codes there that held IDs have."""
    size, held, chosen = items.sizes[level], items.held, chosen.astype(np.int64)
    if is_packable(items.sizes):
        below = prod(items.sizes[level + 1 :])
        ids, first = held.numbers, chosen * (size * below)
        last = first + (size * below - 1)
        # Of one type: numbers of another would be compared with a copy of all that are held.
        begins = np.searchsorted(ids, first.astype(ids.dtype))
        ends = np.searchsorted(ids, last.astype(ids.dtype), "right")
        taken = ranges(begins, ends)
        return rows_with(codes[:, :level], items.sizes[:level], chosen), Groups(
            ids[taken.rows].astype(np.int64) // below % size, taken.starts
        )
    prefixes = _prefixes(items, codes, level)
    taken = rows_under(prefixes[len(codes) :], chosen)
    return rows_under(prefixes[: len(codes)], chosen), Groups(
        held.codes[taken.rows, level].astype(np.int64), taken.starts
    )
