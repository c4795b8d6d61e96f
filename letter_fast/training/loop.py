"""A training run on one page, from its inputs to the saved model; `step` is the page below it."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from letter_fast import validation
from letter_fast.atomic import check_folder
from letter_fast.catalog import Columns, Embeddings, TrainedOn
from letter_fast.extras import require
from letter_fast.model import Letter

from .batches import Batches
from .capture import capture_of
from .inputs import check_catalog, count_without_cf, matching_targets
from .metrics import evaluate_catalog
from .output import Output
from .ranks import Ranks, join
from .run import Run
from .settings import TrainSettings
from .start import start_codebooks
from .step import train_epoch

# The measures of the last epoch that a model's card names.
_NOTED = ("recon", "collision_rate", "catalog_usage", "catalog_perplexity")


@dataclass(frozen=True)
class TrainResult:
    """The end of a run."""

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
    validation.instance(model, Letter, "model", "; a ResidualKMeans has a fit of its own")
    settings = TrainSettings() if settings is None else settings
    validation.instance(settings, TrainSettings, "settings")
    validation.flags(cf_by_row=cf_by_row, resume=resume)
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
    capture = capture_of(run, ranks, without_cf)

    with Output(out, ranks) as output:
        state = output.earlier(run, catalog, targets, resume)
        if state is None:
            ranks.ask_first(start_codebooks, model, catalog, settings)
        else:
            run.load(state)
        ranks.spread(model.state_dict().values())
        batches = Batches(
            catalog, targets, settings.batch_size, settings.seed, ranks,
            least=_least(model), gaps=without_cf > 0,
        )  # fmt: skip
        output.begin(state, settings.tensorboard)

        while not run.over:
            began = time.perf_counter()
            means = train_epoch(run, batches, ranks, capture)
            run.epoch += 1
            record = {"epoch": run.epoch, **means.record(ranks)}
            if without_cf:
                record["without_cf"] = without_cf
            run.check_weights()
            run.count_use(means.counts, catalog)
            if run.epoch == settings.epochs or run.epoch % settings.evaluate_every == 0:
                record |= evaluate_catalog(model, catalog, settings.batch_size, ranks)
                run.judge(record)
            run.record = record
            output.write({**record, "seconds": round(time.perf_counter() - began, 4)}, run)
            if on_epoch and ranks.first:
                on_epoch(record)

        facts = {"items": catalog.rows, "epochs": run.epoch}
        if run.best_weights is not None:  # those of an earlier epoch than the record is of
            model.load_state_dict(run.best_weights)
        else:
            facts |= {name: run.record[name] for name in _NOTED if name in run.record}
        model.training_facts = facts
        output.save(model.eval())
    return TrainResult(model, run.epoch, run.record, run.stopped)


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
