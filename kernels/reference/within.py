"""Every codeword whose score ‖x − e_k‖² + offset_k exceeds the row's least by at most `slack`.

Decided by float64 numbers that are the same on every device: squares of differences, added one by
one from d = 0 to D − 1, each operation rounded.
"""

from __future__ import annotations

import torch
from torch import Tensor

# Scores held at once, in elements: bounds the memory, not the result.
_BLOCK_ELEMENTS = 1 << 22


def within(
    x: Tensor, codebook: Tensor, offset: Tensor, slack: float
) -> tuple[Tensor, Tensor, Tensor]:
    """The codewords of each row that are within `slack` of its best, and their squared distances.

    x [N, D], codebook [K, D] float32, offset [K] float64, slack ≥ 0
    -> starts [N + 1] int64, words [A] int32, costs [A] float64 = ‖x − e_word‖², without the offset

    Row i's codewords are words[starts[i] : starts[i + 1]], ascending. One that isn't
    finite, or whose offset isn't, is never among them; a row that isn't has none.
    """
    counts, words, costs = [], [], []
    for rows in x.split(max(1, _BLOCK_ELEMENTS // len(codebook))):
        cost = _distances(rows.float().double(), codebook.double())
        score = cost + offset
        score = torch.where(score.isfinite(), score, torch.inf)
        least = score.amin(dim=1, keepdim=True)
        listed = (score <= least + slack) & (score < torch.inf)
        counts.append(listed.sum(dim=1))
        words.append(listed.nonzero()[:, 1].int())
        costs.append(cost[listed])
    starts = torch.cat([x.new_zeros(1, dtype=torch.int64), *counts]).cumsum(0)
    return starts, torch.cat(words), torch.cat(costs)


def _distances(x: Tensor, words: Tensor) -> Tensor:
    """x [n, D], words [K, D] float64 -> ‖x − e_k‖² [n, K]"""
    total = x.new_zeros((len(x), len(words)))
    for column, values in zip(x.T, words.T):
        gap = column[:, None] - values
        total += gap * gap
    return total
