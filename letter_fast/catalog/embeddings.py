"""The common face of all sources of embeddings."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .columns import Columns, Flags, Wanted
from .errors import CatalogError, EmptySource
from .item_ids import ItemIds

Floats = NDArray[np.float32]

# Rows per block where no size is given.
BLOCK_ROWS = 16_384


class Embeddings(ABC):
    """N vectors of one width, in a fixed order, perhaps with item ids.

    Rows are read block by block (`batches`), some of them (`take`, `batches_of`), or all at once
    (`read`); always as finite float32.

    name: what messages call the source; rows N; width S; item_ids: [N], or None (then items are
    their row numbers); files: those that hold all of it, if any do;
    columns: what was chosen of a source that has columns.
    """

    name: str
    rows: int
    width: int
    item_ids: ItemIds | None
    files: tuple[Path, ...] = ()
    columns: Columns = Columns()

    # `opening.open_source`, which knows all kinds of sources; set in `catalog/__init__`.
    _open: ClassVar[Callable[[Any, Wanted], Embeddings]]

    @staticmethod
    def open(
        source: Any,
        *,
        vectors: str | None = None,
        ids: str | None = None,
        usual: Columns | None = None,
        flags: Flags | None = None,
    ) -> Embeddings:
        """Any supported source.

        source: a path (.npy memory-mapped, .parquet, .safetensors, or a folder of these as shards),
            a float array or tensor [N, S] or a list of rows, a table (pandas, Arrow, polars, …), a
            pair (item ids, array), an iterator of any of these, read once, to disk, or Embeddings.
        vectors: the column (.parquet, table) or tensor (.safetensors) that holds the vectors, where
            the source does not make it plain.
        ids: the column that holds the item ids, likewise, see `columns`; "row": row numbers.
        usual: what to take where neither is said, say of the model that was trained with it.
        flags: what errors call these choices.
        Raises:
            CatalogError: the source is absent, broken, empty, of an unsupported kind or shape, or
                leaves open which column is which.
        """
        return Embeddings._open(source, Wanted(vectors, ids, usual or Columns(), flags or Flags()))

    @property
    def named_by(self) -> str:
        """The source of the item ids, in plain words."""
        if self.item_ids is None:
            return "row numbers"
        return f"column {self.columns.ids!r}" if self.columns.ids else "the ids given"

    def batches(self, size: int = BLOCK_ROWS) -> Iterator[Floats]:
        """All rows in order, `size` at a time (the last batch may be shorter), float32 and finite.

        Raises:
            CatalogError: rows hold NaN or Inf, or leave the range of float32.
        """
        for start in range(0, self.rows, size):
            stop = min(start + size, self.rows)
            yield self.checked(self._slice(start, stop), np.arange(start, stop))

    def batches_of(self, index: NDArray[np.int64], size: int = BLOCK_ROWS) -> Iterator[Floats]:
        """As `batches`, but only the rows of `index`, which must ascend."""
        for start in range(0, len(index), size):
            yield self.take(index[start : start + size])

    def read(self, device: torch.device | str | None = None) -> Tensor:
        """All rows in one tensor, [N, S] float32 on `device`; errors as `batches`."""
        rows = torch.empty(self.rows, self.width, device=device)
        begin = 0
        for batch in self.batches():
            rows[begin : begin + len(batch)] = torch.from_numpy(batch)
            begin += len(batch)
        return rows

    def take(self, index: NDArray[np.int64]) -> Floats:
        """The rows of `index` in its order, float32 and finite; errors as `batches`."""
        return self.checked(self._take(index), index, copy=False)

    def check_width(self, expected: int) -> None:
        """Refuses vectors that are not as wide as a model expects."""
        if self.width != expected:
            raise CatalogError(
                f"{self.name} has vectors of width {self.width}, the model expects {expected}"
            )

    def version(self) -> str:
        """A string that changes when the source does.

        Of files, only names, sizes and times of change are read; of other sources it is the
        fingerprint.
        """
        if not self.files:
            return self.fingerprint()
        digest = hashlib.sha256(f"{self.rows} {self.width} {self._choice()}".encode())
        for path in self.files:
            state = path.stat()
            digest.update(f"\n{path.name} {state.st_size} {state.st_mtime_ns}".encode())
        return digest.hexdigest()

    def _choice(self) -> str:
        """The choice made within the files, such as a column."""
        return ""

    def fingerprint(self) -> str:
        """SHA-256 of shape, ids and float32 content: the same for the same data in any format."""
        return self._fingerprint

    @cached_property
    def _fingerprint(self) -> str:
        digest = hashlib.sha256(f"{self.rows} {self.width}".encode())
        for batch in self.batches():
            digest.update(batch.tobytes())
        if self.item_ids is not None:
            digest.update("\n".join(map(str, self.item_ids.to_pylist())).encode())
        return digest.hexdigest()

    @abstractmethod
    def _slice(self, start: int, stop: int) -> NDArray[Any]:
        """Rows start … stop − 1 as the source holds them."""

    @abstractmethod
    def _take(self, index: NDArray[np.int64]) -> NDArray[Any]:
        """A copy of any rows in any order, as the source holds them."""

    def checked(self, block: NDArray[Any], index: NDArray[np.int64], copy: bool = True) -> Floats:
        """`block`, rows `index` of the source, as finite float32; CatalogError otherwise.

        copy: even where `block` is float32 already.
        """
        with np.errstate(over="ignore", invalid="ignore"):
            result = block.astype(np.float32, order="C", copy=copy)
        good = np.asarray(np.isfinite(result).all(axis=1))
        if not good.all():
            first = int(np.flatnonzero(~good)[0])
            finite = np.isfinite(block[first]).all()
            reason = "leaves the range of float32" if finite else "holds NaN or Inf"
            raise CatalogError(
                f"{self.name}: row {index[first]} {reason} ({(~good).sum()} such rows among "
                f"{len(good)} read); repair or drop them"
            )
        return result


def check_shape(name: str, shape: tuple[int, ...], dtype: str, floating: bool) -> None:
    """Refuses what is not a non-empty floating-point matrix."""
    if shape[:1] == (0,):
        raise EmptySource(f"{name} is empty: shape {list(shape)}")
    if len(shape) != 2:
        raise CatalogError(f"{name} must be a matrix [items, width], got shape {list(shape)}")
    if not floating:
        raise CatalogError(f"{name} must hold float16, float32 or float64, got {dtype}")
    if 0 in shape:
        raise CatalogError(f"{name} is empty: shape {list(shape)}")
