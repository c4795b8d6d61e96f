"""ResidualKMeans: codebooks that are k-means of the embeddings themselves; no encoder."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from numpy.typing import ArrayLike
from torch import Tensor, nn

from letter_fast import validation
from letter_fast.catalog import Embeddings, MappedEmbeddings, TrainedOn
from letter_fast.catalog.embeddings import Floats
from letter_fast.clustering.rows import Rows, RowsInBlocks, RowsInMemory
from letter_fast.quantizer import ResidualQuantizer, fit_levels

from .capacity import check_enough
from .config import ResidualKMeansConfig
from .pretrained import ModelFolder, fingerprint, read_model, write_model

# Larger catalogs are read from where they lie.
_HELD_BYTES = 2 << 30


class ResidualKMeans(nn.Module, ModelFolder):
    """Residual k-means as in QARM (arXiv 2411.11739) and OneRec (arXiv 2502.18965).

    Level l's codewords are the k-means of what the levels before it leave over. Codes are the
    nearest codewords, of balanced codebooks as well: a code depends on its row alone.
    """

    method = "residual k-means"

    def __init__(self, config: ResidualKMeansConfig) -> None:
        validation.instance(config, ResidualKMeansConfig, "config")
        super().__init__()
        self.config = config
        # The mixin would write its own config.json; `_save_pretrained` writes ours.
        self._hub_mixin_config = None
        self.quantizer = ResidualQuantizer(config.input_dim, config.codebook_size)

    @torch.no_grad()
    def fit(
        self,
        embeddings: Any,
        *,
        iterations: int = 25,
        restarts: int = 1,
        tolerance: float = 1e-4,
        seed: int = 0,
        first_level: int = 0,
        on_level: Callable[[int], None] | None = None,
    ) -> ResidualKMeans:
        """Makes the codebooks, level by level.

        embeddings: what `Embeddings.open` takes, [N, S]. Above 2 GiB as float32 they are read once
            an iteration instead of held; balanced codebooks are then made of 131,072 random rows.
        iterations, restarts, tolerance, seed: as `functional.kmeans`.
        first_level: the levels before it keep the codebooks they have.
        on_level: called with the number of levels done.
        Raises:
            ValueError: fewer rows than codewords, wrong width, or rows with NaN or Inf.
        """
        first_level = validation.integer(first_level, "first_level", 0, self.quantizer.levels)
        seed = validation.integer(seed, "seed")
        if isinstance(embeddings, list | Tensor) or hasattr(embeddings, "to_numpy"):
            embeddings = validation.matrix(embeddings, "embeddings").float().cpu().numpy()
        catalog = Embeddings.open(embeddings)
        self.check_fits(catalog)
        self.trained_on = TrainedOn(catalog.columns)
        self.training_facts = {"items": catalog.rows}
        fit_levels(
            self.quantizer,
            self._rows(catalog),
            "balanced_kmeans" if self.config.balanced else "kmeans",
            restarts=restarts,
            iterations=iterations,
            tolerance=tolerance,
            seed=seed,
            first_level=first_level,
            on_level=on_level,
        )
        return self

    def check_fits(self, catalog: Embeddings) -> None:
        """Refuses a catalog of another width, or of fewer items than a level has codewords."""
        catalog.check_width(self.config.input_dim)
        check_enough(catalog, self.config.codebook_size)

    def encode_latents(self, s: ArrayLike) -> Tensor:
        """The rows to quantize, of length 1 if so configured. s [B, S] -> [B, S] float32

        Raises:
            ValueError: the model has not been fitted.
        """
        if not bool(self.quantizer.initialized):
            raise ValueError("the model has no codebooks yet: call fit first")
        return self._normalized(s)

    def encode(self, s: ArrayLike) -> Tensor:
        """Codes of embeddings. s [B, S] -> [B, L] int64"""
        return self.quantizer.encode(self.encode_latents(s))

    @torch.no_grad()
    def decode(self, codes: ArrayLike) -> Tensor:
        """Embeddings that codes stand for, as normalized; fewer codes than levels, coarser ones.

        codes [B, l ≤ L] -> [B, S]
        """
        return self.quantizer.decode(codes)

    reconstruct = decode  # what `Letter` calls it

    def fingerprint(self) -> str:
        """SHA-256 of configuration and codebooks: which model made an ID."""
        return fingerprint(self.config.to_dict(), self.state_dict())

    def _normalized(self, s: ArrayLike) -> Tensor:
        rows = validation.rows(s, self.config.input_dim, "s").float()
        return unit_rows(rows) if self.config.normalize == "unit" else rows

    def _rows(self, catalog: Embeddings) -> Rows:
        """The rows that the first level is made of: in memory if they are few enough."""
        device = self.quantizer.codebooks.device

        def normalized(batch: Floats) -> Floats:
            rows: Floats = self._normalized(torch.from_numpy(batch)).numpy()
            return rows

        source = MappedEmbeddings(catalog, normalized)
        if 4 * source.rows * source.width > _HELD_BYTES:
            return RowsInBlocks(source, catalog.name, device)
        return RowsInMemory(source.read(device), catalog.name)

    def _save_pretrained(self, save_directory: Path) -> None:
        config = self.config
        write_model(
            save_directory, config.model_type, config.to_dict(), self.state_dict(), self.trained_on,
            self.training_facts,
        )  # fmt: skip

    @classmethod
    def from_pretrained(  # type: ignore[override]
        cls, name: str | os.PathLike[str], *, map_location: str = "cpu", **hub: Any
    ) -> ResidualKMeans:
        """As `Letter.from_pretrained`."""
        return read_model(
            lambda values: cls(ResidualKMeansConfig.from_dict(values)),
            ResidualKMeansConfig.model_type,
            name,
            map_location,
            hub,
        )


def unit_rows(x: Tensor) -> Tensor:
    """x / ‖x‖, in float64 up to the last rounding; a row of zeros stays. [N, D] -> float32"""
    return unit_rows_in_double(x).float()


def unit_rows_in_double(x: Tensor) -> Tensor:
    """x / ‖x‖; a row of zeros stays. [N, D] -> float64

    The squares are added in a fixed tree, by whole columns, not by `sum`, whose order depends on
    batch, threads and device: every step is correctly rounded, so the bits are the same everywhere.
    """
    squares = x.double().square()
    while (width := squares.shape[1]) > 1:
        half = (width + 1) // 2
        squares = squares[:, :half] + F.pad(squares[:, half:], (0, 2 * half - width))
    length = squares.sqrt()
    return x.double() / torch.where(length > 0, length, 1.0)
