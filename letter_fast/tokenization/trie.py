"""The prefix tree of a set of IDs: what may follow, for a whole batch at once, on any device."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod
from typing import Any, NamedTuple, overload

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from .codes import check_codes, checked_sizes
from .packing import pack

Count = Callable[[Tensor, Tensor], Tensor]


class _Level(NamedTuple):
    """The nodes of one depth, ascending: parent · K + code, of the parent's number. [nodes]"""

    keys: Tensor
    widest: int  # the most children of one parent


class PrefixTrie:
    """A tree of IDs that tells the codes which may follow a prefix.

    Nodes of one depth are numbered in lexicographic order of their prefixes, so children lie
    together, a step down is one binary search, and the number of a leaf is the rank of its ID. A
    distinct prefix takes 4 bytes, or 8 where parents · K reaches 2^31.

    codes [N, T] integers within `sizes` [T]; order [N]: their lexicographic order, if known.
    Raises:
        ValueError: they aren't.
    """

    def __init__(
        self, codes: ArrayLike, sizes: Sequence[int], order: NDArray[Any] | None = None
    ) -> None:
        codes = np.asarray(codes)
        self.sizes = checked_sizes(sizes)
        if order is None:
            check_codes("codes", codes, self.sizes)
            order = lexicographic_order(codes, self.sizes)
        # In that order: the node of each row, and where a node's first row is.
        node = np.zeros(len(codes), dtype=np.int64)
        parents = 1
        fresh = np.zeros(len(codes), dtype=bool)
        fresh[:1] = True
        levels = []
        for column, size in zip(codes.T, self.sizes):
            code = column[order]
            fresh[1:] |= code[1:] != code[:-1]
            first = np.flatnonzero(fresh)
            keys = node[first] * size + code[first]
            children = np.bincount(node[first], minlength=1)
            small = parents * size < 2**31
            levels.append(
                _Level(
                    torch.from_numpy(keys.astype(np.int32) if small else keys),
                    int(children.max()),
                )
            )
            node = np.cumsum(fresh) - 1
            parents = len(first)
        self._levels = {torch.device("cpu"): levels}
        self._leaves: dict[torch.device, list[Tensor]] = {}

    def __len__(self) -> int:
        """The number of distinct IDs."""
        return len(self._levels[torch.device("cpu")][-1].keys)

    def __repr__(self) -> str:
        return f"PrefixTrie({len(self)} IDs, sizes={self.sizes})"

    @property
    def nbytes(self) -> int:
        """The trie's memory on one device."""
        return sum(int(level.keys.nbytes) for level in self._levels[torch.device("cpu")])

    @overload
    def nodes(self, prefixes: Tensor) -> Tensor: ...
    @overload
    def nodes(self, prefixes: NDArray[Any] | Sequence[Any]) -> NDArray[np.int64]: ...
    def nodes(self, prefixes: Any) -> Any:
        """The node of each prefix, −1 where no ID begins so. prefixes [B, p] -> [B], as they come.

        Of a whole ID that is its rank among the distinct IDs.
        """
        return _like(prefixes, self._nodes(_batch(prefixes, len(self.sizes))))

    @overload
    def allowed_tokens(self, prefixes: Tensor, count: Count | None = None) -> Tensor: ...
    @overload
    def allowed_tokens(
        self, prefixes: NDArray[Any] | Sequence[Any], count: Count | None = None
    ) -> NDArray[np.bool_]: ...
    def allowed_tokens(self, prefixes: Any, count: Count | None = None) -> Any:
        """The codes that may follow each prefix; none follows one with which no ID begins.

        prefixes [B, p < T] -> bool [B, K_p], in NumPy or on the device, as they come. The host
        doesn't wait for the device.
        count: how many of the IDs from one rank to another (exclusive) may be generated, ranks and
            result [B, C] on the prefixes' device; a code below which none is left doesn't follow.
            None: all of them.
        Raises:
            ValueError: the prefixes are already whole IDs.
        """
        batch = _batch(prefixes, len(self.sizes) - 1)
        size = self.sizes[batch.shape[1]]
        level = self._on(batch.device)[batch.shape[1]]
        node, begin, end = self._children(batch)
        # As many places a row as the largest family needs; those beyond its own go to column K.
        place = begin[:, None] + torch.arange(level.widest, device=batch.device)
        code = level.keys[place.clamp(max=len(level.keys) - 1)] - node[:, None] * size
        code = torch.where(place < end[:, None], code, size)
        if count is not None and len(level.keys):
            leaves = self._first_leaves(batch.device)[batch.shape[1]]
            place = place.clamp(max=len(level.keys) - 1)
            code = torch.where(count(leaves[place], leaves[place + 1]) > 0, code, size)
        mask = torch.zeros(len(batch), size + 1, dtype=torch.bool, device=batch.device)
        return _like(prefixes, mask.scatter_(1, code, True)[:, :size])

    def allowed(self, prefixes: Any) -> list[NDArray[np.int64]]:
        """The same as lists: the codes, ascending, that may follow each prefix. -> B arrays"""
        batch = _batch(prefixes, len(self.sizes) - 1).cpu()
        keys = self._on(batch.device)[batch.shape[1]].keys
        bounds = (part.tolist() for part in self._children(batch))
        size = self.sizes[batch.shape[1]]
        return [(keys[a:b].long() - node * size).numpy() for node, a, b in zip(*bounds)]

    def rows(self, depth: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """One depth as compressed sparse rows, for other decoders: bounds [parents + 1], codes.

        The children of node p of `depth` are the nodes bounds[p] … bounds[p + 1] − 1 of the next;
        codes [nodes] holds the code that leads to each.
        """
        levels, size = self._levels[torch.device("cpu")], self.sizes[depth]
        parents = len(levels[depth - 1].keys) if depth else 1
        parent, code = np.divmod(levels[depth].keys.long().numpy(), size)
        return np.searchsorted(parent, np.arange(parents + 1)), code

    def _nodes(self, batch: Tensor) -> Tensor:
        node = torch.zeros(len(batch), dtype=torch.int64, device=batch.device)
        known = torch.ones_like(node, dtype=torch.bool)
        for level, size, code in zip(self._on(batch.device), self.sizes, batch.T):
            if len(level.keys) == 0:
                return node - 1
            known = known & (code >= 0) & (code < size)
            wanted = (node * size + code).where(known, 0).to(level.keys.dtype)
            node = torch.searchsorted(level.keys, wanted).clamp(max=len(level.keys) - 1)
            known &= level.keys[node] == wanted
            node = node.where(known, 0)
        return node.where(known, -1)

    def _children(self, batch: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Each prefix's node, its first child and their end; none (0, 0, 0) of an unknown one."""
        node = self._nodes(batch)
        known, node = node >= 0, node.clamp(min=0)
        keys = self._on(batch.device)[batch.shape[1]].keys
        least = (node * self.sizes[batch.shape[1]]).to(keys.dtype)
        begin = torch.searchsorted(keys, least)
        end = torch.searchsorted(keys, least + (self.sizes[batch.shape[1]] - 1), right=True)
        return node, begin.where(known, 0), end.where(known, 0)

    def _first_leaves(self, device: torch.device) -> list[Tensor]:
        """Of each depth, the rank of the first ID below each node, and the number of IDs.

        -> T tensors [nodes + 1] int64
        """
        if device not in self._leaves:
            levels = self._on(device)
            bounds = [torch.arange(len(self) + 1, device=device)]
            for level, size in zip(levels[:0:-1], self.sizes[:0:-1]):
                parents = level.keys // size
                nodes = len(levels[len(levels) - len(bounds) - 1].keys)
                first = torch.searchsorted(parents, torch.arange(nodes + 1, device=device))
                bounds.append(bounds[-1][first])
            self._leaves[device] = bounds[::-1]
        return self._leaves[device]

    def _on(self, device: torch.device) -> list[_Level]:
        """The levels on a device; they are copied there once."""
        if device not in self._levels:
            self._levels[device] = [
                _Level(level.keys.to(device), level.widest)
                for level in self._levels[torch.device("cpu")]
            ]
        return self._levels[device]


def lexicographic_order(codes: NDArray[Any], sizes: Sequence[int]) -> NDArray[np.int64]:
    """The rows in the order of their codes; equal ones keep theirs. codes [N, T] -> [N]"""
    if prod(sizes) <= 2**63:
        return np.argsort(pack(codes, sizes), kind="stable")
    return np.lexsort(codes.T[::-1])


def _batch(prefixes: Any, longest: int) -> Tensor:
    """[B, p ≤ longest] int64, where they are."""
    if not isinstance(prefixes, Tensor):
        prefixes = torch.from_numpy(np.array(prefixes, dtype=np.int64))
    if prefixes.dim() != 2 or prefixes.shape[1] > longest:
        raise ValueError(
            f"prefixes must be [B, p] and no longer than {longest} codes, got shape "
            f"{list(prefixes.shape)}"
        )
    batch: Tensor = prefixes.long()
    return batch


def _like(prefixes: Any, result: Tensor) -> Any:
    return result if isinstance(prefixes, Tensor) else result.numpy()
