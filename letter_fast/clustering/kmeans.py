"""Lloyd's k-means: exact nearest centroids, integer sums; the same bits however rows are split.

A pass searches only the rows that the triangle inequality can't vouch for (`ops.nearest_again`),
and only rows that changed their centroid touch the sums.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from letter_fast import ops, validation

from .fixed_point import exponent
from .rows import Rows, RowsInMemory, open_rows
from .seeding import starts

__all__ = ["KMeansResult", "OnIteration", "check_rows", "kmeans"]

# Where a sample of this many rows per centroid is a small part of all, Lloyd's iterations begin on
# the sample: few are then left for all rows.
_SAMPLE_ROWS, _SMALL_PART = 256, 8
# Sums are made anew where the pass before changed the centroid of more than one row in this many.
_MANY = 32

OnIteration = Callable[[int, float], None]


class KMeansResult(NamedTuple):
    """centroids [K, D] float32, labels [N] int64, inertia = Σ_i ‖x_i − c_label‖²."""

    centroids: Tensor
    labels: Tensor
    inertia: float


def kmeans(
    x: Any,
    k: int,
    *,
    start: Tensor | None = None,
    restarts: int = 1,
    iterations: int = 100,
    tolerance: float = 1e-4,
    seed: int = 0,
    on_iteration: OnIteration | None = None,
) -> KMeansResult:
    """The best of `restarts` runs, each from rows that k-means‖ picks (clustering/seeding.py).

    x: a tensor or array [N, D]; or a source larger than memory, read once an iteration: a path,
        `letter_fast.catalog.Embeddings`, or blocks [n, D] that can be iterated over again and
        again. Of a source 12 bytes a row, and a sample of at most 256 rows per centroid, are held.
    Stops after `iterations`, when one lowers the inertia by at most `tolerance` of it, or when no
    centroid moves. A cluster left empty moves to the row that is farthest from its centroid. With
    fewer distinct rows than k, centroids repeat.
    start: [k, D], centroids to begin one run from instead.
    on_iteration: called with the number of iterations done and the inertia.
    Raises:
        ValueError: k > N or k < 1, restarts or iterations below 1, rows with NaN or Inf, or a
            source that can't be read again.
    """
    check_effort(restarts, iterations)
    rows = open_rows(x)
    if not 1 <= k <= rows.count:
        raise ValueError(f"k must lie between 1 and the number of rows: k = {k}, N = {rows.count}")
    if start is not None:
        centroids = check_start(start, k, rows.width, "start").to(rows.device)
        _, largest = rows.sample(0, seed)
        largest = max(largest, float(centroids.abs().max()))
        return _lloyd(rows, centroids, largest, iterations, tolerance, on_iteration)
    sample, largest = rows.sample(_SAMPLE_ROWS * k, seed)
    begin_small = len(sample) * _SMALL_PART <= rows.count

    def run(start: Tensor) -> KMeansResult:
        if begin_small:
            small = RowsInMemory(sample)
            start = _lloyd(small, start, largest, iterations, tolerance, None).centroids
        return _lloyd(rows, start, largest, iterations, tolerance, on_iteration)

    first = starts(sample[None], k, [seed], restarts)
    return min(map(run, first), key=lambda result: result.inertia)


def check_rows(x: Tensor, k: int) -> Tensor:
    """`x` as float32 rows that k clusters can be made of; ValueError otherwise."""
    if x.dim() != 2:
        raise ValueError(f"x must be [N, D], got shape {list(x.shape)}")
    rows = validation.rows(x, x.shape[1]).float()
    if not 1 <= k <= len(rows):
        raise ValueError(f"k must lie between 1 and the number of rows: k = {k}, N = {len(rows)}")
    # Extremes need no memory; `isfinite` takes as much again as the rows.
    if not bool(torch.stack(rows.aminmax()).isfinite().all()):
        validation.finite_codes(rows.isfinite().all(dim=1).long() - 1)
    return rows


def check_effort(restarts: int, iterations: int) -> None:
    """Refuses to do nothing: ValueError names what is below 1."""
    for name, value in (("restarts", restarts), ("iterations", iterations)):
        if value < 1:
            raise ValueError(f"{name} must be at least 1, got {value}")


def check_start(start: Tensor, k: int, width: int, name: str) -> Tensor:
    """`start` as float32 centroids [k, width]; ValueError otherwise."""
    centroids = validation.codebook(start, name)
    if centroids.shape != (k, width):
        raise ValueError(f"{name} must be [{k}, {width}], got {list(centroids.shape)}")
    validation.finite_codes(centroids.isfinite().all(dim=1).long() - 1, name)
    return centroids


def _means(sums: Tensor, sizes: Tensor, unit: int, previous: Tensor) -> Tensor:
    """fl32(Σ / n): the one place where sums are rounded."""
    means = (sums.double() * 2.0**-unit / sizes.clamp(min=1)[:, None]).float()
    return torch.where(sizes[:, None] > 0, means, previous)


def moved_at_most(before: Tensor, after: Tensor) -> Tensor:
    """‖after − before‖ of each row, rounded up; 0 only where they are equal. -> [K] float32"""
    distance = (after.double() - before.double()).square().sum(dim=1).sqrt()
    # The smallest float32 there is: where all of it rounds away, the part does nothing.
    return (distance * (1 + 2.0**-20) + (distance > 0) * 2.0**-149).float()


class _Clusters:
    """What is known of N rows, from one pass over them to the next.

    labels [N] int64 (−1 before the first pass); bounds [N] float32, below the distances to all
    other centroids; sums [K, D] and sizes [K] int64 of the labels, counting in 2^−unit.
    """

    def __init__(self, rows: Rows, centroids: Tensor, largest: float) -> None:
        self.rows, self.centroids = rows, centroids
        self.labels = torch.full((rows.count,), -1, device=rows.device)
        self.bounds = torch.zeros(rows.count, device=rows.device)
        self.movement = torch.zeros(len(centroids), device=rows.device)
        self.sums = torch.zeros(centroids.shape, dtype=torch.int64, device=rows.device)
        self.sizes = torch.zeros(len(centroids), dtype=torch.int64, device=rows.device)
        self.changed = rows.count
        self.unit = exponent(largest, rows.count)
        # No row is further from a mean of rows than twice the largest magnitude a column.
        self._square_unit = exponent(4.0 * rows.width * largest * largest, rows.count)

    def assign(self) -> float:
        """Labels every row with its nearest centroid. -> Σ ‖x − c_label‖²"""
        anew, self.changed, total, begin = self.changed * _MANY > self.rows.count, 0, 0, 0
        if anew:
            self.sums.zero_()
            self.sizes.zero_()
        for block in self.rows.blocks():
            part = slice(begin, begin + len(block))
            begin = part.stop
            labels, score, self.bounds[part] = ops.nearest_again(
                block, self.centroids, self.labels[part], self.bounds[part], self.movement
            )
            total += int((score * 2.0**self._square_unit).round().long().sum())
            changed = (labels != self.labels[part]).nonzero().squeeze(1)
            self.changed += len(changed)
            if anew:
                sums, sizes = ops.code_sums(block, labels, len(self.centroids), self.unit)
                self.sums += sums
                self.sizes += sizes
            elif len(changed):
                self._move(block[changed], self.labels[part][changed], labels[changed])
            self.labels[part] = labels
        return total / 2.0**self._square_unit

    def _move(self, rows: Tensor, left: Tensor, entered: Tensor) -> None:
        """Takes rows out of the sums of one cluster and adds them to another's."""
        touched, place = torch.stack([left, entered]).unique(return_inverse=True)
        less, fewer = ops.code_sums(rows, place[0], len(touched), self.unit)
        more, further = ops.code_sums(rows, place[1], len(touched), self.unit)
        self.sums[touched] += more - less
        self.sizes[touched] += further - fewer

    def update(self) -> bool:
        """Centroids go to the means, those of no rows to the farthest rows. -> whether any moved"""
        moved = _means(self.sums, self.sizes, self.unit, self.centroids)
        empty = (self.sizes == 0).nonzero().squeeze(1)
        if len(empty):
            moved[empty] = self._farthest(len(empty))
        self.movement = moved_at_most(self.centroids, moved)
        self.centroids = moved
        return bool(self.movement.any())

    def _farthest(self, count: int) -> Tensor:
        """The rows farthest from their centroids, the first ones among equals. -> [count, D]"""
        rows = self.centroids[:0]
        scores = torch.empty(0, dtype=torch.float64, device=self.rows.device)
        still, begin = torch.zeros_like(self.movement), 0
        for block in self.rows.blocks():
            part = slice(begin, begin + len(block))
            begin = part.stop
            _, score, _ = ops.nearest_again(
                block, self.centroids, self.labels[part], self.bounds[part], still
            )
            # Rows held stand before those of the block, and the sort is stable.
            held, scores = len(rows), torch.cat([scores, score])
            order = scores.argsort(descending=True, stable=True)[:count]
            scores, entering = scores[order], order >= held
            rows = torch.cat([rows, block[order[entering] - held].float()])
            order[entering] = torch.arange(held, len(rows), device=order.device)
            rows = rows[order]
        return rows


def _lloyd(
    rows: Rows,
    centroids: Tensor,
    largest: float,
    iterations: int,
    tolerance: float,
    on_iteration: OnIteration | None,
) -> KMeansResult:
    clusters = _Clusters(rows, centroids, largest)
    inertia = clusters.assign()
    for iteration in range(1, iterations + 1):
        if inertia == 0.0 or not clusters.update():
            break
        before, inertia = inertia, clusters.assign()
        if on_iteration:
            on_iteration(iteration, inertia)
        if before - inertia <= tolerance * inertia:
            break
    return KMeansResult(clusters.centroids, clusters.labels, inertia)
