"""Sinkhorn codes equal the probability-space formula wherever that is finite."""

from __future__ import annotations

import oracle
import pytest
import torch
from torch import Tensor

from letter_fast.clustering import sinkhorn_codes


def probability_space(x: Tensor, codebook: Tensor, epsilon: float, sweeps: int) -> Tensor:
    """Sinkhorn–Knopp on Q itself, float64, columns then rows."""
    distance = (x[:, None].double() - codebook[None].double()).square().sum(-1)
    middle = (distance.max() + distance.min()) / 2
    plan = torch.exp(-(distance - middle) / (distance.max() - middle + 1e-5) / epsilon)
    plan = plan / plan.sum()
    for _ in range(sweeps):
        plan = plan / plan.sum(dim=0, keepdim=True) / plan.shape[1]
        plan = plan / plan.sum(dim=1, keepdim=True) / plan.shape[0]
    return plan


@pytest.mark.parametrize("epsilon", [0.003, 0.05, 1.0])
@pytest.mark.parametrize("rows", [1, 5, 100])
def test_equals_the_probability_space_form(rows: int, epsilon: float) -> None:
    x, book = oracle.clustered(rows, 6, 4, seed=1), oracle.clustered(16, 6, 4, seed=2)
    plan = probability_space(x, book, epsilon, 50)
    assert bool(plan.isfinite().all())
    assert torch.equal(sinkhorn_codes(x, book, epsilon, 50), plan.argmax(dim=1))


def test_spreads_identical_rows_no_worse_than_nearest() -> None:
    x, book = oracle.clustered(64, 4, 2, seed=3), oracle.clustered(16, 4, 2, seed=4)
    spread = len(set(sinkhorn_codes(x, book).tolist()))
    assert spread > len(set(oracle.nearest(x, book)))


@pytest.mark.parametrize("scale", [0.0, 1e-20, 1e15])
def test_finite_input_always_gives_codes(scale: float) -> None:
    x, book = oracle.clustered(9, 3, 2, seed=5) * scale, oracle.clustered(4, 3, 2, seed=6) * scale
    codes = sinkhorn_codes(x, book, 1e-6, 50)
    assert codes.shape == (9,)
    assert int(codes.min()) >= 0
    assert int(codes.max()) < 4
    assert sinkhorn_codes(x[:0], book).shape == (0,)


def test_bad_arguments_are_refused() -> None:
    with pytest.raises(ValueError, match="epsilon"):
        sinkhorn_codes(torch.zeros(2, 2), torch.zeros(2, 2), epsilon=0.0)
    with pytest.raises(ValueError, match="NaN or Inf"):
        sinkhorn_codes(torch.full((2, 2), torch.nan), torch.zeros(2, 2))
