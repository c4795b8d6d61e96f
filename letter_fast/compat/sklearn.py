"""Residual k-means as a scikit-learn transformer: rows to codes and back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from letter_fast.extras import missing
from letter_fast.model.residual_kmeans import unit_rows
from letter_fast.quantizer import ResidualQuantizer

try:
    from sklearn.base import BaseEstimator, TransformerMixin
    from sklearn.utils import check_random_state
    from sklearn.utils.validation import check_is_fitted, validate_data
except ImportError as error:
    raise missing("sklearn", "letter_fast.compat.sklearn", error) from error


class ResidualKMeans(TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """Level l's codewords are the k-means of what the levels before it leave over.

    Args:
        n_clusters: codewords of each level, or of the only one.
        balanced: whether each codeword is the mean of N/2K … 2N/K rows.
        normalize: whether rows are scaled to length 1 first.
        restarts, iterations, tolerance: of each k-means, as `functional.kmeans` takes them.
        random_state: seed, or a NumPy generator that draws one.

    Attributes:
        quantizer_: the `ResidualQuantizer`; codebooks_: L arrays [K_l, D].
    """

    def __init__(
        self,
        n_clusters: int | Sequence[int] = (256, 256, 256),
        *,
        balanced: bool = False,
        normalize: bool = False,
        restarts: int = 1,
        iterations: int = 25,
        tolerance: float = 1e-4,
        random_state: Any = None,
    ) -> None:
        self.n_clusters = n_clusters
        self.balanced = balanced
        self.normalize = normalize
        self.restarts = restarts
        self.iterations = iterations
        self.tolerance = tolerance
        self.random_state = random_state

    def fit(self, X: Any, y: Any = None) -> ResidualKMeans:
        """Makes the codebooks. X [N, D]

        Raises:
            ValueError: fewer rows than codewords, or rows that aren't finite numbers.
        """
        sizes = self.n_clusters
        sizes = [int(sizes)] if isinstance(sizes, int | np.integer) else [int(k) for k in sizes]
        rows = self._rows(X, reset=True, fewest=max(sizes))
        seed = int(check_random_state(self.random_state).randint(2**31 - 1))
        self.quantizer_ = ResidualQuantizer(rows.shape[1], sizes).eval()
        self.quantizer_.fit(
            rows,
            method="balanced_kmeans" if self.balanced else "kmeans",
            restarts=self.restarts,
            iterations=self.iterations,
            tolerance=self.tolerance,
            seed=seed,
        )
        return self

    def transform(self, X: Any) -> NDArray[np.int64]:
        """X [N, D] -> codes [N, L]"""
        check_is_fitted(self)
        codes = self.quantizer_.encode(self._rows(X))
        assert isinstance(codes, torch.Tensor)
        return codes.numpy()

    def inverse_transform(self, X: NDArray[Any]) -> NDArray[np.float32]:
        """codes [N, l ≤ L] -> what they stand for [N, D]; fewer levels, coarser rows."""
        check_is_fitted(self)
        rows: NDArray[np.float32] = self.quantizer_.decode(torch.as_tensor(X)).detach().numpy()
        return rows

    @property
    def codebooks_(self) -> list[NDArray[np.float32]]:
        """L arrays [K_l, D]."""
        check_is_fitted(self)
        levels = range(self.quantizer_.levels)
        return [self.quantizer_.codebook(level).detach().numpy() for level in levels]

    def get_feature_names_out(self, input_features: Any = None) -> NDArray[np.object_]:
        """residualkmeans0 … for `set_output`."""
        check_is_fitted(self)
        names = [f"residualkmeans{level}" for level in range(self.quantizer_.levels)]
        return np.array(names, dtype=object)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = []  # codes are integers
        return tags

    def _rows(self, X: Any, reset: bool = False, fewest: int = 1) -> torch.Tensor:
        """Checked as scikit-learn does. -> [N, D] float32"""
        array = validate_data(
            self,
            X,
            reset=reset,
            dtype=[np.float32, np.float64],
            order="C",
            ensure_min_samples=fewest,
        )
        rows = torch.from_numpy(np.array(array, dtype=np.float32))
        return unit_rows(rows) if self.normalize else rows
