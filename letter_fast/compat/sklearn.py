"""Residual k-means as a scikit-learn transformer: rows to codes and back."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from letter_fast import validation
from letter_fast.extras import missing
from letter_fast.model.residual_kmeans import unit_rows_in_double
from letter_fast.quantizer import ResidualQuantizer

try:
    from sklearn.base import BaseEstimator, TransformerMixin
    from sklearn.utils import check_random_state
    from sklearn.utils.validation import check_is_fitted, validate_data
except ImportError as error:
    raise missing("sklearn", "letter_fast.compat.sklearn", error) from error

Floats = NDArray[Any]  # float32 or float64


class ResidualKMeans(TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """Level l's codewords are the k-means of what the levels before it leave over.

    Args:
        n_clusters: codewords of each level, or of the only one.
        balanced: whether each codeword is the mean of N/2K … 2N/K rows.
        normalize: whether rows are scaled to length 1 first.
        n_init: runs of each k-means, of which the best is kept.
        max_iter: iterations of a run, at most.
        tol: a run ends when an iteration lowers the inertia by at most this share of it.
        random_state: seed, or a NumPy generator (of either kind) that draws one.

    Attributes:
        offset_: [D] float64, taken off every row before it becomes float32, whose digits a common
            distance from 0 would use up; 0 in columns that aren't far from 0.
        quantizer_: the `ResidualQuantizer` of rows less offset_.
        codebooks_: L arrays [K_l, D], the first of which holds the offset.
        cluster_centers_: all of them, level after level, [ΣK, D].
        labels_: codes of the rows it was fitted to, as `predict` gives them.
        inertia_: Σ ‖x − x̂‖² of those rows, x̂ what their codes stand for.
        n_iter_: iterations of the level that took most; max_iter of balanced k-means, which doesn't
            count them.
    """

    def __init__(
        self,
        n_clusters: int | Iterable[int] = (256, 256, 256),
        *,
        balanced: bool = False,
        normalize: bool = False,
        n_init: int = 1,
        max_iter: int = 25,
        tol: float = 1e-4,
        random_state: Any = None,
    ) -> None:
        self.n_clusters = n_clusters
        self.balanced = balanced
        self.normalize = normalize
        self.n_init = n_init
        self.max_iter = max_iter
        self.tol = tol
        self.random_state = random_state

    def fit(self, X: Any, y: Any = None) -> ResidualKMeans:
        """Makes the codebooks. X [N, D]

        Raises:
            ValueError: fewer rows than codewords, rows that aren't finite numbers, or an option
                that is not a number or out of range.
        """
        sizes = _sizes(self.n_clusters)
        array = self._array(X, reset=True, fewest=max(sizes))
        self.offset_ = _offset(array)
        rows = self._single(array)
        self.quantizer_ = ResidualQuantizer(rows.shape[1], sizes).eval()
        counts = [0] * len(sizes)

        def count(level: int, iteration: int, inertia: float) -> None:
            counts[level] = max(counts[level], iteration)

        self.quantizer_.fit(
            rows,
            method="balanced_kmeans" if self.balanced else "kmeans",
            restarts=validation.whole(self.n_init, "n_init"),
            iterations=validation.whole(self.max_iter, "max_iter"),
            tolerance=validation.number(self.tol, "tol"),
            seed=_seed(self.random_state),
            on_iteration=count,
        )
        codes = self._codes(rows)
        self.labels_ = codes[:, 0] if len(sizes) == 1 else codes
        self.inertia_ = _error(rows, self.quantizer_.decode(torch.from_numpy(codes)))
        self.n_iter_ = self.max_iter if self.balanced else max(1, *counts)
        return self

    def transform(self, X: Any) -> NDArray[np.int64]:
        """X [N, D] -> codes [N, L]"""
        return self._codes(self._rows(X))

    def predict(self, X: Any) -> NDArray[np.int64]:
        """X [N, D] -> codes [N, L]; [N] of a single level."""
        codes = self.transform(X)
        return codes[:, 0] if self.quantizer_.levels == 1 else codes

    def fit_predict(self, X: Any, y: Any = None) -> NDArray[np.int64]:
        """`fit`, and labels_."""
        labels: NDArray[np.int64] = self.fit(X).labels_
        return labels

    def inverse_transform(self, X: Any) -> Floats:
        """codes [N, l ≤ L] -> what they stand for [N, D]; fewer levels, coarser rows.

        X: an array, a frame, lists; of a single level also [N].
        """
        check_is_fitted(self)
        codes = np.asarray(X)
        if codes.dtype.kind not in "iu":
            raise ValueError(f"codes must be integers, got {codes.dtype}")
        if codes.ndim == 1 and self.quantizer_.levels == 1:
            codes = codes[:, None]
        words = self.quantizer_.decode(torch.from_numpy(codes.astype(np.int64)))
        return self._with_offset(words.detach().numpy())

    def score(self, X: Any, y: Any = None) -> float:
        """−Σ ‖x − x̂‖², x̂ what the row's codes stand for. X [N, D]"""
        rows = self._rows(X)
        return -_error(rows, self.quantizer_.decode(torch.from_numpy(self._codes(rows))))

    @property
    def codebooks_(self) -> list[Floats]:
        """L arrays [K_l, D]."""
        check_is_fitted(self)
        levels = range(self.quantizer_.levels)
        books = [self.quantizer_.codebook(level).detach().numpy() for level in levels]
        return [self._with_offset(books[0]), *books[1:]]

    @property
    def cluster_centers_(self) -> Floats:
        """[ΣK, D], level after level."""
        return np.concatenate(self.codebooks_)

    def get_feature_names_out(self, input_features: Any = None) -> NDArray[np.object_]:
        """residualkmeans0 … for `set_output`."""
        check_is_fitted(self)
        names = [f"residualkmeans{level}" for level in range(self.quantizer_.levels)]
        return np.array(names, dtype=object)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = []  # codes are integers
        return tags

    def _codes(self, rows: torch.Tensor) -> NDArray[np.int64]:
        return self.quantizer_.encode(rows).numpy()

    def _with_offset(self, words: NDArray[np.float32]) -> Floats:
        return words + self.offset_ if self.offset_.any() else words

    def _rows(self, X: Any) -> torch.Tensor:
        """[N, D] float32, as the quantizer takes them."""
        check_is_fitted(self)
        return self._single(self._array(X))

    def _array(self, X: Any, reset: bool = False, fewest: int = 1) -> Floats:
        """Checked as scikit-learn does. -> [N, D]"""
        array: Floats = validate_data(
            self,
            X,
            reset=reset,
            dtype=[np.float32, np.float64],
            order="C",
            ensure_min_samples=fewest,
        )
        if self.normalize:
            array = unit_rows_in_double(torch.from_numpy(np.array(array))).numpy()
        return array

    def _single(self, array: Floats) -> torch.Tensor:
        """[N, D] float32, less the offset; ValueError above its range."""
        if self.offset_.any():
            array = array - self.offset_
        with np.errstate(over="ignore"):
            rows = torch.from_numpy(np.array(array, dtype=np.float32))
        validation.finite_codes(rows.isfinite().all(dim=1).long() - 1, "X")
        return rows


def _sizes(n_clusters: Any) -> list[int]:
    """K of each level."""
    if isinstance(n_clusters, Iterable) and not isinstance(n_clusters, str):
        sizes = [validation.whole(size, "each of n_clusters") for size in n_clusters]
        if not sizes:
            raise ValueError("n_clusters is empty: at least one level is needed")
        return sizes
    return [validation.whole(n_clusters, "n_clusters")]


def _seed(random_state: Any) -> int:
    if isinstance(random_state, np.random.Generator):
        return int(random_state.integers(2**31 - 1))
    return int(check_random_state(random_state).randint(2**31 - 1))


def _offset(rows: Floats) -> NDArray[np.float64]:
    """The place of each column, in steps of at least four times its width: 0 unless far off."""
    low, high = rows.min(axis=0).astype(float), rows.max(axis=0).astype(float)
    step = np.exp2(np.ceil(np.log2(np.maximum(high / 2 - low / 2, 1e-300))) + 3)
    middle = low / 2 + high / 2
    return np.where(high > low, np.round(middle / step) * step, 0.0) + 0.0


def _error(rows: torch.Tensor, words: torch.Tensor) -> float:
    return float((rows - words.detach()).double().square().sum())
