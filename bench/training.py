"""python -m bench.training: an epoch beside the same training written plainly; where its time goes.

What both learn is `bench.learning`'s.

The plain loop is LETTER's public formula in eager PyTorch (HonghuiBao2000/LETTER, RQ-VAE/): N × K
distances per level, Sinkhorn on float64 probabilities, three losses read each step. Its diversity
loss either draws positives row by row in Python, as the public code does, or at once ("vectorised",
the fair peer). All start from the same weights and codebooks, group codewords by the same function,
and take turns, so that a busy machine slows all alike; seconds are of processor time.
"""

from __future__ import annotations

import argparse
import json
import random
import time
from copy import deepcopy
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

import letter_fast as lf
from letter_fast.catalog import Embeddings
from letter_fast.training.batches import Batches
from letter_fast.training.ranks import Ranks
from letter_fast.training.run import Run
from letter_fast.training.start import diversity_groups, start_codebooks
from letter_fast.training.step import train_epoch

from . import machine
from .measure import limited

ALONE = Ranks(0, 1, torch.device("cpu"))


class Catalog(NamedTuple):
    """text [N, S], cf [N, H] float32"""

    text: Tensor
    cf: Tensor


class Epoch(NamedTuple):
    """Means over an epoch's steps."""

    loss: float
    recon: float
    quantization: float
    cf: float
    diversity: float


class Ours:
    """letter_fast.train's own epoch."""

    name = "letter-fast"

    def __init__(self, model: lf.Letter, catalog: Catalog, settings: lf.TrainSettings) -> None:
        self.model = model.train()
        self._run = Run(model, settings)
        sources = (Embeddings.open(catalog.text), Embeddings.open(catalog.cf))
        self._batches = Batches(*sources, settings.batch_size, settings.seed, ALONE)

    def epoch(self) -> Epoch:
        record = train_epoch(self._run, self._batches, ALONE).record(ALONE)
        self._run.epoch += 1
        return Epoch(*(record[name] for name in Epoch._fields))


class Plain:
    """The public formula in a plain loop."""

    name = "plain PyTorch, rows in Python"
    vectorised = False

    def __init__(self, model: lf.Letter, catalog: Catalog, settings: lf.TrainSettings) -> None:
        self.model, self._catalog, self._settings = model.train(), catalog, settings
        self._optimizer = torch.optim.AdamW(
            model.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay
        )
        self._draw = torch.Generator().manual_seed(settings.seed)
        self._python = random.Random(settings.seed)
        self._epoch = 0

    def epoch(self) -> Epoch:
        config, quantizer, settings = self.model.config, self.model.quantizer, self._settings
        text, cf = self._catalog
        groups = diversity_groups(quantizer, config.diversity_clusters, settings.seed, self._epoch)
        self._epoch += 1
        totals, rows = np.zeros(5), len(text)
        for part in torch.randperm(rows, generator=self._draw).split(settings.batch_size):
            s, h = text[part], cf[part]
            self._optimizer.zero_grad()
            residual = self.model.encoder(s)
            quantized: Any = 0
            quantization, diversity = [], []
            for level, epsilon in enumerate(quantizer.sinkhorn_epsilon):
                codebook = quantizer.codebook(level)
                codes = self._codes(residual, codebook, epsilon)
                word = codebook[codes]
                quantization.append(
                    F.mse_loss(word, residual.detach())
                    + config.commitment_weight * F.mse_loss(word.detach(), residual)
                )
                diversity.append(self._diversity(word, codes, codebook, groups[level]))
                word = residual + (word - residual).detach()
                residual = residual - word
                quantized = quantized + word
            recon = F.mse_loss(self.model.decoder(quantized), s)
            rq, div = torch.stack(quantization).mean(), torch.stack(diversity).mean()
            contrast = F.cross_entropy(quantized @ h.T, torch.arange(len(part)))
            loss = config.total(recon, rq, contrast, div)
            loss.backward()
            self._optimizer.step()
            terms = (loss, recon, rq, contrast, div)
            totals += [term.item() * len(part) for term in terms]
        return Epoch(*(totals / rows))

    @torch.no_grad()
    def _codes(self, x: Tensor, codebook: Tensor, epsilon: float) -> Tensor:
        distance = x.square().sum(1, keepdim=True) + codebook.square().sum(1) - 2 * x @ codebook.T
        if epsilon == 0:
            return distance.argmin(1)
        middle = (distance.max() + distance.min()) / 2
        plan = ((middle - distance) / (distance.max() - middle + 1e-5)).double().div(epsilon).exp()
        plan /= plan.sum()
        for _ in range(self.model.quantizer.sinkhorn_sweeps):
            plan /= plan.sum(1, keepdim=True) * len(plan)
            plan /= plan.sum(0, keepdim=True) * plan.shape[1]
        if plan.isnan().any() or plan.isinf().any():
            print("Sinkhorn gave NaN or Inf")
        return plan.argmax(1)

    def _diversity(self, word: Tensor, codes: Tensor, codebook: Tensor, group: Tensor) -> Tensor:
        if self.vectorised:
            other = (group[codes][:, None] == group) & (codes[:, None] != torch.arange(len(group)))
            target = torch.multinomial(other.float(), 1, generator=self._draw)[:, 0]
            logits = (word @ codebook.T).scatter(1, codes[:, None], -1e12)
            return F.cross_entropy(logits, target)
        labels = group.tolist()
        members = {one: [k for k, label in enumerate(labels) if label == one] for one in labels}
        targets = []
        for code in codes:
            among = members[labels[int(code)]]
            drawn = self._python.choice(among)
            while drawn == code:
                drawn = self._python.choice(among)
            targets.append(drawn)
        itself = torch.zeros(len(codes), len(codebook))
        for row in range(len(codes)):
            itself[row, codes[row]] = 1e12
        return F.cross_entropy(word @ codebook.T - itself, torch.tensor(targets))


class Vectorised(Plain):
    """The public formula, its diversity loss for all rows at once."""

    name = "plain PyTorch, vectorised"
    vectorised = True


class Limit:
    """The matrix products of encoder and decoder alone, forward and backward."""

    name = "their matrix products alone (limit)"

    def __init__(self, model: lf.Letter, catalog: Catalog, settings: lf.TrainSettings) -> None:
        layers = [m for m in [*model.encoder, *model.decoder] if isinstance(m, torch.nn.Linear)]
        rows = len(catalog.text)
        self._batches = [
            min(settings.batch_size, rows - at) for at in range(0, rows, settings.batch_size)
        ]
        self._weights = [layer.weight.detach() for layer in layers]

    def epoch(self) -> None:
        for rows in self._batches:
            for number, weight in enumerate(self._weights):
                out, width = weight.shape
                x, gradient = torch.ones(rows, width), torch.ones(rows, out)
                x @ weight.T
                gradient.T @ x
                if number > 0:  # the gradient of the input is not needed
                    gradient @ weight


def time_epochs(catalog: Catalog, config: lf.LetterConfig, rounds: int) -> dict[str, Any]:
    """Prints and returns seconds of an epoch, and where ours go."""
    settings = lf.TrainSettings(start="kmeans")
    start = started(catalog, config, settings)
    trainers = [
        kind(deepcopy(start), catalog, settings) for kind in (Ours, Vectorised, Plain, Limit)
    ]
    seconds: dict[str, list[float]] = {trainer.name: [] for trainer in trainers}
    for _ in range(rounds):
        for trainer in trainers:
            begin = time.process_time()
            trainer.epoch()
            seconds[trainer.name].append(time.process_time() - begin)
    print(f"{len(catalog.text):,} × {catalog.text.shape[1]}, encoder {config.hidden}, one thread")
    for name, spent in seconds.items():
        ours = median(one / other for one, other in zip(spent, seconds[Ours.name]))
        print(f"  {name:36} {min(spent):7.2f} s   {ours:5.2f} × ours")

    with torch.profiler.profile() as profile:
        trainers[0].epoch()
    events = sorted(profile.key_averages(), key=lambda event: -event.self_cpu_time_total)
    total = sum(event.self_cpu_time_total for event in events)
    shares = {event.key: event.self_cpu_time_total / total for event in events[:10]}
    print("  where ours go, by torch.profiler (self time on the CPU)")
    for name, share in shares.items():
        print(f"    {name:44} {share:6.1%}")
    shape = {"rows": len(catalog.text), "width": catalog.text.shape[1], "hidden": config.hidden}
    return {**shape, "processor_seconds": seconds, "shares_of_ours": shares}


def started(catalog: Catalog, config: lf.LetterConfig, settings: lf.TrainSettings) -> lf.Letter:
    """A model with its first codebooks."""
    torch.manual_seed(settings.seed)
    model = lf.Letter(config)
    start_codebooks(model, Embeddings.open(catalog.text), settings)
    return model


def synthetic(rows: int, width: int) -> Catalog:
    """Unit-norm rows around 2,000 centres, and CF vectors around other ones."""
    draw = torch.Generator().manual_seed(0)

    def clustered(size: int) -> Tensor:
        centres = torch.randn(2000, size, generator=draw)
        chosen = torch.randint(2000, (rows,), generator=draw)
        noise = torch.randn(rows, size, generator=draw)
        return F.normalize(centres[chosen] + 0.5 * noise, dim=1)

    return Catalog(clustered(width), clustered(32))


def _read(path: str, rows: int) -> Tensor:
    embeddings = Embeddings.open(path)
    return torch.from_numpy(embeddings.take(np.arange(min(rows, embeddings.rows))))


def add_catalog(parser: argparse.ArgumentParser) -> None:
    """The options that `opened` reads."""
    parser.add_argument("--text", help="embeddings (9,922 synthetic ones)")
    parser.add_argument("--cf", help="collaborative embeddings of width 32")
    parser.add_argument("--rows", type=int, default=9922, help="of these, at most (9,922)")
    parser.add_argument("--width", type=int, default=384, help="of synthetic text (384)")
    parser.add_argument("--hidden", default="2048,1024,512,256,128,64", help="(LETTER's)")
    parser.add_argument("--threads", type=int, default=1, help="(1)")


def opened(options: argparse.Namespace) -> tuple[Catalog, lf.LetterConfig]:
    """The catalog and the model that were asked for."""
    if (options.text is None) != (options.cf is None):
        raise SystemExit("--text and --cf go together")
    catalog = (
        synthetic(options.rows, options.width)
        if options.text is None
        else Catalog(_read(options.text, options.rows), _read(options.cf, options.rows))
    )
    hidden = tuple(int(width) for width in options.hidden.split(","))
    return catalog, lf.LetterConfig(input_dim=catalog.text.shape[1], hidden=hidden)


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m bench.training",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_catalog(parser)
    parser.add_argument("--rounds", type=int, default=3, help="epochs of each (3)")
    parser.add_argument("--json", type=Path, help="also write all of it to this file")
    options = parser.parse_args()
    catalog, config = opened(options)
    with limited(options.threads):
        found = time_epochs(catalog, config, options.rounds)
    if options.json:
        facts = machine.facts(torch.device("cpu"))
        options.json.write_text(json.dumps({"machine": facts, **found}, indent=1) + "\n")


if __name__ == "__main__":
    main()
