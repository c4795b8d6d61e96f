"""The rows of an epoch: in which order, and how they come from a file into the model's memory."""

from __future__ import annotations

import math
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from letter_fast.catalog import Embeddings
from letter_fast.model import Share

from .randomness import permutation
from .ranks import Ranks

# Sizes as float32. A catalog up to the first is held whole; of a larger one, windows of the second,
# made of blocks of the third: long enough for a disk, and 256 of them mix a window well.
_WHOLE_BYTES = 1 << 30
_WINDOW_BYTES = 1 << 28
_BLOCK_BYTES = 1 << 20


class Batch(NamedTuple):
    """s [b, S]: this process's rows, the `share` of a batch of B.

    h [B, H]: the collaborative embeddings of the whole batch, or None; has_cf [B] bool: which of
    them hold something (None: all).
    """

    s: Tensor
    h: Tensor | None
    share: Share
    has_cf: Tensor | None = None


class _Rows(NamedTuple):
    """Rows in memory, and the order in which they are trained on: table[order]."""

    table: Tensor
    order: Tensor

    def pinned(self) -> _Rows:
        return _Rows(self.table.pin_memory(), self.order.pin_memory())

    def to(self, device: torch.device) -> _Rows:
        return _Rows(*(part.to(device, non_blocking=True) for part in self))

    def cut(self, begin: int, stop: int) -> Tensor:
        return self.table.index_select(0, self.order[begin:stop])


class _Window(NamedTuple):
    """`rows` rows to train on: s of this process's, h of all."""

    rows: int
    s: _Rows
    h: _Rows | None


class Batches:
    """All rows of the catalog in batches, epoch after epoch, each in an order of its own.

    A catalog of at most 1 GiB (rows × width × 4 bytes) is read once and stays in the model's
    memory; an epoch is a permutation of its rows. Of a larger one, blocks of 1 MiB are put in
    random order and cut into windows of 256 MiB, and the rows of each window are permuted: a row
    shares its batches with those of some 256 random blocks. A process holds one window (its own
    rows of it) while a thread reads the next.

    The order is a function of seed and epoch, given the catalog's shape and the batch size: the
    same for every file format, device and number of processes.

    least: rows of the smallest batch; what would be a smaller one, at an epoch's end, joins the
        batch before it.
    gaps: whether rows of `targets` are zeros, which stand for no CF.
    """

    def __init__(
        self,
        catalog: Embeddings,
        targets: Embeddings | None,
        size: int,
        seed: int,
        ranks: Ranks,
        least: int = 1,
        gaps: bool = False,
    ) -> None:
        self._catalog, self._targets, self._gaps = catalog, targets, gaps
        self._size, self._seed, self._ranks, self._least = size, seed, ranks, least
        self.steps = len(_starts(catalog.rows, size, least))
        self._whole: tuple[Tensor, Tensor | None] | None = None
        if catalog.rows * catalog.width * 4 <= _WHOLE_BYTES:
            h = None if targets is None else targets.read(ranks.device)
            self._whole = catalog.read(ranks.device), h

    def epoch(self, epoch: int) -> Iterator[Batch]:
        """The batches of one epoch."""
        catalog = self._catalog
        orders = epoch_order(
            catalog.rows, catalog.width, self._size, self._seed, epoch, self._least
        )
        with ThreadPoolExecutor(1) as reader:
            ahead = reader.submit(self._read, next(orders))
            for order in orders:
                window = ahead.result()
                ahead = reader.submit(self._read, order)
                yield from self._cut(window)
            yield from self._cut(ahead.result())

    def _read(self, order: NDArray[np.int64]) -> _Window:
        """The window of these rows of the catalog."""
        ranks, size = self._ranks, self._size
        own = order
        if ranks.size > 1:
            batches = np.split(order, _starts(len(order), size, self._least)[1:])
            own = np.concatenate([rows[ranks.own(len(rows))] for rows in batches])
        if self._whole is not None:
            s, h = self._whole
            every = None if h is None else _Rows(h, torch.from_numpy(order))
            return _Window(len(order), _Rows(s, torch.from_numpy(own)), every)
        mine = _fetch(self._catalog, own)
        every = None if self._targets is None else _fetch(self._targets, order)
        if ranks.device.type == "cuda":  # copies beside the computation start from pinned memory
            mine, every = mine.pinned(), every and every.pinned()
        return _Window(len(order), mine, every)

    def _cut(self, window: _Window) -> Iterator[Batch]:
        """The batches of a window."""
        device = self._ranks.device
        s, h = window.s.to(device), window.h and window.h.to(device)
        done = 0
        starts = _starts(window.rows, self._size, self._least)
        for begin, end in pairwise([*starts, window.rows]):
            rows = end - begin
            own = self._ranks.own(rows)
            stop = done + own.stop - own.start
            part = None if h is None else h.cut(begin, begin + rows)
            has_cf = part.any(dim=1) if part is not None and self._gaps else None
            yield Batch(s.cut(done, stop), part, self._ranks.share(rows), has_cf)
            done = stop


def _starts(rows: int, size: int, least: int) -> list[int]:
    """First rows of batches (or windows) of `size`; the last has `least` rows or more, or all."""
    starts = list(range(0, rows, size))
    return starts[:-1] if len(starts) > 1 and rows - starts[-1] < least else starts


def epoch_order(
    rows: int, width: int, batch_size: int, seed: int, epoch: int, least: int = 1
) -> Iterator[NDArray[np.int64]]:
    """The rows of an epoch, a window at a time; all but the last hold a whole number of batches."""
    if rows * width * 4 <= _WHOLE_BYTES:
        yield permutation(rows, seed, "shuffle", epoch)
        return
    length = max(1, _BLOCK_BYTES // (width * 4))
    blocks = permutation(math.ceil(rows / length), seed, "blocks", epoch)
    ends = np.minimum(length, rows - blocks * length).cumsum()  # the file's last block is shorter
    window = max(1, _WINDOW_BYTES // (width * 4 * batch_size)) * batch_size
    starts = _starts(rows, window, least)
    for number, (start, stop) in enumerate(pairwise([*starts, rows])):
        first, last = np.searchsorted(ends, [start, stop - 1], side="right")
        found = (blocks[first : last + 1, None] * length + np.arange(length)).reshape(-1)
        found = found[found < rows]
        found = found[len(found) - (ends[last] - start) :][: stop - start]
        yield found[permutation(len(found), seed, "window", epoch, number)]


def _fetch(source: Embeddings, rows: NDArray[np.int64]) -> _Rows:
    """Chosen rows, read in the order of the file."""
    ascending = rows.argsort()
    place = np.empty_like(ascending)
    place[ascending] = np.arange(len(rows))
    return _Rows(torch.from_numpy(source.take(rows[ascending])), torch.from_numpy(place))
