"""Training, from the first epoch to the saved model, on one page."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from letter_fast.atomic import make_folder
from letter_fast.catalog import Embeddings, align_cf
from letter_fast.model import Letter

from .checkpoint import load_checkpoint, save_checkpoint
from .journal import Journal
from .metrics import EpochMeans, evaluate_catalog
from .randomness import generator, permutation
from .settings import TrainSettings
from .start import diversity_groups, revive, sample_latents, start_codebooks


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
    device: str | torch.device | None = None,
    resume: bool = True,
    on_epoch: Callable[[dict[str, Any]], None] | None = None,
) -> TrainResult:
    """Trains `model` in place and, with `out`, leaves model, log and checkpoint in that folder.

    embeddings: what `Embeddings.open` takes: a file, an array, a tensor; [N, S].
    cf: collaborative embeddings [N, H] likewise, matched by item id or by row; needed if α > 0.
    resume: go on from the checkpoint in `out`; on one device the result has the same bits as an
        unbroken run's.
    on_epoch: called with each epoch's record.
    Raises:
        ValueError: inputs and model don't fit, the checkpoint is another run's, or a loss is NaN.
    """
    settings = settings or TrainSettings()
    catalog = Embeddings.open(embeddings)
    targets = _targets(model, catalog, cf)
    place = torch.device(device) if device else model.quantizer.codebooks.device
    model.to(place).train()

    optimizer = torch.optim.AdamW(
        model.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay
    )
    identity = {
        "model": model.config.to_dict(),
        "settings": settings.to_dict(),
        "embeddings": catalog.fingerprint() if out else "",
        "cf": targets.fingerprint() if out and targets is not None else "",
    }
    folder = make_folder(out) if out else None
    state = load_checkpoint(folder, identity) if folder and resume else None
    run = _Run(model, optimizer, settings)
    if state is None:
        torch.manual_seed(settings.seed)
        start_codebooks(model, catalog, settings)
    else:
        run.load(state)
    kept = state["journal"] if state else 0
    with Journal(folder, kept, settings.tensorboard) as journal:
        while run.epoch < settings.epochs and not run.stopped:
            began = time.perf_counter()
            means = _epoch(run, catalog, targets)
            run.epoch += 1
            last = run.epoch == settings.epochs
            record = {"epoch": run.epoch, **means.record()}
            if not math.isfinite(record["loss"]):
                raise ValueError(
                    f"the loss became {record['loss']} in epoch {run.epoch}: "
                    "lower learning_rate, or set clip_norm"
                )
            run.count_use(means.counts, catalog)
            if last or run.epoch % settings.evaluate_every == 0:
                record |= evaluate_catalog(model, catalog, settings.batch_size)
                run.judge(record)
            run.record = record
            journal.write({**record, "seconds": round(time.perf_counter() - began, 4)})
            if folder and (last or run.stopped or run.epoch % settings.checkpoint_every == 0):
                save_checkpoint(folder, {**run.state(), "journal": journal.size()}, identity)
            if on_epoch:
                on_epoch(record)

    if run.best_weights is not None:
        model.load_state_dict(run.best_weights)
    model.eval()
    if folder:
        model.save_pretrained(folder)
    return TrainResult(model, run.epoch, run.record, run.stopped)


def _epoch(run: _Run, catalog: Embeddings, targets: Embeddings | None) -> EpochMeans:
    """One pass over the catalog in a fresh order."""
    model, settings, epoch = run.model, run.settings, run.epoch
    place = model.quantizer.codebooks.device
    autocast = torch.bfloat16 if settings.precision == "bfloat16" else None
    groups = None
    if model.config.diversity_weight > 0:
        clusters = model.config.diversity_clusters
        groups = diversity_groups(model.quantizer, clusters, settings.seed, epoch)
    positives = generator(place, settings.seed, "positives", epoch)
    order = permutation(catalog.rows, settings.seed, "shuffle", epoch)
    means = EpochMeans(model)

    for begin in range(0, catalog.rows, settings.batch_size):
        rows = order[begin : begin + settings.batch_size]
        s = torch.from_numpy(catalog.take(rows)).to(place)
        h = torch.from_numpy(targets.take(rows)).to(place) if targets is not None else None
        try:
            losses = model.losses(s, h, groups, positives, autocast)
        except ValueError as error:  # latents that are no numbers any more
            raise ValueError(
                f"training diverged in epoch {epoch + 1}: lower learning_rate, or set clip_norm"
            ) from error
        run.optimizer.zero_grad(set_to_none=True)
        losses.total.backward()
        if settings.clip_norm > 0:
            torch.nn.utils.clip_grad_norm_(model.parameters(), settings.clip_norm)
        run.optimizer.step()
        means.add(losses)
    return means


class _Run:
    """What changes while a run goes on: everything a checkpoint must hold."""

    def __init__(
        self, model: Letter, optimizer: torch.optim.Optimizer, settings: TrainSettings
    ) -> None:
        self.model, self.optimizer, self.settings = model, optimizer, settings
        self.epoch = 0
        self.record: dict[str, Any] = {}
        self.unused = torch.zeros(len(model.quantizer.codebooks), dtype=torch.int64)
        self.best = math.inf
        self.best_weights: dict[str, Tensor] | None = None
        self.waited = 0

    @property
    def stopped(self) -> bool:
        """Whether the early-stop metric has not improved for `patience` evaluations."""
        return self.settings.early_stop is not None and self.waited >= self.settings.patience

    def judge(self, record: dict[str, Any]) -> None:
        """Keeps the weights if the early-stop metric of this evaluation is the best yet."""
        if self.settings.early_stop is None:
            return
        value = record[self.settings.early_stop]
        if value < self.best:
            self.best, self.waited = value, 0
            weights = self.model.state_dict()
            self.best_weights = {name: tensor.clone() for name, tensor in weights.items()}
        else:
            self.waited += 1

    def count_use(self, counts: Tensor, catalog: Embeddings) -> None:
        """Counts epochs without use and revives codewords that waited long enough."""
        settings = self.settings
        self.unused = torch.where(counts.cpu() > 0, 0, self.unused + 1)
        dead = self.unused >= max(settings.revive_after, 1)
        if settings.revive_after == 0 or not bool(dead.any()):
            return
        latents = sample_latents(self.model, catalog, 4096, settings.seed, self.epoch)
        revive(self.model.quantizer, self.optimizer, dead, latents, settings.seed, self.epoch)
        self.unused[dead] = 0

    def state(self) -> dict[str, Any]:
        """For the checkpoint; the random streams need nothing, dropout needs torch's own state."""
        return {
            "epoch": self.epoch,
            "record": self.record,
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "unused": self.unused,
            "best": self.best,
            "best_weights": self.best_weights,
            "waited": self.waited,
            "torch_random": torch.get_rng_state(),
        }

    def load(self, state: dict[str, Any]) -> None:
        """The inverse of `state`."""
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        torch.set_rng_state(state["torch_random"])
        for name in ("epoch", "record", "unused", "best", "best_weights", "waited"):
            setattr(self, name, state[name])


def _targets(model: Letter, catalog: Embeddings, cf: Any) -> Embeddings | None:
    """The CF vectors in the catalog's order, after checking that everything fits the model."""
    config = model.config
    if catalog.width != config.input_dim:
        raise ValueError(
            f"the embeddings have width {catalog.width}, the model expects {config.input_dim}"
        )
    needed = max(config.codebook_size)
    if catalog.rows < needed:
        raise ValueError(
            f"the catalog has {catalog.rows} items, fewer than the {needed} codewords of a level"
        )
    if config.cf_weight == 0:
        return None
    if cf is None:
        raise ValueError(
            f"cf_weight is {config.cf_weight} but no collaborative embeddings were given: pass cf, "
            "or set cf_weight=0 (RQ-VAE)"
        )
    targets = align_cf(catalog, Embeddings.open(cf))
    width = config.cf_dim or config.latent_dim
    if targets.width != width:
        raise ValueError(
            f"the collaborative embeddings have width {targets.width}, the model expects {width}: "
            f"set cf_dim={targets.width}"
        )
    return targets
