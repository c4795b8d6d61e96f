"""Residual k-means into a folder: a killed run goes on at the level it was at."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields
from functools import partial
from typing import Any

import torch

from letter_fast import validation
from letter_fast.atomic import make_folder
from letter_fast.catalog import Embeddings
from letter_fast.locks import only_writer
from letter_fast.model import ResidualKMeans
from letter_fast.options import check_keys, check_types
from letter_fast.paths import local_path

from .checkpoint import alike, load_checkpoint, save_checkpoint
from .inputs import check_catalog


@dataclass(frozen=True)
class FitSettings:
    """Settings of the k-means at each level.

    Raises:
        ValueError: a value is of the wrong type or out of range.
    """

    iterations: int = 25
    """Iterations of Lloyd's algorithm, at most."""
    restarts: int = 1
    """Runs from different starts; the best is kept."""
    tolerance: float = 1e-4
    """A run ends when an iteration lowers the error by less than this share of it."""
    seed: int = 0
    """Of the starts."""
    allow_collisions: bool = False
    """Fit to more items than there are IDs; otherwise that is refused."""

    def __post_init__(self) -> None:
        check_types(self)
        for name, least in (("iterations", 1), ("restarts", 1), ("tolerance", 0), ("seed", 0)):
            if getattr(self, name) < least:
                raise ValueError(f"{name} must be at least {least}, got {getattr(self, name)}")

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> FitSettings:
        """The inverse of `to_dict`; ValueError names an unknown key and the nearest right one."""
        check_keys(values, [field.name for field in fields(cls)], "training")
        return cls(**values)


def fit_residual_kmeans(
    model: ResidualKMeans,
    embeddings: Any,
    out: str | os.PathLike[str],
    settings: FitSettings,
    *,
    resume: bool = True,
    on_level: Callable[[int], None] | None = None,
) -> None:
    """Fits `model` in place, and leaves it and a checkpoint of its codebooks in the folder `out`.

    resume: go on after the last level of the checkpoint in `out`; the result is an unbroken run's.
    on_level: called with the number of levels done.
    Raises:
        ValueError: as `ResidualKMeans.fit`, or the checkpoint is another run's, or another run
            writes into `out` just now.
    """
    validation.instance(model, ResidualKMeans, "model", "; train(…) is for a Letter")
    validation.instance(settings, FitSettings, "settings")
    validation.flags(resume=resume)
    out = local_path(out)
    catalog = Embeddings.open(embeddings)
    model.check_fits(catalog)
    check_catalog(catalog, model.config.codebook_size, settings.allow_collisions)
    how = settings.to_dict()
    del how["allow_collisions"]  # changes no codeword
    identity = {
        "model": model.config.to_dict(),
        "settings": how,
        "embeddings": catalog.fingerprint(),
    }
    folder = make_folder(out)
    with only_writer(folder):
        state = load_checkpoint(folder, identity, partial(_fits, model)) if resume else None
        codebooks = state["codebooks"] if state else []
        with torch.no_grad():
            for level, codebook in enumerate(codebooks):
                model.quantizer.codebook(level).copy_(codebook)

        def save(levels: int) -> None:
            codebooks.append(model.quantizer.codebook(levels - 1).detach().cpu().clone())
            save_checkpoint(folder, {"codebooks": codebooks}, identity)
            if on_level:
                on_level(levels)

        model.fit(catalog, **how, first_level=len(codebooks), on_level=save)
        model.save_pretrained(folder)


def _fits(model: ResidualKMeans, state: dict[str, Any]) -> bool:
    """Whether `state` holds the first codebooks of such a model."""
    found, quantizer = state.get("codebooks"), model.quantizer
    return (
        isinstance(found, list)
        and len(found) <= quantizer.levels
        and all(alike(one, quantizer.codebook(level)) for level, one in enumerate(found))
    )
