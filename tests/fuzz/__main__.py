"""The long run: python -m tests.fuzz --inputs 10000

Each target runs in a process of its own, so that one that dies is told from one that fails. What
fails is kept in the folder --keep, and fails again with --target, --seed and --first.
"""

from __future__ import annotations

import argparse
import collections
import faulthandler
import multiprocessing
import resource
import sys
import warnings
from pathlib import Path

from .runner import faults
from .targets import TARGETS

_MEMORY = 8 << 30


def main() -> int:
    """0 if nothing failed."""
    options = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    options.add_argument("--inputs", type=int, default=10_000, help="of all targets together")
    options.add_argument("--first", type=int, default=0, help="number of each target's first one")
    options.add_argument("--seed", type=int, default=0)
    options.add_argument("--target", choices=TARGETS, action="append", help="only these")
    options.add_argument("--keep", type=Path, help="folder for the inputs that fail")
    chosen = options.parse_args()
    names = chosen.target or list(TARGETS)
    numbers = range(chosen.first, chosen.first - (-chosen.inputs // len(names)))
    fork = multiprocessing.get_context("fork")  # what it takes to import is imported once
    failed = 0
    for name in names:
        process = fork.Process(target=run, args=(name, numbers, chosen.seed, chosen.keep))
        process.start()
        process.join()
        if process.exitcode not in (0, 1):
            print(f"{name}: the process ended with code {process.exitcode}", flush=True)
        failed += process.exitcode != 0
    return int(failed > 0)


def run(name: str, numbers: range, seed: int, keep: Path | None) -> None:
    """One target: what failed, and how often. Ends the process."""
    faulthandler.enable()
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))
    warnings.simplefilter("error")
    found = list(faults(name, numbers, seed, keep))
    print(f"{name}: {len(found)} of {len(numbers)} inputs failed", flush=True)
    for what, count in collections.Counter(fault.what for fault in found).most_common(10):
        first = next(fault.number for fault in found if fault.what == what)
        print(f"    {count} x (first: {first}) {what}", flush=True)
    sys.exit(bool(found))


if __name__ == "__main__":
    sys.exit(main())
