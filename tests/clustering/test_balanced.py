"""Size bounds as the public functions take them, and what balanced k-means promises."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from letter_fast.clustering import balanced_assign, balanced_kmeans, kmeans
from letter_fast.kernels import use_backend
from letter_fast.kernels.transport import assign
from tests.support import oracle


def test_distance_is_another_problem() -> None:
    """Costs {1, 3; 2, 3.5}: unsquared, swapping saves 0.5; squared, it costs 1.75 more."""
    x = torch.tensor([[0.0, 0.0], [3.0, 0.0]])
    centroids = torch.tensor([[1.0, 0.0], [0.0, 3.0]])
    for cost, power in (("squared", 2), ("distance", 1)):
        result = balanced_assign(x, centroids, 1, 1, cost=cost)
        table = (x[:, None] - centroids[None]).norm(dim=-1).double().numpy() ** power
        best = min(table[0, 0] + table[1, 1], table[0, 1] + table[1, 0])
        assert result.cost == pytest.approx(best)
        assert result.gap == pytest.approx(0, abs=1e-12)


def test_the_reference_solves_any_table() -> None:
    costs = np.random.default_rng(1).random((40, 5))
    found = assign(costs, np.full(5, 8), np.full(5, 8))
    assert np.bincount(found.labels).tolist() == [8] * 5
    assert found.cost - found.bound <= 1e-12


def test_unbound_is_nearest() -> None:
    x = oracle.clustered(50, 4, 5, seed=3)
    result = balanced_assign(x, x[:7].clone(), 0, 50)
    assert result.labels.tolist() == oracle.nearest(x, x[:7])


def test_most_rows_are_equal_and_their_clusters_full() -> None:
    x = torch.zeros(520, 4)
    x[400:] = 0.01 * torch.randn(120, 4, generator=torch.Generator().manual_seed(1))
    centroids = x[390:]  # ten of the equal rows, which hold 50 of their 400
    result = balanced_assign(x, centroids, 1, 5)
    sizes = torch.bincount(result.labels, minlength=130)
    assert int(sizes.min()) >= 1
    assert int(sizes.max()) <= 5
    assert result.gap <= 1e-9 * result.cost


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
    assert result.gap <= 1e-9 * result.inertia
    cost = (x.double() - result.centroids[result.labels].double()).square().sum()
    assert result.inertia == pytest.approx(float(cost))
    best = balanced_kmeans(x, 10, seed=3, restarts=4)
    assert best.inertia <= result.inertia


def test_bounds_of_each_cluster() -> None:
    x = oracle.clustered(200, 4, 6, seed=9)
    low, high = torch.tensor([0, 30, 50, 60]), torch.tensor([20, 30, 60, 90])
    sizes = balanced_kmeans(x, 4, low, high).labels.bincount(minlength=4)
    assert bool((sizes >= low).all() & (sizes <= high).all())


def test_the_reference_runs_behind_the_public_function() -> None:
    """An op's outputs may not share memory: PyTorch refuses the call, not the kernel."""
    x = oracle.clustered(40, 4, 6, seed=2)
    with use_backend("reference"):
        found = balanced_kmeans(x, 5, iterations=10)
    sizes = torch.bincount(found.labels, minlength=5)
    assert int(sizes.min()) >= 4
    assert int(sizes.max()) <= 16
    assert found.inertia == pytest.approx(float((x - found.centroids[found.labels]).square().sum()))
    assert abs(found.gap) <= 1e-9 * found.inertia


def test_bad_numbers_are_refused() -> None:
    x = torch.randn(10, 2)
    broken = torch.tensor([[0.0, 1.0], [float("inf"), 0.0]])
    with pytest.raises(ValueError, match="1 of 2 codewords of centroids hold NaN or Inf"):
        balanced_assign(x, broken, 0, 10)
    x[3, 1] = torch.nan
    with pytest.raises(ValueError, match=r"1 of 10 rows of x hold NaN or Inf.*row 3"):
        balanced_assign(x, torch.zeros(2, 2), 0, 10)


def test_no_rows() -> None:
    result = balanced_assign(torch.zeros(0, 3), torch.zeros(4, 3), 0, 2)
    assert result.labels.shape == (0,)
    assert result.cost == result.gap == 0.0


def test_a_run_begins_where_it_is_told_to() -> None:
    x = oracle.clustered(300, 6, 20, seed=3)
    start = x[:7] + 0.1
    found = balanced_kmeans(x, 7, 20, 80, init=start, iterations=1)
    assert torch.equal(found.centroids, start)
    once = balanced_assign(x, start, 20, 80)
    assert torch.equal(found.labels, once.labels)
    end = balanced_kmeans(x, 7, 20, 80, init=start, tolerance=0.0)
    again = balanced_kmeans(x, 7, 20, 80, init=end.centroids, tolerance=0.0)
    torch.testing.assert_close(end.centroids, again.centroids, rtol=1e-6, atol=1e-6)
    assert end.inertia < found.inertia


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(restarts=0), "restarts must be at least 1, got 0"),
        (dict(iterations=-1), "iterations must be at least 1, got -1"),
        (dict(init=torch.zeros(3, 2)), r"init must be \[4, 2\], got \[3, 2\]"),
        (dict(init=torch.zeros(4, 3)), r"init must be \[4, 2\], got \[4, 3\]"),
        (dict(init=torch.full((4, 2), torch.nan)), "4 of 4 codewords of init hold NaN"),
        (dict(init=torch.zeros(4, 2), restarts=2), "restarts must be 1, got 2"),
    ],
)
def test_starts_and_effort_are_checked(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        balanced_kmeans(torch.randn(20, 2), 4, **options)
    if "init" not in options:
        with pytest.raises(ValueError, match=message):
            kmeans(torch.randn(20, 2), 4, **options)
