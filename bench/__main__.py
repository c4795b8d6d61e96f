"""python -m bench: ours and the peers in turns, one table at the end.

    python -m bench                           all workloads on this CPU, about ten minutes
    python -m bench --scale 0.1 --workloads W1 --rounds 5
    python -m bench --device cuda             on a GPU, 1 M rows each

Writes <machine>.json, .txt and .png into the folder $RESULTS, or bench/results.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path

import torch

from . import machine, report
from .measure import Comparison, compare
from .peers import peers
from .workloads import available, make


def main() -> None:
    options = _options()
    device = torch.device(options.device)
    workloads = available()
    chosen = [peer for peer in peers(device) if peer.ours or not _named(peer.name, options.skip)]
    begin = time.perf_counter()

    def tell(message: str) -> None:
        print(f"{time.perf_counter() - begin:6.1f} s  {message}", file=sys.stderr, flush=True)

    facts = machine.facts(device)
    comparisons: list[Comparison] = []
    for name in options.workloads or workloads:
        workload = workloads[name]
        rows = max(64, round(options.scale * workload.rows(device)))
        tell(f"{name}: {rows:,} rows and their codebooks")
        comparisons.append(
            compare(
                workload,
                make(workload, rows, device),
                chosen,
                threads=[1] if device.type == "cuda" else options.threads,
                rounds=options.rounds,
                seconds=options.seconds,
                tell=tell,
            )
        )
    folder = Path(os.environ.get("RESULTS") or Path(__file__).parent / "results")
    report.write(comparisons, facts, folder, machine.name(device))


def _named(name: str, parts: list[str]) -> bool:
    return any(part.lower() in name.lower() for part in parts)


def _options() -> argparse.Namespace:
    cores = os.cpu_count() or 1
    parser = argparse.ArgumentParser(
        prog="python -m bench",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--scale", type=float, default=1.0, help="times the default rows (1)")
    parser.add_argument("--workloads", nargs="+", choices=list(available()), help="(all)")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument(
        "--threads", nargs="+", type=int, default=[1, 2] if cores > 1 else [1], help="(1 2)"
    )
    parser.add_argument("--rounds", type=int, default=7, help="turns of each peer (7)")
    parser.add_argument(
        "--seconds", type=float, default=0.6, help="of a call; slower peers get fewer rows (0.6)"
    )
    parser.add_argument(
        "--skip", nargs="+", default=[], metavar="NAME", help="peers to leave out: compile, faiss …"
    )
    return parser.parse_args()


if __name__ == "__main__":
    main()
