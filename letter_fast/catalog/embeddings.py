"""The common face of all sources of embeddings."""

from __future__ import annotations

import hashlib
import os
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from torch import Tensor

from letter_fast.paths import local_path

Floats = NDArray[np.float32]

SUFFIXES = (".npy", ".parquet", ".safetensors")
# Rows per block where nobody asks for a size: fingerprints, checks.
BLOCK_ROWS = 16_384


class CatalogError(ValueError):
    """A source can't be read; one line says which, where, what was expected and what to do."""


class Embeddings(ABC):
    """N vectors of one width, in a fixed order, perhaps with item ids.

    name: what messages call the source; rows N; width S; item_ids: [N] or None (then items are
    their row numbers); files: those that hold all of it, if any do.
    """

    name: str
    rows: int
    width: int
    item_ids: pa.Array | None
    files: tuple[Path, ...] = ()

    @staticmethod
    def open(source: Any, *, vectors: str | None = None, ids: str | None = None) -> Embeddings:
        """Any supported source.

        source: a path (.npy memory-mapped, .parquet, .safetensors, or a folder of these as shards,
            in order of their names), a float array or tensor [N, S], a pair (item ids, array), an
            iterator of arrays or pairs, which is read once, to disk, or Embeddings.
        vectors: the column (.parquet) or tensor (.safetensors) that holds the vectors, where the
            file does not make it plain.
        ids: the column that holds the item ids, likewise.
        Raises:
            CatalogError: the source is absent, broken, empty, of an unsupported kind or shape.
        """
        from .arrays import ArrayEmbeddings, open_npy, open_safetensors
        from .parquet import ParquetEmbeddings
        from .sharded import open_shards
        from .spooled import spool

        if isinstance(source, Embeddings):
            return source
        if isinstance(source, str | os.PathLike):
            path = local_path(source)
            if path.is_dir():
                return open_shards(path, vectors, ids)
            if not path.is_file():
                raise CatalogError(f"{path} does not exist")
            if path.suffix == ".npy" and vectors is not None:
                raise CatalogError(f"{path} holds one array; there is no {vectors!r} to choose")
            if path.suffix in (".npy", ".safetensors") and ids is not None:
                raise CatalogError(f"{path} can't hold item ids; only .parquet has columns")
            if path.suffix == ".npy":
                return open_npy(path)
            if path.suffix == ".safetensors":
                return open_safetensors(path, vectors)
            if path.suffix == ".parquet":
                return ParquetEmbeddings(path, vectors, ids)
            raise CatalogError(
                f"{path} has no known suffix; embeddings come as {', '.join(SUFFIXES)}"
            )
        if isinstance(source, np.ndarray | Tensor):
            return ArrayEmbeddings("the array", source)
        if isinstance(source, tuple) and len(source) == 2:
            return ArrayEmbeddings("the array", source[1], checked_ids(source[0], "the item ids"))
        if isinstance(source, Iterator):
            return spool(source)
        raise CatalogError(
            f"embeddings must be a path, an array, a tensor, (ids, array) or an iterator of "
            f"these, got {type(source).__name__}"
        )

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
        """Another where the source has changed; of files nothing but their state is read.

        That is their names, sizes and times of change; of other sources it is the fingerprint.
        """
        if not self.files:
            return self.fingerprint()
        digest = hashlib.sha256(f"{self.rows} {self.width} {self._choice()}".encode())
        for path in self.files:
            state = path.stat()
            digest.update(f"\n{path.name} {state.st_size} {state.st_mtime_ns}".encode())
        return digest.hexdigest()

    def _choice(self) -> str:
        """What was chosen of the files: say, a column."""
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
    if len(shape) != 2:
        raise CatalogError(f"{name} must be a matrix [items, width], got shape {list(shape)}")
    if not floating:
        raise CatalogError(f"{name} must hold float16, float32 or float64, got {dtype}")
    if 0 in shape:
        raise CatalogError(f"{name} is empty: shape {list(shape)}")


def checked_ids(values: Any, name: str) -> pa.Array:
    """Item ids as strings or int64, none of them null or repeated."""
    try:
        ids = values if isinstance(values, pa.Array) else pa.array(values)
    except (pa.ArrowException, TypeError, ValueError) as error:
        raise CatalogError(f"{name} must all be strings, or all integers: {error}") from error
    if pa.types.is_integer(ids.type):
        ids = ids.cast(pa.int64())
    elif pa.types.is_string(ids.type) or pa.types.is_large_string(ids.type):
        ids = ids.cast(pa.string())
    else:
        raise CatalogError(f"{name} must be strings or integers, got {ids.type}")
    if ids.null_count:
        first = ids.is_null().to_numpy(zero_copy_only=False).argmax()
        raise CatalogError(f"{name}: {ids.null_count} are null, the first in row {first}")
    if _all_differ(ids):
        return ids
    codes = ids.dictionary_encode().indices.to_numpy(zero_copy_only=False)
    seen = np.unique(codes, return_index=True)[1]
    repeat = int(np.setdiff1d(np.arange(len(codes)), seen)[0])
    raise CatalogError(
        f"{name}: {len(codes) - len(seen)} are repeated, the first is {ids[repeat].as_py()!r} "
        f"in row {repeat}; item ids must be unique"
    )


def _all_differ(ids: pa.Array) -> bool:
    """Whether no id comes twice. Numbers are sorted: a hash table would take ten times the room."""
    if pa.types.is_string(ids.type):
        return len(ids.dictionary_encode().dictionary) == len(ids)
    numbers = np.sort(ids.to_numpy())
    return bool((numbers[1:] != numbers[:-1]).all())


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turns whatever a broken file makes its reader raise into one CatalogError."""
    try:
        yield
    except CatalogError:
        raise
    except Exception as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise CatalogError(
            f"{path} can't be read as {path.suffix[1:]} (truncated or corrupt?): {reason}"
        ) from error
