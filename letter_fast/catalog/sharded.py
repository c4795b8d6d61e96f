"""A folder of files as one catalog, in order of their names."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from .batching import in_batches
from .embeddings import SUFFIXES, CatalogError, Embeddings, Floats, checked_ids


def open_shards(folder: Path, vectors: str | None = None, ids: str | None = None) -> Embeddings:
    """The files of a folder that end as embeddings do; hidden ones and "_SUCCESS" aside.

    vectors, ids: as `Embeddings.open` takes them, of every file.
    Raises:
        CatalogError: there is none, or one can't be read, or they don't fit together.
    """
    paths = sorted(
        path
        for path in folder.iterdir()
        if path.suffix in SUFFIXES and not path.name.startswith((".", "_"))
    )
    if not paths:
        raise CatalogError(f"{folder} is a folder without embeddings ({', '.join(SUFFIXES)})")
    return ShardedEmbeddings(
        str(folder), [Embeddings.open(path, vectors=vectors, ids=ids) for path in paths]
    )


class ShardedEmbeddings(Embeddings):
    """The rows of several sources, one after the other."""

    def __init__(self, name: str, shards: list[Embeddings]) -> None:
        first = shards[0]
        for shard in shards:
            if shard.width != first.width:
                raise CatalogError(
                    f"{shard.name} has vectors of width {shard.width}, {first.name} of "
                    f"{first.width}: shards of one catalog have one width"
                )
            if _names(shard) != _names(first):
                raise CatalogError(
                    f"{shard.name} names its items by {_names(shard)}, {first.name} by "
                    f"{_names(first)}: shards of one catalog name them one way"
                )
        self.name, self.width = name, first.width
        self.files = tuple(chain.from_iterable(shard.files for shard in shards))
        self._shards = shards
        self._ends = np.cumsum([shard.rows for shard in shards])
        self.rows = int(self._ends[-1])
        self.item_ids = None
        if first.item_ids is not None:
            self.item_ids = checked_ids(
                pa.concat_arrays([shard.item_ids for shard in shards]), f"{name}: the item ids"
            )

    def batches(self, size: int = 16_384) -> Iterator[Floats]:
        return in_batches(chain.from_iterable(shard.batches(size) for shard in self._shards), size)

    def batches_of(self, index: NDArray[np.int64], size: int = 16_384) -> Iterator[Floats]:
        parts = self._split(index)
        return in_batches(
            chain.from_iterable(shard.batches_of(rows, size) for shard, rows in parts), size
        )

    def _slice(self, start: int, stop: int) -> NDArray[Any]:
        return self._take(np.arange(start, stop))

    def _take(self, index: NDArray[np.int64]) -> NDArray[Any]:
        order = np.argsort(index, kind="stable")
        taken = np.empty((len(index), self.width), dtype=np.float32)
        done = 0
        for shard, rows in self._split(index[order]):
            taken[order[done : done + len(rows)]] = shard.take(rows)
            done += len(rows)
        return taken

    def _choice(self) -> str:
        return " ".join(shard._choice() for shard in self._shards)

    def _split(self, index: NDArray[np.int64]) -> Iterator[tuple[Embeddings, NDArray[np.int64]]]:
        """The shards that have some of the rows, which ascend, and which of their own."""
        cuts = np.searchsorted(index, self._ends)
        for shard, rows, end in zip(self._shards, np.split(index, cuts), self._ends):
            if len(rows):
                yield shard, rows - (end - shard.rows)


def _names(shard: Embeddings) -> str:
    return "row number" if shard.item_ids is None else str(shard.item_ids.type)
