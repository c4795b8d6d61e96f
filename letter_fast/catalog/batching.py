"""Batches: cut anew to one size, and read ahead of their use."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import numpy as np

from .embeddings import Floats

Item = TypeVar("Item")

# Read but not yet used: one for each side of the hand-over.
_AHEAD = 2


def in_batches(pieces: Iterable[Floats], size: int) -> Iterator[Floats]:
    """The same rows, `size` at a time; the last batch may be shorter. pieces: [n, S] each"""
    pending: list[Floats] = []
    held = 0
    for piece in pieces:
        pending.append(piece)
        held += len(piece)
        while held >= size:
            joined = pending[0] if len(pending) == 1 else np.concatenate(pending)
            yield joined[:size]
            pending = [joined[size:]]
            held -= size
    if held:
        yield np.concatenate(pending)


def ahead(items: Iterator[Item]) -> Iterator[Item]:
    """The same items, made by a thread of its own while those before them are in use."""
    with ThreadPoolExecutor(1, "letter-fast-reader") as reader:
        coming = deque(reader.submit(_next, items) for _ in range(_AHEAD))
        while item := coming.popleft().result():
            coming.append(reader.submit(_next, items))
            yield item[0]


def _next(items: Iterator[Item]) -> tuple[Item] | None:
    for item in items:
        return (item,)
    return None
