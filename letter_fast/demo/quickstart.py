"""The quickstart's way: the shop → files as a user would have them → LETTER → unique IDs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray

from letter_fast.atomic import make_folder, replacing
from letter_fast.demo.shop import Shop, load_shop
from letter_fast.model import Letter, LetterConfig
from letter_fast.tokenization import SemanticIds, tokenize
from letter_fast.training import TrainSettings, train

_FILES = {
    "items.parquet": "item_id, title, aisle and a text embedding a product",
    "cf.parquet": "a collaborative embedding a product",
    "model/model.safetensors": "the trained LETTER model",
    "ids.parquet": "the ID table",
}


@dataclass(frozen=True)
class Quickstart:
    """The results; files: by the name of each file in the folder, what it is."""

    shop: Shop
    ids: SemanticIds
    files: dict[str, str]


def run_quickstart(
    folder: Path, epochs: int = 60, on_epoch: Callable[[dict[str, Any]], None] | None = None
) -> Quickstart:
    """Writes the shop's files into `folder`, trains on them and names every product."""
    make_folder(folder)
    shop = load_shop()
    titled = {"item_id": shop.ids, "title": shop.titles, "aisle": shop.aisles}
    _write(folder / "items.parquet", titled, shop.text)
    _write(folder / "cf.parquet", {"item_id": shop.ids}, shop.cf)
    torch.manual_seed(0)
    model = Letter(
        LetterConfig(
            input_dim=shop.text.shape[1],
            hidden=(128, 64),
            latent_dim=32,
            codebook_size=(32, 32, 32),
            cf_weight=0.02,
            diversity_weight=1e-3,
        )
    )
    train(
        model,
        folder / "items.parquet",
        folder / "cf.parquet",
        folder / "model",
        TrainSettings(epochs=epochs, batch_size=256, evaluate_every=epochs, revive_after=5),
        resume=False,
        on_epoch=on_epoch,
    )
    ids = tokenize(model, folder / "items.parquet")
    ids.save(folder / "ids.parquet")
    files = dict(_FILES)
    if find_spec("matplotlib") is not None:
        from letter_fast.evaluation.tree import plot_tree

        plot_tree(folder / "tree.png", ids, shop.titles)
        files["tree.png"] = "a picture of the tree of IDs"
    return Quickstart(shop, ids, files)


def _write(path: Path, columns: dict[str, list[str]], vectors: NDArray[np.float32]) -> None:
    from pyarrow import parquet

    table = pa.table({**columns, "embedding": list(vectors)})
    with replacing(path) as file:
        parquet.write_table(table, file)
