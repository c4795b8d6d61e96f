"""The things that the reader of a page has already, tiny: a catalog, a tokenizer, a recommender."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from tests.support.tiny_generators import generator_of

FIXTURES = Path(__file__).resolve().parents[1] / "fixtures"
ITEMS, WIDTH, CF = 300, 384, 32


def embeddings(items: int = ITEMS, width: int = WIDTH, seed: int = 0) -> np.ndarray:
    """Rows in clusters, of length 1. [items, width] float32"""
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(20, width))
    x = centres[rng.integers(20, size=items)] + 0.4 * rng.normal(size=(items, width))
    return (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32)


def write_catalog(folder: Path) -> None:
    """text.npy, cf.npy, and the same as parquet with item ids."""
    text, cf = embeddings(), embeddings(width=CF, seed=1)
    np.save(folder / "text.npy", text)
    np.save(folder / "cf.npy", cf)
    write_parquet(folder / "items.parquet", [f"B{row:04}" for row in range(ITEMS)], text)
    write_parquet(folder / "cf.parquet", [f"B{row:04}" for row in range(ITEMS)], cf)


def write_parquet(path: str | Path, item_ids: list[str], vectors: np.ndarray) -> None:
    """A table with the columns item_id and embedding."""
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table({"item_id": item_ids, "embedding": list(vectors)}), path)


def tiny_tokenizer() -> Any:
    """A real one of Hugging Face, of a few words."""
    import tokenizers
    import transformers

    words = {"<pad>": 0, "</s>": 1, "<unk>": 2, "likes": 3, "then": 4}
    model = tokenizers.Tokenizer(tokenizers.models.WordLevel(words, unk_token="<unk>"))
    model.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=model, unk_token="<unk>", pad_token="<pad>", eos_token="</s>",
        padding_side="left",
    )  # fmt: skip


def tiny_t5(rows: int = 5) -> Any:
    """An encoder-decoder that knows `rows` tokens."""
    return generator_of("t5", rows)


def tiny_qwen(rows: int = 5) -> Any:
    """A decoder that knows `rows` tokens."""
    return generator_of("qwen2", rows)


def foreign_checkpoint(fixture: str, name: str) -> torch.Tensor:
    """Another project's checkpoint as `name` in this folder; rows that it takes. -> [N, S]"""
    shutil.copy(FIXTURES / fixture, name)
    with np.load((FIXTURES / fixture).with_suffix(".npz")) as recorded:
        return torch.from_numpy(recorded["x"])
