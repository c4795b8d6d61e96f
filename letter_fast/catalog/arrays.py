"""Embeddings that support random access: arrays, tensors, .npy and .safetensors."""

from __future__ import annotations

import json
import mmap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from safetensors import safe_open
from torch import Tensor

from .columns import ROW, Columns, Wanted, is_known
from .embeddings import BLOCK_ROWS, Embeddings, Floats, check_shape
from .errors import CatalogError, reading
from .item_ids import ItemIds
from .stored import FileState, StoredMatrix

# Of a larger mapped file only the last read stays mapped, so that the process does not grow by all
# that it ever read; the pages stay in the system's cache.
_MAPPED_BYTES = 1 << 28


class ArrayEmbeddings(Embeddings):
    """A matrix in memory, memory-mapped or in a file."""

    def __init__(
        self,
        name: str,
        matrix: NDArray[Any] | Tensor | StoredMatrix,
        item_ids: ItemIds | None = None,
        files: tuple[Path, ...] = (),
        columns: Columns | None = None,
    ) -> None:
        if isinstance(matrix, StoredMatrix):
            floating = True
        elif isinstance(matrix, Tensor):
            floating = matrix.is_floating_point()
            matrix = matrix.detach().cpu()
        else:
            floating = np.issubdtype(matrix.dtype, np.floating) and matrix.dtype.itemsize <= 8
        check_shape(name, tuple(matrix.shape), str(matrix.dtype), floating)
        if item_ids is not None and len(item_ids) != len(matrix):
            raise CatalogError(f"{name} has {len(matrix)} rows but {len(item_ids)} item ids")
        self.name, self.item_ids, self.files = name, item_ids, files
        self.columns = columns or Columns()
        self.rows, self.width = matrix.shape
        self._matrix = matrix

    def batches(self, size: int = BLOCK_ROWS) -> Iterator[Floats]:
        read = isinstance(self._matrix, StoredMatrix)  # a block that no one else holds
        for start in range(0, self.rows, size):
            stop = min(start + size, self.rows)
            yield self.checked(self._slice(start, stop), np.arange(start, stop), copy=not read)

    def _slice(self, start: int, stop: int) -> NDArray[Any]:
        unmap(self._matrix)
        return _numpy(self._matrix[start:stop])

    def _take(self, index: NDArray[np.int64]) -> NDArray[Any]:
        parts = []
        for near in self._within_reach(index):
            unmap(self._matrix)
            parts.append(_numpy(self._matrix[near]))
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def _within_reach(self, index: NDArray[np.int64]) -> list[NDArray[np.int64]]:
        """Pieces of `index`; of a large file, ascending rows that lie far apart come separately.

        The system maps what lies around a row with it: a few rows everywhere map all of the file.
        """
        matrix = self._matrix
        if not isinstance(matrix, np.memmap) or matrix.nbytes <= _MAPPED_BYTES or len(index) == 0:
            return [index]
        if (index[1:] < index[:-1]).any():
            return [index]
        reach = max(1, _MAPPED_BYTES // 4 // matrix[:1].nbytes)
        cuts = np.searchsorted(index, np.arange(reach, self.rows, reach))
        return [part for part in np.split(index, cuts) if len(part)]

    def _choice(self) -> str:
        return self.columns.vectors or ""


def as_array(values: Any) -> NDArray[Any] | Tensor:
    """A matrix in memory: an array or tensor as it is, a list of rows as an array.

    Raises:
        CatalogError: it is none of these, or some of it is hidden by a mask or not there at all.
    """
    if isinstance(values, Tensor):
        if values.layout != torch.strided or values.is_meta or values.is_quantized:
            raise CatalogError("the array must be a dense tensor of numbers: pass x.to_dense()")
        return values
    if isinstance(values, np.ma.MaskedArray):
        raise CatalogError("the array is masked: drop those rows, or fill them, and pass x.data")
    if isinstance(values, np.ndarray):
        return values
    if not isinstance(values, list):
        raise CatalogError(f"the array must be an array or a tensor, got {type(values).__name__}")
    if not all(isinstance(row, list | tuple | np.ndarray) and np.ndim(row) == 1 for row in values):
        raise CatalogError(
            "a list of embeddings must hold rows of numbers; of whole batches pass iter(…)"
        )
    if len(widths := {len(row) for row in values}) > 1:
        raise CatalogError(f"rows of the list have {min(widths)} to {max(widths)} numbers")
    return np.array(values)


def open_npy(path: Path) -> ArrayEmbeddings:
    """A .npy file, of which rows are read when they are wanted."""
    with reading(path):
        state = FileState(path)
        with path.open("rb") as file:
            begin = file.read(6)
        for other, what in ((b"PK", "an archive (.npz, .pt)"), (b"\x80", "a pickle")):
            if begin.startswith(other):
                raise CatalogError(f"{path} is {what}, not one array: write it by numpy.save")
        if begin and begin != b"\x93NUMPY":
            raise CatalogError(f"{path} doesn't begin as .npy files do: write it by numpy.save")
        try:
            mapped = np.load(path, mmap_mode="r", allow_pickle=False)  # touches the header only
        except ValueError as error:
            if "Python objects" in str(error):
                raise CatalogError(
                    f"{path} holds Python objects, not numbers: write a float matrix, say "
                    "numpy.stack(rows)"
                ) from error
            raise
        floating = np.issubdtype(mapped.dtype, np.floating) and mapped.dtype.itemsize <= 8
        check_shape(str(path), mapped.shape, str(mapped.dtype), floating)
        check_one_array(path, mapped)
        by_column = not mapped.flags.c_contiguous
        matrix = StoredMatrix(path, state, mapped.offset, mapped.shape, mapped.dtype, by_column)
        return ArrayEmbeddings(str(path), matrix, files=(path,))


def check_one_array(path: Path, mapped: np.memmap[Any, Any]) -> None:
    """Refuses a .npy file that goes on after the array that `np.load` has mapped of it."""
    if more := path.stat().st_size - mapped.offset - mapped.nbytes:
        raise CatalogError(
            f"{path} goes on for {more} bytes after its array of {len(mapped)} rows: "
            "a second array saved into the same file would be left out; write one array a file"
        )


def open_safetensors(path: Path, wanted: Wanted) -> ArrayEmbeddings:
    """The matrix of a .safetensors file: the one that is wanted, or the only one.

    Tensors [N] beside it are columns, of which one may hold the ids.
    """
    with reading(path), safe_open(path, framework="pt") as file:
        state = FileState(path)
        shapes = {name: file.get_slice(name).get_shape() for name in sorted(file.keys())}
        names = [name for name, shape in shapes.items() if len(shape) == 2]
        vectors = wanted.vectors or wanted.usual.vectors
        if vectors is not None and vectors not in names:
            raise CatalogError(f"{path} has no matrix {vectors!r}; it has {', '.join(names)}")
        if vectors is None and len(names) != 1:
            raise CatalogError(
                f"{path} must hold one matrix, or be told which ({wanted.flags.vectors} NAME): it "
                f"has {', '.join(names) if names else 'none'}"
            )
        chosen = vectors or names[0]
        rows = shapes[chosen][0]
        beside = [
            (name, _arrow_type(file.get_slice(name)[:0].dtype))
            for name, shape in shapes.items()
            if len(shape) == 1 and (shape[0] == rows or is_known(name) or name == wanted.ids)
        ]
        columns = Columns(chosen, wanted.choose_ids(path, pa.schema(beside)))
        ids = None
        if columns.ids not in (None, ROW):
            tensor = file.get_tensor(columns.ids)
            ids = ItemIds(tensor, f"{path}: tensor {columns.ids!r}")
        matrix = _stored(path, state, chosen)
        return ArrayEmbeddings(str(path), matrix, ids, (path,), columns)


def _arrow_type(dtype: torch.dtype) -> pa.DataType:
    if dtype.is_floating_point or dtype.is_complex:
        return pa.float32()
    return pa.from_numpy_dtype(torch.empty(0, dtype=dtype).numpy().dtype)


# What NumPy calls the dtypes of .safetensors; of those it lacks, their bytes, and what torch does.
_DTYPES: dict[str, tuple[type, torch.dtype | None]] = {
    "F64": (np.float64, None),
    "F32": (np.float32, None),
    "F16": (np.float16, None),
    "BF16": (np.uint16, torch.bfloat16),
    "F8_E4M3": (np.uint8, torch.float8_e4m3fn),
    "F8_E5M2": (np.uint8, torch.float8_e5m2),
}


def _stored(path: Path, state: FileState, name: str) -> StoredMatrix:
    """A matrix of a .safetensors file that `safe_open` has found sound."""
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        facts = json.loads(file.read(length))[name]
    check_shape(str(path), tuple(facts["shape"]), facts["dtype"], facts["dtype"] in _DTYPES)
    kind, view = _DTYPES[facts["dtype"]]
    offset = 8 + length + facts["data_offsets"][0]
    dtype = np.dtype(kind).newbyteorder("<")
    return StoredMatrix(path, state, offset, tuple(facts["shape"]), dtype, view=view)


def unmap(matrix: NDArray[Any] | Tensor | StoredMatrix) -> None:
    """Releases the pages of a large memory-mapped matrix; reading rows maps theirs again."""
    if not isinstance(matrix, np.memmap) or matrix.nbytes <= _MAPPED_BYTES:
        return
    mapping: Any = matrix.base
    # The changes of a copy-on-write mapping are nowhere else.
    if matrix.mode != "c" and isinstance(mapping, mmap.mmap) and hasattr(mmap, "MADV_DONTNEED"):
        mapping.madvise(mmap.MADV_DONTNEED)


def _numpy(block: NDArray[Any] | Tensor) -> NDArray[Any]:
    if isinstance(block, Tensor):
        # NumPy has no bfloat16; float64 stays, so that leaving float32's range is noticed.
        block = block if block.dtype == torch.float64 else block.float()
        return block.numpy()
    return block
