"""The rows that k-means reads: in memory, or block by block from more than fits there.

Each pass yields the same rows in the same order; how they are split into blocks changes no result.
"""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from letter_fast import ops, validation

# Numbers in a block: 64 MB as float32.
_BLOCK_ELEMENTS = 1 << 24


class Rows(ABC):
    """count N rows of `width` D on one device."""

    name: str
    count: int
    width: int
    device: torch.device

    @abstractmethod
    def blocks(self) -> Iterator[Tensor]:
        """All rows in order, [n, D] float32, float16 or bfloat16 each."""

    @abstractmethod
    def less(self, table: Tensor) -> Rows:
        """The residuals of a codebook: fl32(x − its nearest codeword). table [K, D] float32"""

    def block_rows(self) -> int:
        return max(1, _BLOCK_ELEMENTS // max(self.width, 1))

    def sample(self, most: int, seed: int) -> tuple[Tensor, float]:
        """At most `most` random rows, in order; and the largest magnitude of all. One pass.

        -> [n, D] float32
        Raises:
            ValueError: rows hold NaN or Inf.
        """
        chosen = torch.arange(self.count)
        if self.count > most:
            generator = torch.Generator().manual_seed(seed % 2**63)
            chosen = torch.randperm(self.count, generator=generator)[:most].sort().values
        parts, largest, begin = [], 0.0, 0
        for block in self.blocks():
            low, high = block.aminmax()
            most_here = max(-float(low), float(high))
            if not most_here < float("inf"):
                self._refuse_nonfinite()
            largest = max(largest, most_here)
            first, last = torch.searchsorted(chosen, torch.tensor([begin, begin + len(block)]))
            here = chosen[first:last] - begin
            parts.append(block[here.to(block.device)].float())
            begin += len(block)
        return torch.cat(parts), largest

    def _refuse_nonfinite(self) -> None:
        """Says how many rows hold NaN or Inf, and which comes first."""
        finite = [block.isfinite().all(dim=1) for block in self.blocks()]
        validation.finite_codes(torch.cat(finite).long() - 1, self.name)


class RowsInMemory(Rows):
    """A tensor."""

    def __init__(self, x: Tensor, name: str = "x") -> None:
        self.name, self.x, self.device = name, x, x.device
        self.count, self.width = x.shape

    def blocks(self) -> Iterator[Tensor]:
        yield from self.x.split(self.block_rows())

    def less(self, table: Tensor) -> Rows:
        left = torch.empty(self.x.shape, dtype=torch.float32, device=self.device)
        for block, out in zip(self.blocks(), left.split(self.block_rows())):
            code, _ = ops.nearest(block, table, None)
            torch.sub(block.float(), table[code], out=out)
        return RowsInMemory(left, self.name)


class Source(Protocol):
    """N rows of `width` D that are read block by block: `letter_fast.catalog.Embeddings`."""

    rows: int
    width: int

    def batches(self, size: int) -> Iterable[Any]:
        """All rows in order, as tensors or arrays [n ≤ size, D]; each call begins anew."""


class RowsInBlocks(Rows):
    """A source that is read once a pass, less the codewords of earlier levels.

    Of earlier levels only the codes are kept, 4 bytes a row each.
    """

    def __init__(
        self,
        source: Source,
        name: str,
        device: torch.device,
        earlier: tuple[tuple[Tensor, Tensor], ...] = (),
    ) -> None:
        self.name, self.device = name, device
        self.count, self.width = source.rows, source.width
        self._source, self._earlier = source, earlier

    def blocks(self) -> Iterator[Tensor]:
        begin = 0
        for block in self._source.batches(self.block_rows()):
            rows = validation.rows(block, self.width, self.name).to(self.device)
            for table, codes in self._earlier:
                part = codes[begin : begin + len(rows)].long()
                rows = rows.float() - table[part]
            begin += len(rows)
            if len(rows):
                yield rows
        if begin != self.count:
            raise ValueError(
                f"{self.name} gave {self.count} rows in one pass and {begin} in another; it must "
                "give the same rows each time"
            )

    def less(self, table: Tensor) -> Rows:
        codes = [ops.nearest(block, table, None)[0].int() for block in self.blocks()]
        level = (table, torch.cat(codes))
        return RowsInBlocks(self._source, self.name, self.device, (*self._earlier, level))


class _Blocks:
    """A source of the user's own: gives its blocks [n, D] whenever it is iterated over."""

    def __init__(self, blocks: Iterable[Any], name: str) -> None:
        self._blocks, self._name = blocks, name
        self.rows, self.width = 0, -1
        for block in self.batches():
            if block.ndim != 2 or self.width not in (-1, block.shape[1]):
                raise ValueError(
                    f"{name} must come in blocks [n, D] of one width, got shape "
                    f"{list(block.shape)} at row {self.rows}"
                )
            self.rows, self.width = self.rows + len(block), block.shape[1]
        if self.rows == 0:
            raise ValueError(f"{name} is empty: no block of it has a row")

    def batches(self, size: int = 0) -> Iterator[Tensor]:
        """The blocks as they come, whatever `size`."""
        return (validation.tensor(block, self._name) for block in self._blocks)


def _in_memory(x: Any) -> bool:
    """Whether x is one matrix: a list of blocks is many, and an array on disk is read in blocks."""
    if isinstance(x, np.ndarray):
        return x.flags.writeable and not isinstance(x, np.memmap)
    if isinstance(x, list):
        return not x or (not hasattr(x[0], "shape") and not _is_nested(x[0]))
    return isinstance(x, Tensor) or hasattr(x, "to_numpy")


def _is_nested(row: Any) -> bool:
    return isinstance(row, list | tuple) and bool(row) and isinstance(row[0], list | tuple)


def open_rows(x: Any, name: str = "x", device: torch.device | None = None) -> Rows:
    """The rows of a tensor, a file, or another source.

    x: a tensor or array [N, D]; a path or (ids, array), as `letter_fast.catalog.Embeddings.open`
        takes them; a `Source`; or what gives its blocks, tensors or arrays [n, D], whenever it is
        iterated over.
    device: where streamed blocks go (CPU); a tensor stays where it is.
    Raises:
        ValueError: it is none of these, not a matrix, not floating point, or empty.
    """
    if isinstance(x, Rows):
        return x
    if _in_memory(x):
        return RowsInMemory(validation.matrix(x, name), name)
    if isinstance(x, str | os.PathLike | tuple | np.ndarray):
        from letter_fast.catalog import Embeddings  # not needed for tensors

        x = Embeddings.open(x)
    if isinstance(x, Iterator):
        raise ValueError(
            f"{name} is an iterator, which can be read once only; k-means reads its rows many "
            "times: pass a list of blocks, a file, or an object whose __iter__ starts anew"
        )
    source: Source
    if hasattr(x, "batches"):
        source = x
    elif isinstance(x, Iterable):
        source = _Blocks(x, name)
    else:
        raise ValueError(
            f"{name} must be a tensor, an array, a path or blocks of rows, got {type(x).__name__}"
        )
    return RowsInBlocks(source, name, device or torch.device("cpu"))
