"""python -m bench.balanced: size-constrained k-means beside k-means-constrained, and at a million.

    start      LETTER's codebook start: 9,922 latents, 256 clusters, 10 restarts; 1 and 4 levels
    groups     LETTER's diversity groups: four codebooks of 256 codewords in 10 groups each
    million    one assignment of N rows with sizes N/2K … 2N/K: time, gap, memory

k-means-constrained minimises unsquared distances rounded to 1/1000; both sides are judged by the
inertia of their clusters, and run within its bounds.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from letter_fast.clustering.balanced import (
    balanced_assign,
    balanced_kmeans,
    balanced_kmeans_of_each,
)
from letter_fast.quantizer import ResidualQuantizer

from . import machine
from .memory import peak_of

CPU = torch.device("cpu")


def latents(rows: int, width: int, seed: int, clusters: int = 400) -> Tensor:
    """Rows around `clusters` centres of very unlike weights, ∝ u³."""
    random = np.random.default_rng(seed)
    weights = random.random(clusters) ** 3
    centres = random.standard_normal((clusters, width), dtype=np.float32)
    chosen = random.choice(clusters, size=rows, p=weights / weights.sum())
    x = centres[chosen]
    x += 0.5 * random.standard_normal((rows, width), dtype=np.float32)
    return torch.from_numpy(x)


def timed(run: Callable[[], Any]) -> tuple[Any, float]:
    begin = time.perf_counter()
    result = run()
    return result, time.perf_counter() - begin


def start(restarts: int, peer_restarts: int) -> dict[str, Any]:
    """Both sides on one level with the public code's bounds; the peer on one core, as it runs."""
    x = latents(9_922, 32, seed=1)
    low = min(len(x) // 512, 50)
    bounds: dict[str, Any] = {"min_size": low, "max_size": 4 * low}
    balanced_kmeans(x[:2000], 16)  # loads libraries, starts threads
    ours, seconds = timed(
        lambda: balanced_kmeans(x, 256, **bounds, restarts=restarts, iterations=10, tolerance=1e-4)
    )
    row = {"ours": {"seconds": seconds, "restarts": restarts, "inertia": ours.inertia}}
    quantizer = ResidualQuantizer(x.shape[1], [256] * 4)
    _, seconds = timed(lambda: quantizer.fit(x, restarts=restarts, iterations=10, tolerance=1e-4))
    left = float((x - quantizer(x).quantized.detach()).double().square().sum())
    row["ours, four levels"] = {"seconds": seconds, "restarts": restarts, "inertia": left}
    if peer_restarts:
        row["k-means-constrained"] = peer(x, 256, bounds, peer_restarts)
    return row


def groups(restarts: int, peer_restarts: int) -> dict[str, Any]:
    """Public settings: sizes of min(K // 20, 10) to 60, 10 restarts of at most 10 iterations."""
    books = torch.stack([0.1 * latents(256, 32, seed=level, clusters=20) for level in range(4)])
    bounds: dict[str, Any] = {"min_size": 10, "max_size": 60}

    def run() -> Any:
        return balanced_kmeans_of_each(
            books,
            10,
            **bounds,
            restarts=restarts,
            iterations=10,
            tolerance=1e-4,
            seeds=[0, 1, 2, 3],
        )

    run()
    seconds, inertia = [], 0.0
    for _ in range(11):
        found, once = timed(run)
        seconds.append(once)
        inertia = sum(result.inertia for result in found)
    row = {"ours": {"seconds": float(np.median(seconds)), "restarts": restarts, "inertia": inertia}}
    if peer_restarts:
        each = [peer(book, 10, bounds, peer_restarts) for book in books]
        row["k-means-constrained"] = {
            key: sum(level[key] for level in each) for key in ("seconds", "inertia")
        } | {"restarts": peer_restarts}
    return row


def peer(x: Tensor, k: int, bounds: dict[str, int], restarts: int) -> dict[str, Any]:
    from k_means_constrained import KMeansConstrained

    model = KMeansConstrained(
        n_clusters=k,
        size_min=bounds["min_size"],
        size_max=bounds["max_size"],
        max_iter=10,
        n_init=restarts,
        n_jobs=1,
        random_state=0,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        labels, seconds = timed(lambda: model.fit_predict(x.numpy().astype(np.float64)))
    centres = torch.from_numpy(model.cluster_centers_)
    inertia = float((x.double() - centres[torch.from_numpy(labels).long()]).square().sum())
    return {"seconds": seconds, "restarts": restarts, "inertia": inertia}


def assignment(rows: int, k: int, width: int = 32) -> dict[str, Any]:
    x = latents(rows, width, seed=2)
    draw = torch.randperm(rows, generator=torch.Generator().manual_seed(3))
    centroids = x[draw[:k]].clone()
    balanced_assign(x[:5000], centroids[:8], 0, 5000)
    seconds = [0.0]

    def run() -> Any:
        found, seconds[0] = timed(
            lambda: balanced_assign(x, centroids, rows // (2 * k), math.ceil(2 * rows / k))
        )
        return found

    found, beyond = peak_of(run, CPU)
    return {
        "rows": rows,
        "clusters": k,
        "seconds": seconds[0],
        "relative_gap": found.gap / found.cost,
        "megabytes": beyond / 2**20,
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m bench.balanced",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--restarts", type=int, default=10, help="ours (10)")
    parser.add_argument(
        "--peer-restarts", type=int, default=1, help="theirs; 0 leaves them out (1 of 10)"
    )
    parser.add_argument("--sizes", nargs="+", default=["1000000x256"], metavar="NxK")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    results: dict[str, Any] = {
        "machine": machine.facts(CPU),
        "threads": options.threads,
        "start": start(options.restarts, options.peer_restarts),
        "groups": groups(options.restarts, options.peer_restarts),
        "million": [assignment(*(int(part) for part in size.split("x"))) for size in options.sizes],
    }
    for name in ("start", "groups"):
        for side, row in results[name].items():
            print(
                f"{name:8} {side:20} {row['seconds']:9.4f} s  {row['restarts']} restarts, "
                f"inertia {row['inertia']:.7g}"
            )
    for row in results["million"]:
        print(
            f"{row['rows']:,} × {row['clusters']}: {row['seconds']:.2f} s, gap "
            f"{row['relative_gap']:.1e} of the cost, {row['megabytes']:.0f} MB beyond the input"
        )
    if options.json:
        options.json.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
