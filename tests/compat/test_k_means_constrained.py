"""KMeansConstrained beside the package: its problem exactly, its objective no worse."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest
from scipy.sparse import csr_matrix
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.utils.estimator_checks import parametrize_with_checks

from letter_fast.compat.k_means_constrained import KMeansConstrained, k_means_constrained
from tests.support import oracle

theirs = pytest.importorskip("k_means_constrained", reason="k-means-constrained is not installed")

# Large, so that distances rounded to 1/1000 are distances.
X = 1000 * oracle.clustered(240, 5, 9, seed=1).double().numpy()
BOUNDS = [(None, None), (10, 60), (24, 24), (None, 30)]


@parametrize_with_checks([KMeansConstrained(3, n_init=2, random_state=0)])
def test_scikit_learn_checks(estimator: KMeansConstrained, check: Any) -> None:
    check(estimator)


@pytest.mark.filterwarnings("ignore:Passing more than 2 positional arguments")  # of theirs
@pytest.mark.parametrize(("size_min", "size_max"), BOUNDS)
@pytest.mark.parametrize("n_init", [1, 3])
def test_the_packages_own_problem(size_min: Any, size_max: Any, n_init: int) -> None:
    """Random starts are the same rows, and so is every step from there."""
    options = dict(n_clusters=10, init="random", n_init=n_init, random_state=5)
    ours = KMeansConstrained(**options, size_min=size_min, size_max=size_max, cost="distance")
    peer = theirs.KMeansConstrained(**options, size_min=size_min, size_max=size_max)
    ours.fit(X)
    peer.fit(X)
    assert (ours.labels_ == peer.labels_).all()
    assert ours.labels_.dtype == peer.labels_.dtype
    np.testing.assert_allclose(ours.cluster_centers_, peer.cluster_centers_, rtol=1e-6, atol=1e-3)
    assert ours.inertia_ == pytest.approx(peer.inertia_, rel=1e-6)
    assert ours.n_iter_ == peer.n_iter_
    new = 1000 * oracle.clustered(100, 5, 9, seed=2).double().numpy()
    for low, high in ((None, None), (5, 20), (10, 10)):
        assert (ours.predict(new, low, high) == peer.predict(new, low, high)).all()
    np.testing.assert_allclose(ours.transform(new), peer.transform(new), rtol=1e-6, atol=1e-3)
    assert ours.score(new) == pytest.approx(peer.score(new), rel=1e-6)


@pytest.mark.parametrize(("size_min", "size_max"), BOUNDS)
def test_inertia_is_no_worse(size_min: Any, size_max: Any) -> None:
    bounds = dict(n_clusters=10, size_min=size_min, size_max=size_max)
    ours = [KMeansConstrained(**bounds, random_state=seed).fit(X).inertia_ for seed in range(3)]
    peer = [
        theirs.KMeansConstrained(**bounds, random_state=seed).fit(X).inertia_ for seed in range(3)
    ]
    assert np.mean(ours) < 1.01 * np.mean(peer)


def test_what_is_found_belongs_together() -> None:
    model = KMeansConstrained(10, 20, 30, random_state=0)
    labels = model.fit_predict(X)
    assert (labels == model.labels_).all()
    sizes = np.bincount(labels, minlength=10)
    assert sizes.min() >= 20
    assert sizes.max() <= 30
    centers = model.cluster_centers_
    assert model.inertia_ == pytest.approx(np.square(X - centers[labels]).sum())
    assert (model.predict(X) == labels).all()
    means = np.stack([X[labels == cluster].mean(0) for cluster in range(10)])
    assert np.square(means - centers).sum() <= 1e-4 * X.var(0).mean()
    assert (clone(model).fit(X).labels_ == labels).all()
    assert (pickle.loads(pickle.dumps(model)).predict(X) == labels).all()
    found = k_means_constrained(X, 10, 20, 30, random_state=0, return_n_iter=True)
    assert (found[1] == labels).all()
    assert found[3] == model.n_iter_
    names = set(theirs.KMeansConstrained().get_params())
    assert set(model.get_params()) == names | {"cost"}


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int64, ">f8"])
def test_types_in_and_out(dtype: Any) -> None:
    x = X.round().astype(dtype)
    model = KMeansConstrained(6, 20, 60, init=x[:6], n_init=1, random_state=0).fit(x[::-1])
    expected = np.float32 if dtype == np.float32 else np.float64
    assert model.cluster_centers_.dtype == expected
    plain = KMeansConstrained(6, 20, 60, init=X[:6].round(), n_init=1).fit(X.round()[::-1])
    assert (model.labels_ == plain.labels_).all()


@pytest.mark.parametrize("offset", [1e6, -1e9])
def test_an_offset_costs_no_digits(offset: float) -> None:
    x = X / 1000
    near = KMeansConstrained(6, 20, 60, init=x[:6], n_init=1).fit(x)
    far = KMeansConstrained(6, 20, 60, init=x[:6] + offset, n_init=1).fit(x + offset)
    assert (near.labels_ == far.labels_).all()
    assert (near.labels_ == far.predict(x + offset)).all()
    assert far.inertia_ == pytest.approx(near.inertia_, rel=1e-5)
    np.testing.assert_allclose(far.cluster_centers_ - offset, near.cluster_centers_, atol=1e-5)


def test_init_is_what_it_says(capsys: pytest.CaptureFixture[str]) -> None:
    given = KMeansConstrained(6, init=X[:6].copy(), n_init=1).fit(X)
    made = KMeansConstrained(6, init=lambda rows, k, random_state: rows[:k], n_init=1).fit(X)
    listed = KMeansConstrained(6, init=X[:6].tolist(), n_init=1, verbose=True).fit(X)
    assert (given.labels_ == made.labels_).all()
    assert (given.labels_ == listed.labels_).all()
    assert capsys.readouterr().out.count("inertia") == listed.n_iter_
    with pytest.warns(RuntimeWarning, match="one run from them, not n_init=10"):
        KMeansConstrained(6, init=X[:6]).fit(X)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(n_clusters="8"), "n_clusters must be a whole number of at least 1, got '8'"),
        (dict(n_clusters=4.0), "n_clusters must be a whole number"),
        (dict(n_clusters=0), "n_clusters must be a whole number"),
        (dict(n_clusters=241), "240 rows can't make 241 clusters"),
        (dict(size_min=-1), "size_min must be a whole number of at least 0, got -1"),
        (dict(size_max=2.5), "size_max must be a whole number"),
        (dict(size_min=50), "240 rows can't fill 8 clusters.*400 to 1920"),
        (dict(size_max=10), "240 rows can't fill 8 clusters.*0 to 80"),
        (dict(size_min=40, size_max=20), "min_size ≤ max_size"),
        (dict(n_init=0), "n_init must be"),
        (dict(max_iter=-1), "Number of iterations should be positive"),
        (dict(init="k-means"), "init must be one of k-means.*did you mean 'k-means..'"),
        (dict(init=X[:7], n_init=1), "does not match the number of clusters, 8"),
        (dict(init=X[:8, :3], n_init=1), "does not match the number of features of the data, 5"),
        (dict(cost="square"), "did you mean 'squared'"),
    ],
)
def test_clear_errors(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        KMeansConstrained(**options).fit(X)


def test_other_errors() -> None:
    model = KMeansConstrained(6, random_state=0)
    with pytest.raises(NotFittedError):
        model.predict(X)
    with pytest.raises(NotImplementedError, match="sparse X is not supported"):
        model.fit(csr_matrix(X))
    model.fit(X)
    with pytest.raises(ValueError, match="features"):
        model.predict(X[:, :3])
    with pytest.raises(ValueError, match="leave the range of float32"):
        model.fit(X * 1e300)
