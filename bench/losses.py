"""python -m bench.losses: quantizer and LETTER's losses, forward and backward, at W1's shape.

    python -m bench.losses                   B = 1024, 16384, 65536; about fifteen minutes
    python -m bench.losses --rows 1024       less of it
    python -m bench.losses --cpu-time        on a busy machine, with --threads 1

One step is: codes of all levels, codebook and commitment terms, the diversity loss, the contrastive
loss, and the gradients of latents and codebooks. No encoder, no Sinkhorn. Peers are LETTER's
formula in plain PyTorch, vectorised ("fair"); the same with the contrastive logits 4096 rows at a
time, recomputed backward; and the same with the public code's loops over rows, which are timed on
256 rows and scaled. All take turns; figures are medians over rounds. Memory is what one step adds
to the peak of a process of its own.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import NamedTuple

import torch
import torch.nn.functional as F
import torch.utils.checkpoint
from rich.console import Console
from rich.table import Table
from torch import Tensor

import letter_fast as lf
from letter_fast.losses import contrastive_loss, diversity_losses

from . import machine, memory
from .measure import limited
from .workloads import W1, make

CPU = torch.device("cpu")
MU, ALPHA, BETA, CLUSTERS = 0.25, 0.01, 1e-4, 10
_CHUNK = 4096
_LOOPED = 256  # rows that the loops of the public code are timed on
_ROWS = (1024, 16_384, 65_536)
_FEW = 20_000


class Batch(NamedTuple):
    """z, h [B, D], the codebooks in a quantizer, and who is in whose group."""

    z: Tensor
    h: Tensor
    quantizer: lf.ResidualQuantizer
    groups: Tensor  # [L, K]
    members: Tensor  # [L, clusters, most] codewords, −1 beyond the last

    @property
    def codebooks(self) -> Tensor:
        return self.quantizer.codebooks


Step = Callable[[Batch], Tensor]


def make_batch(rows: int) -> Batch:
    """Clustered latents and their residual k-means codebooks; groups of the codewords by number."""
    x, books = make(W1, rows, CPU)
    groups = torch.arange(W1.sizes[0]).remainder(CLUSTERS).repeat(len(books), 1)
    most = int(torch.bincount(groups[0]).max())
    members = torch.full((len(books), CLUSTERS, most), -1)
    for level, group in enumerate(groups):
        for cluster in range(CLUSTERS):
            found = (group == cluster).nonzero().flatten()
            members[level, cluster, : len(found)] = found
    h = x[torch.randperm(rows)] + 0.1 * torch.randn(x.shape)
    quantizer = lf.ResidualQuantizer(W1.dim, list(W1.sizes), MU)
    with torch.no_grad():
        quantizer.codebooks.copy_(torch.cat(books))
    return Batch(x.requires_grad_(), h, quantizer, groups, members)


def ours(batch: Batch) -> Tensor:
    """The library's own step."""
    out = batch.quantizer(batch.z)
    diversity = diversity_losses(out.codes, batch.codebooks, W1.sizes, batch.groups.flatten(), 1)
    loss: Tensor = out.loss + BETA * diversity.mean()
    return loss + ALPHA * contrastive_loss(out.quantized, batch.h)


def fair(batch: Batch) -> Tensor:
    """LETTER's formula: distances and logits as whole matrices, no loop over rows."""
    quantized, loss = _quantize(batch, _positives)
    logits = quantized @ batch.h.T
    return loss + ALPHA * F.cross_entropy(logits, torch.arange(len(logits)))


def chunked(batch: Batch) -> Tensor:
    """The same, with the contrastive logits a chunk at a time."""
    quantized, loss = _quantize(batch, _positives)
    total = loss.new_zeros(())
    for start in range(0, len(quantized), _CHUNK):
        part = quantized[start : start + _CHUNK]
        total = total + torch.utils.checkpoint.checkpoint(
            _chunk, part, batch.h, start, use_reentrant=False
        )
    return loss + ALPHA * total / len(quantized)


def _chunk(part: Tensor, h: Tensor, start: int) -> Tensor:
    return F.cross_entropy(part @ h.T, torch.arange(start, start + len(part)), reduction="sum")


def _quantize(
    batch: Batch, positives: Callable[[Tensor, Tensor, Tensor], Tensor]
) -> tuple[Tensor, Tensor]:
    """Straight-through quantized [B, D] and the quantization loss with its diversity term."""
    residual, quantized, losses = batch.z, torch.zeros_like(batch.z), []
    for level, words in enumerate(batch.codebooks.split(W1.sizes)):
        distance = (
            residual.square().sum(1, keepdim=True) + words.square().sum(1) - 2 * residual @ words.T
        )
        code = distance.argmin(1)
        word = F.embedding(code, words)
        targets = positives(code, batch.groups[level], batch.members[level])
        logits = (word @ words.T).scatter(1, code[:, None], -torch.inf)
        losses.append(
            F.mse_loss(word, residual.detach())
            + MU * F.mse_loss(word.detach(), residual)
            + BETA * F.cross_entropy(logits, targets)
        )
        passed = residual + (word - residual).detach()
        residual, quantized = residual - passed, quantized + passed
    return quantized, torch.stack(losses).mean()


def _positives(code: Tensor, group: Tensor, members: Tensor) -> Tensor:
    """A random other member of each code's group, by index arithmetic."""
    row = members[group[code]]
    count = (row >= 0).sum(1)
    own = (row == code[:, None]).int().argmax(1)
    step = 1 + (torch.rand(len(code)) * (count - 1)).long()
    return row.gather(1, ((own + step) % count)[:, None])[:, 0]


def looped(code: Tensor, group: Tensor, members: Tensor) -> Tensor:
    """The public code's way: one row at a time, in Python, and a mask written row by row."""
    labels = group.tolist()
    lists = {
        cluster: [word for word, label in enumerate(labels) if label == cluster]
        for cluster in range(CLUSTERS)
    }
    clusters = [labels[one.item()] for one in code]
    chosen = []
    for at, cluster in enumerate(clusters):
        pick = random.choice(lists[cluster])
        while pick == code[at]:
            pick = random.choice(lists[cluster])
        chosen.append(pick)
    mask = torch.zeros(len(code), len(group))
    for at in range(len(code)):
        mask[at, code[at]] = 1e12
    return torch.tensor(chosen)


def loops(batch: Batch) -> Tensor:
    """The draws of `looped`, to be timed beside `_positives`: those rows of every level."""
    for group, members in zip(batch.groups, batch.members):
        looped(torch.randint(len(group), (_LOOPED,)), group, members)
    return torch.zeros(())


STEPS: dict[str, Step] = {"letter-fast": ours, "fair": fair, "fair, chunked": chunked}


@dataclass
class Line:
    """One peer at one size and number of threads; seconds of a step, round by round."""

    rows: int
    threads: int
    name: str
    seconds: list[float] = field(default_factory=list)
    extra_bytes: int | None = None
    note: str = ""

    @property
    def typical(self) -> float:
        return float(median(self.seconds))


def step_and_gradients(step: Step, batch: Batch) -> list[Tensor]:
    """The loss, and its gradients of z and codebooks."""
    loss = step(batch)
    return [loss, *torch.autograd.grad(loss, [batch.z, batch.codebooks])]


def flop(rows: int) -> int:
    """Of the matrix products that no float32 version does without: distances, two for the
    contrastive loss and its gradient, two for K × K similarities and theirs."""
    words, size = sum(W1.sizes), W1.sizes[0]
    return 2 * W1.dim * (rows * words + 2 * rows * rows + 2 * words * size)


def main() -> None:
    options = _options()
    if options.peak:
        print(extra_bytes(STEPS[options.peak], options.rows[0]))
        return
    found: list[Line] = []
    for rows in options.rows:
        for threads in options.threads:
            found += compare(rows, threads, options.rounds, options.cpu_time)
    _print(found)
    if options.json:
        lines = [asdict(line) for line in found]
        facts = machine.facts(CPU)
        options.json.write_text(json.dumps({"machine": facts, "lines": lines}, indent=1) + "\n")


def compare(rows: int, threads: int, rounds: int, cpu_time: bool) -> list[Line]:
    """All peers that fit, in turns."""
    batch = make_batch(rows)
    square = torch.randn(1024, 1024)
    lines = {name: Line(rows, threads, name) for name in (*STEPS, "loops", "sgemm")}
    fits = 4 * 4 * rows * rows < _available()
    turns: dict[str, Callable[[], object]] = {
        name: lambda step=step: step_and_gradients(step, batch)  # type: ignore[misc]
        for name, step in STEPS.items()
        if fits or name != "fair"
    }
    turns["loops"] = lambda: loops(batch)
    turns["sgemm"] = lambda: torch.mm(square, square)
    with limited(threads):
        for name, run in turns.items():
            if rows <= _FEW or name == "letter-fast":
                run()  # warms up
        for done in range(rounds):
            for name, run in turns.items():
                if name == "fair, chunked" and rows > _FEW and done > 0:
                    continue  # minutes a step: one turn
                calls = 20 if name == "sgemm" else 5 if rows <= 1024 else 1
                lines[name].seconds.append(_clock(run, calls, cpu_time))
    loop, limit = lines.pop("loops"), lines.pop("sgemm")
    if not fits:
        del lines["fair"]
        print(
            f"fair is left out: {rows:,}² logits take {rows * rows / 2.5e8:.1f} GB, several times"
        )
    floor = flop(rows) / (2 * 1024**3 / limit.typical)
    lines["floor"] = Line(rows, threads, "its matrix products as sgemm", [floor])
    base = lines.get("fair", lines["fair, chunked"])
    scaled = base.typical + loop.typical * rows / _LOOPED
    lines["public"] = Line(
        rows, threads, "row by row", [scaled], note=f"{base.name} + loops of {_LOOPED} rows, scaled"
    )
    if threads == 1:
        for name in STEPS.keys() & lines.keys():
            lines[name].extra_bytes = _extra_bytes_apart(name, rows)
    return list(lines.values())


def _clock(run: Callable[[], object], calls: int, cpu_time: bool) -> float:
    """Seconds of one of `calls` calls."""
    now = time.process_time if cpu_time else time.perf_counter
    begin = now()
    for _ in range(calls):
        run()
    return (now() - begin) / calls


def extra_bytes(step: Step, rows: int) -> int:
    """Bytes that one step adds to this process's peak."""
    small = make_batch(2048)
    step_and_gradients(step, small)  # loads libraries, starts threads
    batch = make_batch(rows)
    before = memory.start(CPU)
    step_and_gradients(step, batch)
    return memory.peak(CPU) - before


def _extra_bytes_apart(name: str, rows: int) -> int:
    command = [sys.executable, "-m", "bench.losses", "--peak", name, "--rows", str(rows)]
    root = Path(__file__).resolve().parent.parent
    done = subprocess.run(command, check=True, capture_output=True, text=True, cwd=root)
    return int(done.stdout.split()[-1])


def _available() -> int:
    """Bytes of memory that are free for us."""
    text = Path("/proc/meminfo").read_text()
    return 1024 * next(
        int(line.split()[1]) for line in text.splitlines() if line.startswith("MemAvailable:")
    )


def _print(found: list[Line]) -> None:
    table = Table("B", "threads", "peer", "step", "of ours", "memory", title="One training step")
    for line in found:
        own = next(
            other
            for other in found
            if (other.rows, other.threads, other.name) == (line.rows, line.threads, "letter-fast")
        )
        table.add_row(
            f"{line.rows:,}",
            str(line.threads),
            line.name + (f" ({line.note})" if line.note else ""),
            f"{1e3 * line.typical:.4g} ms",
            f"{line.typical / own.typical:.2f}×",
            "" if line.extra_bytes is None else f"{line.extra_bytes / 2**20:.0f} MB",
        )
    Console(width=None if sys.stdout.isatty() else 120).print(table)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m bench.losses",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--rows", nargs="+", type=int, default=list(_ROWS), help="batch sizes B")
    parser.add_argument("--threads", nargs="+", type=int, default=[1, 2], help="(1 2)")
    parser.add_argument("--rounds", type=int, default=5, help="turns of each peer (5)")
    parser.add_argument("--cpu-time", action="store_true", help="processor time, not the clock's")
    parser.add_argument("--json", type=Path, help="also write every turn to this file")
    parser.add_argument("--peak", choices=STEPS, help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    main()
