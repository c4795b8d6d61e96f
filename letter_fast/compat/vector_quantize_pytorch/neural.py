"""Codewords that depend on what the levels before have added up to (QINCo, arXiv 2401.14732)."""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_BLOCK = 1 << 22  # numbers at once


class NeuralCodebook(nn.Module):
    """e ↦ a codeword for one row, given the sum of that row's earlier codewords."""

    def __init__(self, dim: int, dim_hidden: int | None = None, depth: int = 4) -> None:
        super().__init__()
        hidden = dim_hidden or dim
        self.proj_in = nn.Linear(2 * dim, dim)
        self.layers = nn.ModuleList(
            nn.Sequential(nn.Linear(dim, hidden), nn.SiLU(), nn.Linear(hidden, dim))
            for _ in range(depth)
        )

    def forward(self, words: Tensor, condition: Tensor) -> Tensor:
        """words, condition [..., D] -> [..., D]"""
        both = torch.cat([condition.expand_as(words), words], dim=-1)
        x: Tensor = self.proj_in(both.to(self.proj_in.weight.dtype))
        for layer in self.layers:
            x = x + layer(x)
        return x

    @torch.no_grad()
    def distances(self, rows: Tensor, words: Tensor, condition: Tensor) -> Tensor:
        """From each row to its own K codewords. rows, condition [N, D], words [K, D] -> [N, K]"""
        return torch.cat(list(self._blocks(rows, words, condition)))

    def _blocks(self, rows: Tensor, words: Tensor, condition: Tensor) -> Iterator[Tensor]:
        size = max(1, _BLOCK // words.numel())
        for part, sums in zip(rows.split(size), condition.split(size)):
            own = self(words.expand(len(part), *words.shape), sums[:, None])
            yield F.pairwise_distance(part[:, None], own)
