"""Checkpoints as the trainers of LETTER, LC-Rec and MiniOneRec write them.

What a model's tensors tell is read off them: its widths, its codebooks, and where it has batch
norm. Of the options that stand beside them only the others are believed, and none of another type.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeVar

from torch import Tensor

from .checkpoints import check_weights, load_checkpoint, tensors
from .rqvae_family import Autoencoder

Model = TypeVar("Model", bound=Autoencoder)

_PLUS = "encoder.mlp."  # how MiniOneRec's RQ-KMeans+ calls the encoder that it wraps


class Checkpoint(NamedTuple):
    """options: what a training run was given, by name; the model's tensors; plus: whether its
    encoder is MiniOneRec's RQ-KMeans+, x + MLP(x)."""

    path: str
    options: dict[str, Any]
    state: dict[str, Tensor]
    plus: bool

    def fill(self, build: Callable[..., Model], names: Sequence[str], **more: Any) -> Model:
        """The model, in evaluation mode. names: the options that `build` takes of a run's.

        Raises:
            ValueError: the options contradict the tensors, or one can't be read.
        """
        shape = self._shape()
        options = {name: self.options[name] for name in names if name in self.options}
        levels = len(shape["num_emb_list"])
        if "sk_epsilons" in options and isinstance(options["sk_epsilons"], list | tuple):
            # Theirs makes as many levels as the shorter of the two lists has items.
            options["sk_epsilons"] = options["sk_epsilons"][:levels]
            shape["num_emb_list"] += _list(options.get("num_emb_list"))[levels:]
        for name, value in shape.items():
            given = options.get(name)
            if name in options and (_list(given) if isinstance(value, list) else given) != value:
                raise self._another(f"its tensors have {name} {value}")
        for name, value in options.items():
            if name not in shape and not _READABLE[name](value):
                raise self._another(f"{name} is no {name}")
        options |= shape | {"num_emb_list": shape["num_emb_list"][:levels]}
        if len(options.get("sk_epsilons") or [0.0] * levels) != levels:
            raise self._another(f"sk_epsilons are not {levels}")
        model = build(**options, **more)
        try:
            model.load_state_dict(self.state)
        except RuntimeError as error:
            raise self._another(" ".join(str(error).split())[:300]) from None
        return model.eval()

    def _shape(self) -> dict[str, Any]:
        """The constructor's arguments that the tensors tell."""
        linear = [  # theirs: dropout, linear, perhaps batch norm, ReLU
            place
            for place in _places(self.state, "encoder.mlp_layers")
            if self.state[f"encoder.mlp_layers.{place}.weight"].dim() == 2
        ]
        weights = [self.state[f"encoder.mlp_layers.{place}.weight"] for place in linear]
        norms = [f"encoder.mlp_layers.{place + 1}.running_mean" in self.state for place in linear]
        books: list[Tensor] = []
        while (name := f"rq.vq_layers.{len(books)}.embedding.weight") in self.state:
            books.append(self.state[name])
        if not books or any(book.dim() != 2 or book.numel() == 0 for book in books):
            raise ValueError(f"{self.path} is not a checkpoint of an RQ-VAE: it has no {name}")
        shape = {
            "in_dim": weights[0].shape[1],
            "e_dim": books[0].shape[1],
            "layers": [weight.shape[0] for weight in weights[:-1]],
            "num_emb_list": [len(book) for book in books],
            "bn": any(norms),
            "bn_last": norms[-1],
        }
        if not shape["layers"] and not shape["bn"]:
            del shape["bn"]  # LC-Rec's has none then, whatever it was told
        return shape

    def _another(self, reason: str) -> ValueError:
        return ValueError(f"{self.path} does not hold the model that its options name: {reason}")


def read_checkpoint(path: str | os.PathLike[str]) -> Checkpoint:
    """A checkpoint as their trainers write it.

    Raises:
        ValueError: it is damaged, or of another model.
    """
    content = load_checkpoint(path)
    state, first = tensors(content, "state_dict", path), "encoder.mlp_layers.1.weight"
    plus = _PLUS + first.removeprefix("encoder.") in state
    if plus:
        state = {name.replace(_PLUS, "encoder.", 1): tensor for name, tensor in state.items()}
    if first not in state or state[first].dim() != 2:
        raise ValueError(f"{path} is not a checkpoint of an RQ-VAE: it has no {first}")
    check_weights(state, path)
    options = content.get("args", {})
    if not isinstance(options, dict):
        raise ValueError(f"{path} has no options under 'args', but {type(options).__name__}")
    return Checkpoint(str(path), options, state, plus)


def _places(state: dict[str, Tensor], prefix: str) -> list[int]:
    places = [name.removeprefix(f"{prefix}.").removesuffix(".weight") for name in state]
    return sorted({int(place) for place in places if place.isdecimal() and len(place) < 9})


def _list(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list | tuple) else []


def _number(value: Any) -> bool:
    return type(value) in (int, float) and math.isfinite(value)


def _count(value: Any) -> bool:
    return type(value) is int and 0 <= value < 2**31


_READABLE: dict[str, Callable[[Any], bool]] = {
    "dropout_prob": lambda value: _number(value) and 0 <= value <= 1,
    "loss_type": lambda value: value in ("mse", "l1"),
    "quant_loss_weight": _number,
    "alpha": _number,
    "beta": _number,
    "bn": lambda value: type(value) in (bool, int),
    "kmeans_init": lambda value: type(value) in (bool, int),
    "kmeans_iters": _count,
    "sk_iters": _count,
    "n_clusters": _count,
    "sample_strategy": lambda value: isinstance(value, str),
    "sk_epsilons": lambda value: (
        value is None
        or (isinstance(value, list) and all(one is None or _number(one) for one in value))
    ),
}
