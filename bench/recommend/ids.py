"""The IDs that are compared: what makes them, in one table, and their codes."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import pairwise
from math import prod
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

import letter_fast as lf
from letter_fast.presets import model_fields

from .data import Dataset
from .generator import check_positive


@dataclass(frozen=True)
class Shape:
    """The shape that all tokenizers of a comparison share.

    levels × codewords; hidden: encoder widths; epochs, batch_size: of the tokenizers that train.
    """

    levels: int = 3
    codewords: int = 64
    hidden: tuple[int, ...] = (256, 128, 64)
    epochs: int = 150
    batch_size: int = 512
    revive_after: int = 5

    def __post_init__(self) -> None:
        check_positive(self, "levels", "codewords")

    @property
    def sizes(self) -> tuple[int, ...]:
        return (self.codewords,) * self.levels


@dataclass(frozen=True)
class Kind:
    """One way to make IDs.

    model: fields of its configuration, where they aren't the defaults. zeros_are_vectors: items
    without CF have a CF term all the same, as in the public code.
    """

    about: str
    method: str
    model: dict[str, Any] = field(default_factory=dict)
    zeros_are_vectors: bool = False


# Not a zero row, which training takes for no CF; products with it are as good as zero.
_NEARLY_ZERO = 1e-20

_NO_TERMS = dict(cf_weight=0.0, diversity_weight=0.0)
KINDS = {
    "letter": Kind("LETTER, public weights", "letter"),
    "letter-no-cf": Kind("LETTER without CF (α = 0)", "letter", dict(cf_weight=0.0)),
    "letter-no-diversity": Kind(
        "LETTER without diversity (β = 0)", "letter", dict(diversity_weight=0.0)
    ),
    "letter-zeros": Kind(
        "LETTER, zero CF rows trained as vectors", "letter", zeros_are_vectors=True
    ),
    "letter-alpha-.002": Kind("LETTER, α = 0.002", "letter", dict(cf_weight=0.002)),
    "letter-alpha-.05": Kind("LETTER, α = 0.05", "letter", dict(cf_weight=0.05)),
    "letter-recommended": Kind("LETTER, preset recommended", "letter", dict(preset="recommended")),
    "letter-cosine": Kind(
        "LETTER, CF by cosines (τ = 0.2), α = 0.003",
        "letter",
        dict(cf_weight=0.003, cf_similarity="cosine", cf_temperature=0.2),
    ),
    "rq-vae": Kind("RQ-VAE (α = β = 0)", "letter", _NO_TERMS),
    "kmeans": Kind("residual k-means", "kmeans"),
    "balanced-kmeans": Kind("residual k-means, balanced", "kmeans", dict(balanced=True)),
    "random": Kind("random IDs", "random"),
    "published": Kind("published LETTER IDs", "published"),
    "popularity": Kind("most popular items (no IDs)", "floor"),
    "co-occurrence": Kind("with the last item (no IDs)", "floor"),
}
FLOORS = ("popularity", "co-occurrence")


def possible(dataset: Dataset) -> list[str]:
    """The kinds that the data set has what they need for."""
    needed = {
        "letter": dataset.text is not None and dataset.cf is not None,
        "kmeans": dataset.text is not None,
        "published": dataset.published is not None,
    }
    return [name for name, kind in KINDS.items() if needed.get(kind.method, True)]


def make(dataset: Dataset, kind: Kind, shape: Shape, seed: int) -> lf.SemanticIds:
    """The ID table, one row per item. Trains the tokenizer, where there is one, from `seed`."""
    if kind.method == "published":
        assert dataset.published is not None
        return lf.SemanticIds(dataset.published, [256] * dataset.published.shape[1])
    sizes = shape.sizes
    if kind.method == "random":
        return random_ids(dataset.items, sizes, seed)
    text = dataset.text
    assert text is not None
    width = text.shape[1]
    if kind.method == "kmeans":
        config = lf.ResidualKMeansConfig(input_dim=width, codebook_size=sizes, **kind.model)
        return lf.tokenize(lf.ResidualKMeans(config).fit(text, seed=seed), text)
    torch.manual_seed(seed)
    fields = {"hidden": shape.hidden, "codebook_size": sizes, **resolved(kind, width)}
    cf_dim = None if dataset.cf is None else dataset.cf.shape[1]
    model = lf.Letter(lf.LetterConfig(input_dim=width, cf_dim=cf_dim, **fields))
    settings = lf.TrainSettings(
        epochs=shape.epochs,
        batch_size=shape.batch_size,
        revive_after=shape.revive_after,
        evaluate_every=shape.epochs,
        seed=seed,
    )
    cf = dataset.cf if model.config.cf_weight > 0 else None
    if cf is not None and kind.zeros_are_vectors:
        cf = np.where(cf.any(axis=1, keepdims=True), cf, np.float32(_NEARLY_ZERO))
    lf.train(model, text, cf, settings=settings)
    return lf.tokenize(model, text)


def resolved(kind: Kind, width: int) -> dict[str, Any]:
    """Fields of the model's configuration, those of a preset among them, for text of that width."""
    fields = dict(kind.model)
    preset = fields.pop("preset", None)
    return {**(model_fields(preset, width) if preset else {}), **fields}


def random_ids(items: int, sizes: tuple[int, ...], seed: int) -> lf.SemanticIds:
    """Distinct IDs that know nothing of their items.

    Raises:
        ValueError: there are fewer.
    """
    if prod(sizes) < items:
        raise ValueError(
            f"{items} items need more than {prod(sizes)} IDs: more levels or codewords"
        )
    drawn = np.random.default_rng(seed).choice(prod(sizes), items, replace=False)
    return lf.SemanticIds(np.stack(np.unravel_index(drawn, sizes), axis=1), sizes)


def facts(codes: NDArray[np.int32], sizes: list[int], dataset: Dataset) -> dict[str, Any]:
    """The figures that describe IDs: perplexity of each level, and shares of equal prefixes.

    Shares of pairs with the same first l codes, l = 1, 2, …: cf_prefix, an item and its nearest one
    by CF (cosine); next_prefix, an item and the different one that came next, in training and among
    the last of a history and its target on validation and test.
    """
    perplexity = []
    for level, size in enumerate(sizes):
        share = np.bincount(codes[:, level], minlength=size) / len(codes)
        share = share[share > 0]
        perplexity.append(round(float(np.exp(-(share * np.log(share)).sum())), 1))
    parts = {"train": _pairs(dataset.sequences)}
    for name, cases in (("valid", dataset.valid), ("test", dataset.test)):
        parts[name] = _pairs([h[-1], t] for h, t in zip(cases.histories, cases.targets.tolist()))
    following = {name: _shared(codes, pairs) for name, pairs in parts.items()}
    found: dict[str, Any] = {"perplexity": perplexity, "next_prefix": following}
    if dataset.cf is not None:
        has = np.flatnonzero(dataset.cf.any(axis=1))
        unit = dataset.cf[has] / np.linalg.norm(dataset.cf[has], axis=1, keepdims=True)
        alike = unit @ unit.T
        np.fill_diagonal(alike, -np.inf)
        nearest = np.stack([has, has[alike.argmax(axis=1)]], axis=1)
        found["cf_prefix"] = _shared(codes, nearest)
    return found


def _pairs(sequences: Iterable[list[int]]) -> NDArray[np.int64]:
    """Neighbours in the sequences that are different items. [M, 2]"""
    pairs = [pair for sequence in sequences for pair in pairwise(sequence)]
    both: NDArray[np.int64] = np.array(pairs, dtype=np.int64).reshape(-1, 2)
    apart: NDArray[np.bool_] = both[:, 0] != both[:, 1]
    return both[apart]


def _shared(codes: NDArray[np.int32], pairs: NDArray[np.int64]) -> list[float]:
    """Share of the pairs of items whose first l codes are equal, l = 1, 2, …"""
    same = codes[pairs[:, 0]] == codes[pairs[:, 1]]
    return [round(float(value), 4) for value in np.cumprod(same, axis=1).mean(axis=0)]
