"""Lloyd's k-means: exact nearest centroids, integer sums; the same bits however rows are split.

A pass searches only the rows that the triangle inequality can't vouch for (`ops.nearest_bounded`),
and only rows that changed their centroid touch the sums.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch
from numpy.typing import ArrayLike
from torch import Tensor

from letter_fast import kernels, ops, validation

from .fixed_point import exponent
from .rows import Rows, RowsInMemory, open_rows
from .seeding import starts

__all__ = ["KMeansResult", "OnIteration", "check_rows", "kmeans"]

# Where a sample of this many rows per centroid is a small part of all, Lloyd's iterations begin on
# the sample: few are then left for all rows.
_SAMPLE_ROWS, _SMALL_PART = 256, 8
# Sums are made anew where the pass before changed the centroid of more than one row in this many.
_MANY = 32
# An inertia of fewer than 2^this units a row, and units of sums of more than 2^−this of what a row
# typically has left over in a column, are too coarse.
_ENOUGH, _FINE = 16, 12
# More would be a slip; each takes as long as the first.
MOST_RESTARTS = 1 << 16

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
    start: ArrayLike | None = None,
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
    check_effort(restarts, iterations, tolerance)
    k, seed = validation.integer(k, "k"), validation.integer(seed, "seed")
    rows = open_rows(x)
    if not 1 <= k <= rows.count:
        raise ValueError(f"k must lie between 1 and the number of rows: k = {k}, N = {rows.count}")
    with kernels.quiet_torch(rows.device):
        if start is not None:
            centroids = check_start(start, k, rows.width, "start").to(rows.device)
            _, largest = rows.sample(0, seed)
            largest = max(largest, float(centroids.abs().max()))
            return _lloyd(rows, centroids, largest, iterations, tolerance, on_iteration)
        return _best(rows, k, restarts, iterations, tolerance, seed, on_iteration)


def _best(
    rows: Rows,
    k: int,
    restarts: int,
    iterations: int,
    tolerance: float,
    seed: int,
    on_iteration: OnIteration | None,
) -> KMeansResult:
    """The run of least inertia, each from rows that k-means‖ picks."""
    sample, largest = rows.sample(_SAMPLE_ROWS * k, seed)
    begin_small = len(sample) * _SMALL_PART <= rows.count

    def run(start: Tensor) -> KMeansResult:
        if begin_small:
            small = RowsInMemory(sample)
            start = _lloyd(small, start, largest, iterations, tolerance, None).centroids
        return _lloyd(rows, start, largest, iterations, tolerance, on_iteration)

    first = starts(sample[None], k, [seed], restarts)
    return min(map(run, first), key=lambda result: result.inertia)


def check_rows(x: ArrayLike, k: int) -> Tensor:
    """`x` as float32 rows that k clusters can be made of; ValueError otherwise."""
    rows = validation.matrix(x).float()
    if not 1 <= k <= len(rows):
        raise ValueError(f"k must lie between 1 and the number of rows: k = {k}, N = {len(rows)}")
    # Extremes need no memory; `isfinite` takes as much again as the rows.
    if not bool(torch.stack(rows.aminmax()).isfinite().all()):
        validation.finite_codes(rows.isfinite().all(dim=1).long() - 1)
    return rows


def check_effort(restarts: int, iterations: int, tolerance: float) -> None:
    """Refuses to do nothing, or never to end: ValueError names what is out of range."""
    validation.integer(restarts, "restarts", 1, MOST_RESTARTS)
    validation.integer(iterations, "iterations", 1, validation.MOST)
    validation.number(tolerance, "tolerance")


def check_start(start: ArrayLike, k: int, width: int, name: str) -> Tensor:
    """`start` as float32 centroids [k, width]; ValueError otherwise."""
    found = validation.tensor(start, name)
    if found.shape != (k, width):
        raise ValueError(f"{name} must be [{k}, {width}], got {list(found.shape)}")
    return validation.codebook(validation.floats(found, width, name), name)


def _means(sums: Tensor, sizes: Tensor, units: list[int], previous: Tensor) -> Tensor:
    """fl32(Σ / n): the one place where sums are rounded. sums [G, K, D], in 2^−units[g] each"""
    total = torch.zeros_like(previous, dtype=torch.float64)
    for part, unit in zip(sums, units):  # one after the other: the same bits on every device
        total += part.double() * 2.0**-unit
    means = (total / sizes.clamp(min=1)[:, None]).float()
    return torch.where(sizes[:, None] > 0, means, previous)


def moved_at_most(before: Tensor, after: Tensor) -> Tensor:
    """‖after − before‖ of each row, rounded up; 0 only where they are equal. -> [K] float32"""
    distance = (after.double() - before.double()).square().sum(dim=1).sqrt()
    # The smallest float32 there is: where all of it rounds away, the part does nothing.
    return (distance * (1 + 2.0**-20) + (distance > 0) * 2.0**-149).float()


class _Clusters:
    """State of N rows, kept from one pass over them to the next.

    labels [N] int64 (−1 before the first pass); bounds [N] float32, below the distances to all
    other centroids; sums [G, K, D] and sizes [K] int64 of the labels. The first sums count in
    2^−units[0]; where that is too coarse for most rows, as a few lie very far out, what it leaves
    over is counted in the finer units of the next, and so on.
    """

    def __init__(self, rows: Rows, centroids: Tensor, largest: float) -> None:
        self.rows, self.centroids = rows, centroids
        self.labels = torch.full((rows.count,), -1, device=rows.device)
        self.bounds = torch.zeros(rows.count, dtype=torch.float32, device=rows.device)
        self.movement = torch.zeros(len(centroids), dtype=torch.float32, device=rows.device)
        self.units = [exponent(largest, rows.count)]
        self.sums = torch.zeros((1, *centroids.shape), dtype=torch.int64, device=rows.device)
        self.sizes = torch.zeros(len(centroids), dtype=torch.int64, device=rows.device)
        self.changed = rows.count
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
            labels, score, self.bounds[part] = ops.nearest_bounded(
                block, self.centroids, self.labels[part], self.bounds[part], self.movement
            )
            total += int((score * 2.0**self._square_unit).round().long().sum())
            changed = (labels != self.labels[part]).nonzero().squeeze(1)
            self.changed += len(changed)
            if anew:
                self._add(block, labels)
            elif len(changed):
                self._move(block[changed], self.labels[part][changed], labels[changed])
            self.labels[part] = labels
        inertia = total / 2.0**self._square_unit
        if total < self.rows.count << _ENOUGH:  # in units that make it no more than a guess
            inertia = self._small_inertia()
        self._refine(inertia)
        return inertia

    def _small_inertia(self) -> float:
        """Σ ‖x − c_label‖² in units of the largest of these distances, which takes two passes."""
        largest = max(float(score.max()) for _, score in self._scores())
        unit = exponent(largest, self.rows.count)
        total = sum(int((score * 2.0**unit).round().long().sum()) for _, score in self._scores())
        return math.ldexp(total, -unit)

    def _scores(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Every block with the squared distances of its rows to their centroids.

        No centroid has moved since they were labelled: there is nothing to search.
        """
        still, begin = torch.zeros_like(self.movement), 0
        for block in self.rows.blocks():
            part = slice(begin, begin + len(block))
            begin = part.stop
            proven = torch.full_like(self.bounds[part], math.inf)
            _, score, _ = ops.nearest_bounded(
                block, self.centroids, self.labels[part], proven, still
            )
            yield block, score

    def _refine(self, inertia: float) -> None:
        """Adds finer sums while the finest are coarse beside what a row typically has left over."""
        typical = math.sqrt(inertia / (self.rows.count * self.rows.width))
        while 0 < typical < 2.0 ** (_FINE - self.units[-1]):
            self.units.append(self.units[-1] + exponent(0.5, self.rows.count))
            self.sums = torch.cat([self.sums, torch.zeros_like(self.sums[:1])])
            self.sums.zero_()
            self.sizes.zero_()
            begin = 0
            for block in self.rows.blocks():
                self._add(block, self.labels[begin : begin + len(block)])
                begin += len(block)

    def _add(self, rows: Tensor, labels: Tensor) -> None:
        sums, sizes = self._sums_of(rows, labels, len(self.centroids))
        self.sums += sums
        self.sizes += sizes

    def _move(self, rows: Tensor, left: Tensor, entered: Tensor) -> None:
        """Takes rows out of the sums of one cluster and adds them to another's."""
        touched, place = torch.stack([left, entered]).unique(return_inverse=True)
        less, fewer = self._sums_of(rows, place[0], len(touched))
        more, further = self._sums_of(rows, place[1], len(touched))
        self.sums[:, touched] += more - less
        self.sizes[touched] += further - fewer

    def _sums_of(self, rows: Tensor, labels: Tensor, count: int) -> tuple[Tensor, Tensor]:
        """Sums in all units [G, count, D] and sizes [count]."""
        parts: list[Tensor] = []
        for unit in self.units:
            if parts:  # exact: the bits of a float32 that the units before are too coarse for
                scale = 2.0 ** self.units[len(parts) - 1]
                rows = (rows.double() - (rows.double() * scale).round() / scale).float()
            sums, sizes = ops.cluster_sums(rows, labels, count, unit)
            parts.append(sums)
        return torch.stack(parts), sizes

    def update(self) -> bool:
        """Centroids go to the means, those of no rows to the farthest rows. -> whether any moved"""
        moved = _means(self.sums, self.sizes, self.units, self.centroids)
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
        for block, score in self._scores():
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
