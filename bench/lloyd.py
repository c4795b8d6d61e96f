"""python -m bench.lloyd: one iteration of k-means on a GPU, and the lists of nearly best codewords.

An iteration is the exact search (nearest) and the sums of each cluster (cluster_sums), beside
flash-kmeans' iteration (TF32, float atomics) and the formula in PyTorch. Milliseconds, the median
over rounds in which all take turns.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from statistics import median

import torch
from torch import Tensor

from .measure import clock
from .workloads import W1, W2, Workload, make

_EXPONENT = 30  # of the fixed point; a power of two costs the same as any other
_ARCS = 2.0  # codewords listed a row


def ours(x: Tensor, words: Tensor) -> Callable[[], object]:
    from letter_fast.kernels import triton as backend

    def iteration() -> Tensor:
        codes, _ = backend.nearest(x, words, None)
        sums, counts = backend.cluster_sums(x, codes, len(words), _EXPONENT)
        return (sums / (counts.clamp(min=1)[:, None] * 2.0**_EXPONENT)).float()

    return iteration


def search_alone(x: Tensor, words: Tensor) -> Callable[[], object]:
    from letter_fast.kernels import triton as backend

    return lambda: backend.nearest(x, words, None)


def sums_alone(x: Tensor, words: Tensor) -> Callable[[], object]:
    from letter_fast.kernels import triton as backend

    codes, _ = backend.nearest(x, words, None)
    return lambda: backend.cluster_sums(x, codes, len(words), _EXPONENT)


def sort_alone(x: Tensor, words: Tensor) -> Callable[[], object]:
    from letter_fast.kernels import triton as backend

    codes = backend.nearest(x, words, None)[0].to(torch.int16)
    return lambda: codes.sort()


def formula(x: Tensor, words: Tensor) -> Callable[[], object]:
    """All distances in chunks, arg-min, float32 sums by unordered atomics."""

    def iteration() -> Tensor:
        half = 0.5 * words.square().sum(1)
        scores = (torch.addmm(half, part, words.T, alpha=-1.0) for part in x.split(1 << 17))
        codes = torch.cat([score.argmin(1) for score in scores])
        sums = torch.zeros_like(words).index_add_(0, codes, x)
        return sums / torch.bincount(codes, minlength=len(words)).clamp(min=1)[:, None]

    return iteration


def flash_kmeans(x: Tensor, words: Tensor) -> Callable[[], object]:
    from flash_kmeans.kmeans_triton_impl import _euclid_iter

    norms = x.square().sum(1)
    return lambda: _euclid_iter(x[None], norms[None], words[None])


LANES = {
    "letter-fast, exact": ours,
    "  of it the search": search_alone,
    "  of it the sums": sums_alone,
    "  of these the sort": sort_alone,
    "torch formula": formula,
    "flash-kmeans": flash_kmeans,
}


def listing(x: Tensor, words: Tensor) -> tuple[Callable[[], object], str]:
    """`within` at the slack that lists about `_ARCS` codewords a row, and what it lists."""
    from letter_fast.kernels import triton as backend

    offset = torch.zeros(len(words), dtype=torch.float64, device=x.device)
    head = x[:10_000]
    distances = torch.cdist(head.double(), words.double()).square()
    beyond = (distances - distances.amin(1, keepdim=True)).flatten().sort().values
    slack = float(beyond[round(_ARCS * len(head))])
    found = len(backend.within(x, words, offset, slack)[1])
    return (
        lambda: backend.within(x, words, offset, slack),
        f"within, {found / len(x):.2f} codewords a row",
    )


def milliseconds(
    lanes: dict[str, Callable[[], object]], rounds: int, device: torch.device
) -> dict[str, float]:
    """The median of each lane's turns, after one to warm up."""
    turns: dict[str, list[float]] = {name: [] for name in lanes}
    for run in lanes.values():
        run()
    for _ in range(rounds):
        for name, run in lanes.items():
            turns[name].append(1e3 * clock(run, 1, device))
    return {name: float(median(times)) for name, times in turns.items()}


def measure(
    workload: Workload,
    rows: int,
    rounds: int,
    device: torch.device,
    skip: Sequence[str] = (),
    lists: bool = False,
) -> None:
    """Prints the table of one workload; `lists`: with `within`."""
    x, codebooks = make(workload, rows, device)
    words = codebooks[0]
    lanes: dict[str, Callable[[], object]] = {}
    for name, build in LANES.items():
        if name in skip:
            continue
        try:
            run = build(x, words)
            run()
        except Exception as error:
            if build is not flash_kmeans:
                raise
            print(f"{workload.name}: without {name} ({type(error).__name__}: {error})")
        else:
            lanes[name] = run
    if lists:
        run, name = listing(x, words)
        lanes[name] = run
    print(f"{workload.name}: {rows:,} rows × {x.shape[1]}, {len(words)} codewords, one iteration")
    for name, time in milliseconds(lanes, rounds, device).items():
        print(f"  {name:32} {time:9.3f} ms")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.lloyd", description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=11)
    parser.add_argument("--skip", nargs="+", default=[], choices=list(LANES))
    options = parser.parse_args()
    device = torch.device("cuda")
    for workload in (W1, W2):
        measure(workload, options.rows, options.rounds, device, options.skip, workload is W1)


if __name__ == "__main__":
    main()
