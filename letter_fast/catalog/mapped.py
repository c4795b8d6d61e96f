"""Embeddings seen through a function of their rows: nothing but the batch at hand is held."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .embeddings import BLOCK_ROWS, Embeddings, Floats


class MappedEmbeddings(Embeddings):
    """The rows of `source`, each batch put through `function`.

    function: [n, S] -> [n, S] float32, row by row, so that a row does not depend on its batch.
    """

    def __init__(self, source: Embeddings, function: Callable[[Floats], Floats]) -> None:
        self.name, self.rows, self.width = source.name, source.rows, source.width
        self.item_ids = source.item_ids
        self._source, self._function = source, function

    def batches(self, size: int = BLOCK_ROWS) -> Iterator[Floats]:
        # Not by `_slice`: some sources read in order better than they read at random.
        for batch in self._source.batches(size):
            yield self._function(batch)

    def batches_of(self, index: NDArray[np.int64], size: int = BLOCK_ROWS) -> Iterator[Floats]:
        for batch in self._source.batches_of(index, size):
            yield self._function(batch)

    def _slice(self, start: int, stop: int) -> NDArray[Any]:
        return self._take(np.arange(start, stop))

    def _take(self, index: NDArray[np.int64]) -> NDArray[Any]:
        return self._function(self._source.take(index))
