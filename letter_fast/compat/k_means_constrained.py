"""KMeansConstrained of k-means-constrained: k-means with a least and a greatest cluster size.

    from letter_fast.compat.k_means_constrained import KMeansConstrained

Each assignment is the cheapest one within the bounds. The package's minimises Σ ‖x − c‖, rounded to
1/1000, and reports Σ ‖x − c‖²; here it minimises what is reported, unless `cost="distance"`.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from letter_fast import ops, validation
from letter_fast.clustering import balanced_assign
from letter_fast.clustering.balanced import COSTS, Cost, check_bounds
from letter_fast.extras import missing

try:
    from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, ClusterMixin
    from sklearn.base import TransformerMixin as Transformer
    from sklearn.cluster import kmeans_plusplus
    from sklearn.metrics.pairwise import euclidean_distances
    from sklearn.utils import check_array, check_random_state
    from sklearn.utils.validation import check_is_fitted, validate_data
except ImportError as error:
    raise missing("sklearn", "letter_fast.compat.k_means_constrained", error) from error

Array = NDArray[Any]
Init = str | Array | Callable[..., Array]


class SparseInputError(NotImplementedError, TypeError):
    """k-means-constrained raises the one, scikit-learn the other."""


class _Run(NamedTuple):
    """centers [K, D], labels [N], inertia, n_iter: where one run ended."""

    centers: Array
    labels: Array
    inertia: float
    n_iter: int


class _Centers(ClassNamePrefixFeaturesOutMixin, Transformer, ClusterMixin, BaseEstimator):  # type: ignore[misc]
    """An estimator of centers alone: it names the nearest one of each row, whatever the sizes."""

    cluster_centers_: Array

    def predict(self, X: Any) -> NDArray[np.int32]:
        """The nearest center of each row. X [N, D] -> [N]"""
        rows = self._rows(X)
        return assign(rows, self.cluster_centers_, 0, len(rows))

    def transform(self, X: Any) -> Array:
        """Distances to all centers. X [N, D] -> [N, K]"""
        rows = self._rows(X)
        distances: Array = euclidean_distances(rows, self.cluster_centers_)
        return distances

    def score(self, X: Any, y: Any = None) -> float:
        """−Σ ‖x − nearest center‖². X [N, D]"""
        rows = self._rows(X)
        labels = assign(rows, self.cluster_centers_, 0, len(rows))
        return -_inertia(rows, self.cluster_centers_, labels)

    def _rows(self, X: Any, reset: bool = False) -> Array:
        """Checked as scikit-learn does. -> [N, D] float32 or float64"""
        if not reset:
            check_is_fitted(self)
        if hasattr(X, "toarray"):
            raise SparseInputError("sparse X is not supported: pass X.toarray()")
        rows: Array = validate_data(self, X, reset=reset, dtype=[np.float64, np.float32], order="C")
        return rows


class KMeansConstrained(_Centers):
    """k-means whose clusters have size_min … size_max rows.

    Args:
        n_clusters: K.
        size_min, size_max: bounds of every cluster, None for none.
        init: "k-means++" (scikit-learn's), "random" rows (those the package draws from the same
            random_state), centers [K, D], or a function of rows, K and random_state.
        n_init: runs, of which the one of least inertia is kept; one if init is an array.
        max_iter: iterations of a run at most.
        tol: a run ends when Σ ‖center − its successor‖² is at most tol times the columns' mean
            variance.
        verbose: whether each iteration is printed.
        random_state: seed, or NumPy generator, of the starts.
        copy_x, n_jobs: as the package has them; X is never changed, and threads are PyTorch's.
        cost: what an assignment minimises: "squared" distances, which inertia adds up, or
            "distance", the package's problem but for its rounding, with an N × K table.

    Attributes:
        cluster_centers_: [K, D].
        labels_: [N] int32.
        inertia_: Σ ‖x − center‖².
        n_iter_: of the run that is kept.
    """

    def __init__(
        self,
        n_clusters: int = 8,
        size_min: int | None = None,
        size_max: int | None = None,
        init: Init = "k-means++",
        n_init: int = 10,
        max_iter: int = 300,
        tol: float = 1e-4,
        verbose: bool = False,
        random_state: Any = None,
        copy_x: bool = True,
        n_jobs: int = 1,
        *,
        cost: Cost = "squared",
    ) -> None:
        self.n_clusters = n_clusters
        self.size_min = size_min
        self.size_max = size_max
        self.init = init
        self.n_init = n_init
        self.max_iter = max_iter
        self.tol = tol
        self.verbose = verbose
        self.random_state = random_state
        self.copy_x = copy_x
        self.n_jobs = n_jobs
        self.cost = cost

    def fit(self, X: Any, y: Any = None) -> KMeansConstrained:
        """Finds the centers. X [N, D]

        Raises:
            ValueError: no assignment can meet the bounds, fewer rows than clusters, rows that
                aren't finite numbers, or an option that is out of its range.
            NotImplementedError: X is sparse.
        """
        rows = self._rows(X, reset=True)
        best = _best_run(
            rows,
            validation.whole(self.n_clusters, "n_clusters"),
            _bounds(len(rows), self.size_min, self.size_max),
            init=self.init,
            n_init=self.n_init,
            max_iter=self.max_iter,
            tol=self.tol,
            verbose=bool(self.verbose),
            random_state=self.random_state,
            cost=self.cost,
        )
        self.cluster_centers_, self.labels_, self.inertia_, self.n_iter_ = best
        return self

    def predict(
        self,
        X: Any,
        size_min: int | str | None = "init",
        size_max: int | str | None = "init",
    ) -> NDArray[np.int32]:
        """The cheapest assignment to the centers within the bounds. X [N, D] -> [N]

        size_min, size_max: "init" for the constructor's.
        Raises:
            ValueError: no assignment can meet the bounds.
        """
        rows = self._rows(X)
        given = [
            own if isinstance(size, str) and size == "init" else size
            for size, own in ((size_min, self.size_min), (size_max, self.size_max))
        ]
        low, high = _bounds(len(rows), *given)
        return assign(rows, self.cluster_centers_, low, high, self.cost)


def k_means_constrained(
    X: Any,
    n_clusters: int,
    size_min: int | None = None,
    size_max: int | None = None,
    *,
    return_n_iter: bool = False,
    **options: Any,
) -> tuple[Any, ...]:
    """`KMeansConstrained(...).fit(X)` as a function: centers, labels, inertia (and n_iter)."""
    model = KMeansConstrained(n_clusters, size_min, size_max, **options).fit(X)
    found = (model.cluster_centers_, model.labels_, model.inertia_)
    return (*found, model.n_iter_) if return_n_iter else found


def assign(
    rows: Array, centers: Array, low: int, high: int, cost: Cost = "squared"
) -> NDArray[np.int32]:
    """The cheapest assignment with low … high rows to each center. rows [N, D], centers [K, D]"""
    middle = centers.mean(axis=0)  # a common offset would use up float32's digits
    x, table = (_single(part - middle) for part in (rows, centers))
    found = balanced_assign(x, table, low, high, cost=cost)
    labels: NDArray[np.int32] = found.labels.numpy().astype(np.int32)
    return labels


def _best_run(
    rows: Array,
    k: int,
    bounds: tuple[int, int],
    *,
    init: Init,
    n_init: int,
    max_iter: int,
    tol: float,
    verbose: bool,
    random_state: Any,
    cost: Cost,
) -> _Run:
    """The run of least inertia, in the rows' precision and place."""
    validation.choice(cost, COSTS, "cost")
    n_init = validation.whole(n_init, "n_init")
    max_iter = validation.whole(max_iter, "max_iter: Number of iterations should be positive; it")
    if k > len(rows):
        raise ValueError(f"{len(rows)} rows can't make {k} clusters: n_clusters is larger")
    if not isinstance(init, str) and not callable(init) and n_init != 1:
        warnings.warn(
            f"init holds centers: there is one run from them, not n_init={n_init}",
            RuntimeWarning,
            stacklevel=3,
        )
        n_init = 1
    middle = rows.mean(axis=0, dtype=np.float64)
    centred = rows - middle  # as in `assign`
    _single(centred)  # before squares overflow
    least = float(tol) * float(centred.var(axis=0).mean())
    first = _starts(rows, centred, middle, k, init, n_init, check_random_state(random_state))
    runs = []
    for centers, n_iter in _lloyd(centred, first, bounds, max_iter, least, cost, verbose):
        placed = (centers + middle).astype(rows.dtype)
        labels = assign(rows, placed, *bounds, cost)
        runs.append(_Run(placed, labels, _inertia(rows, placed, labels), n_iter))
    return min(runs, key=lambda run: run.inertia)


def _lloyd(
    rows: NDArray[np.float64],
    centers: NDArray[np.float64],
    bounds: tuple[int, int],
    max_iter: int,
    least: float,
    cost: Cost,
    verbose: bool,
) -> list[tuple[NDArray[np.float64], int]]:
    """The ends of runs from centers [R, K, D], and the iterations they took.

    least: a run ends when Σ ‖center − its successor‖² is at most this
    """
    centers, iterations = centers.copy(), np.zeros(len(centers), dtype=int)
    going = list(range(len(centers)))
    for iteration in range(max_iter):
        labels = _assign_each(rows, centers[going], bounds, cost)
        still = []
        for run, of_run in zip(going, labels, strict=True):
            moved = _means(rows, of_run, centers[run])
            if verbose:
                inertia = _inertia(rows, centers[run], of_run)
                print(f"run {run}, iteration {iteration}, inertia {inertia:.3f}")
            shift = float(np.square(moved - centers[run]).sum())
            centers[run], iterations[run] = moved, iteration + 1
            if shift > least:
                still.append(run)
        going = still
        if not going:
            break
    return [(end, int(count)) for end, count in zip(centers, iterations, strict=True)]


def _assign_each(
    rows: NDArray[np.float64], centers: NDArray[np.float64], bounds: tuple[int, int], cost: Cost
) -> NDArray[np.int64]:
    """`assign` for several sets of centers at once. centers [R, K, D] -> [R, N]"""
    x, tables = _single(rows), _single(centers)
    if cost == "distance":
        return np.stack([balanced_assign(x, t, *bounds, cost=cost).labels.numpy() for t in tables])
    low, high = check_bounds(len(x), tables.shape[1], *bounds)
    every = x.expand(len(tables), -1, -1)
    labels: Tensor = ops.balanced_lloyd(every, tables, low, high, 1, 0.0, 0)[1]
    return labels.numpy()


def _means(
    rows: NDArray[np.float64], labels: NDArray[np.int64], before: NDArray[np.float64]
) -> NDArray[np.float64]:
    """The clusters' means [K, D]; an empty one goes to the row farthest from its center."""
    sizes = np.bincount(labels, minlength=len(before))
    sums = np.zeros_like(before)
    np.add.at(sums, labels, rows)
    means = sums / np.maximum(sizes, 1)[:, None]
    empty = np.flatnonzero(sizes == 0)
    if len(empty):
        far = np.square(rows - before[labels]).sum(axis=1).argsort(kind="stable")[::-1]
        means[empty] = rows[far[: len(empty)]]
    return means


def _starts(
    rows: Array,
    centred: NDArray[np.float64],
    middle: NDArray[np.float64],
    k: int,
    init: Init,
    n_init: int,
    random: np.random.RandomState,
) -> NDArray[np.float64]:
    """Centers of each run, [R, K, D], less the rows' mean."""
    if isinstance(init, str):
        validation.choice(init, ("k-means++", "random"), "init")
        if init == "random":
            return np.stack([centred[random.permutation(len(rows))[:k]] for _ in range(n_init)])
        runs = [kmeans_plusplus(centred, k, random_state=random)[0] for _ in range(n_init)]
        return np.stack(runs)
    if callable(init):
        found = [np.asarray(init(centred, k, random_state=random)) for _ in range(n_init)]
    else:
        found = [np.asarray(init)]
    for centers in found:
        if centers.ndim != 2 or len(centers) != k:
            raise ValueError(
                f"the shape {centers.shape} of init does not match the number of clusters, {k}"
            )
        if centers.shape[1] != rows.shape[1]:
            raise ValueError(
                f"the shape {centers.shape} of init does not match the number of features of the "
                f"data, {rows.shape[1]}"
            )
    centers = np.stack([check_array(centers, dtype=np.float64) for centers in found])
    return centers if callable(init) else centers - middle


def _bounds(rows: int, size_min: Any, size_max: Any) -> tuple[int, int]:
    """Both as numbers; None doesn't bind."""
    low = 0 if size_min is None else validation.whole(size_min, "size_min", 0)
    high = rows if size_max is None else validation.whole(size_max, "size_max", 0)
    return low, high


def _single(rows: Array) -> Tensor:
    """Rows as float32; ValueError if they leave its range."""
    x = torch.from_numpy(rows).float()
    validation.finite_codes(x.isfinite().all(dim=-1).flatten().long() - 1, "X")
    return x


def _inertia(rows: Array, centers: Array, labels: NDArray[Any]) -> float:
    return float(np.square(rows.astype(np.float64) - centers[labels]).sum())
