"""FastKMeans: its interface, and its centroids beside the package's from one seed."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
import torch

from letter_fast.compat.fastkmeans import FastKMeans
from tests.support import oracle

X = oracle.clustered(900, 8, 12, seed=2).numpy()


@pytest.mark.parametrize("options", [{}, dict(niter=3), dict(max_points_per_centroid=20, seed=4)])
def test_beside_the_package(options: dict[str, Any]) -> None:
    theirs = pytest.importorskip("fastkmeans", reason="fastkmeans is not installed")
    if "max_points_per_centroid" in options:
        with pytest.warns(UserWarning, match="240 of 900 rows are used"):
            ours = FastKMeans(8, 12, gpu=False, **options).fit(X)
        with warnings.catch_warnings():  # its source warns, its release 0.5.0 doesn't
            warnings.simplefilter("ignore")
            peer = theirs.FastKMeans(8, 12, gpu=False, **options).fit(X)
    else:
        ours = FastKMeans(8, 12, gpu=False, **options).fit(X)
        peer = theirs.FastKMeans(8, 12, gpu=False, **options).fit(X)
    assert ours.centroids is not None
    assert ours.centroids.dtype == peer.centroids.dtype == np.float32
    np.testing.assert_allclose(ours.centroids, peer.centroids, rtol=1e-4, atol=1e-5)
    labels = ours.predict(X)
    assert labels.dtype == peer.predict(X).dtype
    assert (labels == peer.predict(X)).all()


def test_what_it_does() -> None:
    model = FastKMeans(8, 12, seed=1)
    with pytest.raises(RuntimeError, match="call train or fit before predict"):
        model.predict(X)
    assert model.train(X) is None
    assert model.fit(X) is model
    assert model.centroids is not None
    distance = np.square(X[:, None].astype(float) - model.centroids[None]).sum(-1)
    labels = model.fit_predict(X)
    assert (labels == distance.argmin(1)).all()
    assert (labels == FastKMeans(8, 12, seed=1).fit_predict(torch.from_numpy(X))).all()
    means = [X[labels == cluster].astype(float).mean(0) for cluster in range(12)]
    np.testing.assert_allclose(model.centroids, means, rtol=1e-4, atol=1e-5)


def test_each_iteration_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    FastKMeans(8, 12, niter=2, verbose=True).train(X)
    assert capsys.readouterr().out.startswith("iteration 1 of 2, inertia ")


@pytest.mark.parametrize(
    ("options", "data", "message"),
    [
        (dict(d=8, k=0), X, "k must be a whole number of at least 1, got 0"),
        (dict(d=8, k="4"), X, "k must be a whole number of at least 1, got '4'"),
        (dict(d=8, k=4, niter=0), X, "niter must be"),
        (dict(d=8, k=4, nredo=2), X, "nredo must be 1, got 2"),
        (dict(d=7, k=4), X, r"data must be \[N, 7\], got \[900, 8\]"),
        (dict(d=8, k=4), X[0], r"data must be \[N, 8\], got \[8\]"),
        (dict(d=8, k=4), X[:3], "3 rows can't make 4 clusters"),
        (dict(d=8, k=4), np.full((9, 8), np.nan), "9 of 9 rows of data hold NaN"),
    ],
)
def test_clear_errors(options: dict[str, Any], data: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        FastKMeans(**options).train(data)
