"""The transformer behaves as scikit-learn's checks want, and does what its quantizer does."""

from __future__ import annotations

import numpy as np
import oracle
import pytest
from sklearn.base import clone
from sklearn.cluster import KMeans
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

from letter_fast.compat.sklearn import ResidualKMeans

X = oracle.clustered(400, 8, 30, seed=1).numpy()


@parametrize_with_checks(
    [
        ResidualKMeans((3, 2), random_state=0),
        ResidualKMeans(2, balanced=True, normalize=True, random_state=0),
    ]
)
def test_scikit_learn_checks(estimator: ResidualKMeans, check: object) -> None:
    check(estimator)  # type: ignore[operator]


def test_levels_are_kmeans_of_what_is_left() -> None:
    model = ResidualKMeans((16, 8), restarts=8, iterations=100, random_state=0).fit(X)
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


def test_clear_errors() -> None:
    with pytest.raises(ValueError, match="minimum of 512 is required"):
        ResidualKMeans(512).fit(X)
    fitted = ResidualKMeans(4, random_state=0).fit(X)
    with pytest.raises(ValueError, match="outside its codebook"):
        fitted.inverse_transform(np.array([[4]]))
