"""python -m bench.sinkhorn: the uniform mapping beside LETTER's public code, in turns.

Three workloads, all with K = 256, D = 32, ε = 0.003, 50 sweeps: a training batch, a large one, and
the groups of a collision round. A slow peer gets the first groups only; speed is rows a second.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Sequence
from functools import partial
from statistics import median
from typing import NamedTuple

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from letter_fast import kernels, ops

from .measure import clock, limited, quantity
from .workloads import W1, make

EPSILON, SWEEPS = 0.003, 50
# Name -> sizes of the groups.
WORKLOADS = {
    "batch of 1,024": [1024],
    "batch of 16,384": [16_384],
    "5,000 groups of 2–6": [2 + i % 5 for i in range(5000)],
}


class Line(NamedTuple):
    """One peer on one workload. differing: rows with another code than the reference's."""

    workload: str
    peer: str
    threads: int
    rows: int
    rates: list[float]  # rows a second, round by round
    differing: int

    @property
    def rate(self) -> float:
        return float(median(self.rates))


def public_code(x: Tensor, codebook: Tensor, starts: Tensor) -> Tensor:
    """LETTER's (RQ-VAE/models/vq.py and layers.py): float32 distances, then Q in float64."""
    codes = []
    for group in x.tensor_split(starts[1:-1]):
        distance = group.square().sum(1, keepdim=True) + codebook.square().sum(1)
        distance = distance - 2 * group @ codebook.T
        middle = (distance.max() + distance.min()) / 2
        centred = (distance - middle) / (distance.max() - middle + 1e-5)
        plan = torch.exp(-centred.double() / EPSILON)
        plan /= plan.sum()
        for _ in range(SWEEPS):
            plan /= plan.sum(dim=1, keepdim=True)
            plan /= plan.shape[0]
            plan /= plan.sum(dim=0, keepdim=True)
            plan /= plan.shape[1]
        codes.append(plan.argmax(dim=1))
    return torch.cat(codes)


def kernel(x: Tensor, codebook: Tensor, starts: Tensor, backend: str) -> Tensor:
    with kernels.use_backend(backend):
        codes: Tensor = ops.sinkhorn_codes(x, codebook, starts, EPSILON, SWEEPS)
    return codes


def sinkhorn_rows(
    device: torch.device, threads: Sequence[int] = (1, 2), rounds: int = 5, seconds: float = 1.0
) -> list[Line]:
    """All peers on all workloads, at each number of threads; ours first.

    seconds: a call's, about, at most; a slower peer gets fewer groups, but one at least.
    """
    fast = "triton" if device.type == "cuda" else "cpp"
    peers: dict[str, Callable[[Tensor, Tensor, Tensor], Tensor]] = {
        "letter-fast": partial(kernel, backend=fast),
        "LETTER's code": public_code,
        "torch, log domain": partial(kernel, backend="reference"),
    }
    rows, codebooks = make(W1, 20_000, device)
    book = codebooks[0]
    lines: list[Line] = []
    for workload, sizes in WORKLOADS.items():
        starts = torch.tensor([0, *sizes]).cumsum(0)
        x = rows[: int(starts[-1])]
        expected = kernel(x, book, starts, "reference")
        for count in threads:
            turns: list[tuple[Line, Callable[[], object]]] = []
            with limited(count):
                for name, peer in peers.items():
                    few = starts[: 1 + min(len(sizes), 50)]
                    once = clock(partial(peer, x[: int(few[-1])], book, few), 1, device)
                    groups = max(1, min(len(sizes), math.ceil(seconds / once * (len(few) - 1))))
                    part = starts[: groups + 1]
                    run = partial(peer, x[: int(part[-1])], book, part)
                    differing = int((run() != expected[: int(part[-1])]).sum())
                    turns.append((Line(workload, name, count, int(part[-1]), [], differing), run))
                for _ in range(rounds):
                    for line, turn in turns:
                        line.rates.append(line.rows / clock(turn, 1, device))
            lines += [line for line, _ in turns]
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.sinkhorn", description=__doc__)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--threads", nargs="+", type=int, default=[1, 2], help="(1 2)")
    parser.add_argument("--rounds", type=int, default=5, help="turns of each peer (5)")
    options = parser.parse_args()
    table = Table("workload", "peer", "rows", "threads", "rows/s", "ours/peer", "differing")
    threads = [1] if options.device == "cuda" else options.threads
    ours: Line | None = None
    for line in sinkhorn_rows(torch.device(options.device), threads, options.rounds):
        ours = line if line.peer == "letter-fast" or ours is None else ours
        faster = median(a / b for a, b in zip(ours.rates, line.rates, strict=True))
        table.add_row(
            line.workload,
            line.peer,
            f"{line.rows:,}",
            str(line.threads),
            quantity(line.rate),
            f"{faster:.2f}×",
            str(line.differing),
        )
    Console().print(table)


if __name__ == "__main__":
    main()
