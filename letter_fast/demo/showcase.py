"""The demo's way: catalog → LETTER and plain RQ-VAE → unique IDs → what they look like."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from letter_fast.atomic import make_folder
from letter_fast.catalog import Embeddings
from letter_fast.demo.movielens import load_movies
from letter_fast.demo.synthetic import write_synthetic
from letter_fast.evaluation import Evaluation, evaluate
from letter_fast.evaluation.plots import plot_run, plot_usage
from letter_fast.model import Letter, LetterConfig
from letter_fast.tokenization import SemanticIds, tokenize
from letter_fast.training import TrainSettings, train
from letter_fast.training.journal import read_log

OnEpoch = Callable[[str, dict[str, Any], int], None]


@dataclass(frozen=True)
class Showcase:
    """The results of the demo. titles: [N], or None for a synthetic catalog."""

    folder: Path
    ids: SemanticIds
    runs: dict[str, Evaluation]
    titles: list[str] | None


def run_showcase(
    folder: Path, items: int | None = None, epochs: int | None = None,
    on_epoch: OnEpoch | None = None,
) -> Showcase:  # fmt: skip
    """Trains both tokenizers on MovieLens-100k (or `items` synthetic ones) and names every item.

    Raises:
        ValueError: the data are absent, or `items` is too small for the codebooks.
    """
    make_folder(folder)
    titles = item_ids = None
    text: Any
    cf: Any
    if items is None:
        movies = load_movies()
        titles, item_ids, text, cf = movies.titles, movies.ids, movies.text, movies.cf
        np.save(folder / "text.npy", text)
        np.save(folder / "cf.npy", cf)
        size, passes, batch = 64, epochs or 150, 256
    else:
        text, cf = write_synthetic(folder, items)
        size = 256 if items >= 4096 else 16
        passes, batch = epochs or max(2, min(100, 2_000_000 // items)), 1024

    width = Embeddings.open(text).width
    letter = LetterConfig(
        input_dim=width,
        hidden=(256, 128, 64),
        codebook_size=(size, size, size),
        cf_weight=0.02,
        diversity_weight=1e-3,
    )
    plain = replace(letter, cf_weight=0.0, diversity_weight=0.0)
    runs = {}
    for name, config in {"LETTER": letter, "RQ-VAE (α = β = 0)": plain}.items():
        torch.manual_seed(0)
        model = Letter(config)
        out = folder / ("letter" if config is letter else "rqvae")
        train(
            model,
            text,
            cf,
            out,
            TrainSettings(
                epochs=passes,
                batch_size=batch,
                evaluate_every=max(1, passes // 20),
                revive_after=5,
            ),
            resume=False,
            on_epoch=_named(on_epoch, name, passes),
        )
        ids = tokenize(model, text, item_ids=item_ids)
        ids.save(out / "ids.parquet")
        ids.to_letter_json(out / "index.json")
        runs[name] = evaluate(model, text, cf)
        plot_run(out, read_log(out), config)
        plot_usage(out, ids.codes, ids.sizes)
        if config is letter:
            shown = ids
    return Showcase(folder, shown, runs, titles)


def prefix_neighbours(ids: SemanticIds, row: int, most: int) -> list[int]:
    """Other rows with the longest common prefix, ties by row."""
    equal = np.cumprod(ids.codes == ids.codes[row], axis=1).sum(axis=1)
    equal[row] = -1
    order = np.argsort(-equal, kind="stable")[:most]
    return [int(other) for other in order if equal[other] > 0]


def _named(
    on_epoch: OnEpoch | None, name: str, passes: int
) -> Callable[[dict[str, Any]], None] | None:
    if on_epoch is None:
        return None

    def tell(record: dict[str, Any]) -> None:
        on_epoch(name, record, passes)

    return tell
