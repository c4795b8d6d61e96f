"""python -m bench.neighbour: two threads beside one, on a quiet machine and on a busy one.

    python -m bench.neighbour                 quiet, beside busy processes, on one core, in a quota
    python -m bench.neighbour --threads 8     more threads than there are cores

Each task runs on one thread and on several, in turns, and the table gives the ratio of times (below
1: the second thread helps) and of processor time (what waiting costs the neighbours). Peers take
their turns too. Writes <machine>-neighbour.json into $RESULTS, or bench/results.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from statistics import median
from unittest.mock import patch

import torch

from letter_fast import ops
from letter_fast.clustering import balanced_kmeans, kmeans
from letter_fast.kernels.cpp import threads as kernel_threads
from letter_fast.tokenization import resolve

from . import machine
from .measure import Clock, limited
from .resolver import catalog
from .workloads import available, make

_SPIN = "while True: pass"
_PERIOD = 100_000  # of a quota, in microseconds


@contextmanager
def busy(processes: int) -> Iterator[None]:
    """Runs other processes that never sleep."""
    neighbours = [subprocess.Popen([sys.executable, "-c", _SPIN]) for _ in range(processes)]
    try:
        yield
    finally:
        for neighbour in neighbours:
            neighbour.kill()
            neighbour.wait()


@contextmanager
def on_one_core() -> Iterator[None]:
    """As in a container that was given one processor: all threads, the peers' too, share it."""
    before = os.sched_getaffinity(0)
    _bind({min(before)})
    try:
        yield
    finally:
        _bind(before)


@contextmanager
def in_quota(processors: float) -> Iterator[None]:
    """As in a container that may use so much processor time; needs the right to make a group."""
    old = Path("/sys/fs/cgroup/cpu")  # version 1 has a tree for each controller
    root = old if old.is_dir() else Path("/sys/fs/cgroup")
    group = root / f"letter-fast-{os.getpid()}"
    group.mkdir()
    try:
        if root == old:
            (group / "cpu.cfs_quota_us").write_text(str(int(_PERIOD * processors)))
        else:
            (group / "cpu.max").write_text(f"{int(_PERIOD * processors)} {_PERIOD}")
        (group / "cgroup.procs").write_text(str(os.getpid()))
        # A container sees its own group where this process sees the machine's.
        with patch.object(kernel_threads, "_quota", lambda: math.ceil(processors)):
            yield
    finally:
        (root / "cgroup.procs").write_text(str(os.getpid()))
        group.rmdir()


def _bind(cores: set[int]) -> None:
    for thread in os.listdir("/proc/self/task"):
        os.sched_setaffinity(int(thread), cores)


CONDITIONS: dict[str, Callable[[], AbstractContextManager[None]]] = {
    "quiet": lambda: busy(0),
    "beside one busy process": lambda: busy(1),
    "beside two": lambda: busy(2),
    "on one core": on_one_core,
    "in a quota of 1.5": lambda: in_quota(1.5),
}


def tasks() -> dict[str, Callable[[], object]]:
    """The work that is timed, ours and the peers'; each takes some tenths of a second."""
    problem = make(available()["W1"], 65_536, torch.device("cpu"))
    x, words = problem.x, torch.cat(problem.codebooks)
    sizes = [len(level) for level in problem.codebooks]
    few = x[:16_384].contiguous()
    batch = x[:1024].contiguous()
    starts = torch.tensor([0, len(batch)])
    crowded = catalog(100_000)
    found: dict[str, Callable[[], object]] = {
        "search, W1": lambda: ops.residual_search(x, words, sizes, None, False),
        "k-means, 10 iterations": lambda: kmeans(x, 256, iterations=10, tolerance=0.0, seed=0),
        "balanced k-means": lambda: balanced_kmeans(few, 64, seed=0),
        "unique IDs of 100,000": lambda: resolve(*crowded),
        "Sinkhorn, one level": lambda: ops.sinkhorn_codes(
            batch, problem.codebooks[0], starts, 0.003, 50
        ),
    }
    try:
        import faiss
    except ImportError:
        return found
    rows = x.numpy()
    index = faiss.IndexFlatL2(x.shape[1])
    index.add(problem.codebooks[0].numpy())

    def faiss_kmeans() -> None:
        peer = faiss.Kmeans(x.shape[1], 256, niter=10, seed=0, max_points_per_centroid=1 << 30)
        peer.train(rows)

    found["faiss.knn, one level"] = lambda: index.search(rows, 1)
    found["faiss.Kmeans, 10 iterations"] = faiss_kmeans
    return found


def main() -> None:
    options = _options()
    found: dict[str, dict[str, dict[str, float]]] = {}
    todo = tasks()
    for condition in options.conditions:
        with CONDITIONS[condition]():
            for name, run in todo.items():
                spent: dict[int, list[Clock]] = {1: [], options.threads: []}
                for turn in range(options.rounds + 1):
                    for threads, times in spent.items():
                        with limited(threads), torch.no_grad():
                            began = Clock.now()
                            run()
                            times.append(Clock.now().since(began))
                    if turn == 0:  # loads and warms up
                        spent = {threads: [] for threads in spent}
                one, several = spent[1], spent[options.threads]
                found.setdefault(name, {})[condition] = {
                    "seconds of one": median(each.wall for each in one),
                    "time": median(b.wall / a.wall for a, b in zip(one, several, strict=True)),
                    "processor": median(b.cpu / a.cpu for a, b in zip(one, several, strict=True)),
                }
                print(f"{condition}: {name} {found[name][condition]}", file=sys.stderr, flush=True)
    _report(found, options)


def _report(found: dict[str, dict[str, dict[str, float]]], options: argparse.Namespace) -> None:
    device = torch.device("cpu")
    facts = machine.facts(device)
    print(machine.sentence(facts))
    print(f"{options.threads} threads: time (processor time) over that of one thread\n")
    print("| |", " | ".join(options.conditions), "|")
    print("|---|" + "---|" * len(options.conditions))
    for name, by_condition in found.items():
        cells = [f"{cell['time']:.2f} ({cell['processor']:.2f})" for cell in by_condition.values()]
        print(f"| {name} |", " | ".join(cells), "|")
    folder = Path(os.environ.get("RESULTS") or Path(__file__).parent / "results")
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{machine.name(device)}-neighbour-{options.threads}.json"
    path.write_text(json.dumps({"machine": facts, "ratios": found}, indent=1) + "\n")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m bench.neighbour",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--threads", type=int, default=2, help="beside one (2)")
    parser.add_argument("--rounds", type=int, default=7, help="turns of each (7)")
    parser.add_argument(
        "--conditions", nargs="+", choices=CONDITIONS, default=list(CONDITIONS), help="(all)"
    )
    return parser.parse_args()


if __name__ == "__main__":
    main()
