"""Lists of rows that one stage leaves to the next, filled and read on the device."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor


class Queue(NamedTuple):
    """The first `length` items, row·2¹⁶ + level, in no particular order."""

    items: Tensor  # [rows] int64
    length: Tensor  # [1] int64


def queues(rows: int, device: torch.device, number: int = 2) -> tuple[Any, ...]:
    """Queues with room for `rows` items, and last their lengths: 0 before they are filled."""
    items = torch.empty((number, rows), dtype=torch.int64, device=device)
    lengths = torch.empty((number, 1), dtype=torch.int64, device=device)
    return *map(Queue, items, lengths), lengths


@triton.jit
def enqueue(items, count, row, level, wanted):
    """Appends the wanted ones of a block, in any order: rows are independent."""
    number = wanted.to(tl.int32)
    total = tl.sum(number, axis=0)
    if total > 0:
        base = tl.atomic_add(count, total.to(tl.int64), sem="relaxed")
        place = base + tl.cumsum(number, axis=0) - number
        tl.store(items + place, (row << 16) | level, mask=wanted)


@triton.jit
def dequeue(items, at, inside):
    """Row (int64) and level (int32) of the items `at`."""
    item = tl.load(items + at, mask=inside, other=0)
    return item >> 16, (item & 65535).to(tl.int32)
