"""Balanced assignment is optimal, within its bounds, and proves it."""

from __future__ import annotations

import numpy as np
import oracle
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog
from torch import Tensor

from letter_fast.clustering import balanced_assign, balanced_kmeans
from letter_fast.clustering.balanced import _costs


def optimum(costs: np.ndarray, low: np.ndarray, high: np.ndarray) -> float:
    """The transportation problem as a linear program."""
    n, k = costs.shape
    once = np.kron(np.eye(n), np.ones((1, k)))
    sizes = np.tile(np.eye(k), (1, n))
    solved = linprog(
        costs.ravel(),
        A_ub=np.vstack([sizes, -sizes]),
        b_ub=np.concatenate([high, -low]),
        A_eq=once,
        b_eq=np.ones(n),
        method="highs",
    )
    assert solved.status == 0
    return float(solved.fun)


def check(x: Tensor, centroids: Tensor, low: np.ndarray, high: np.ndarray, cost: str) -> None:
    result = balanced_assign(x, centroids, torch.from_numpy(low), torch.from_numpy(high), cost=cost)
    sizes = torch.bincount(result.labels, minlength=len(centroids)).numpy()
    assert (sizes >= low).all()
    assert (sizes <= high).all()
    costs = _costs(x, centroids, cost)
    best = optimum(costs, low, high)
    scale = max(abs(best), 1e-9)
    assert result.cost == pytest.approx(costs[np.arange(len(x)), result.labels].sum(), rel=1e-9)
    assert result.cost <= best + 1e-7 * scale
    assert result.bound <= best + 1e-9 * scale
    assert 0 <= result.gap <= 1e-9 * scale + 1e-9


@settings(max_examples=120, deadline=None)
@given(st.data())
def test_equals_a_linear_program(data: st.DataObject) -> None:
    n = data.draw(st.integers(1, 24))
    k = data.draw(st.integers(1, 6))
    seed = data.draw(st.integers(0, 10_000))
    random = np.random.default_rng(seed)
    if data.draw(st.booleans()):  # a grid: massive ties and duplicates
        x, centroids = (random.integers(-2, 3, size=(size, 2)) for size in (n, k))
    else:
        x, centroids = (random.standard_normal((size, 2)) for size in (n, k))
    low = np.array([data.draw(st.integers(0, n // k)) for _ in range(k)])
    high = np.array([data.draw(st.integers(-(-n // k), n)) for _ in range(k)])
    check(
        torch.from_numpy(x.astype(np.float32)),
        torch.from_numpy(centroids.astype(np.float32)),
        low,
        high,
        data.draw(st.sampled_from(["squared", "distance"])),
    )


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
def test_perfect_balance(scale: float) -> None:
    x = oracle.clustered(60, 3, 4, seed=1) * scale
    check(x, x[:6].clone(), np.full(6, 10), np.full(6, 10), "squared")


def test_more_rows_than_a_linear_program_likes() -> None:
    x = oracle.clustered(3000, 8, 20, seed=2)
    result = balanced_assign(x, x[:32].clone(), 60, 120)
    sizes = torch.bincount(result.labels, minlength=32)
    assert int(sizes.min()) >= 60
    assert int(sizes.max()) <= 120
    assert result.gap <= 1e-9 * result.cost


def test_unbound_is_nearest() -> None:
    x = oracle.clustered(50, 4, 5, seed=3)
    result = balanced_assign(x, x[:7].clone(), 0, 50)
    assert result.labels.tolist() == oracle.nearest(x, x[:7])


def test_impossible_bounds_are_refused_with_the_numbers() -> None:
    x = torch.randn(10, 2)
    with pytest.raises(ValueError, match=r"10 rows can't fill 3 clusters.*0 to 9"):
        balanced_assign(x, x[:3], 0, 3)
    with pytest.raises(ValueError, match=r"10 rows can't fill 3 clusters.*12 to 30"):
        balanced_assign(x, x[:3], 4, 10)
    with pytest.raises(ValueError, match="min_size ≤ max_size"):
        balanced_assign(x, x[:3], 4, 3)


def test_balanced_kmeans_keeps_the_bounds_and_is_reproducible() -> None:
    x = oracle.clustered(500, 5, 7, seed=4)
    result = balanced_kmeans(x, 10, seed=3)
    sizes = torch.bincount(result.labels, minlength=10)
    assert int(sizes.min()) >= 25
    assert int(sizes.max()) <= 100
    again = balanced_kmeans(x, 10, seed=3)
    assert torch.equal(result.centroids, again.centroids)
    assert torch.equal(result.labels, again.labels)
    best = balanced_kmeans(x, 10, seed=3, restarts=4)
    assert best.inertia <= result.inertia
