"""code = argmin_k ‖x − e_k‖² + offset_k in real arithmetic, the lowest k among equals.

Two distances compare like s_k = ½‖e_k‖² − x·e_k + ½offset_k. Float64 gives ŝ_k with

    |ŝ_k − s_k| ≤ E_k = (D + 4) · 2⁻⁵² · (‖x‖‖e_k‖ + ½‖e_k‖² + ½|offset_k|)

(a sum of n terms errs by at most n·2⁻⁵³/(1 − n·2⁻⁵³) of the sum of magnitudes, whatever its order;
twice that covers the rounding of E itself). Whoever could be the smallest within these bounds is
compared exactly: a product of two float32 values is exact in float64, and `math.fsum` adds floats
without error, so the sign of a difference of two distances is known.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

# Distances held at once, in elements: bounds the memory, not the result.
_BLOCK_ELEMENTS = 1 << 22


def nearest(x: Tensor, codebook: Tensor, offset: Tensor | None) -> tuple[Tensor, Tensor]:
    """argmin_k ‖x − e_k‖² + offset_k, the lowest k among equals.

    x [N, D], codebook [K, D] float32, offset [K] float64
    -> code [N] int64, score [N] float64
    """
    code, score, _ = nearest_two(x, codebook, offset)
    return code, score


def nearest_two(
    x: Tensor, codebook: Tensor, offset: Tensor | None
) -> tuple[Tensor, Tensor, Tensor]:
    """As `nearest`, with the score of the next distinct codeword: +inf where there is none."""
    kept = distinct_codewords(codebook, offset)
    x = x.float()
    code = x.new_full((len(x),), -1, dtype=torch.int64)
    score = x.new_full((len(x),), math.nan, dtype=torch.float64)
    runner_up = score.clone()
    if len(kept) == 0:
        return code, score, runner_up

    words = codebook[kept].double()
    shift = words.new_zeros(len(kept)) if offset is None else offset[kept]
    usable = x.isfinite().all(dim=1).nonzero().squeeze(1)
    for rows in usable.split(max(1, _BLOCK_ELEMENTS // len(kept))):
        block = x[rows].double()
        best, second = _two_smallest(block, words, shift)
        code[rows] = kept[best]
        score[rows] = _distance(block, words[best]) + shift[best]
        if len(kept) > 1:
            runner_up[rows] = _distance(block, words[second]) + shift[second]
        else:
            runner_up[rows] = math.inf
    return code, score, runner_up


def distinct_codewords(codebook: Tensor, offset: Tensor | None = None) -> Tensor:
    """Indices, ascending, of the codewords that can win.

    Of equal codewords only the first of those with the least offset can; one with NaN or Inf never
    does. codebook [K, D] -> [≤ K] int64
    """
    finite = codebook.isfinite().all(dim=1)
    if offset is not None:
        finite &= offset.isfinite()
    index = finite.nonzero().squeeze(1)
    if len(index) == 0:
        return index
    if offset is not None:
        index = index[offset[index].argsort(stable=True)]
    _, group = torch.unique(codebook[index].double(), dim=0, return_inverse=True)
    place = torch.arange(len(index), device=index.device)
    first = place.new_full((int(group.max()) + 1,), len(index))
    return index[first.scatter_reduce(0, group, place, "amin")].sort().values


def _two_smallest(x: Tensor, words: Tensor, shift: Tensor) -> tuple[Tensor, Tensor]:
    """Positions of the smallest and the next score. x [n, D], words [K, D], shift [K] float64."""
    half = 0.5 * words.square().sum(1)
    score = torch.addmm(half + 0.5 * shift, x, words.T, alpha=-1.0)
    magnitude = torch.outer(x.norm(dim=1), words.norm(dim=1)) + half + 0.5 * shift.abs()
    error = magnitude * ((x.shape[1] + 4) * 2.0**-52)

    best = score.argmin(dim=1)
    ceiling = (score + error).min(dim=1, keepdim=True).values
    possible = score - error <= ceiling
    for row in (possible.sum(dim=1) > 1).nonzero().squeeze(1).tolist():
        candidates = possible[row].nonzero().squeeze(1)
        best[row] = candidates[_exact_argmin(x[row], words[candidates], shift[candidates])]
    second = score.scatter(1, best[:, None], math.inf).argmin(dim=1)
    return best, second


def _exact_argmin(x: Tensor, words: Tensor, shift: Tensor) -> int:
    """The first position of the least ‖x − e‖² + shift, decided without rounding."""
    # ‖x − e‖² − ‖x‖² = Σ e² − 2xe, term by term exact in float64.
    terms = torch.cat([words.square(), -2.0 * x * words, shift[:, None]], dim=1)
    best = 0
    for candidate in range(1, len(words)):
        difference = torch.cat([terms[candidate], -terms[best]])
        if math.fsum(difference.tolist()) < 0:
            best = candidate
    return best


def _distance(x: Tensor, words: Tensor) -> Tensor:
    """‖x − e‖² by differences: no cancellation. x, words [n, D] float64 -> [n]

    Added in eight lanes and a tree, as the other backends do it: the same bits.
    """
    squares = F.pad((x - words).square(), (0, -x.shape[1] % 8)).unflatten(1, (-1, 8))
    lanes: Tensor = squares[:, 0]
    for part in range(1, squares.shape[1]):
        lanes = lanes + squares[:, part]
    for half in (4, 2, 1):
        lanes = lanes[:, :half] + lanes[:, half:]
    return lanes[:, 0]
