"""Starts of k-means: k-means‖ (Bahmani et al. 2012), reduced to k by greedy k-means++.

Every number is an integer below 2⁵³, held in float64: rows are rounded to a grid (grid.py), and
sums of squares are then exact whatever adds them up in whatever order. A start is a function of
rows and seed alone, not of threads, processor, BLAS or device.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from letter_fast import ops

from .grid import Grid, on_grid

# A start looks at this many rows per centroid at most, and draws this many candidates per centroid
# from them, in this number of rounds.
_ROWS, _CANDIDATES, _ROUNDS = 64, 4, 3
# Fewer rows than this are all candidates.
_FEW = 2048


class _Points(NamedTuple):
    """rows [N, D], where they are on the grid [N, D′], weights [N] float64; far [m, D]: starts."""

    rows: Tensor
    grid: Tensor
    weights: Tensor
    far: Tensor


def starts(x: Tensor, k: int, seeds: list[int], restarts: int) -> Tensor:
    """k rows of each problem for each restart, far from each other where rows are.

    x [P, N, D] float32, finite, seeds [P] -> [P · restarts, k, D]
    """
    generators = [
        torch.Generator().manual_seed((seed * 1_000_003 + restart) % 2**63)
        for seed in seeds
        for restart in range(restarts)
    ]
    few = x.shape[1] <= max(_FEW, 2 * _CANDIDATES * k)
    grids = [on_grid(problem, k) for problem in x] if few or x.shape[1] <= _ROWS * k else None
    every = [_all(*each) for each in zip(x, grids)] if few and grids else None
    drawn = []
    for number, generator in enumerate(generators):
        at = number // restarts
        if every:
            drawn.append(every[at])
            continue
        rows = x[at] if grids else _sample(x[at], k, generator)
        drawn.append(_oversample(rows, grids[at] if grids else on_grid(rows, k), k, generator))
    tries = 2 + int(math.log(k))  # as scikit-learn
    draws = torch.stack(
        [torch.rand(k, tries, generator=each, dtype=torch.float64) for each in generators]
    )
    # Candidates of no weight fill up the shorter lists: they are never picked.
    picks = ops.kmeans_plusplus(
        _pad([of_one.grid for of_one in drawn]),
        _pad([of_one.weights for of_one in drawn]),
        draws.to(x.device),
    )
    return torch.stack(
        [
            torch.cat([of_one.far, of_one.rows[pick]])[:k] if len(of_one.far) else of_one.rows[pick]
            for of_one, pick in zip(drawn, picks)
        ]
    )


def _all(rows: Tensor, grid: Grid) -> _Points:
    weights = torch.ones(len(rows), dtype=torch.float64, device=rows.device)
    weights[grid.far] = 0.0
    return _Points(rows, grid.points, weights, rows[grid.far])


def for_each(x: Tensor, restarts: int) -> Tensor:
    """The rows of every restart of each problem; of one problem without a copy.

    x [P, N, D] -> [P · restarts, N, D]
    """
    return x.expand(restarts, -1, -1) if len(x) == 1 else x.repeat_interleave(restarts, dim=0)


def _pad(tensors: Sequence[Tensor]) -> Tensor:
    """One tensor [P, …] of what may differ in size, zeros behind and beside the smaller ones."""
    most = [max(sizes) for sizes in zip(*(one.shape for one in tensors))]
    if all(list(one.shape) == most for one in tensors):
        return torch.stack(list(tensors))
    padded = tensors[0].new_zeros((len(tensors), *most))
    for one, into in zip(tensors, padded):
        into[tuple(map(slice, one.shape))] = one
    return padded


def _sample(rows: Tensor, k: int, generator: torch.Generator) -> Tensor:
    chosen = torch.randperm(len(rows), generator=generator)[: _ROWS * k]
    return rows[chosen.sort().values.to(rows.device)]


def _oversample(rows: Tensor, on: Grid, k: int, generator: torch.Generator) -> _Points:
    """About 4k rows, drawn in rounds ∝ squared distance to those of the rounds before; weights are
    how many rows are nearest to each, but none for rows that are starts anyway.
    """
    grid = on.points
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
    weights[torch.isin(candidates, on.far)] = 0.0
    return _Points(rows[candidates], grid[candidates], weights, rows[on.far])


def _draw(mass: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """`count` indices, each i with probability mass_i / Σ mass. mass [M], integers in float64"""
    cumulative = mass.cumsum(0)
    total = cumulative[-1]
    uniform = torch.rand(count, generator=generator, dtype=torch.float64).to(mass.device)
    at = (uniform * total).floor().clamp(max=total - 1)
    return torch.searchsorted(cumulative, at, right=True)
