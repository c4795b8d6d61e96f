"""python -m bench.kmeans: Lloyd's iterations on this CPU, beside faiss and scikit-learn.

All begin at the same random rows and do the same number of iterations, without a tolerance; each
turn is one whole fit. Seconds are medians over rounds in which all take turns, ratios are taken in
each round first.
"""

from __future__ import annotations

import argparse
import json
import os
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import torch
from torch import Tensor

from letter_fast.clustering import kmeans

from . import machine
from .measure import clock, limited
from .workloads import W1, W2, Workload, make

CPU = torch.device("cpu")
Fit = Callable[[Tensor, Tensor, int], float]  # rows, start, iterations -> inertia


class Size(NamedTuple):
    workload: Workload
    rows: int


SIZES = (Size(W1, 1_000_000), Size(W2, 50_000))


def ours(x: Tensor, start: Tensor, iterations: int) -> float:
    found = kmeans(x, len(start), start=start, iterations=iterations, tolerance=0.0)
    return found.inertia


def faiss(x: Tensor, start: Tensor, iterations: int) -> float:
    import faiss as library

    library.omp_set_num_threads(torch.get_num_threads())
    model = library.Kmeans(
        x.shape[1], len(start), niter=iterations, max_points_per_centroid=len(x), gpu=False
    )
    return float(model.train(x.numpy(), init_centroids=start.numpy()))


def scikit_learn(algorithm: str) -> Fit:
    def fit(x: Tensor, start: Tensor, iterations: int) -> float:
        from sklearn.cluster import KMeans
        from threadpoolctl import threadpool_limits

        model = KMeans(
            len(start),
            init=start.numpy(),
            n_init=1,
            max_iter=iterations,
            tol=0.0,
            algorithm=algorithm,
        )
        with threadpool_limits(torch.get_num_threads()), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return float(model.fit(x.numpy()).inertia_)

    return fit


LANES: dict[str, Fit] = {
    "letter-fast": ours,
    "faiss.Kmeans": faiss,
    "scikit-learn lloyd": scikit_learn("lloyd"),
    "scikit-learn elkan": scikit_learn("elkan"),
}


def compare(size: Size, threads: int, rounds: int, iterations: int) -> dict[str, Any]:
    """Seconds and inertia of every lane, and how many times its time is ours."""
    x, codebooks = make(size.workload, size.rows, CPU)
    draw = torch.randperm(len(x), generator=torch.Generator().manual_seed(1))
    start = x[draw[: len(codebooks[0])]].clone()
    inertia: dict[str, float] = {}
    seconds: dict[str, list[float]] = {name: [] for name in LANES}

    def run(name: str) -> None:
        inertia[name] = LANES[name](x, start, iterations)

    with limited(threads):
        for fit in LANES.values():
            fit(x[: 2 * len(start)], start, 1)  # loads what it needs
        for _ in range(rounds):
            for name in LANES:
                seconds[name].append(clock(partial(run, name), 1, CPU))
    mine = seconds["letter-fast"]
    return {
        "workload": size.workload.name,
        "rows": len(x),
        "width": x.shape[1],
        "clusters": len(start),
        "threads": threads,
        "iterations": iterations,
        "seconds": seconds,
        "inertia": inertia,
        "ratio": {
            name: median(theirs / our for theirs, our in zip(times, mine))
            for name, times in seconds.items()
        },
    }


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.kmeans", description=__doc__)
    parser.add_argument("--scale", type=float, default=1.0, help="of the rows (1.0)")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--iterations", type=int, default=10)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, os.cpu_count() or 1])
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    options = parser.parse_args()
    results: dict[str, Any] = {"machine": machine.facts(CPU), "fits": []}
    for workload, rows in SIZES:
        for threads in options.threads:
            size = Size(workload, int(rows * options.scale))
            found = compare(size, threads, options.rounds, options.iterations)
            results["fits"].append(found)
            print(
                f"{workload.name}: {found['rows']:,} × {found['width']}, {found['clusters']} "
                f"clusters, {options.iterations} iterations, {threads} threads"
            )
            for name, ratio in found["ratio"].items():
                print(
                    f"  {name:20} {median(found['seconds'][name]):8.3f} s  {ratio:5.2f} of ours  "
                    f"inertia {found['inertia'][name]:.7g}"
                )
    if options.json:
        options.json.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
