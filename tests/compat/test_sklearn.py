"""The transformer behaves as scikit-learn's checks want, and does what its quantizer does."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy.sparse import csr_matrix
from sklearn.base import clone
from sklearn.cluster import KMeans
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

from letter_fast.compat.sklearn import ResidualKMeans
from tests.support import oracle

X = oracle.clustered(400, 8, 30, seed=1).numpy()


@parametrize_with_checks(
    [
        ResidualKMeans((3, 2), random_state=0),
        ResidualKMeans(2, balanced=True, normalize=True, random_state=0),
    ]
)
def test_scikit_learn_checks(estimator: ResidualKMeans, check: object) -> None:
    check(estimator)


def test_levels_are_kmeans_of_what_is_left() -> None:
    model = ResidualKMeans((16, 8), n_init=8, max_iter=100, random_state=0).fit(X)
    codes = model.transform(X)
    assert codes.shape == (400, 2)
    assert codes.dtype == np.int64
    residual = X
    for level, (words, size) in enumerate(zip(model.codebooks_, (16, 8), strict=True)):
        distance = np.square(residual[:, None].astype(float) - words[None]).sum(-1)
        assert (codes[:, level] == distance.argmin(1)).all()
        peer = KMeans(size, n_init=8, max_iter=100, random_state=0).fit(residual)
        assert distance.min(1).sum() < 1.05 * peer.inertia_
        residual = residual - words[codes[:, level]]
    np.testing.assert_allclose(model.inverse_transform(codes), X - residual, rtol=1e-4, atol=1e-5)
    coarse = model.inverse_transform(codes[:, :1])
    assert np.square(X - coarse).sum() > np.square(residual).sum()


def test_options_reach_the_quantizer() -> None:
    balanced = ResidualKMeans(16, balanced=True, random_state=0).fit(X)
    spread = np.bincount(balanced.transform(X)[:, 0], minlength=16)
    plain = np.bincount(ResidualKMeans(16, random_state=0).fit_transform(X)[:, 0], minlength=16)
    assert spread.max() < plain.max()
    unit = ResidualKMeans((16, 8), normalize=True, random_state=0).fit(X)
    assert (unit.transform(X) == unit.transform(3 * X)).all()
    again = clone(unit).fit(X)
    assert (unit.transform(X) == again.transform(X)).all()
    assert unit.get_params()["n_clusters"] == (16, 8)
    chain = make_pipeline(StandardScaler(), ResidualKMeans((16, 8), random_state=0))
    assert chain.fit_transform(X.astype(np.float64)).shape == (400, 2)
    restored = chain.inverse_transform(chain.transform(X))
    assert np.square(X - restored).sum() < 0.5 * np.square(X - X.mean(0)).sum()


@pytest.mark.parametrize("balanced", [True, False])
@pytest.mark.parametrize("sizes", [12, (16, 8)])
def test_what_a_clusterer_has(balanced: bool, sizes: Any) -> None:
    model = ResidualKMeans(sizes, balanced=balanced, random_state=0)
    labels = model.fit_predict(X)
    assert labels.shape == ((400,) if sizes == 12 else (400, 2))
    assert (labels == model.labels_).all()
    assert (labels == model.predict(X)).all()
    restored = model.inverse_transform(labels)
    assert model.inertia_ == pytest.approx(np.square(X - restored).sum(dtype=float), rel=1e-5)
    assert model.score(X) == pytest.approx(-model.inertia_)
    np.testing.assert_array_equal(model.cluster_centers_, np.concatenate(model.codebooks_))
    assert model.n_iter_ == 25 if balanced else 1 <= model.n_iter_ <= 25
    if sizes == 12:
        np.testing.assert_array_equal(model.cluster_centers_[labels], restored)
    search = GridSearchCV(model, dict(n_init=[1, 2]), cv=2).fit(X)
    assert np.isfinite(search.best_score_)


@pytest.mark.parametrize("frame", ["pandas", "polars"])
def test_frames_go_in_and_come_back(frame: str) -> None:
    library = pytest.importorskip(frame)
    rows = library.DataFrame({f"x{column}": X[:, column] for column in range(X.shape[1])})
    model = ResidualKMeans((16, 8), random_state=0).set_output(transform=frame).fit(rows)
    codes = model.transform(rows)
    assert isinstance(codes, library.DataFrame)
    plain = ResidualKMeans((16, 8), random_state=0).fit(X)
    np.testing.assert_array_equal(np.asarray(codes), plain.transform(X))
    np.testing.assert_array_equal(model.inverse_transform(codes), plain.inverse_transform(codes))
    chain = make_pipeline(StandardScaler(), model).set_output(transform=frame)
    assert chain.inverse_transform(chain.fit_transform(rows)).shape == X.shape


@pytest.mark.parametrize("dtype", [np.int8, np.uint16, np.uint64, ">i4", object])
def test_codes_of_any_integer_type_are_decoded(dtype: Any) -> None:
    model = ResidualKMeans((16, 8), random_state=0).fit(X)
    codes = model.transform(X)
    expected = model.inverse_transform(codes)
    if dtype is object:
        np.testing.assert_array_equal(model.inverse_transform(codes.tolist()), expected)
        with pytest.raises(ValueError, match="codes must be integers, got object"):
            model.inverse_transform(codes.astype(object))
    else:
        np.testing.assert_array_equal(model.inverse_transform(codes.astype(dtype)), expected)


@pytest.mark.parametrize("offset", [1e6, -1e9, np.linspace(-1e7, 1e7, 8)])
@pytest.mark.parametrize("normalize", [True, False])
def test_an_offset_costs_no_digits(offset: Any, normalize: bool) -> None:
    x = X.astype(np.float64)
    options: dict[str, Any] = dict(n_clusters=(16, 8), random_state=0)
    far = ResidualKMeans(**options, normalize=normalize).fit(x + offset)
    if normalize:
        unit = (x + offset) / np.linalg.norm(x + offset, axis=1, keepdims=True)
        peer = KMeans(16, n_init=4, random_state=0).fit(unit)
        level = unit - far.codebooks_[0][far.labels_[:, 0]]
        assert np.square(level).sum() < 1.3 * peer.inertia_
        return
    near = ResidualKMeans(**options).fit(x)
    assert not near.offset_.any()
    assert far.offset_.all()
    assert far.inertia_ < 1.1 * near.inertia_
    restored = far.inverse_transform(far.transform(x + offset))
    assert restored.dtype == np.float64
    left = np.square(x + offset - restored).sum()
    assert far.inertia_ == pytest.approx(left, rel=1e-4)
    distance = np.square((x + offset)[:, None] - far.codebooks_[0][None]).sum(-1)
    assert (far.labels_[:, 0] == distance.argmin(1)).mean() > 0.99


def test_seeds_of_every_kind() -> None:
    for state in (0, np.int64(0), None, np.random.RandomState(0), np.random.default_rng(0)):
        assert ResidualKMeans(4, random_state=state).fit(X).labels_.shape == (400,)
    a, b = (ResidualKMeans(4, random_state=np.random.default_rng(3)).fit(X) for _ in range(2))
    assert (a.labels_ == b.labels_).all()


@pytest.mark.parametrize("sizes", [np.int64(4), [4], (np.int32(4),), np.array([4])])
def test_sizes_of_every_kind(sizes: Any) -> None:
    plain = ResidualKMeans(4, random_state=0).fit(X)
    assert (ResidualKMeans(sizes, random_state=0).fit(X).labels_ == plain.labels_).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(n_clusters="8"), "n_clusters must be a whole number of at least 1, got '8'"),
        (dict(n_clusters=4.0), "n_clusters must be a whole number of at least 1, got 4.0"),
        (dict(n_clusters=True), "n_clusters must be a whole number"),
        (dict(n_clusters=None), "n_clusters must be a whole number"),
        (dict(n_clusters=0), "n_clusters must be a whole number"),
        (dict(n_clusters=()), "n_clusters is empty"),
        (dict(n_clusters=(4, 4.5)), "each of n_clusters must be a whole number"),
        (dict(n_clusters=("4",)), "each of n_clusters must be a whole number"),
        (dict(n_clusters=4, n_init=0), "n_init must be a whole number of at least 1, got 0"),
        (dict(n_clusters=4, max_iter=-1), "max_iter must be a whole number of at least 1"),
        (dict(n_clusters=4, tol=-1.0), "tol must be finite and at least 0.0, got -1.0"),
    ],
)
def test_options_are_checked(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ResidualKMeans(**options).fit(X)


@pytest.mark.parametrize("method", ["fit", "transform", "predict", "score"])
def test_what_cannot_be_taken_is_refused_in_one_line(method: str) -> None:
    model = ResidualKMeans(4, random_state=0).fit(X)
    for bad, kind, message in (
        (csr_matrix(X), TypeError, "Sparse data was passed"),
        (X.astype(float) * 1e300, ValueError, "rows of X hold NaN or Inf .or leave the range"),
        (np.full_like(X, np.nan), ValueError, "contains NaN"),
    ):
        with pytest.raises(kind, match=message):
            getattr(model, method)(bad)


def test_clear_errors() -> None:
    with pytest.raises(ValueError, match="minimum of 512 is required"):
        ResidualKMeans(512).fit(X)
    fitted = ResidualKMeans(4, random_state=0).fit(X)
    with pytest.raises(ValueError, match="outside its codebook"):
        fitted.inverse_transform(np.array([[4]]))
    with pytest.raises(ValueError, match="codes must be integers, got float64"):
        fitted.inverse_transform(np.array([[1.0]]))
