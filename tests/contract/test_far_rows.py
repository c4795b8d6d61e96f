"""k-means where some rows or columns are far larger than the rest."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from letter_fast.functional import KMeansResult, balanced_kmeans, kmeans

K = 12


def unit_rows() -> Tensor:
    rows = torch.randn(1200, 8, generator=torch.Generator().manual_seed(1))
    return rows / rows.norm(dim=1, keepdim=True)


def with_row(size: float) -> Tensor:
    rows = unit_rows()
    rows[5] = 0
    rows[5, 0] = size
    return rows


def with_column(value: float) -> Tensor:
    rows = unit_rows()
    return torch.cat([rows, torch.full((len(rows), 1), value)], dim=1)


def with_sentinels() -> Tensor:
    rows = unit_rows()
    rows[::20, 0] = -999_999.0
    return rows


def true_inertia(rows: Tensor, result: KMeansResult) -> float:
    left = rows.double() - result.centroids.double()[result.labels]
    return float(left.square().sum())


FAR = {
    **{f"row {size:g}": with_row(size) for size in (1e3, 1e5, 1e9, 1e20, 1e30)},
    **{f"column {value:g}": with_column(value) for value in (1e5, 1e6, 1.7e9)},
    "sentinels": with_sentinels(),
    "two groups": unit_rows() + torch.tensor([0.0, 1e6]).repeat(600)[:, None],
}


@pytest.mark.parametrize("name", FAR)
def test_far_numbers_hide_no_cluster(name: str) -> None:
    rows = FAR[name]
    result = kmeans(rows, K)
    usual = kmeans(unit_rows(), K).inertia
    assert result.inertia == pytest.approx(true_inertia(rows, result), rel=1e-6)
    assert 0.5 * usual < result.inertia < 1.25 * usual  # two groups share the clusters


@pytest.mark.parametrize("name", ["row 100000", "row 1e+09", "column 1e+06", "sentinels"])
def test_balanced_kmeans_starts_as_well(name: str) -> None:
    usual = kmeans(unit_rows(), K).inertia
    assert balanced_kmeans(FAR[name], K, 0, 1200).inertia < 1.15 * usual


@pytest.mark.parametrize("name", FAR)
def test_the_order_of_rows_changes_no_bit(name: str) -> None:
    rows = FAR[name]
    order = torch.randperm(len(rows), generator=torch.Generator().manual_seed(2))
    a, b = (kmeans(x, K, start=rows[:K], iterations=20) for x in (rows, rows[order]))
    assert torch.equal(a.centroids, b.centroids)
    assert torch.equal(a.labels[order], b.labels)
    assert a.inertia == b.inertia


def test_two_pairs_far_from_zero() -> None:
    rows = torch.tensor([[1e6, 0.0], [1e6, 0.05], [1e6, 1.0], [1e6, 1.05]])
    result = kmeans(rows, 2)
    assert sorted(result.centroids[:, 1].tolist()) == pytest.approx([0.025, 1.025])
    assert result.inertia == pytest.approx(0.0025, rel=1e-5)


@pytest.mark.parametrize("scale", [1e30, 1e-30])
def test_scales(scale: float) -> None:
    usual, scaled = kmeans(unit_rows(), K), kmeans(unit_rows() * scale, K)
    assert scaled.inertia == pytest.approx(usual.inertia * scale * scale, rel=0.05)
