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

from .groups import Codes, Groups, Numbers, joined, number, ranges, rows_under
from .held import ascending, is_packable, repeated
from .items import Items


def unique_codes(items: Items, ids: Numbers) -> Codes:
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


def _relieve(items: Items, codes: Codes, level: int, ids: Numbers) -> bool:
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


def _separate(items: Items, codes: Codes, ids: Numbers) -> None:
    """Distinct last codes wherever IDs collide, and held IDs don't; writes `codes`."""
    level, last = len(items.sizes) - 1, items.codebooks[-1]
    crowded = np.unique(repeated(_numbers_of_prefixes(items, codes, level, ids)[0]) // len(last))
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
            torch.from_numpy(old.rows),
            torch.from_numpy(old.starts),
        )
        codes[new.rows, level] = found.numpy()


def _twice(items: Items) -> Numbers:
    """The held IDs that come more than once."""
    if is_packable(items.sizes):
        return repeated(items.held.numbers)
    return repeated(np.sort(number(items.held.codes, items.sizes)))


def _numbers_of_prefixes(
    items: Items, codes: Codes, level: int, ids: Numbers
) -> tuple[Numbers, int]:
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


def _members(items: Items, codes: Codes, level: int, chosen: Numbers) -> tuple[Groups, Groups]:
    """The items of each chosen prefix before `level`, and the codes there that held IDs have."""
    size, held = items.sizes[level], items.held
    if is_packable(items.sizes):
        below = prod(items.sizes[level + 1 :])
        first = chosen * (size * below)
        begins = np.searchsorted(held.numbers, first)
        ends = np.searchsorted(held.numbers, first + (size * below - 1), "right")
        taken = ranges(begins, ends)
        prefixes = number(codes[:, :level], items.sizes[:level])
        return rows_under(prefixes, chosen), Groups(
            held.numbers[taken.rows] // below % size, taken.starts
        )
    prefixes = _prefixes(items, codes, level)
    taken = rows_under(prefixes[len(codes) :], chosen)
    return rows_under(prefixes[: len(codes)], chosen), Groups(
        held.codes[taken.rows, level].astype(np.int64), taken.starts
    )
