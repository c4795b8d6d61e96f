"""Configurations of the models, as data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, TypeVar, get_args

import numpy as np
from torch import Tensor

from letter_fast import validation
from letter_fast.losses import Reduction, ResidualGrad
from letter_fast.options import check_keys, check_types
from letter_fast.presets import PresetName, model_fields
from letter_fast.quantizer import CodebookUpdate

_COUNTS = (
    "input_dim", "hidden", "latent_dim", "codebook_size", "cf_dim", "diversity_clusters",
    "sinkhorn_sweeps",
)  # fmt: skip
Value = TypeVar("Value", float, Tensor)
_WEIGHTS = ("quantization_weight", "commitment_weight", "cf_weight", "diversity_weight")
_ADDED = ("cf_similarity", "cf_temperature")  # fields that no release had at first

Normalization = Literal["none", "unit"]
CfSimilarity = Literal["product", "cosine"]
Reconstruction = Literal["mse", "l1"]
RECONSTRUCTIONS: tuple[Reconstruction, ...] = get_args(Reconstruction)


@dataclass(frozen=True)
class LetterConfig:
    """Shape and losses of a `Letter` model; the defaults are the public code's.

    With cf_weight = diversity_weight = 0 the model is an RQ-VAE (TIGER).

    Raises:
        ValueError: a value is of the wrong type or out of range.
    """

    model_type = "letter"  # what config.json calls it

    input_dim: int
    """Width S of the item text embedding."""
    hidden: tuple[int, ...] = (2048, 1024, 512, 256, 128, 64)
    """Widths of the encoder's hidden layers; the decoder mirrors them."""
    latent_dim: int = 32
    """Width D of the latent and of every codeword."""
    codebook_size: tuple[int, ...] = (256, 256, 256, 256)
    """Codewords K of each level."""
    cf_dim: int | None = None
    """Width H of the collaborative embedding; None means latent_dim. Others get a linear map."""
    quantization_weight: float = 1.0
    """w_rq, weight of the quantization loss."""
    commitment_weight: float = 0.25
    """μ, weight of the commitment term."""
    cf_weight: float = 0.01
    """α, weight of the collaborative loss."""
    cf_similarity: CfSimilarity = "product"
    """Similarity in the collaborative loss: product, the inner product (public code), or cosine,
    which leaves the length of latents to the reconstruction."""
    cf_temperature: float = 1.0
    """τ, divides these similarities; cosines need one near 0.2 to tell items apart."""
    diversity_weight: float = 1e-4
    """β, weight of the diversity loss."""
    diversity_clusters: int = 10
    """Groups that each codebook is split into for the diversity loss."""
    residual_grad: ResidualGrad = "straight_through"
    """Gradient through the residual: straight_through, detach, full or aggregate."""
    codebook_update: CodebookUpdate = "gradient"
    """Update of the codewords: by gradient (LETTER), or ema, as moving averages of their rows."""
    ema_decay: float = 0.99
    """γ of the moving averages: the share that a step leaves of what came before."""
    sinkhorn_epsilon: tuple[float, ...] = ()
    """ε of the uniform mapping per level while training; 0 takes the nearest codeword. Empty, it
    becomes the public code's: 0.003 at the last level, 0 at the others."""
    sinkhorn_sweeps: int = 50
    """Sweeps of Sinkhorn–Knopp."""
    reconstruction: Reconstruction = "mse"
    """Reconstruction loss, mse or l1."""
    reduction: Reduction = "mean"
    """Reduction of the quantization losses: mean (public code) or sum (paper)."""
    dropout: float = 0.0
    """Dropout before every linear layer of encoder and decoder."""
    batch_norm: bool = False
    """Batch normalization after every hidden linear layer."""

    def __post_init__(self) -> None:
        _make_plain(self)
        check_types(self)
        if not self.sinkhorn_epsilon:
            last = (0.0,) * (len(self.codebook_size) - 1) + (0.003,)
            object.__setattr__(self, "sinkhorn_epsilon", last)
        for name in _COUNTS:
            value = getattr(self, name)
            each = value if isinstance(value, tuple) else (value,)
            for one in each:
                if one is not None:
                    validation.integer(one, name, 1, validation.MOST)
        if not self.codebook_size:
            raise ValueError("codebook_size needs at least one level")
        if len(self.sinkhorn_epsilon) != len(self.codebook_size):
            raise ValueError(
                f"sinkhorn_epsilon needs one value per level: {len(self.codebook_size)} levels, "
                f"got {list(self.sinkhorn_epsilon)}"
            )
        for name in (*_WEIGHTS, "sinkhorn_epsilon"):
            value = getattr(self, name)
            if min(value if isinstance(value, tuple) else (value,)) < 0:
                raise ValueError(f"{name} must be at least 0, got {value}")
        for name in ("dropout", "ema_decay"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name} must be in [0, 1), got {getattr(self, name)}")
        if self.codebook_update == "ema" and self.diversity_weight > 0:
            raise ValueError(
                "codebook_update='ema' moves codewords to their rows' mean, so that the diversity "
                f"loss has nothing to move: set diversity_weight=0, got {self.diversity_weight}"
            )
        if not self.cf_temperature > 0:
            raise ValueError(f"cf_temperature must be above 0, got {self.cf_temperature}")

    def total(self, recon: Value, quantization: Value, cf: Value, diversity: Value) -> Value:
        """The loss: recon + w_rq (quantization + β diversity) + α cf."""
        ours = quantization + self.diversity_weight * diversity
        if self.quantization_weight != 1.0:  # a launch less on a GPU, and one in the backward pass
            ours = self.quantization_weight * ours
        return recon + ours + self.cf_weight * cf

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as config.json holds them and the fingerprint counts them.

        A field of `_ADDED` is there only where it isn't its default: so models made before it was
        keep their fingerprint, which ID tables name, and earlier releases read models without it.
        """
        values = asdict(self)
        defaults = {field.name: field.default for field in fields(self) if field.name in _ADDED}
        return {k: v for k, v in values.items() if k not in defaults or v != defaults[k]}

    @classmethod
    def preset(cls, name: PresetName, *, input_dim: int, **fields: Any) -> LetterConfig:
        """The settings called `name` (`letter_fast.presets` says why), under `fields` of yours.

            LetterConfig.preset("recommended", input_dim=384, codebook_size=(64, 64, 64))

        Raises:
            ValueError: there is no such preset, or a field is unknown or wrong.
        """
        return cls.from_dict({"input_dim": input_dim, **model_fields(name, input_dim), **fields})

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> LetterConfig:
        """The inverse of `to_dict`.

        Raises:
            ValueError: an unknown key (names the nearest right one), or a missing or bad value.
        """
        return cls(**_known(cls, values))


@dataclass(frozen=True)
class ResidualKMeansConfig:
    """Shape of a `ResidualKMeans` model.

    Raises:
        ValueError: a value is of the wrong type or out of range.
    """

    model_type = "residual-kmeans"

    input_dim: int
    """Width S of the embedding, and of every codeword."""
    codebook_size: tuple[int, ...] = (256, 256, 256)
    """Codewords K of each level."""
    balanced: bool = False
    """Whether each codeword is the mean of N/2K … 2N/K items, so that no few codes name most."""
    normalize: Normalization = "none"
    """none, or unit: rows are scaled to length 1 first, so that only their direction counts."""

    def __post_init__(self) -> None:
        _make_plain(self)
        check_types(self)
        validation.integer(self.input_dim, "input_dim", 1, validation.MOST)
        validation.sizes(self.codebook_size)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as config.json holds them."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> ResidualKMeansConfig:
        """The inverse of `to_dict`; errors as `LetterConfig.from_dict`."""
        return cls(**_known(cls, values))


def _make_plain(config: LetterConfig | ResidualKMeansConfig) -> None:
    """Numbers and arrays of NumPy become Python's own, and lists, as people, TOML and JSON write
    them, the tuples that the fields are.
    """
    for field in fields(config):
        value = getattr(config, field.name)
        plain = value.tolist() if isinstance(value, np.generic | np.ndarray) else value
        object.__setattr__(config, field.name, tuple(plain) if isinstance(plain, list) else plain)


def _known(config: type[LetterConfig | ResidualKMeansConfig], values: Mapping[str, Any]) -> Any:
    check_keys(values, [field.name for field in fields(config)], "model")
    if "input_dim" not in values:
        raise ValueError("the model configuration lacks input_dim")
    return values
