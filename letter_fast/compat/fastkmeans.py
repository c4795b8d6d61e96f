"""FastKMeans of fastkmeans (AnswerDotAI): k-means with the interface of faiss.Kmeans.

    from letter_fast.compat.fastkmeans import FastKMeans

From one seed a run looks at the same rows and begins at the same ones, so that centroids agree but
for rounding; distances here are exact, whatever the device.
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from letter_fast import validation
from letter_fast.clustering import kmeans
from letter_fast.functional import nearest


class FastKMeans:
    """k-means of rows [N, d].

    Args:
        d, k: width and number of clusters.
        niter: iterations at most; a run ends before when no centroid moves.
        gpu, device: where to compute; a GPU if there is one, by default.
        seed: of the rows looked at, and of those that centroids begin at.
        max_points_per_centroid: of more than k times this many rows, k times this many are drawn.
        verbose: whether each iteration is printed.
        nredo: 1, as in the package.
        tol, chunk_size_data, chunk_size_centroids, dtype, pin_gpu_memory, use_triton: taken as the
            package takes them; the result depends on none.

    Attributes:
        centroids: [k, d] float32, None before training.
    """

    def __init__(
        self,
        d: int,
        k: int,
        niter: int = 25,
        tol: float = 1e-8,
        gpu: bool = True,
        seed: int = 0,
        max_points_per_centroid: int | None = 256,
        chunk_size_data: int = 51_200,
        chunk_size_centroids: int = 10_240,
        device: str | int | torch.device | None = None,
        dtype: torch.dtype | None = None,
        pin_gpu_memory: bool = True,
        verbose: bool = False,
        nredo: int = 1,
        use_triton: bool | None = None,
    ) -> None:
        self.d, self.k = validation.whole(d, "d"), validation.whole(k, "k")
        self.niter, self.tol = validation.whole(niter, "niter"), tol
        self.seed = validation.whole(seed, "seed", 0)
        self.max_points_per_centroid = max_points_per_centroid
        if max_points_per_centroid is not None:
            validation.whole(max_points_per_centroid, "max_points_per_centroid")
        self.chunk_size_data, self.chunk_size_centroids = chunk_size_data, chunk_size_centroids
        self.device = _device(device if gpu else "cpu")
        self.dtype, self.pin_gpu_memory, self.use_triton = dtype, pin_gpu_memory, use_triton
        self.verbose = verbose
        self.centroids: NDArray[np.float32] | None = None
        if nredo != 1:
            raise ValueError(f"nredo must be 1, got {nredo}")

    def train(self, data: NDArray[Any] | Tensor) -> None:
        """Sets `centroids`. data [N, d]

        Raises:
            ValueError: fewer rows than clusters, wrong width, or rows with NaN or Inf.
        """
        rows = self._rows(data)
        generator = torch.Generator().manual_seed(self.seed)
        most = self.max_points_per_centroid
        if most is not None and len(rows) > self.k * most:
            warnings.warn(
                f"{self.k * most} of {len(rows)} rows are used: max_points_per_centroid={most}",
                stacklevel=2,
            )
            chosen = torch.randperm(len(rows), generator=generator)[: self.k * most]
            rows = rows[chosen.to(rows.device)]
        if len(rows) < self.k:
            raise ValueError(f"{len(rows)} rows can't make {self.k} clusters: k is larger")
        first = torch.randperm(len(rows), generator=generator)[: self.k].to(rows.device)
        found = kmeans(
            rows,
            self.k,
            start=rows[first],
            iterations=self.niter,
            tolerance=0.0,
            on_iteration=self._tell if self.verbose else None,
        )
        self.centroids = found.centroids.cpu().numpy()

    def fit(self, data: NDArray[Any] | Tensor) -> FastKMeans:
        """`train`, and the model itself."""
        self.train(data)
        return self

    def predict(self, data: NDArray[Any] | Tensor) -> NDArray[np.int64]:
        """The nearest centroid of each row. data [N, d] -> [N]"""
        if self.centroids is None:
            raise RuntimeError("call train or fit before predict")
        table = torch.from_numpy(self.centroids).to(self.device)
        labels: NDArray[np.int64] = nearest(self._rows(data), table).code.cpu().numpy()
        return labels

    def fit_predict(self, data: NDArray[Any] | Tensor) -> NDArray[np.int64]:
        """`fit`, then `predict` of the same rows."""
        return self.fit(data).predict(data)

    def _rows(self, data: NDArray[Any] | Tensor) -> Tensor:
        """[N, d] float32, where the work is done."""
        if isinstance(data, Tensor):
            x = data.detach()
        else:
            array = np.asarray(data)
            if array.dtype.kind not in "fiu":
                raise ValueError(f"data must be real numbers, got {array.dtype}")
            with np.errstate(over="ignore"):  # the check below speaks of it
                x = torch.from_numpy(np.array(array, np.float32))
        if x.is_complex():
            raise ValueError(f"data must be real numbers, got {x.dtype}")
        if x.dim() != 2 or x.shape[1] != self.d:
            raise ValueError(f"data must be [N, {self.d}], got {list(x.shape)}")
        x = x.to(self.device, torch.float32)
        validation.finite_codes(x.isfinite().all(dim=1).long() - 1, "data")
        return x

    def _tell(self, iteration: int, inertia: float) -> None:
        print(f"iteration {iteration} of {self.niter}, inertia {inertia:.6g}")


def _device(given: str | int | torch.device | None) -> torch.device:
    if isinstance(given, str | torch.device):
        return torch.device(given)
    if not torch.cuda.is_available():
        return torch.device("cpu")
    known = isinstance(given, int) and given < torch.cuda.device_count()
    return torch.device(f"cuda:{given if known else 0}")
