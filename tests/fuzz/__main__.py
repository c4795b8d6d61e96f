"""The long run: python -m tests.fuzz --inputs 10000

Each target runs in a process of its own, so that one that dies is told from one that fails. What
fails is kept in the folder --keep, and fails again with --target, --seed and --first.
"""

from __future__ import annotations

import argparse
import collections
import faulthandler
import resource
import subprocess
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
    options.add_argument("--first", type=int, default=0, help="number of the first input")
    options.add_argument("--seed", type=int, default=0)
    options.add_argument("--target", choices=TARGETS, help="only this one, in this process")
    options.add_argument("--keep", type=Path, help="folder for the inputs that fail")
    chosen = options.parse_args()
    if chosen.target:
        return run(chosen)
    share = -(-chosen.inputs // len(TARGETS))
    failed = 0
    for name in TARGETS:
        command = [sys.executable, "-m", "tests.fuzz", "--target", name, "--inputs", str(share)]
        command += ["--seed", str(chosen.seed), "--first", str(chosen.first)]
        command += ["--keep", str(chosen.keep)] if chosen.keep else []
        code = subprocess.run(command, check=False).returncode
        if code not in (0, 1):
            print(f"{name}: the process ended with code {code}", flush=True)
        failed += code != 0
    return int(failed > 0)


def run(chosen: argparse.Namespace) -> int:
    """One target."""
    faulthandler.enable()
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))
    warnings.simplefilter("error")
    numbers = range(chosen.first, chosen.first + chosen.inputs)
    found = list(faults(chosen.target, numbers, chosen.seed, chosen.keep))
    print(f"{chosen.target}: {len(found)} of {len(numbers)} inputs failed", flush=True)
    for what, count in collections.Counter(fault.what for fault in found).most_common(10):
        first = next(fault.number for fault in found if fault.what == what)
        print(f"    {count} x (first: {first}) {what}", flush=True)
    return int(bool(found))


if __name__ == "__main__":
    sys.exit(main())
