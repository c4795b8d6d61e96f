"""python -m bench.memory: what residual search needs beyond its input and output, at N = 10⁷."""

from __future__ import annotations

import argparse
import ctypes
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

import torch

from letter_fast import ops

from .workloads import W1, make

_LIMIT = 64 << 20

Result = TypeVar("Result")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.memory", description=__doc__)
    parser.add_argument("--rows", type=int, default=10_000_000, help="N of W1 (10,000,000)")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    options = parser.parse_args()
    beyond = extra_bytes(options.rows, torch.device(options.device))
    print(
        f"W1, {options.rows:,} rows on {options.device}: {beyond / 2**20:.1f} MB beyond input and "
        f"output; at most {_LIMIT >> 20} MB is the target"
    )
    sys.exit(beyond > _LIMIT)


def extra_bytes(rows: int, device: torch.device) -> int:
    """Growth of the peak during one call, less the codes it returns."""
    x, codebooks = make(W1, rows, device)
    table, sizes = torch.cat(codebooks), [len(words) for words in codebooks]
    ops.residual_search(x[:1000], table, sizes, None, False)  # loads libraries, starts threads
    codes, beyond = peak_of(lambda: ops.residual_search(x, table, sizes, None, False)[0], device)
    return beyond - int(codes.nbytes)


def peak_of(run: Callable[[], Result], device: torch.device) -> tuple[Result, int]:
    """The result of `run`, and the most bytes by which memory grew while it ran."""
    before = start(device)
    result = run()
    return result, peak(device) - before


def start(device: torch.device) -> int:
    """Memory in use; from here on the peak counts."""
    if device.type == "cuda":
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        return int(torch.cuda.memory_allocated())
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)  # freed memory kept for reuse would hide growth
    Path("/proc/self/clear_refs").write_text("5")
    return _status("VmRSS")


def peak(device: torch.device) -> int:
    if device.type == "cuda":
        torch.cuda.synchronize()
        return int(torch.cuda.max_memory_allocated())
    return _status("VmHWM")


def _status(key: str) -> int:
    """A figure of /proc/self/status in bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(key + ":"))


if __name__ == "__main__":
    main()
