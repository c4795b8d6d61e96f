"""Embeddings in .parquet: a list column of vectors, usually with a column of item ids."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from .arrays import unmap
from .batching import in_batches
from .columns import ROW, Wanted
from .embeddings import BLOCK_ROWS, Embeddings, Floats
from .errors import CatalogError, EmptySource, reading
from .item_ids import ItemIds
from .spooled import naming_the_folder
from .stored import FileState

_UNPACKED_BYTES = 1 << 30


class ParquetEmbeddings(Embeddings):
    """Reads batches row group by row group, and of those no more than asked for.

    Access in any order needs the vectors unpacked, as float32: once, in memory, or where that is
    more than 1 GiB in a temporary file (see `tempfile`), which vanishes with the process.
    """

    def __init__(self, path: Path, wanted: Wanted) -> None:
        self.name, self.files = str(path), (path,)
        self._state = FileState(path)
        with reading(path), pq.ParquetFile(path) as file:
            self.rows = file.metadata.num_rows
            if self.rows == 0:
                raise EmptySource(f"{path} is empty: it has no rows")
            self.columns = wanted.choose(path, file.schema_arrow)
            self._column = str(self.columns.vectors)
            groups = [file.metadata.row_group(g).num_rows for g in range(file.num_row_groups)]
            self._group_ends = np.cumsum(groups)
            named = self.columns.ids
            self.item_ids = None
            if named not in (None, ROW):
                ids = file.read(columns=[named]).column(named)
                self.item_ids = ItemIds(ids, f"{path}: column {named!r}")
        self.width = 0
        for _, block in self._blocks(size=1):
            self.width = block.shape[1]
            break

    def batches(self, size: int = BLOCK_ROWS) -> Iterator[Floats]:
        return in_batches((self.checked(block, rows) for rows, block in self._blocks(size)), size)

    def batches_of(self, index: NDArray[np.int64], size: int = BLOCK_ROWS) -> Iterator[Floats]:
        groups = np.unique(np.searchsorted(self._group_ends, index, side="right"))
        return in_batches(self._chosen(index, size, groups), size)

    def _slice(self, start: int, stop: int) -> NDArray[Any]:
        return self._unpacked[start:stop]

    def _take(self, index: NDArray[np.int64]) -> NDArray[Any]:
        unmap(self._unpacked)
        return self._unpacked[index]

    def _choice(self) -> str:
        return self._column

    def _chosen(
        self, index: NDArray[np.int64], size: int, groups: NDArray[np.int64]
    ) -> Iterator[Floats]:
        """The rows of `index`, which lie in these row groups."""
        for rows, block in self._blocks(size, groups):
            here = index[slice(*np.searchsorted(index, [rows[0], rows[-1] + 1]))]
            if len(here):
                yield self.checked(block[np.searchsorted(rows, here)], here, copy=False)

    @cached_property
    def _unpacked(self) -> Floats:
        shape = (self.rows, self.width)
        matrix: Floats
        if self.rows * self.width * 4 <= _UNPACKED_BYTES:
            matrix = np.empty(shape, np.float32)
        else:
            with tempfile.TemporaryFile() as file:
                # Room first: of a mapped file, the system kills whom it can't give any.
                with naming_the_folder():
                    os.posix_fallocate(file.fileno(), 0, 4 * self.rows * self.width)
                matrix = np.memmap(file, np.float32, "r+", shape=shape)
        start = 0
        for batch in self.batches():
            matrix[start : start + len(batch)] = batch
            start += len(batch)
            unmap(matrix)
        return matrix

    def _blocks(
        self, size: int, groups: NDArray[np.int64] | None = None
    ) -> Iterator[tuple[NDArray[np.int64], NDArray[Any]]]:
        """Pieces of at most `size` rows, of all row groups or some: which rows, their vectors."""
        lengths = np.diff(self._group_ends, prepend=0)
        if groups is None:
            groups = np.arange(len(lengths))
        # Row r of those read is row r + skipped of the file.
        read = np.cumsum(lengths[groups])
        skipped = self._group_ends[groups] - read
        with self._reading():
            file = pq.ParquetFile(self.files[0])
        with file:
            batches = file.iter_batches(size, groups.tolist(), [self._column])
            done = 0
            while True:
                with self._reading():
                    batch = next(batches, None)
                    if batch is None:
                        return
                    rows = np.arange(done, done + len(batch))
                    rows += skipped[np.searchsorted(read, rows, side="right")]
                    where = f"{self.name}: column {self._column!r}"
                    block = as_matrix(batch.column(0), rows, where, self.width)
                done += len(batch)
                if len(block):
                    yield rows, block

    @contextmanager
    def _reading(self) -> Iterator[None]:
        """CatalogError also if the file has changed since it was opened."""
        try:
            with reading(self.files[0]):
                yield
        except CatalogError:
            self._state.check()
            raise
        self._state.check()


def as_matrix(
    column: pa.Array, rows: NDArray[np.int64], where: str, width: int = 0
) -> NDArray[Any]:
    """Rows `rows` of a list column as a matrix [n, width]; 0 is the width of the first.

    Raises:
        CatalogError: a vector or a number is missing, or lengths differ.
    """
    if column.null_count:
        row = rows[column.is_null().to_numpy(zero_copy_only=False).argmax()]
        raise CatalogError(f"{where} has no vector in row {row}")
    lengths = column.value_lengths().to_numpy(zero_copy_only=False)
    width = width or (int(lengths[0]) if len(lengths) else 0)
    if (lengths != width).any():
        place = int((lengths != width).argmax())
        raise CatalogError(
            f"{where} has a vector of width {lengths[place]} in row {rows[place]}, the rows "
            f"before it have {width}"
        )
    if width == 0:
        raise CatalogError(f"{where} holds empty vectors")
    values = column.flatten()
    if values.null_count:
        place = int(values.is_null().to_numpy(zero_copy_only=False).argmax())
        raise CatalogError(f"{where} has a null inside the vector of row {rows[place // width]}")
    block: NDArray[Any] = values.to_numpy(zero_copy_only=False).reshape(-1, width)
    return block
