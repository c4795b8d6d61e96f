"""A folder of files as one catalog.

Files and folders whose names begin with "." or "_" are aside, as Spark and Arrow have it, and so
are README, LICENSE, *.md and *.crc. Folders called key=value are partitions of the catalog. What
else is there that isn't embeddings is refused by name: part of the catalog might be in it.

Shards come in the order of the numbers in their names. Where items have ids, that is all there is
to it; where rows are numbered, the order decides which item is which, so it must be beyond doubt.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from itertools import chain, pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .batching import in_batches
from .columns import Wanted
from .embeddings import BLOCK_ROWS, Embeddings, Floats
from .errors import CatalogError, EmptySource
from .item_ids import ItemIds, concat

# The suffixes, whatever their case, and how such files are read.
FORMATS = {
    ".npy": "npy", ".parquet": "parquet", ".pq": "parquet", ".safetensors": "safetensors",
}  # fmt: skip
_ASIDE = re.compile(r"[._].*|readme.*|license.*|.*\.md|.*\.crc", re.IGNORECASE | re.DOTALL)
_PARTITION = re.compile(r"[^=]+=.*", re.DOTALL)
# Their folders hold the files of earlier versions too.
_LAKES = {"_delta_log": "Delta Lake", ".hoodie": "Hudi"}
_NUMBER = re.compile(r"([0-9]+)")


def open_shards(
    folder: Path, wanted: Wanted, open_file: Callable[[Path, Wanted], Embeddings]
) -> Embeddings:
    """The shards of a folder, those without rows left out.

    wanted: of every file; open_file: opens one.
    Raises:
        CatalogError: there is none, or one can't be read, or they don't fit together.
    """
    paths = sorted(_shard_paths(folder), key=lambda path: _order(folder, path))
    if not paths:
        raise CatalogError(f"{folder} is a folder without embeddings ({', '.join(FORMATS)})")
    shards = []
    for path in paths:
        try:
            shards.append(open_file(path, wanted))
        except EmptySource:
            continue
    if not shards:
        raise EmptySource(f"{folder} is empty: none of its {len(paths)} shards has rows")
    if shards[0].item_ids is None:
        _refuse_unknown_order(folder, [shard.files[0] for shard in shards])
    return ShardedEmbeddings(str(folder), shards)


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
            if not _named_alike(shard, first):
                raise CatalogError(
                    f"{shard.name} names its items by {_names(shard)}, {first.name} by "
                    f"{_names(first)}: shards of one catalog name them one way"
                )
        self.name, self.width, self.columns = name, first.width, first.columns
        self.files = tuple(chain.from_iterable(shard.files for shard in shards))
        self._shards = shards
        self._ends = np.cumsum([shard.rows for shard in shards])
        self.rows = int(self._ends[-1])
        self.item_ids = None
        if first.item_ids is not None:
            parts = [shard.item_ids.array for shard in shards if shard.item_ids is not None]
            self.item_ids = ItemIds(concat(parts), f"{name}: the item ids", self._place)

    def batches(self, size: int = BLOCK_ROWS) -> Iterator[Floats]:
        return in_batches(chain.from_iterable(shard.batches(size) for shard in self._shards), size)

    def batches_of(self, index: NDArray[np.int64], size: int = BLOCK_ROWS) -> Iterator[Floats]:
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

    def _place(self, row: int) -> str:
        shard = int(np.searchsorted(self._ends, row, side="right"))
        within = row - int(self._ends[shard]) + self._shards[shard].rows
        return f"row {within} of {self._shards[shard].name}"

    def _split(self, index: NDArray[np.int64]) -> Iterator[tuple[Embeddings, NDArray[np.int64]]]:
        """The shards that have some of the rows, which ascend, and which of their own."""
        cuts = np.searchsorted(index, self._ends)
        for shard, rows, end in zip(self._shards, np.split(index, cuts), self._ends):
            if len(rows):
                yield shard, rows - (end - shard.rows)


def _shard_paths(folder: Path) -> Iterator[Path]:
    """All files of a folder and of its partitions that are embeddings."""
    for entry in folder.iterdir():
        if entry.name in _LAKES:
            raise CatalogError(
                f"{folder} is a table of {_LAKES[entry.name]}, whose files hold earlier versions "
                "of rows too: write what it holds now to a parquet file"
            )
        if _ASIDE.fullmatch(entry.name):
            continue
        if entry.is_dir():
            if not _PARTITION.fullmatch(entry.name):
                raise CatalogError(
                    f"{folder} has a folder {entry.name!r} in it, which may or may not belong to "
                    "the catalog: move it away, or its files up (only folders called key=value are "
                    "read)"
                )
            yield from _shard_paths(entry)
        elif entry.suffix.lower() in FORMATS:
            yield entry
        elif entry.suffix == ".arrow" or entry.name == "dataset_dict.json":
            raise CatalogError(
                f"{folder} has {entry.name} in it, as datasets of Hugging Face are saved: write "
                "it by dataset.to_parquet"
            )
        else:
            raise CatalogError(
                f"{folder} has {entry.name!r} in it, which holds no embeddings that can be read "
                f"({', '.join(FORMATS)}): move it away"
            )


def _order(folder: Path, path: Path) -> list[tuple[str, int]]:
    """By the numbers in it, and between them by text."""
    parts = _NUMBER.split(path.relative_to(folder).as_posix())
    return [
        (text, int(number)) for text, number in zip(parts[::2], [*parts[1::2], "-1"], strict=True)
    ]


def _refuse_unknown_order(folder: Path, paths: list[Path]) -> None:
    """Row numbers need shards whose names differ in numbers only, or that have no numbers."""
    keys = [_order(folder, path) for path in paths]
    numbered = any(len(key) > 1 for key in keys)
    for (one, before), (other, after) in pairwise(zip(paths, keys)):
        alike = [text for text, _ in before] == [text for text, _ in after]
        twice = one.with_suffix("") == other.with_suffix("")
        if before == after or twice or (numbered and not alike):
            raise CatalogError(
                f"{folder}: whether the rows of {one.relative_to(folder)} come before those of "
                f"{other.relative_to(folder)} can't be told from their names, and items are row "
                "numbers: give them ids, or names that differ in one number"
            )


def _named_alike(shard: Embeddings, other: Embeddings) -> bool:
    if shard.item_ids is None or other.item_ids is None:
        return shard.item_ids is other.item_ids
    return shard.columns.ids == other.columns.ids and shard.item_ids.kind == other.item_ids.kind


def _names(shard: Embeddings) -> str:
    if shard.item_ids is None:
        return "row number"
    return f"column {shard.columns.ids!r}, {shard.item_ids.kind}"
