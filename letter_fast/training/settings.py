"""Settings of a training run, as data."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal

from letter_fast.catalog.alignment import CfMissing
from letter_fast.options import check_keys, check_types
from letter_fast.presets import PresetName, training_fields

Schedule = Literal["constant", "cosine"]
Start = Literal["balanced_kmeans", "kmeans", "random"]
Precision = Literal["float32", "tf32", "bfloat16"]
EarlyStop = Literal["loss", "recon", "collision_rate"]


@dataclass(frozen=True)
class TrainSettings:
    """Everything about a run that is not the model.

    Raises:
        ValueError: a value is of the wrong type or out of range.
    """

    epochs: int = 200
    """Passes over the catalog."""
    batch_size: int = 1024
    """Items per step, of all processes together."""
    learning_rate: float = 1e-3
    """Learning rate of AdamW; with a schedule its highest."""
    schedule: Schedule = "constant"
    """Learning rate after the warm-up: constant, or cosine down to 0 at the last step."""
    warmup_steps: int = 0
    """First steps, over which the learning rate rises in proportion."""
    weight_decay: float = 1e-4
    """Weight decay of AdamW."""
    clip_norm: float = 0.0
    """Largest gradient norm; 0 does not clip."""
    precision: Precision = "float32"
    """Precision of the products in encoder and decoder, in training steps: float32; tf32, which
    keeps 10 bits of each factor and is float32 on a CPU; or bfloat16, by autocast. The quantizer
    and all losses stay in float32."""
    compile: bool = False
    """Run encoder and decoder through torch.compile; they stay compiled."""
    capture: bool = False
    """Replay the step as one CUDA graph (one process, all items with CF): the same bits, and little
    left for the host to do."""
    start: Start = "balanced_kmeans"
    """Start of the codebooks: balanced_kmeans, kmeans or random."""
    start_rows: int = 20_000
    """Rows, drawn at random, that the codebook start sees at most."""
    start_restarts: int = 1
    """Restarts of the start's k-means; the best is kept."""
    revive_after: int = 0
    """Epochs without use after which a codeword moves onto a random residual; 0 never (LETTER)."""
    evaluate_every: int = 10
    """Epochs between evaluations of usage, perplexity and collisions over the whole catalog."""
    checkpoint_every: int = 10
    """Epochs between checkpoints; the last epoch always has one."""
    early_stop: EarlyStop | None = None
    """Metric (loss, recon or collision_rate) whose best model is kept, and that stops the run."""
    patience: int = 10
    """Evaluations without a better value of that metric before stopping."""
    cf_missing: CfMissing = "error"
    """Items that the collaborative embeddings lack: error, or mask (they have no CF term)."""
    seed: int = 0
    """Seed of dropout, shuffling, positives and the codebook start."""
    allow_collisions: bool = False
    """Train on more items than there are IDs; otherwise that is refused."""
    tensorboard: bool = False
    """Also write TensorBoard events (needs the `tensorboard` extra)."""

    def __post_init__(self) -> None:
        check_types(self)
        positive = (
            "epochs", "batch_size", "start_rows", "start_restarts",
            "evaluate_every", "checkpoint_every", "patience",
        )  # fmt: skip
        for name in positive:
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        for name in ("warmup_steps", "weight_decay", "clip_norm", "revive_after", "seed"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must be at least 0, got {getattr(self, name)}")
        if self.learning_rate <= 0:
            raise ValueError(f"learning_rate must be above 0, got {self.learning_rate}")

    def learning_rate_at(self, step: int, steps: int) -> float:
        """The learning rate of step 0 … steps − 1 of a run."""
        if step < self.warmup_steps:
            return self.learning_rate * (step + 1) / self.warmup_steps
        if self.schedule == "constant":
            return self.learning_rate
        share = (step - self.warmup_steps) / max(steps - self.warmup_steps, 1)
        return self.learning_rate * (1 + math.cos(math.pi * share)) / 2

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)

    def identity(self) -> dict[str, Any]:
        """The settings that must stay when a run goes on from its checkpoint."""
        free = {"checkpoint_every", "patience", "compile", "capture", "allow_collisions"}
        if self.schedule == "constant":  # otherwise their number shapes every epoch
            free.add("epochs")
        return {name: value for name, value in self.to_dict().items() if name not in free}

    @classmethod
    def preset(cls, name: PresetName, **fields: Any) -> TrainSettings:
        """The settings called `name` (`letter_fast.presets` says why), under `fields` of yours.

        Raises:
            ValueError: there is no such preset, or a field is unknown or wrong.
        """
        return cls.from_dict({**training_fields(name), **fields})

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> TrainSettings:
        """The inverse of `to_dict`; ValueError names an unknown key and the nearest right one."""
        check_keys(values, [field.name for field in fields(cls)], "training")
        return cls(**values)
