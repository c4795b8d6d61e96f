"""Batches: cut anew to one size, read ahead of their use, worked on by several threads."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import copy_context
from typing import TypeVar

import numpy as np
import torch

from letter_fast import kernels

from .embeddings import Floats

Item = TypeVar("Item")
Result = TypeVar("Result")

# Batches read ahead: one being consumed, one ready.
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


def in_threads(function: Callable[[Item], Result], items: Iterator[Item]) -> Iterator[Result]:
    """function(item) of each, in order; as many at a time as the kernels have threads.

    Each is worked on by one thread from end to end. Threads that share every operation instead wait
    for each other after each, most of the time where other programs run too.
    """
    before = torch.get_num_threads()
    threads = kernels.usable_threads()
    if threads == before == 1:
        yield from map(function, items)
        return
    running: deque[Future[Result]] = deque()
    failure: Exception | None = None
    try:
        with ThreadPoolExecutor(threads, "letter-fast", torch.set_num_threads, (1,)) as workers:
            while True:
                try:
                    item = next(items)
                except StopIteration:
                    break
                except Exception as error:  # comes after the results of the items before it
                    failure = error
                    break
                run = copy_context().run
                running.append(workers.submit(run, kernels.by_itself, function, item))
                if len(running) > threads:
                    yield running.popleft().result()
            while running:
                yield running.popleft().result()
    finally:
        torch.set_num_threads(before)  # of the matrix library, which has one number for all
    if failure is not None:
        raise failure


def _next(items: Iterator[Item]) -> tuple[Item] | None:
    for item in items:
        return (item,)
    return None
