"""The number of threads of the kernels: what torch was told, but no more than the machine gives."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from pathlib import Path
from typing import TypeVar

import torch

Result = TypeVar("Result")
Given = TypeVar("Given")

_CGROUP = Path("/sys/fs/cgroup")
_asked: ContextVar[int | None] = ContextVar("asked", default=None)


def usable_threads() -> int:
    """`torch.get_num_threads()`, as it was outside of `torch_on_one`, within what there is.

    That is the processors that this process's affinity allows, and those that its container's quota
    amounts to, rounded up: threads beyond them would only take turns.
    """
    asked = _asked.get() or torch.get_num_threads()
    return asked if asked == 1 else max(1, min(asked, _allowed(), _quota()))


@contextmanager
def torch_on_one() -> Iterator[None]:
    """PyTorch's own operations run on one thread, the kernels on as many as before."""
    before = torch.get_num_threads()
    token = _asked.set(_asked.get() or before)
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
        _asked.reset(token)


def by_itself(function: Callable[[Given], Result], given: Given) -> Result:
    """function(given), whose kernels stay on the calling thread: others work beside it."""
    token = _asked.set(1)
    try:
        return function(given)
    finally:
        _asked.reset(token)


def _allowed() -> int:
    """Processors of the calling thread's affinity."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@cache
def _quota() -> int:
    """Processors that the container's quota amounts to, rounded up; it is read once."""
    return quota_of(_CGROUP) or (os.cpu_count() or 1)


def quota_of(group: Path) -> int | None:
    """Processors of a control group's quota, of version 2 or 1, rounded up; None without one."""
    try:
        if (limit := group / "cpu.max").is_file():
            quota, period = limit.read_text().split()
        else:
            quota = (group / "cpu/cpu.cfs_quota_us").read_text()
            period = (group / "cpu/cpu.cfs_period_us").read_text()
        return math.ceil(int(quota) / int(period)) if int(quota) > 0 else None
    except (OSError, ValueError):  # not a container, or "max": no quota
        return None
