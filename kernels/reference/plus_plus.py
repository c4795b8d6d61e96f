"""k-means++: each start is drawn with probability ∝ squared distance to those drawn before."""

from __future__ import annotations

import torch
from torch import Tensor


def plus_plus(x: Tensor, draws: Tensor) -> Tensor:
    """x [P, N, D] float32, draws [P, K] float64 in [0, 1) -> rows [P, K] int64"""
    return torch.stack([_starts(rows.double(), draw) for rows, draw in zip(x, draws)])


def _starts(points: Tensor, draws: Tensor) -> Tensor:
    picks = [int(draws[0] * len(points))]
    distance = (points - points[picks[0]]).square().sum(dim=1)
    for draw in draws[1:].tolist():
        cumulative = distance.cumsum(0)
        total = float(cumulative[-1])
        if total > 0:
            pick = int(torch.searchsorted(cumulative, draw * total, right=True))
        else:  # every row is a start already
            pick = int(draw * len(points))
        picks.append(min(pick, len(points) - 1))
        distance = torch.minimum(distance, (points - points[picks[-1]]).square().sum(dim=1))
    return draws.new_tensor(picks, dtype=torch.int64)
