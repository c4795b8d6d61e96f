"""How many threads the kernels use: what torch was told, but no more than the machine gives."""

from __future__ import annotations

import math
import os
from functools import cache
from pathlib import Path

import torch

_CGROUP = Path("/sys/fs/cgroup")


def usable_threads() -> int:
    """`torch.get_num_threads()`, at most the processors that this process may run on.

    Those are what its affinity allows, and its container's quota, rounded up: threads beyond them
    would only take turns.
    """
    asked = torch.get_num_threads()
    return asked if asked == 1 else max(1, min(asked, _allowed(), _quota()))


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
