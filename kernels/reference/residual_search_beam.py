"""Residual search that keeps several partial paths.

At each level every kept path p is extended by every codeword e; the `beam` extensions of least

    ‖r_p − e‖²        r_p: the float32 residual of the path

survive, compared as real numbers, equal ones by lowest code path. A beam of 1 is `residual_search`.
"""

from __future__ import annotations

from fractions import Fraction

import torch
from torch import Tensor

from .nearest import distinct_codewords


def residual_search_beam(
    x: Tensor, codebooks: Tensor, sizes: list[int], beam: int
) -> tuple[Tensor, Tensor]:
    """The best of `beam` partial paths by exact ‖r‖²; equal paths by lowest codes.

    x [N, D], codebooks [ΣK, D] float32 -> codes [N, L] int64, quantized [N, D] float32
    """
    x = x.float()
    levels = list(codebooks.split(sizes))
    codes = x.new_full((len(x), len(sizes)), -1, dtype=torch.int64)
    quantized = torch.zeros_like(x)
    for row in x.isfinite().all(dim=1).nonzero().squeeze(1).tolist():
        path = _best_path(x[row], levels, beam)
        if path is None:
            continue
        codes[row] = torch.tensor(path)
        for level, code in zip(levels, path, strict=True):
            quantized[row] = quantized[row] + level[code]
    return codes, quantized


def _best_path(x: Tensor, levels: list[Tensor], beam: int) -> tuple[int, ...] | None:
    """The codes of one row, x [D]; None where no finite path exists."""
    paths: list[tuple[int, ...]] = [()]
    residuals = x[None]
    for level, codebook in enumerate(levels):
        keep = beam if level + 1 < len(levels) else 1
        kept = distinct_codewords(codebook)
        if len(kept) == 0:
            return None
        chosen = _least(residuals, paths, codebook[kept], kept.tolist(), keep)
        parents = [parent for parent, _ in chosen]
        words = [int(kept[word]) for _, word in chosen]
        paths = [(*paths[parent], word) for parent, word in zip(parents, words, strict=True)]
        residuals = residuals[parents] - codebook[words]
        finite = residuals.isfinite().all(dim=1)
        paths = [path for path, good in zip(paths, finite.tolist(), strict=True) if good]
        residuals = residuals[finite]
        if not paths:
            return None
    return paths[0]


def _least(
    residuals: Tensor, paths: list[tuple[int, ...]], words: Tensor, names: list[int], keep: int
) -> list[tuple[int, int]]:
    """The `keep` least (path, codeword) pairs in order."""
    distance = (residuals[:, None].double() - words[None].double()).square().sum(-1).flatten()
    # Differences are exact to 2⁻⁵³ and squares have no sign: relative error ≤ (D+4)·2⁻⁵³.
    slack = (words.shape[1] + 4) * 2.0**-52
    limit = distance.kthvalue(min(keep, len(distance))).values
    near = (distance <= limit * (1 + 2 * slack)).nonzero().squeeze(1)
    near = near[distance[near].argsort(stable=True)]
    pairs = [divmod(index, len(words)) for index in near.tolist()]
    gaps = distance[near].diff()
    if (gaps > distance[near][1:] * 2 * slack).all():
        return pairs[:keep]

    def exact_key(pair: tuple[int, int]) -> tuple[Fraction, tuple[int, ...]]:
        parent, word = pair
        differences = zip(residuals[parent].tolist(), words[word].tolist(), strict=True)
        total = sum(((Fraction(r) - Fraction(e)) ** 2 for r, e in differences), Fraction(0))
        return total, (*paths[parent], names[word])

    return sorted(pairs, key=exact_key)[:keep]
