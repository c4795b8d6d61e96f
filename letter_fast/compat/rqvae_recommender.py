"""Checkpoints of RQ-VAE-Recommender (EdoardoBotta), and semantic IDs laid out as it has them.

It is a converter: the model encodes, quantizes and decodes as theirs does in evaluation. To train,
use `letter_fast.Letter` or `ResidualQuantizer(residual_grad="detach", reduction="sum")`.

Their encoder was another before 28 March 2026 (1b4f9f9), and no tensor tells: SiLU, and `decode`
scaled to length 1. Their trainer's files since February 2025 hold the module itself, which does.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from letter_fast import validation
from letter_fast.quantizer import ResidualQuantizer
from letter_fast.torch_file import StandIn

from .checkpoints import check_weights, load_checkpoint, tensors

Activation = Literal["relu", "silu"]


class RqVaeOutput(NamedTuple):
    """embeddings [B, D, L], the chosen codewords; residuals [B, D, L], what each level was given;
    sem_ids [B, L] int64; quantize_loss [B], codebook and commitment terms of all levels."""

    embeddings: Tensor
    residuals: Tensor
    sem_ids: Tensor
    quantize_loss: Tensor


class RqVae(nn.Module):
    """Encoder and decoder (linear layers without bias) around a quantizer.

    Args:
        state: their state dict.
        activation: between the layers; "relu" since 28 March 2026, "silu" before.
        codebook_normalize: as they were trained.
        normalize_decoded: whether `decode` scales to length 1; None: with "silu", as theirs did.
        commitment_weight: of `quantize_loss`.

    Raises:
        ValueError: tensors are missing, don't fit, or are none of such a model.
    """

    def __init__(
        self,
        state: Mapping[str, Tensor],
        activation: Activation,
        codebook_normalize: bool,
        normalize_decoded: bool | None = None,
        commitment_weight: float = 0.25,
    ) -> None:
        super().__init__()
        validation.choice(activation, _ACTIVATIONS, "activation")
        if normalize_decoded is None:
            normalize_decoded = activation == "silu"
        self.codebook_normalize, self.normalize_decoded = codebook_normalize, normalize_decoded
        self.commitment_weight = commitment_weight
        encoder, decoder = (_numbered(state, f"{part}.mlp.{{}}.weight", step=2) for part in _PARTS)
        words = _numbered(state, "layers.{}.embedding.weight")
        projections = [f"layers.{level}.out_proj.0.weight" for level in range(len(words))]
        read = len(encoder) + len(decoder) + len(words) + sum(name in state for name in projections)
        if read < len(state):
            raise ValueError(
                f"this is not a state dict of an RqVae: of {len(state)} tensors {read} are known; "
                f"it has {sorted(state)[:5]}"
            )
        books: list[Tensor] = []
        for book, name in zip(words, projections):
            # As codewords are compared with residuals: through each level's output projection.
            book = book @ _fit(state[name], book.shape[1], name).T if name in state else book
            books.append(F.normalize(book, dim=-1) if codebook_normalize and not books else book)
        self.encoder = _mlp(encoder, activation, "encoder")
        self.decoder = _mlp(decoder, activation, "decoder")
        ends = [encoder[-1].shape[0], decoder[0].shape[1], *(book.shape[1] for book in books)]
        if len(set(ends)) > 1 or encoder[0].shape[1] != decoder[-1].shape[0]:
            raise ValueError(f"encoder, decoder and codebooks don't fit: latents of {ends} numbers")
        self.quantizer = ResidualQuantizer(
            ends[0], [len(book) for book in books], residual_grad="detach", reduction="sum"
        )
        with torch.no_grad():
            self.quantizer.codebooks.copy_(torch.cat(books))
        self.quantizer.initialized.fill_(True)

    @classmethod
    def from_checkpoint(
        cls,
        path: str | os.PathLike[str],
        codebook_normalize: bool | None = None,
        activation: Activation | None = None,
        commitment_weight: float | None = None,
    ) -> RqVae:
        """The model of a checkpoint of their trainer, in evaluation mode.

        codebook_normalize, activation: None takes what the file tells, which a checkpoint of their
        trainer does and a bare state dict does not. commitment_weight: likewise, but 0.25 (theirs
        by default) where nothing tells: it matters to `quantize_loss` alone.
        Raises:
            ValueError: the file is damaged, of another model, tells neither, or tells otherwise.
        """
        content = load_checkpoint(path)
        state = tensors(content, "model", path)
        check_weights(state, path)
        told = _Told.read(content.get("model_config"))
        if told.cosine:
            raise ValueError(f"{path} compares by cosine, which is not supported")
        try:
            return cls(
                state,
                _known(activation, told.activation, "activation", "'relu' (28 March 2026), 'silu'"),
                _known(codebook_normalize, told.normalize, "codebook_normalize", "True, False"),
                told.normalize_decoded,
                _known(commitment_weight, told.commitment_weight, "commitment_weight", "", 0.25),
            ).eval()
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from None

    def encode(self, x: Tensor) -> Tensor:
        """Latents. [B, S] -> [B, D]"""
        z: Tensor = self.encoder(x.to(self.quantizer.codebooks.dtype))
        return F.normalize(z, dim=-1) if self.codebook_normalize else z

    def decode(self, x: Tensor) -> Tensor:
        """Reconstructions of quantized latents. [B, D] -> [B, S]"""
        decoded: Tensor = self.decoder(x)
        return F.normalize(decoded, dim=-1) if self.normalize_decoded else decoded

    @torch.no_grad()
    def get_semantic_ids(self, x: Tensor, gumbel_t: float = 0.001) -> RqVaeOutput:
        """x [B, S]; gumbel_t is for training, and not looked at"""
        residual = self.encode(x)
        codes = self.quantizer.encode(residual)
        residuals, words = [], []
        loss = residual.new_zeros(len(residual))
        for level, code in enumerate(codes.T):
            residuals.append(residual)
            words.append(self.quantizer.codebook(level)[code])
            residual = residual - words[-1]
            error = residual.square().sum(dim=-1)
            loss = loss + (error + self.commitment_weight * error)
        return RqVaeOutput(torch.stack(words, dim=-1), torch.stack(residuals, dim=-1), codes, loss)


_PARTS = ("encoder", "decoder")
_ACTIVATIONS: dict[str, type[nn.Module]] = {"relu": nn.ReLU, "silu": nn.SiLU}


class _Told(NamedTuple):
    """The options in `model_config`: locals() of their constructor, and with them the module."""

    activation: Any = None
    normalize: Any = None
    normalize_decoded: bool | None = None
    commitment_weight: float | None = None
    cosine: bool = False

    @classmethod
    def read(cls, config: Any) -> _Told:
        if not isinstance(config, dict):
            return cls()
        module = config.get("self")
        encoder, decoder = (list(_inner(module, part, "mlp").values()) for part in _PARTS)
        used = {_class(layer) for layer in encoder} & {"ReLU", "SiLU"}
        normalize = config.get("codebook_normalize")
        levels = [_state(level) for level in _inner(module, "layers").values()]
        losses = [_state(_dict(level.get("_modules")).get("quantize_loss")) for level in levels]
        weights = list(filter(_number, (loss.get("commitment_weight") for loss in losses)))
        distances = [level.get("distance_mode") for level in levels]
        return cls(
            used.pop().lower() if len(used) == 1 else None,
            normalize if type(normalize) is bool else None,
            _class(decoder[-1]) == "L2NormalizationLayer" if decoder else None,
            weights[0] if weights else None,
            any(isinstance(one, StandIn) and one.arguments == (2,) for one in distances),
        )


def _dict(value: Any) -> dict[Any, Any]:
    return value if isinstance(value, dict) else {}


def _number(value: Any) -> bool:
    return type(value) in (int, float) and math.isfinite(value)


def _state(module: Any) -> dict[str, Any]:
    return module.state if isinstance(module, StandIn) else {}


def _inner(module: Any, *names: str) -> dict[str, Any]:
    """The modules in module.name.…, in order."""
    for name in names:
        module = _dict(_state(module).get("_modules")).get(name)
    return _dict(_state(module).get("_modules"))


def _class(module: Any) -> str:
    return module.name.split(".")[-1] if isinstance(module, StandIn) else ""


def _known(given: Any, told: Any, name: str, choices: str, otherwise: Any = None) -> Any:
    if given is None and told is None and otherwise is None:
        raise ValueError(f"nothing in the file tells {name}: say it, one of {choices}")
    if given is not None and told is not None and given != told:
        raise ValueError(f"{name} is given as {given!r}, but the file's module has {told!r}")
    return next(value for value in (given, told, otherwise) if value is not None)


def _mlp(weights: Sequence[Tensor], activation: str, name: str) -> nn.Sequential:
    """Linear layers with the activation between them."""
    layers: list[nn.Module] = []
    wide = weights[0].shape[1]
    for weight in weights:
        linear = nn.Linear(wide, weight.shape[0], bias=False)
        linear.load_state_dict({"weight": _fit(weight, wide, name)})
        layers += [linear, _ACTIVATIONS[activation]()]
        wide = weight.shape[0]
    return nn.Sequential(*layers[:-1])


def _fit(weight: Tensor, width: int, name: str) -> Tensor:
    if weight.shape[1:] != (width,):
        raise ValueError(f"{name} takes {list(weight.shape[1:])} numbers, it is given {width}")
    return weight.float()


def _numbered(state: Mapping[str, Tensor], name: str, step: int = 1) -> Sequence[Tensor]:
    found: list[Tensor] = []
    while (key := name.format(step * len(found))) in state:
        if state[key].dim() != 2 or 0 in state[key].shape:
            raise ValueError(f"{key} must be a matrix, got shape {list(state[key].shape)}")
        found.append(state[key].float())
    if not found:
        raise ValueError(f"this is not a state dict of an RqVae: it has no {name.format(0)}")
    return found
