"""Where k-means starts: k-means‖ (Bahmani et al. 2012), reduced to k by greedy k-means++.

`starts` are plain k-means++ for many problems or restarts at once, where speed counts for more than
each start does.

In `plus_plus` every number is an integer below 2⁵³, held in float64: rows are rounded to a grid
fine enough, and sums of squares are then exact whatever adds them up in whatever order. Such a
start is a function of rows and seed alone, not of threads, processor, BLAS or device.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from letter_fast import ops

# A start looks at this many rows per centroid at most, and draws this many candidates per centroid
# from them, in so many rounds.
_ROWS, _CANDIDATES, _ROUNDS = 64, 4, 3
# Fewer rows than this are all candidates.
_FEW = 2048
# Picks whose candidates are drawn, and measured, together.
_TOGETHER = 16


def starts(x: Tensor, k: int, seeds: list[int], restarts: int) -> Tensor:
    """k-means++ starts of `restarts` runs of each problem, on a sample of its rows.

    x [P, N, D] float32, seeds [P] -> [P · restarts, k, D]
    """
    samples, draws = [], []
    for rows, seed in zip(x, seeds):
        for restart in range(restarts):
            generator = torch.Generator().manual_seed((seed * 1_000_003 + restart) % 2**63)
            if len(rows) > _ROWS * k:
                chosen = torch.randperm(len(rows), generator=generator)[: _ROWS * k]
                samples.append(rows[chosen.sort().values.to(rows.device)])
            else:
                samples.append(rows)
            draws.append(torch.rand(k, generator=generator, dtype=torch.float64))
    shared = all(sample is samples[0] for sample in samples)
    stacked = samples[0].expand(len(samples), -1, -1) if shared else torch.stack(samples)
    picks = ops.plus_plus(stacked, torch.stack(draws).to(x.device))
    return torch.stack([sample[pick] for sample, pick in zip(samples, picks)])


def plus_plus(rows: Tensor, k: int, seed: int, restart: int) -> Tensor:
    """k rows, far from each other where rows are. rows [N, D] float32, finite -> [k, D]"""
    generator = torch.Generator().manual_seed((seed * 1_000_003 + restart) % 2**63)
    if len(rows) > _ROWS * k:
        chosen = torch.randperm(len(rows), generator=generator)[: _ROWS * k]
        rows = rows[chosen.sort().values.to(rows.device)]
    grid = _on_grid(rows)
    if len(rows) <= max(_FEW, 2 * _CANDIDATES * k):
        candidates = torch.arange(len(rows), device=rows.device)
        weights = torch.ones(len(rows), dtype=torch.float64, device=rows.device)
    else:
        candidates, weights = _oversample(grid, k, generator)
    picks = _pick(grid[candidates].double(), weights, k, generator)
    return rows[candidates[picks]].clone()


def _on_grid(rows: Tensor) -> Tensor:
    """Rows as float32 integers, so few that N times the largest ‖x − y‖² stays within 2⁵³."""
    low, high = rows.aminmax(dim=0)
    centred = rows.double() - (low.double() + high.double()) / 2
    _, magnitude = math.frexp(float(centred.abs().max()))
    return (centred * 2.0 ** ((51 - rows.numel().bit_length()) // 2 - magnitude)).round().float()


def _oversample(grid: Tensor, k: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """About 4k rows, drawn in rounds ∝ squared distance to those of the rounds before.

    -> their indices [M], and how many rows are nearest to each [M] float64
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
    return candidates, torch.bincount(nearest, minlength=len(candidates)).double()


def _pick(points: Tensor, weights: Tensor, k: int, generator: torch.Generator) -> Tensor:
    """Picks k points; each is the best of a few drawn ∝ weighted squared distance to the picks.

    points [M, D] and weights [M], integers in float64 -> [k] indices, none twice unless k > M
    """
    tries = 2 + int(math.log(k))  # as scikit-learn
    squares, columns = points.square().sum(dim=1), points.T.contiguous()
    first = _draw(weights, 1, generator)
    picks = [int(first)]
    distance = squares + squares[first] - 2.0 * (points @ points[picks[0]])
    while len(picks) < k:
        mass = weights * distance
        if not bool(mass.any()):  # every point is where a pick is
            break
        # Later picks of a group see draws from before it, but measure them by what is left now.
        group = min(_TOGETHER, 1 + len(picks) // 4, k - len(picks))
        drawn = _draw(mass, group * tries, generator)
        offsets = squares[drawn, None] + squares
        table = torch.addmm(offsets, points[drawn], columns, alpha=-2.0).view(group, tries, -1)
        for number, distances in zip(drawn.view(group, tries), table):
            left = torch.minimum(distances, distance)
            best = int((left @ weights).argmin())
            if bool(distance[number[best]] > 0):
                picks.append(int(number[best]))
                distance = left[best]
    picked = torch.tensor(picks, device=points.device)
    fresh = torch.ones(len(points), dtype=torch.bool, device=points.device)
    fresh[picked] = False
    others = fresh.nonzero().squeeze(1)
    return torch.cat([picked, others, picked[:1].expand(k)])[:k]


def _draw(mass: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """`count` indices, each i with probability mass_i / Σ mass. mass [M], integers in float64"""
    cumulative = mass.cumsum(0)
    uniform = torch.rand(count, generator=generator, dtype=torch.float64).to(mass.device)
    return torch.searchsorted(cumulative, (uniform * cumulative[-1]).floor(), right=True)
