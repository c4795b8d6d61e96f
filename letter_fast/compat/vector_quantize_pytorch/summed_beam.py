"""Beam search as vector-quantize-pytorch has it: a path's score adds up the errors of all levels.

`ResidualQuantizer.encode(beam=…)`, like FAISS, ranks paths by the error that is left at the end.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

_BLOCK = 1 << 23  # distances at once


@torch.no_grad()
def summed_beam(
    rows: Tensor,
    books: Sequence[Tensor],
    weights: Sequence[float],
    beam: int,
    transform: Callable[[Tensor], Tensor],
) -> Tensor:
    """Codes of the path of least Σ_l weight_l ‖transform(r_{l−1}) − e_l‖², of those that are kept.

    rows [N, D] float32, books levels × [K_l, D] -> [N, levels] int64; −1 for a row that holds NaN
    or Inf
    """
    block = max(1, _BLOCK // (beam * max(map(len, books))))
    parts = [_block(part, books, weights, beam, transform) for part in rows.split(block)]
    return torch.cat(parts).masked_fill(~rows.isfinite().all(1, keepdim=True), -1)


def _block(
    rows: Tensor,
    books: Sequence[Tensor],
    weights: Sequence[float],
    beam: int,
    transform: Callable[[Tensor], Tensor],
) -> Tensor:
    residual, score = rows[:, None], rows.new_zeros(len(rows), 1, dtype=torch.float64)
    codes = rows.new_empty((len(rows), 1, 0), dtype=torch.int64)
    row = torch.arange(len(rows), device=rows.device)[:, None]
    for level, (book, weight) in enumerate(zip(books, weights)):
        z, words = transform(residual).double(), book.double()
        error = z.square().sum(-1, keepdim=True) + words.square().sum(1) - 2 * z @ words.T
        error, code = error.topk(min(beam, len(book)), largest=False)  # [N, paths, candidates]
        scores = (score[..., None] + weight * error).flatten(1)
        keep = 1 if level + 1 == len(books) else min(beam, scores.shape[1])
        score, kept = scores.topk(keep, largest=False)
        parent = kept // code.shape[2]
        code = code.flatten(1).gather(1, kept)
        codes = torch.cat([codes[row, parent], code[..., None]], dim=2)
        residual = residual[row, parent] - book[code]
    best: Tensor = codes[:, 0]
    return best
