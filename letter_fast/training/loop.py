"""Training, from the first epoch to the saved model, on one page."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch

from letter_fast.atomic import check_folder, make_folder
from letter_fast.catalog import Columns, Embeddings, TrainedOn
from letter_fast.extras import require
from letter_fast.locks import only_writer
from letter_fast.model import Letter
from letter_fast.quantizer import ResidualQuantizer

from .batches import Batches
from .checkpoint import Checkpoints, load_checkpoint
from .inputs import check_catalog, count_without_cf, matching_targets
from .journal import Journal
from .metrics import EpochMeans, evaluate_catalog
from .randomness import generator, stream
from .ranks import Ranks, join
from .run import Run
from .settings import TrainSettings
from .start import diversity_groups, start_codebooks

# Steps between looks at whether the losses are still numbers; each look waits for the device.
_LOOK_EVERY = 100


# What of the last epoch's record a model's card says.
_NOTED = ("recon", "collision_rate", "catalog_usage", "catalog_perplexity")


@dataclass(frozen=True)
class TrainResult:
    """What a run ended with."""

    model: Letter
    epochs: int
    """Epochs done, fewer than asked for after an early stop."""
    record: dict[str, Any]
    """The last epoch's record."""
    stopped_early: bool


def train(
    model: Letter,
    embeddings: Any,
    cf: Any = None,
    out: str | os.PathLike[str] | None = None,
    settings: TrainSettings | None = None,
    *,
    cf_by_row: bool = False,
    device: str | torch.device | None = None,
    resume: bool = True,
    on_epoch: Callable[[dict[str, Any]], None] | None = None,
) -> TrainResult:
    """Trains `model` in place and, with `out`, leaves model, log and checkpoint in that folder.

    Under torchrun all processes train the one model together, see `letter_fast.training.ranks`.

    embeddings: what `Embeddings.open` takes: a file, an array, a tensor; [N, S].
    cf: collaborative embeddings [N, H] likewise, needed if α > 0; matched by item id, or by row
        where neither side has ids. A row of zeros stands for no CF: the item has no CF term;
        records say how many (without_cf).
    cf_by_row: row i of both is one item, whatever ids there are.
    resume: go on from the checkpoint in `out`, which an interrupted run leaves of its last epoch;
        on one device the result has the same bits as an unbroken run's.
    on_epoch: called with each epoch's record, in the first process.
    Raises:
        ValueError: inputs and model don't fit, the checkpoint is another run's, another run writes
            into `out` just now, or a loss is NaN.
        ConnectionError: another process of the run has ended.
    """
    settings = settings or TrainSettings()
    if out is not None:
        check_folder(out)
    if settings.tensorboard:
        require("tensorboard", "a log for TensorBoard")
    catalog = Embeddings.open(embeddings)
    targets = matching_targets(model, catalog, cf, settings.cf_missing, cf_by_row)
    check_catalog(catalog, model.config.codebook_size, settings.allow_collisions)
    without_cf = 0 if targets is None else count_without_cf(targets)
    ranks = join(torch.device(device or model.quantizer.codebooks.device))
    _check_batch_norm(model, catalog.rows, settings, ranks)
    model.trained_on = TrainedOn(catalog.columns, targets.columns if targets else Columns())
    model.to(ranks.device).train()
    run = Run(model, settings)

    with ExitStack() as held:
        folder, state, checkpoints = None, None, None
        if out is not None:
            identity = ranks.ask_first(lambda: _identity(run, catalog, targets))
            folder = ranks.ask_first(lambda: make_folder(out))
            ranks.ask_first(lambda: held.enter_context(only_writer(folder)))
            checkpoints = Checkpoints(folder, identity)
            if resume:
                state = ranks.ask_first(lambda: load_checkpoint(folder, identity, run.fits))
        if state is None:
            ranks.ask_first(lambda: start_codebooks(model, catalog, settings))
        else:
            run.load(state)
        ranks.spread(model.state_dict().values())

        batches = Batches(
            catalog, targets, settings.batch_size, settings.seed, ranks,
            least=_least(model), gaps=without_cf > 0,
        )  # fmt: skip
        if not ranks.first:
            checkpoints = None
        kept = state["journal"] if state else 0
        journal = Journal(folder if ranks.first else None, kept, settings.tensorboard)
        with journal, checkpoints.saved_on_interrupt() if checkpoints else nullcontext():
            while not run.over:
                began = time.perf_counter()
                means = train_epoch(run, batches, ranks)
                run.epoch += 1
                record = {"epoch": run.epoch, **means.record(ranks)}
                if without_cf:
                    record["without_cf"] = without_cf
                run.check_weights()
                run.count_use(means.counts, catalog)
                last = run.epoch == settings.epochs
                if last or run.epoch % settings.evaluate_every == 0:
                    record |= evaluate_catalog(model, catalog, settings.batch_size, ranks)
                    run.judge(record)
                run.record = record
                if not ranks.first:
                    continue
                journal.write({**record, "seconds": round(time.perf_counter() - began, 4)})
                if checkpoints:
                    due = run.over or run.epoch % settings.checkpoint_every == 0
                    keep = checkpoints.save if due else checkpoints.keep
                    keep({**run.state(), "journal": journal.size()})
                if on_epoch:
                    on_epoch(record)

        facts = {"items": catalog.rows, "epochs": run.epoch}
        if run.best_weights is not None:  # of which epoch the record doesn't speak
            model.load_state_dict(run.best_weights)
        else:
            facts |= {name: run.record[name] for name in _NOTED if name in run.record}
        model.training_facts = facts
        model.eval()
        if folder and ranks.first:
            model.save_pretrained(folder)
    return TrainResult(model, run.epoch, run.record, run.stopped)


def train_epoch(run: Run, batches: Batches, ranks: Ranks) -> EpochMeans:
    """One pass over the catalog in a fresh order."""
    model, settings, epoch = run.model, run.settings, run.epoch
    quantizer = model.quantizer
    autocast = torch.bfloat16 if settings.precision == "bfloat16" else None
    groups = None
    if model.config.diversity_weight > 0:
        clusters = model.config.diversity_clusters
        found = ranks.ask_first(lambda: diversity_groups(quantizer, clusters, settings.seed, epoch))
        groups = [group.to(ranks.device) for group in found]
    positives = generator(ranks.device, settings.seed, "positives", epoch)
    torch.manual_seed(stream(settings.seed, "dropout", epoch, ranks.rank))
    means = EpochMeans(model, epoch + 1)

    with _marking(quantizer), _products(tf32=settings.precision == "tf32"):
        for step, batch in enumerate(batches.epoch(epoch)):
            losses = model.losses(
                batch.s, batch.h, groups, positives, autocast, batch.share, batch.has_cf
            )
            run.optimizer.zero_grad()
            losses.total.backward()
            ranks.add_gradients(model.parameters(), repeated=quantizer.codebooks)
            if settings.clip_norm > 0:
                torch.nn.utils.clip_grad_norm_(model.parameters(), settings.clip_norm)
            run.step(epoch * batches.steps + step, settings.epochs * batches.steps)
            means.add(losses)
            if step % _LOOK_EVERY == _LOOK_EVERY - 1:
                means.check()
    return means


def _identity(run: Run, catalog: Embeddings, targets: Embeddings | None) -> dict[str, Any]:
    """What a checkpoint and the run that goes on from it must have in common."""
    return {
        "model": run.model.config.to_dict(),
        "settings": run.settings.identity(),
        "embeddings": catalog.fingerprint(),
        "cf": targets.fingerprint() if targets is not None else "",
    }


def _least(model: Letter) -> int:
    """Rows of the smallest batch that the model can learn from."""
    return 2 if model.config.batch_norm else 1


def _check_batch_norm(model: Letter, rows: int, settings: TrainSettings, ranks: Ranks) -> None:
    if not model.config.batch_norm:
        return
    if ranks.size > 1:
        raise ValueError("batch_norm looks at whole batches: train with one process")
    if min(rows, settings.batch_size) < 2:
        raise ValueError(
            f"batch_norm needs batches of 2 rows at least: the catalog has {rows} and batch_size "
            f"is {settings.batch_size}"
        )


@contextmanager
def _marking(quantizer: ResidualQuantizer) -> Iterator[None]:
    """Rows that are no numbers any more are marked, not raised for: that waits for the device."""
    before, quantizer.nonfinite = quantizer.nonfinite, "mark"
    try:
        yield
    finally:
        quantizer.nonfinite = before


@contextmanager
def _products(tf32: bool) -> Iterator[None]:
    """Products of float32 matrices in TF32, on GPUs that have it; otherwise as torch was told."""
    before = torch.backends.cuda.matmul.allow_tf32
    if tf32:
        torch.backends.cuda.matmul.allow_tf32 = True
    try:
        yield
    finally:
        if tf32:
            torch.backends.cuda.matmul.allow_tf32 = before
