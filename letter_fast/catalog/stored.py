"""A matrix that stays in its file and is read piece by piece, as long as the file stays the same.

It is read, not mapped: where a mapped file shrinks, the system kills the process, and where one is
written to, rows of before and after mix in silence. Reading is as fast, since nothing is copied
twice.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from .errors import CatalogError

# A system call takes as long as copying some 16 KiB; so closer rows are read with what lies between
# them. Longer pieces than the second gain nothing.
_GAP_BYTES, _PIECE_BYTES = 1 << 14, 1 << 22


class FileState:
    """The state of a file, which tells whether it was replaced or written to."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._state = _state(path.stat())

    def check(self, handle: int | None = None) -> None:
        """CatalogError if it has changed. handle: of the file, if it is open; about 1 µs"""
        try:
            now = _state(os.stat(self._path) if handle is None else os.fstat(handle))
        except OSError:
            now = None
        if now != self._state:
            raise CatalogError(
                f"{self._path} has changed while it was read: start again when nothing writes to it"
            )


class StoredMatrix:
    """Rows of a file, by slices and by arrays of row numbers, as arrays of their own.

    offset: bytes before the first number; dtype: as it is stored; by_column: in Fortran's order.
    view: a torch dtype that NumPy lacks, which `dtype` is only the bytes of; read as float32.
    Raises:
        CatalogError: from any read, if the file has changed since.
    """

    def __init__(
        self,
        path: Path,
        state: FileState,
        offset: int,
        shape: tuple[int, int],
        dtype: np.dtype[Any],
        by_column: bool = False,
        view: torch.dtype | None = None,
    ) -> None:
        self.shape, self.dtype = shape, dtype
        self._path, self._state, self._offset = path, state, offset
        self._by_column, self._view = by_column, view
        self._row = shape[1] * dtype.itemsize
        self._gap = max(1, _GAP_BYTES // (dtype.itemsize if by_column else self._row))
        # By columns, a piece is as many reads as there are columns.
        self._piece = max(1, _PIECE_BYTES * (8 if by_column else 1) // self._row)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: slice | NDArray[np.int64]) -> NDArray[Any]:
        try:
            handle = os.open(self._path, os.O_RDONLY)
        except OSError as error:
            raise CatalogError(f"{self._path} can't be read any more: {error.strerror}") from error
        try:
            if isinstance(rows, slice):
                start, stop, _ = rows.indices(len(self))
                found = self._read(handle, start, stop)
            else:
                found = self._pick(handle, rows)
            # After the reading: what was read before this moment is of one state.
            self._state.check(handle)
        finally:
            os.close(handle)
        if self._view is None:
            return found
        return torch.from_numpy(np.ascontiguousarray(found)).view(self._view).float().numpy()

    def _pick(self, handle: int, index: NDArray[np.int64]) -> NDArray[Any]:
        if (index[1:] < index[:-1]).any():
            order = np.argsort(index, kind="stable")
            picked = np.empty((len(index), self.shape[1]), dtype=self.dtype)
            picked[order] = self._pick(handle, index[order])
            return picked
        picked = np.empty((len(index), self.shape[1]), dtype=self.dtype)
        steps = np.diff(index)
        distinct = bool((steps > 0).all())
        apart = (steps > self._gap) | (np.diff(index // self._piece) > 0)
        begins = np.flatnonzero(np.concatenate([[True], apart])[: len(index)])
        ends = np.append(begins[1:], len(index))[: len(begins)]
        parts = (begins, ends, index[begins], index[ends - 1])
        for begin, end, first, last in zip(*(part.tolist() for part in parts)):
            if distinct and last - first == end - begin - 1 and not self._by_column:
                self._fill(handle, picked[begin:end], first * self._row)
            else:
                picked[begin:end] = self._read(handle, first, last + 1)[index[begin:end] - first]
        return picked

    def _read(self, handle: int, start: int, stop: int) -> NDArray[Any]:
        rows, width = self.shape
        if not self._by_column:
            block = np.empty((stop - start, width), dtype=self.dtype)
            self._fill(handle, block, start * self._row)
            return block
        # Columns a power of two apart would share few places of the processor's cache.
        spare = 64 // self.dtype.itemsize
        block = np.empty((width, stop - start + spare), dtype=self.dtype)[:, : stop - start]
        for column, part in enumerate(block):
            self._fill(handle, part, (column * rows + start) * self.dtype.itemsize)
        return block.T

    def _fill(self, handle: int, block: NDArray[Any], place: int) -> None:
        """Reads contiguous `block` from byte `place` of the numbers on."""
        rest: Any = memoryview(block.reshape(-1).view(np.uint8))  # type: ignore[arg-type]
        place += self._offset
        while rest:
            count = os.preadv(handle, [rest], place)
            if count == 0:
                return  # the file has shrunk, which the check finds
            rest, place = rest[count:], place + count


def _state(stat: os.stat_result) -> tuple[int, int, int, int]:
    return stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns
