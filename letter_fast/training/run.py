"""The state that changes during a run: everything that a checkpoint must hold."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from letter_fast.catalog import Embeddings
from letter_fast.model import Letter

from .checkpoint import alike
from .metrics import diverged
from .settings import TrainSettings
from .start import revive, sample_latents


class Run:
    """Model, optimizer, and what earlier epochs have to say to later ones."""

    def __init__(self, model: Letter, settings: TrainSettings) -> None:
        self.model, self.settings = model, settings
        device = model.quantizer.codebooks.device
        self.optimizer = torch.optim.AdamW(
            model.parameters(),
            lr=settings.learning_rate,
            weight_decay=settings.weight_decay,
            fused=True,
        )
        self._rate = settings.learning_rate
        if device.type == "cuda":  # where a captured step reads it
            for group in self.optimizer.param_groups:
                group["lr"] = torch.tensor(self._rate, device=device)
        if settings.compile:
            model.encoder.compile()
            model.decoder.compile()
        self.epoch = 0
        self.record: dict[str, Any] = {}
        self.unused = torch.zeros(len(model.quantizer.codebooks), dtype=torch.int64)
        self.best = math.inf
        self.best_weights: dict[str, Tensor] | None = None
        self.waited = 0

    def set_learning_rate(self, rate: float) -> None:
        """Sets the rate of the steps to come."""
        if rate == self._rate:
            return
        self._rate = rate
        for group in self.optimizer.param_groups:
            if isinstance(group["lr"], Tensor):
                group["lr"].fill_(rate)
            else:
                group["lr"] = rate

    def check_weights(self) -> None:
        """ValueError if an epoch's last step, which no loss has seen, left NaN or Inf.

        Waits for the device.
        """
        values = self.model.state_dict().values()
        # A sum needs no memory, where `isfinite` writes a mask; one that isn't finite has a term
        # that is NaN, Inf or close to it.
        sums = torch.stack([value.sum().float() for value in values if value.is_floating_point()])
        if not bool(sums.isfinite().all()):
            raise diverged(self.epoch)

    @property
    def over(self) -> bool:
        """Whether all epochs are done, or the run stops early."""
        return self.epoch >= self.settings.epochs or self.stopped

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
        """For the checkpoint; random streams need nothing, they are named by seed and epoch."""
        return {
            "epoch": self.epoch,
            "record": self.record,
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "unused": self.unused,
            "best": self.best,
            "best_weights": self.best_weights,
            "waited": self.waited,
        }

    def fits(self, state: dict[str, Any]) -> bool:
        """Whether `load` can take it: a state of such a run at the end of an epoch."""
        mine = self.state()
        wanted = {**mine, "best_weights": None, "optimizer": None, "journal": 0}
        given = {**state, "best_weights": None, "optimizer": None}
        best, record = state.get("best_weights"), state.get("record")
        return (
            alike(given, {**wanted, "record": record})
            and (best is None or alike(best, mine["model"]))
            and isinstance(record, dict)
            and all(isinstance(record.get(name), float) for name in ("loss", "recon"))
            and isinstance(record.get("epoch"), int)
            and record["epoch"] == state["epoch"]
            and state["epoch"] >= 1
            and min(state["waited"], state["journal"]) >= 0
            and self._fits_optimizer(state.get("optimizer"))
        )

    def _fits_optimizer(self, state: Any) -> bool:
        moments = state.get("state") if isinstance(state, dict) else None
        parameters = self.optimizer.param_groups[0]["params"]
        return (
            isinstance(moments, dict)
            and moments.keys() <= {*range(len(parameters))}
            and all(
                alike(one, dict(step=torch.zeros(()), exp_avg=own, exp_avg_sq=own))
                for one, own in ((moments[place], parameters[place].data) for place in moments)
            )
        )

    def load(self, state: dict[str, Any]) -> None:
        """The inverse of `state`."""
        self.model.load_state_dict(state["model"])
        # All but the moments of the gradients follows from the settings.
        groups = self.optimizer.state_dict()["param_groups"]
        self.optimizer.load_state_dict({**state["optimizer"], "param_groups": groups})
        for name in ("epoch", "record", "unused", "best", "best_weights", "waited"):
            setattr(self, name, state[name])
