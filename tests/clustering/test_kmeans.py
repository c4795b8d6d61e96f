"""k-means: what it promises of inertia, labels and awkward data."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from letter_fast import use_backend
from letter_fast.clustering import kmeans
from tests.support import oracle
from tests.support.cpu_backends import same_bits


def test_labels_are_nearest_and_inertia_is_their_cost() -> None:
    x = oracle.clustered(200, 4, 6, seed=1)
    result = kmeans(x, 6, seed=2)
    assert result.labels.tolist() == oracle.nearest(x, result.centroids)
    cost = (x.double() - result.centroids[result.labels].double()).square().sum()
    assert result.inertia == pytest.approx(float(cost))


def test_finds_well_separated_clusters() -> None:
    centres = torch.eye(5) * 100
    x = centres.repeat_interleave(40, dim=0) + 0.1 * torch.randn(200, 5)
    result = kmeans(x, 5, restarts=3)
    assert torch.bincount(result.labels).tolist() == [40] * 5
    assert result.inertia < 200 * 5 * 0.05


def test_more_iterations_and_restarts_never_cost_more() -> None:
    x = oracle.clustered(300, 6, 12, seed=3)
    costs = [kmeans(x, 12, iterations=n, tolerance=0.0).inertia for n in (1, 2, 5, 50)]
    assert costs == sorted(costs, reverse=True)
    assert kmeans(x, 12, restarts=5).inertia <= kmeans(x, 12).inertia


def test_as_many_clusters_as_rows_costs_nothing() -> None:
    x = oracle.clustered(20, 3, 4, seed=4)
    assert kmeans(x, 20).inertia == 0.0


def test_fewer_distinct_rows_than_clusters() -> None:
    x = torch.tensor([[0.0, 1.0], [2.0, 3.0]]).repeat(10, 1)
    result = kmeans(x, 5)
    assert result.inertia == 0.0
    assert result.centroids.shape == (5, 2)
    assert bool(result.centroids.isfinite().all())


def test_bad_input_is_refused() -> None:
    with pytest.raises(ValueError, match="k = 4, N = 3"):
        kmeans(torch.randn(3, 2), 4)
    with pytest.raises(ValueError, match="1 of 3 rows"):
        kmeans(torch.tensor([[1.0], [float("nan")], [2.0]]), 2)


def test_goes_on_from_a_start() -> None:
    x = oracle.clustered(400, 5, 9, seed=8)
    # Tolerance 0 in both: the second run ends where the first would have.
    first = kmeans(x, 9, start=x[:9], iterations=4, tolerance=0.0)
    rest = kmeans(x, 9, start=first.centroids, tolerance=0.0)
    whole = kmeans(x, 9, start=x[:9], tolerance=0.0)
    assert torch.equal(rest.centroids, whole.centroids)
    assert rest.inertia == whole.inertia < first.inertia
    for wrong, message in [
        (x[:8], r"start must be \[9, 5\]"),
        (torch.full((9, 5), torch.nan), "9 of 9"),
    ]:
        with pytest.raises(ValueError, match=message):
            kmeans(x, 9, start=wrong)


def test_cost_beside_scikit_learn() -> None:
    cluster = pytest.importorskip("sklearn.cluster")
    x = oracle.clustered(3000, 8, 40, seed=9)
    begin = x[:30].numpy()
    options = {"init": begin, "n_init": 1, "tol": 0.0, "max_iter": 300, "algorithm": "lloyd"}
    theirs = cluster.KMeans(30, **options).fit(x.numpy())
    ours = kmeans(x, 30, start=x[:30], tolerance=0.0, iterations=300)
    assert ours.inertia == pytest.approx(float(theirs.inertia_), rel=1e-3)
    best = cluster.KMeans(30, n_init=8, random_state=0).fit(x.numpy()).inertia_
    assert kmeans(x, 30, restarts=8).inertia <= 1.02 * float(best)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_rows_of_other_types_and_strides(dtype: torch.dtype) -> None:
    x = oracle.clustered(500, 7, 9, seed=10).to(dtype)
    plain = kmeans(x.float(), 8, seed=1)
    for rows in (x, x.T.contiguous().T, torch.cat([x, x], dim=1)[:, :7]):
        found = kmeans(rows, 8, seed=1)
        assert torch.equal(found.labels, plain.labels)
        assert torch.equal(found.centroids, plain.centroids)


def test_the_same_bits_whatever_computes_them() -> None:
    x = oracle.clustered(2000, 20, 30, seed=11)

    def found() -> list[Tensor]:
        result = kmeans(x, 40, seed=3)
        return [result.centroids, result.labels, torch.tensor(result.inertia, dtype=torch.float64)]

    same_bits(found)


def test_rows_all_equal() -> None:
    result = kmeans(torch.full((50, 3), 0.1), 4)
    assert result.inertia == 0.0
    assert result.labels.tolist() == [0] * 50


def test_a_file_is_read_as_a_stream(tmp_path: Path) -> None:
    x = oracle.clustered(700, 6, 15, seed=12)
    np.save(tmp_path / "rows.npy", x.numpy())
    expected = kmeans(x, 12, seed=1)
    found = kmeans(tmp_path / "rows.npy", 12, seed=1)
    assert torch.equal(found.centroids, expected.centroids)
    assert torch.equal(found.labels, expected.labels)


def test_a_stream_ends_where_memory_does() -> None:
    x = oracle.clustered(1000, 6, 15, seed=5)
    expected = kmeans(x, 12, seed=1)
    for size in (1, 99, 1000):
        found = kmeans(list(x.split(size)), 12, seed=1)
        assert torch.equal(found.centroids, expected.centroids)
        assert torch.equal(found.labels, expected.labels)
        assert found.inertia == expected.inertia
    with pytest.raises(ValueError, match="can be read once only"):
        kmeans(iter(x.split(10)), 12)


def test_the_same_bits_for_any_number_of_threads_and_backend() -> None:
    x = oracle.clustered(3000, 16, 30, seed=6)
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        alone = kmeans(x, 20, seed=2)
        torch.set_num_threads(2)
        together = kmeans(x, 20, seed=2)
    finally:
        torch.set_num_threads(threads)
    with use_backend("reference"):
        plain = kmeans(x, 20, seed=2)
    for other in (together, plain):
        assert torch.equal(alone.centroids, other.centroids)
        assert torch.equal(alone.labels, other.labels)
        assert alone.inertia == pytest.approx(other.inertia, rel=1e-12)
