"""From whatever holds embeddings to `Embeddings`."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from letter_fast.paths import local_path

from .arrays import ArrayEmbeddings, as_array, open_npy, open_safetensors
from .columns import ROW, Wanted
from .embeddings import Embeddings
from .errors import CatalogError
from .item_ids import ItemIds
from .parquet import ParquetEmbeddings
from .sharded import FORMATS, open_shards
from .spooled import spool
from .tables import as_table, open_table


def open_source(source: Any, wanted: Wanted) -> Embeddings:
    """The source as `Embeddings`; see `Embeddings.open`."""
    if isinstance(source, str | os.PathLike):
        return open_path(local_path(source), wanted)
    table = as_table(source)
    if table is not None:
        return open_table(table, wanted)
    made = _in_memory(source)
    wanted.refuse_columns(made.name, said_only=True)
    if wanted.ids == ROW and made.item_ids is not None:
        raise CatalogError(f"{made.name} brings its item ids: none can be given or left out here")
    return made


def _in_memory(source: Any) -> Embeddings:
    if isinstance(source, Embeddings):
        return source
    if isinstance(source, np.ndarray | Tensor | list):
        return ArrayEmbeddings("the array", as_array(source))
    if isinstance(source, tuple) and len(source) == 2:
        ids, array = source
        return ArrayEmbeddings("the array", as_array(array), ItemIds(ids, "the item ids"))
    if isinstance(source, Iterator):
        return spool(source)
    raise CatalogError(
        "embeddings must be a path, an array, a tensor, a list of rows, a table, (ids, array) or "
        f"an iterator of these, got {type(source).__name__}"
    )


def open_path(path: Path, wanted: Wanted) -> Embeddings:
    """A file or a folder."""
    if path.is_dir():
        return open_shards(path, wanted, open_path)
    if not path.is_file():
        raise CatalogError(f"{path} does not exist")
    kind = FORMATS.get(path.suffix.lower())
    if kind == "npy":
        wanted.refuse_columns(path)
        return open_npy(path)
    if kind == "safetensors":
        return open_safetensors(path, wanted)
    if kind == "parquet":
        return ParquetEmbeddings(path, wanted)
    raise CatalogError(f"{path} has no known suffix; embeddings come as {', '.join(FORMATS)}")
