"""The IDs that each prompt may be answered with: some only, or all but some."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .trie import PrefixTrie


class IdSubsets:
    """Of each of P prompts, the IDs that may be generated.

    A set is kept as the ascending numbers prompt · (N + 1) + rank of its IDs, all prompts' in one
    array, so that counting those of a prompt between two ranks is two binary searches: 8 bytes an
    ID of a set, whatever the number of beams.

    Args:
        trie: of N IDs.
        only: P arrays of codes [M, T], or None: all IDs. excluded: P arrays likewise, or None:
            none. What is no ID of the trie is left out.
        least: how many IDs each prompt must be left with.

    Raises:
        ValueError: numbers of prompts differ, or one is left with too few IDs.
    """

    def __init__(
        self,
        trie: PrefixTrie,
        only: Sequence[NDArray[Any]] | None,
        excluded: Sequence[NDArray[Any]] | None,
        least: int = 1,
    ) -> None:
        numbers = {len(sets) for sets in (only, excluded) if sets is not None}
        if len(numbers) > 1:
            raise ValueError(f"only is of {len(only or ())} prompts, excluded of {max(numbers)}")
        self.prompts = numbers.pop() if numbers else 1
        self.ids = len(trie)
        taken = None if excluded is None else _keys(trie, excluded)
        among = None if only is None else _keys(trie, only)
        if among is not None and taken is not None:
            among, taken = np.setdiff1d(among, taken, assume_unique=True), None
        left = np.full(self.prompts, self.ids)
        if among is not None:
            left = np.bincount(among // (self.ids + 1), minlength=self.prompts)
        if taken is not None:
            left = left - np.bincount(taken // (self.ids + 1), minlength=self.prompts)
        if len(left) and left.min() < least:
            raise ValueError(
                f"prompt {left.argmin()} may be answered with {left.min()} IDs, at least {least} "
                "are needed"
            )
        self._only = None if among is None else torch.from_numpy(among)
        self._excluded = None if taken is None else torch.from_numpy(taken)

    def prompt_of(self, rows: Tensor, of: int) -> Tensor:
        """The prompt of each row of a batch of `of`, in which beams of a prompt lie together.

        Raises:
            ValueError: `of` is not a multiple of the prompts.
        """
        if self.prompts == 0 or of % self.prompts:
            raise ValueError(
                f"only and excluded are of {self.prompts} prompts, but there are {of} sequences, "
                "which is not a multiple"
            )
        return rows // (of // self.prompts)

    def count(self, prompts: Tensor, begin: Tensor, end: Tensor) -> Tensor:
        """The number of IDs that a prompt allows from rank begin to end (exclusive).

        prompts [B], begin and end [B, C] -> [B, C]
        """
        shift = prompts[:, None] * (self.ids + 1)
        if self._only is not None:
            self._only = self._only.to(begin.device)
            return between(self._only, shift + begin, shift + end)
        if self._excluded is None:
            return end - begin
        self._excluded = self._excluded.to(begin.device)
        return end - begin - between(self._excluded, shift + begin, shift + end)


def between(ascending: Tensor, begin: Tensor, end: Tensor) -> Tensor:
    """The count of numbers from begin to end (exclusive)."""
    return torch.searchsorted(ascending, end) - torch.searchsorted(ascending, begin)


def _keys(trie: PrefixTrie, sets: Sequence[NDArray[Any]]) -> NDArray[np.int64]:
    """prompt · (N + 1) + rank of each ID that the trie has, ascending, each once."""
    keys = [np.zeros(0, dtype=np.int64)]
    for prompt, codes in enumerate(sets):
        ranks = trie.nodes(np.asarray(codes).reshape(-1, len(trie.sizes)))
        keys.append(np.unique(ranks[ranks >= 0]) + prompt * (len(trie) + 1))
    return np.concatenate(keys)
