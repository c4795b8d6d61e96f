"""Where k-means starts: k-means‖ (Bahmani et al. 2012), reduced to k by greedy k-means++.

Every number is an integer below 2⁵³, held in float64: rows are rounded to a grid fine enough, and
sums of squares are then exact whatever adds them up in whatever order. A start is a function of
rows and seed alone, not of threads, processor, BLAS or device.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from letter_fast import ops

# A start looks at this many rows per centroid at most, and draws this many candidates per centroid
# from them, in so many rounds.
_ROWS, _CANDIDATES, _ROUNDS = 64, 4, 3
# Fewer rows than this are all candidates.
_FEW = 2048


def starts(x: Tensor, k: int, seeds: list[int], restarts: int) -> Tensor:
    """k rows of each problem for each restart, far from each other where rows are.

    x [P, N, D] float32, finite, seeds [P] -> [P · restarts, k, D]
    """
    generators = [
        torch.Generator().manual_seed((seed * 1_000_003 + restart) % 2**63)
        for seed in seeds
        for restart in range(restarts)
    ]
    if x.shape[1] <= max(_FEW, 2 * _CANDIDATES * k):
        rows = for_each(x, restarts)
        points = for_each(torch.stack([_on_grid(problem) for problem in x]), restarts)
        weights = torch.ones(rows.shape[:2], dtype=torch.float64, device=x.device)
    else:
        shared = [_on_grid(problem) for problem in x] if x.shape[1] <= _ROWS * k else None
        drawn = []
        for number, generator in enumerate(generators):
            sample = (
                x[number // restarts] if shared else _sample(x[number // restarts], k, generator)
            )
            grid = shared[number // restarts] if shared else _on_grid(sample)
            drawn.append(_oversample(sample, grid, k, generator))
        # Candidates of no weight fill up the shorter lists: they are never picked.
        rows, points, weights = map(_pad, zip(*drawn))
    tries = 2 + int(math.log(k))  # as scikit-learn
    draws = torch.stack(
        [torch.rand(k, tries, generator=each, dtype=torch.float64) for each in generators]
    )
    picks = ops.plus_plus(points, weights, draws.to(x.device))
    return torch.stack([of_one[pick] for of_one, pick in zip(rows, picks)])


def for_each(x: Tensor, restarts: int) -> Tensor:
    """The rows of every restart of each problem; of one problem without a copy.

    x [P, N, D] -> [P · restarts, N, D]
    """
    return x.expand(restarts, -1, -1) if len(x) == 1 else x.repeat_interleave(restarts, dim=0)


def _pad(tensors: Sequence[Tensor]) -> Tensor:
    """[P, most, …], zeros behind the shorter ones."""
    return torch.nn.utils.rnn.pad_sequence(list(tensors), batch_first=True)


def _on_grid(rows: Tensor) -> Tensor:
    """Rows as float32 integers, so few that N times the largest ‖x − y‖² stays within 2⁵³."""
    low, high = rows.aminmax(dim=0)
    centred = rows.double() - (low.double() + high.double()) / 2
    _, magnitude = math.frexp(float(centred.abs().max()))
    return (centred * 2.0 ** ((51 - rows.numel().bit_length()) // 2 - magnitude)).round().float()


def _sample(rows: Tensor, k: int, generator: torch.Generator) -> Tensor:
    chosen = torch.randperm(len(rows), generator=generator)[: _ROWS * k]
    return rows[chosen.sort().values.to(rows.device)]


def _oversample(
    rows: Tensor, grid: Tensor, k: int, generator: torch.Generator
) -> tuple[Tensor, Tensor, Tensor]:
    """About 4k rows, drawn in rounds ∝ squared distance to those of the rounds before.

    -> the rows [M, D], as points of the grid [M, D], and how many rows are nearest to each [M]
       float64
    """
    candidates = torch.randint(len(grid), (1,), generator=generator).to(grid.device)
    nearest, distance = ops.nearest(grid, grid[candidates], None)
    for _ in range(_ROUNDS):
        if not bool(distance.any()):  # every row is where a candidate is
            break
        drawn = _draw(distance, math.ceil(_CANDIDATES * k / _ROUNDS), generator).unique()
        code, score = ops.nearest(grid, grid[drawn], None)
        nearer = score < distance
        nearest = torch.where(nearer, code + len(candidates), nearest)
        distance = torch.where(nearer, score, distance)
        candidates = torch.cat([candidates, drawn])
    if len(candidates) < k:
        spare = torch.randperm(len(grid), generator=generator)[:k].to(grid.device)
        candidates = torch.cat([candidates, spare])
    weights = torch.bincount(nearest, minlength=len(candidates)).double()
    return rows[candidates], grid[candidates], weights


def _draw(mass: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """`count` indices, each i with probability mass_i / Σ mass. mass [M], integers in float64"""
    cumulative = mass.cumsum(0)
    total = cumulative[-1]
    uniform = torch.rand(count, generator=generator, dtype=torch.float64).to(mass.device)
    at = (uniform * total).floor().clamp(max=total - 1)
    return torch.searchsorted(cumulative, at, right=True)
