"""Embeddings in .parquet: a list column of vectors, usually with a column of item ids."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from .arrays import unmap
from .embeddings import CatalogError, Embeddings, Floats, checked_ids, reading

_UNPACKED_BYTES = 1 << 30
_ID_NAMES = ("item_id", "item", "id", "pid", "asin")


class ParquetEmbeddings(Embeddings):
    """Reads batches row group by row group.

    Random access needs the vectors unpacked, as float32: once, in memory, or where that is more
    than 1 GiB in a temporary file (see `tempfile`), which vanishes with the process.
    """

    def __init__(self, path: Path, vectors: str | None = None, ids: str | None = None) -> None:
        self.name = str(path)
        with reading(path):
            self._file = pq.ParquetFile(path)
            schema = self._file.schema_arrow
            self._column = _vector_column(path, schema, vectors)
            self.rows = self._file.metadata.num_rows
            if self.rows == 0:
                raise CatalogError(f"{path} is empty: it has no rows")
            id_column = _id_column(path, schema, ids)
            self.item_ids = (
                checked_ids(
                    self._file.read(columns=[id_column]).column(0).combine_chunks(),
                    f"{path}: column {id_column!r}",
                )
                if id_column
                else None
            )
        self.width = 0
        for _, block in self._blocks(rows=1):
            self.width = block.shape[1]
            break

    def batches(self, size: int = 16_384) -> Iterator[Floats]:
        pending: list[Floats] = []
        held = 0
        for start, block in self._blocks(size):
            pending.append(self.checked(block, np.arange(start, start + len(block))))
            held += len(block)
            while held >= size:
                joined = np.concatenate(pending)
                yield joined[:size]
                pending = [joined[size:]]
                held -= size
        if held:
            yield np.concatenate(pending)

    def _slice(self, start: int, stop: int) -> NDArray[Any]:
        return self._unpacked[start:stop]

    def _take(self, index: NDArray[np.int64]) -> NDArray[Any]:
        unmap(self._unpacked)
        return self._unpacked[index]

    @cached_property
    def _unpacked(self) -> Floats:
        shape = (self.rows, self.width)
        matrix: Floats
        if self.rows * self.width * 4 <= _UNPACKED_BYTES:
            matrix = np.empty(shape, np.float32)
        else:
            with tempfile.TemporaryFile() as file:
                matrix = np.memmap(file, np.float32, "w+", shape=shape)
        start = 0
        for batch in self.batches():
            matrix[start : start + len(batch)] = batch
            start += len(batch)
            unmap(matrix)
        return matrix

    def _blocks(self, rows: int) -> Iterator[tuple[int, NDArray[Any]]]:
        """(first row, vectors) of consecutive pieces of about `rows` rows."""
        start = 0
        batches = self._file.iter_batches(batch_size=rows, columns=[self._column])
        while True:
            with reading(Path(self.name)):
                batch = next(batches, None)
                if batch is None:
                    return
                block = self._vectors(batch.column(0), start)
            if len(block):
                yield start, block
            start += len(block)

    def _vectors(self, column: pa.Array, start: int) -> NDArray[Any]:
        """One piece of the list column as a matrix."""
        where = f"{self.name}: column {self._column!r}"
        if column.null_count:
            row = start + int(column.is_null().to_numpy(zero_copy_only=False).argmax())
            raise CatalogError(f"{where} has no vector in row {row}")
        lengths = column.value_lengths().to_numpy(zero_copy_only=False)
        width = self.width or (int(lengths[0]) if len(lengths) else 0)
        if (lengths != width).any():
            row = int((lengths != width).argmax())
            raise CatalogError(
                f"{where} has a vector of width {lengths[row]} in row {start + row}, the rows "
                f"before it have {width}"
            )
        if width == 0:
            raise CatalogError(f"{where} holds empty vectors")
        values = column.flatten()
        if values.null_count:
            place = int(values.is_null().to_numpy(zero_copy_only=False).argmax())
            raise CatalogError(
                f"{where} has a null inside the vector of row {start + place // width}"
            )
        block: NDArray[Any] = values.to_numpy(zero_copy_only=False).reshape(-1, width)
        return block


def _vector_column(path: Path, schema: pa.Schema, wanted: str | None) -> str:
    lists: list[str] = [
        field.name
        for field in schema
        if (
            pa.types.is_list(field.type)
            or pa.types.is_large_list(field.type)
            or pa.types.is_fixed_size_list(field.type)
        )
        and pa.types.is_floating(field.type.value_type)
    ]
    there = ", ".join(f"{field.name} ({field.type})" for field in schema)
    if wanted is not None:
        if wanted not in lists:
            raise CatalogError(
                f"{path} has no column {wanted!r} of float lists; its columns are {there}"
            )
        return wanted
    if len(lists) == 1:
        return lists[0]
    if "embedding" in lists:
        return "embedding"
    problem = "several columns" if lists else "no column"
    raise CatalogError(
        f"{path} has {problem} of float lists, one is needed (or name it); its columns are {there}"
    )


def _id_column(path: Path, schema: pa.Schema, wanted: str | None) -> str | None:
    names = [
        field.name
        for field in schema
        if pa.types.is_integer(field.type)
        or pa.types.is_string(field.type)
        or pa.types.is_large_string(field.type)
    ]
    if wanted is not None:
        if wanted not in names:
            raise CatalogError(
                f"{path} has no column {wanted!r} of strings or integers; it has "
                f"{', '.join(names) if names else 'none'}"
            )
        return wanted
    known = [name for name in _ID_NAMES if name in names]
    if known:
        return known[0]
    return names[0] if len(names) == 1 else None
