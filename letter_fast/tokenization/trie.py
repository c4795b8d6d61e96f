"""The prefix tree of a set of IDs, as sorted arrays."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray


class PrefixTrie:
    """Which codes may follow a prefix.

    Nodes of one depth are numbered in lexicographic order of their prefixes; `keys[d]` holds, in
    order, parent · sizes[d] + code of each node of depth d + 1. So a node's number is its place
    there, a step down is one binary search, and a node's children are one slice.

    codes [N, T] integers, sizes [T]
    """

    def __init__(self, codes: NDArray[Any], sizes: Sequence[int]) -> None:
        self.sizes = [int(size) for size in sizes]
        self.keys: list[NDArray[np.int64]] = []
        node = np.zeros(len(codes), dtype=np.int64)
        for column, size in zip(codes.T.astype(np.int64), self.sizes):
            keys, node = np.unique(node * size + column, return_inverse=True)
            self.keys.append(keys)

    def __len__(self) -> int:
        """The number of distinct IDs."""
        return len(self.keys[-1])

    def nodes(self, prefixes: NDArray[Any]) -> NDArray[np.int64]:
        """The node of each prefix, −1 where no ID begins so. prefixes [B, p] -> [B]"""
        node = np.zeros(len(prefixes), dtype=np.int64)
        for column, size, keys in zip(np.asarray(prefixes).T, self.sizes, self.keys):
            wanted = node * size + column
            place = np.minimum(np.searchsorted(keys, wanted), max(len(keys) - 1, 0))
            known = (node >= 0) & (column >= 0) & (column < size)
            if len(keys):
                known &= keys[place] == wanted
            else:
                known &= False
            node = np.where(known, place, -1)
        return node

    def allowed(self, prefixes: NDArray[Any]) -> list[NDArray[np.int64]]:
        """The codes, ascending, that may follow each prefix. prefixes [B, p < T] -> B arrays

        Raises:
            ValueError: the prefixes are already whole IDs.
        """
        prefixes = np.asarray(prefixes)
        depth = prefixes.shape[1]
        if depth >= len(self.sizes):
            raise ValueError(f"an ID has {len(self.sizes)} codes; a prefix must be shorter")
        node = self.nodes(prefixes)
        size, keys = self.sizes[depth], self.keys[depth]
        begin = np.searchsorted(keys, node * size)
        end = np.searchsorted(keys, (node + 1) * size)
        empty = np.zeros(0, dtype=np.int64)
        return [
            keys[a:b] - n * size if n >= 0 else empty for n, a, b in zip(node.tolist(), begin, end)
        ]
