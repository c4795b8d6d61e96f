"""Greedy k-means++: every instruction set picks what the reference picks."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from letter_fast.kernels import cpp, reference


def points(problems: int, rows: int, width: int, seed: int) -> tuple[Tensor, Tensor]:
    random = torch.Generator().manual_seed(seed)
    x = torch.randint(-(2**15), 2**15, (problems, rows, width), generator=random).float()
    return x, torch.randint(0, 5, (problems, rows), generator=random).double()


def draws(problems: int, picks: int, tries: int) -> Tensor:
    random = torch.Generator().manual_seed(4)
    return torch.rand(problems, picks, tries, generator=random, dtype=torch.float64)


@pytest.mark.usefixtures("instruction_set")
@pytest.mark.parametrize(
    ("rows", "width", "k", "tries"), [(1, 1, 1, 2), (15, 3, 9, 3), (16, 5, 16, 4), (301, 33, 40, 7)]
)
def test_picks_as_the_reference(rows: int, width: int, k: int, tries: int) -> None:
    x, weights = points(3, rows, width, seed=1)
    weights[:, 0] = 1.0
    drawn = draws(3, k, tries)
    expected = reference.kmeans_plusplus(x, weights, drawn)
    assert torch.equal(cpp.kmeans_plusplus(x, weights, drawn), expected)
    strided = x.transpose(1, 2).contiguous().transpose(1, 2)
    assert torch.equal(cpp.kmeans_plusplus(strided, weights, drawn), expected)
    alone = [
        cpp.kmeans_plusplus(x[i : i + 1], weights[i : i + 1], drawn[i : i + 1]) for i in range(3)
    ]
    assert torch.equal(torch.cat(alone), expected)


def test_threads_within_a_problem_change_nothing() -> None:
    x, weights = points(1, 3000, 300, seed=2)  # enough products for a second thread
    drawn = draws(1, 12, 5)
    assert torch.equal(
        cpp.kmeans_plusplus(x, weights, drawn), reference.kmeans_plusplus(x, weights, drawn)
    )


@pytest.mark.usefixtures("instruction_set")
@pytest.mark.parametrize("draw", [0.0, 0.5, 1 - 2.0**-53])
def test_extreme_draws_never_take_a_point_twice(draw: float) -> None:
    x = torch.arange(130.0)[None, :, None] * 2.0**14  # sums of squares near 2⁵³
    weights = torch.full((1, 130), 8.0, dtype=torch.float64)
    drawn = torch.full((1, 130, 3), draw, dtype=torch.float64)
    picks = cpp.kmeans_plusplus(x, weights, drawn)
    assert picks.sort().values.tolist() == [list(range(130))]
    assert torch.equal(picks, reference.kmeans_plusplus(x, weights, drawn))


@pytest.mark.usefixtures("instruction_set")
def test_points_of_no_weight_are_not_drawn() -> None:
    x, weights = points(1, 50, 4, seed=3)
    weights[:, 20:] = 0.0
    weights[:, :20] = 1.0
    picks = cpp.kmeans_plusplus(x, weights, draws(1, 20, 4))
    assert picks.sort().values.tolist() == [list(range(20))]


@pytest.mark.usefixtures("instruction_set")
def test_fewer_distinct_points_than_picks() -> None:
    x = torch.tensor([[0.0, 1.0], [2.0, 3.0]]).repeat(4, 1)[None]
    weights, drawn = torch.ones(1, 8, dtype=torch.float64), draws(1, 12, 3)
    picks = cpp.kmeans_plusplus(x, weights, drawn)
    assert torch.equal(picks, reference.kmeans_plusplus(x, weights, drawn))
    assert len(x[0, picks[0, :2]].unique(dim=0)) == 2
    assert picks[0, :8].sort().values.tolist() == list(range(8))
    assert bool((picks[0, 8:] == picks[0, 0]).all())
