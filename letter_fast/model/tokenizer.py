"""The interface of every model to those who only want its codes, and the models there are."""

from __future__ import annotations

import os
from typing import Protocol

from torch import Tensor

from letter_fast import validation
from letter_fast.catalog import TrainedOn
from letter_fast.options import shown
from letter_fast.quantizer import ResidualQuantizer

from .config import LetterConfig, ResidualKMeansConfig
from .letter import Letter
from .pretrained import read_config
from .residual_kmeans import ResidualKMeans

MODELS: dict[str, type[Letter | ResidualKMeans]] = {
    LetterConfig.model_type: Letter,
    ResidualKMeansConfig.model_type: ResidualKMeans,
}


class Tokenizer(Protocol):
    """Item embedding s [B, S] → latent z [B, D] → codes [B, L] → reconstruction [B, S].

    Its methods evaluate, whatever the mode of a module, and several threads may call them at once.
    """

    @property
    def config(self) -> LetterConfig | ResidualKMeansConfig:
        """Has `input_dim`, the width S."""

    @property
    def quantizer(self) -> ResidualQuantizer:
        """The quantizer, from latents to codes and back."""

    def encode_latents(self, s: Tensor) -> Tensor:
        """Latents in evaluation mode. s [B, S] -> [B, D] float32"""

    def encode(self, s: Tensor) -> Tensor:
        """Codes of item embeddings. s [B, S] -> [B, L] int64"""

    def reconstruct(self, codes: Tensor) -> Tensor:
        """Item embeddings that codes stand for. codes [B, L] -> [B, S]"""

    def fingerprint(self) -> str:
        """A digest of the model, which a table records as the maker of its IDs."""


def check_trained(model: Tokenizer) -> None:
    """Refuses anything but a model, and a model that was neither trained nor fitted: ValueError."""
    if isinstance(model, type) or not isinstance(
        getattr(model, "quantizer", None), ResidualQuantizer
    ):
        raise ValueError(
            f"model must be a Letter or a ResidualKMeans, got {shown(model)}; "
            "letter_fast.load(folder) reads one"
        )
    if not bool(model.quantizer.initialized):
        raise ValueError(
            "the model was never trained or fitted, so its codes mean nothing: train or fit it, or "
            "load one that was (one that your own loop has trained: "
            "model.quantizer.initialized.fill_(True))"
        )


def trained_on(model: Tokenizer) -> TrainedOn:
    """The columns it was trained with; none of a model that doesn't remember."""
    found: TrainedOn = getattr(model, "trained_on", TrainedOn())
    return found


def load(folder: str | os.PathLike[str], map_location: str = "cpu") -> Tokenizer:
    """The model of a folder, of whichever class its config.json names.

    Raises:
        ValueError: as the class's `from_pretrained`, or an unknown model_type.
    """
    model_type, _ = read_config(folder, {})
    validation.choice(model_type, MODELS, f"{folder}: model_type")
    return MODELS[model_type].from_pretrained(folder, map_location=map_location)
