"""python -m bench.compat: the drop-ins beside the packages they stand in for.

    python -m bench.compat                   all, about five minutes
    python -m bench.compat --only letter     those whose name has "letter" in it
    python -m bench.compat --cpu-time        on a busy machine

One line is one piece of work done with the peer and with the drop-in, in turns (A B A B …) on the
same data, at one thread; figures are medians over rounds. What has no package, LETTER's model, is
its public formula in plain PyTorch: with partners of the diversity loss drawn at once ("fair"), or
row by row in Python as its code does.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import torch
import torch.nn.functional as F
from rich.console import Console
from rich.table import Table
from torch import Tensor

from letter_fast.compat import letter
from letter_fast.compat import vector_quantize_pytorch as vqp

from . import losses, machine
from .measure import limited
from .workloads import W1, W2, make

CPU = torch.device("cpu")
Run = Callable[[], object]
_BATCH = 1024
_SWEEPS, _EPSILON = 50, 0.003


@dataclass
class Line:
    """One piece of work. Seconds of a call, round by round."""

    name: str
    peer: str
    peer_seconds: list[float] = field(default_factory=list)
    our_seconds: list[float] = field(default_factory=list)

    @property
    def ratio(self) -> float:
        """The peer's seconds over ours: the ratio of each round, then the median."""
        return median(a / b for a, b in zip(self.peer_seconds, self.our_seconds, strict=True))


def letter_step(looped: bool) -> tuple[Run, Run]:
    """Quantizer of LETTER's RQ-VAE, forward and backward, Sinkhorn at the last level."""
    batch = losses.make_batch(_BATCH)
    epsilons = [0.0] * (len(W1.sizes) - 1) + [_EPSILON]
    ours = letter.ResidualVectorQuantizer(
        list(W1.sizes), W1.dim, epsilons, losses.BETA, sk_iters=_SWEEPS
    )
    for layer, words in zip(ours.layers, batch.codebooks.split(W1.sizes)):
        layer.embedding.weight.data.copy_(words)
    labels = {str(level): group.tolist() for level, group in enumerate(batch.groups)}

    def drop_in() -> list[Tensor]:
        loss = ours(batch.z, labels)[1]
        return [loss, *torch.autograd.grad(loss, [batch.z, *ours.parameters()])]

    def plain() -> list[Tensor]:
        positives = losses.looped if looped else losses._positives
        loss = _plain_letter(batch, positives, epsilons)
        return [loss, *torch.autograd.grad(loss, [batch.z, batch.codebooks])]

    return plain, drop_in


def letter_labels() -> tuple[Run, Run]:
    """Groups of every level's codewords, once an epoch: k-means-constrained as LETTER calls it."""
    from k_means_constrained import KMeansConstrained

    batch = losses.make_batch(_BATCH)
    books = [words.detach() for words in batch.codebooks.split(W1.sizes)]
    ours = letter.ResidualVectorQuantizer(list(W1.sizes), W1.dim, [0.0] * len(books))
    for layer, words in zip(ours.layers, books):
        layer.embedding.weight.data.copy_(words)
    arrays = [words.double().numpy() for words in books]

    def theirs() -> None:
        for array in arrays:
            KMeansConstrained(10, 10, 60, max_iter=10, n_init=10, n_jobs=1, random_state=0).fit(
                array
            )

    return theirs, ours.cluster_codewords


def _plain_letter(
    batch: losses.Batch, positives: Callable[..., Tensor], epsilons: list[float]
) -> Tensor:
    residual, terms = batch.z, []
    for level, words in enumerate(batch.codebooks.split(W1.sizes)):
        distance = (
            residual.square().sum(1, keepdim=True) + words.square().sum(1) - 2 * residual @ words.T
        )
        if epsilons[level]:
            code = _sinkhorn(distance.detach(), epsilons[level]).argmax(1)
        else:
            code = distance.argmin(1)
        word = F.embedding(code, words)
        target = positives(code, batch.groups[level], batch.members[level])
        logits = (word @ words.T).scatter(1, code[:, None], -torch.inf)
        terms.append(
            F.mse_loss(word, residual.detach())
            + losses.MU * F.mse_loss(word.detach(), residual)
            + losses.BETA * F.cross_entropy(logits, target)
        )
        residual = residual - (residual + (word - residual).detach())
    return torch.stack(terms).mean()


def _sinkhorn(distance: Tensor, epsilon: float) -> Tensor:
    """Probabilities in float64, columns and rows in turn."""
    middle = (distance.max() + distance.min()) / 2
    scaled = ((distance - middle) / (distance.max() - middle + 1e-5)).double()
    plan = torch.exp(-scaled / epsilon)
    plan /= plan.sum()
    for _ in range(_SWEEPS):
        plan /= plan.sum(1, keepdim=True) * plan.shape[0]
        plan /= plan.sum(0, keepdim=True) * plan.shape[1]
    return plan


def vqp_train(rows: int, **options: Any) -> tuple[Run, Run]:
    """A step of ResidualVQ: forward, moving averages, backward to the input."""
    x, books = make(W1, rows, CPU)
    runs = []
    for module in _residual_vqs(books, **options):
        runs.append(partial(_step, module.train(), x[None].clone().requires_grad_()))
    return runs[0], runs[1]


def _step(module: Any, leaf: Tensor) -> None:
    quantized, _, commitment = module(leaf)
    torch.autograd.grad(quantized.sum() + commitment.sum(), leaf)


def vqp_encode(rows: int, **options: Any) -> tuple[Run, Run]:
    """Codes and quantized rows in evaluation."""
    x, books = make(W1, rows, CPU)
    theirs, ours = (module.eval() for module in _residual_vqs(books, **options))
    return lambda: [theirs(part[None]) for part in x.split(_BATCH)], lambda: ours(x)


def _residual_vqs(books: list[Tensor], **options: Any) -> Iterator[Any]:
    import vector_quantize_pytorch as package

    for source in (package, vqp):
        module = source.ResidualVQ(dim=W1.dim, codebook_size=W1.sizes, **options)
        for layer, words in zip(module.layers, books):
            layer._codebook.embed.data.copy_(words[None])
            layer._codebook.embed_avg.data.copy_(words[None])
        yield module


def faiss_encode(beam: int, rows: int) -> tuple[Run, Run]:
    """Codes of rows: faiss.ResidualQuantizer, with tables or without, and ours made of it."""
    import letter_fast as lf
    from letter_fast.compat.faiss import to_faiss

    x, books = make(W1, rows, CPU)
    ours = lf.ResidualQuantizer(W1.dim, list(W1.sizes)).eval()
    with torch.no_grad():
        ours.codebooks.copy_(torch.cat(books))
    array = x.numpy()

    def encoder(tables: bool) -> Run:
        theirs = to_faiss(ours, beam)
        theirs.use_beam_LUT = int(tables)
        if tables:
            theirs.compute_codebook_tables()
        return lambda: theirs.compute_codes(array)

    ways = [encoder(tables=False), encoder(tables=True)] if beam > 1 else [encoder(tables=False)]
    faster = min(ways, key=lambda run: _clock(run, 1, cpu_time=True))
    return faster, lambda: ours.encode(x, beam=beam)


def sklearn_fit(rows: int) -> tuple[Run, Run]:
    """Residual k-means: chained sklearn.cluster.KMeans, and the transformer. 25 iterations each."""
    from sklearn.cluster import KMeans  # in the demo extra

    from letter_fast.compat.sklearn import ResidualKMeans

    x = make(W2, rows, CPU).x[:, :128].contiguous().numpy()
    sizes, iterations = (256, 256), 25

    def chained() -> None:
        residual = x
        for size in sizes:
            found = KMeans(size, n_init=1, max_iter=iterations, tol=0.0, random_state=0)
            labels = found.fit_predict(residual)
            residual = residual - found.cluster_centers_[labels]

    ours = ResidualKMeans(sizes, max_iter=iterations, tol=0.0, random_state=0)
    return chained, lambda: ours.fit_transform(x)


WORKS: dict[str, tuple[str, Callable[[], tuple[Run, Run]]]] = {
    "letter step, B = 1024": ("fair PyTorch", lambda: letter_step(looped=False)),
    "letter step, B = 1024, rows in Python": ("as its code", lambda: letter_step(looped=True)),
    "letter labels, an epoch's": ("k-means-constrained", letter_labels),
    "ResidualVQ step, B = 1024": ("the package", lambda: vqp_train(1024)),
    "ResidualVQ step, B = 8192": ("the package", lambda: vqp_train(8192)),
    "ResidualVQ step, cosine, B = 1024": (
        "the package",
        lambda: vqp_train(1024, use_cosine_sim=True),
    ),
    "ResidualVQ encode, 16384 rows": ("the package", lambda: vqp_encode(16_384)),
    "ResidualVQ encode, beam 4, 1024 rows": (
        "the package",
        lambda: vqp_encode(1024, beam_size=4),
    ),
    "faiss encode, beam 1, 16384 rows": ("faiss-cpu", lambda: faiss_encode(1, 16_384)),
    "faiss encode, beam 5, 4096 rows": ("faiss-cpu", lambda: faiss_encode(5, 4096)),
    "faiss encode, beam 8, 4096 rows": ("faiss-cpu", lambda: faiss_encode(8, 4096)),
    "faiss encode, beam 16, 2048 rows": ("faiss-cpu", lambda: faiss_encode(16, 2048)),
    "faiss encode, beam 32, 1024 rows": ("faiss-cpu", lambda: faiss_encode(32, 1024)),
    "sklearn residual k-means, 8192 × 128": ("chained KMeans", lambda: sklearn_fit(8192)),
}


def compare(name: str, rounds: int, cpu_time: bool) -> Line:
    """Both in turns, after one call of each."""
    from threadpoolctl import threadpool_limits

    peer, build = WORKS[name]
    line = Line(name, peer)
    theirs, ours = build()  # which imports the peer: threads can be limited from here on
    with limited(1), threadpool_limits(1):
        calls = {}
        for run in (theirs, ours):
            run()  # loads, allocates
            calls[run] = max(1, min(50, int(0.05 / max(_clock(run, 1, cpu_time), 1e-6))))
        for _ in range(rounds):
            line.peer_seconds.append(_clock(theirs, calls[theirs], cpu_time))
            line.our_seconds.append(_clock(ours, calls[ours], cpu_time))
    return line


def _clock(run: Run, calls: int, cpu_time: bool) -> float:
    now = time.process_time if cpu_time else time.perf_counter
    begin = now()
    for _ in range(calls):
        run()
    return (now() - begin) / calls


def main() -> None:
    options = _options()
    found = []
    for name in WORKS:
        if options.only.lower() in name.lower():
            found.append(compare(name, options.rounds, options.cpu_time))
    facts = machine.facts(CPU)
    table = Table("work", "peer", "its time", "ours", "of ours", title="Drop-ins, one thread")
    for line in found:
        table.add_row(
            line.name,
            line.peer,
            f"{1e3 * median(line.peer_seconds):.3g} ms",
            f"{1e3 * median(line.our_seconds):.3g} ms",
            f"{line.ratio:.2f}×",
        )
    console = Console(width=120)
    console.print(table)
    kind = "processor time" if options.cpu_time else "wall clock"
    console.print(f"{kind}; {facts['cpu']}, load {facts['load_average']}, {facts['date']}")
    if options.json:
        lines = [asdict(line) for line in found]
        options.json.write_text(json.dumps({"machine": facts, "lines": lines}, indent=1) + "\n")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m bench.compat",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--only", default="", help="part of the names of what is compared")
    parser.add_argument("--rounds", type=int, default=7, help="turns of each (7)")
    parser.add_argument("--cpu-time", action="store_true", help="processor time, not the clock's")
    parser.add_argument("--json", type=Path, help="also write every turn to this file")
    return parser.parse_args()


if __name__ == "__main__":
    main()
