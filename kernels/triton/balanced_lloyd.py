"""Size-constrained k-means: prices climb on the GPU, the host repairs what few rows are left.

    GPU    ascend: prices, passes over all rows that the host only launches       (ascent.py)
    GPU    within: who may take the rows whose two best clusters are nearly as good
    host   repair of those rows along cheapest paths                 (cpp/assignment/repair.h)
    GPU    nearest at the final prices: the bound that proves the assignment

Only the last assignment is repaired and proven. Earlier ones take each row's best cluster at the
prices, which misplaces few rows, and end in cluster_sums: their means are replaced anyhow. A
problem waits for the host once an iteration, with all others, to learn whether its cost still
falls.

What is small, or would list most clusters for every row (rows that are equal to one another, or
centroids farther out than one slack for all can reach), the CPU's kernels do. The repair is C++:
without the native library the reference does it all.
"""

from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import pad

from letter_fast.kernels.cpp.operations import Transport, transport

from .. import host, reference
from .ascent import FIRST_STEP, ascend, begin, sampled_distances
from .cluster_sums import cluster_sums
from .nearest import nearest, scores
from .within import within

# Rows × clusters that the host assigns sooner than a GPU gets its launches.
HOST_PAIRS = 1 << 20
# Passes over all rows: of the first ascent, of an iteration's, and of the last. With so many rows a
# cluster the first one goes over every COARSE-th row before, and then takes as many as the last.
PASSES, WARM_PASSES, LAST_PASSES = 60, 12, 40
COARSE, COARSE_PASSES, COARSE_ROWS = 8, 40, 128
# Share of the rows that is to have a second cluster within the slack, which is at least such a part
# of the ascent's scale. Where the repair stops for lack of it, it has moved prices by as much, and
# the next collection is at these: with ASKED times the slack where that lists at most SHORT_ARCS
# clusters a row, or, for the second half of PATIENCE collections, MOST_ARCS. Then the CPU's kernels
# do it.
CONTESTED, LEAST_SLACK, PATIENCE, ASKED = 0.1, 1 / 256, 32, 2.0
SHORT_ARCS, MOST_ARCS = 3.0, 16.0
# What float64 may lose of a cost and its bound, as a share of the largest terms.
_ROUNDING = 2.0**-42


class Proven(NamedTuple):
    """labels [N] int64 on the device; cost, and bound ≤ the least cost there is."""

    labels: Tensor
    cost: float
    bound: float


def balanced_lloyd(
    x: Tensor,
    centroids: Tensor,
    low: Tensor,
    high: Tensor,
    iterations: int,
    tolerance: float,
    exponent: int,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """x [P, N, D], centroids [P, K, D] float32, low and high [K] int64 on the CPU
    -> centroids [P, K, D] float32, labels [P, N] int64, cost and bound [P] float64
    """
    if host() is reference or x.shape[1] * centroids.shape[1] <= HOST_PAIRS:
        found = host().balanced_lloyd(
            x.cpu(), centroids.cpu(), low, high, iterations, tolerance, exponent
        )
        return tuple(each.to(x.device) for each in found)
    problems = [_Problem(rows, start, low, high) for rows, start in zip(x, centroids)]
    moving = problems
    for _ in range(iterations - 1):
        values = torch.stack([each.assign(exponent) for each in moving]).tolist()
        moving = [each for each, value in zip(moving, values) if each.move(value, tolerance)]
        if not moving:
            break
    proven = _prove(problems)
    totals = x.new_tensor([[each.cost, each.bound] for each in proven], dtype=torch.float64)
    return (
        torch.stack([each.centroids for each in problems]),
        torch.stack([each.labels for each in proven]),
        totals[:, 0],
        totals[:, 1],
    )


def _prove(problems: list[_Problem]) -> list[Proven]:
    """The cheapest assignments: while the host repairs one the GPU lists the next one's rows."""
    for problem in problems:
        problem.climb(last=True)
    proofs: dict[int, Proven] = {}
    with ThreadPoolExecutor() as pool:
        while len(proofs) < len(problems):
            repairs = {
                at: pool.submit(problem.repair)
                for at, problem in enumerate(problems)
                if at not in proofs and problem.collect()
            }
            for at, problem in enumerate(problems):
                if at in proofs:
                    continue
                found = problem.check(repairs[at].result()) if at in repairs else problem.on_host()
                if found is not None:
                    proofs[at] = found
    return [proofs[at] for at in range(len(problems))]


class _Arcs(NamedTuple):
    """The arcs of one collection: of all rows on the device, of those with a choice on the host."""

    own: Tensor  # [N] int32, a row's first cluster within the slack
    contested: Tensor  # [C] int64, rows with more than one
    starts: Tensor  # [C + 1] int64, their clusters and costs
    clusters: Tensor  # [A] int32
    costs: Tensor  # [A] float64
    settled: Tensor  # [K] int64, how many of the other rows each cluster has


class _Problem:
    """One problem: rows [N, D] on the device, bounds [K] on both sides, and how far it is."""

    def __init__(self, rows: Tensor, centroids: Tensor, low: Tensor, high: Tensor) -> None:
        self.centroids = centroids
        self._rows = rows
        self._low, self._high = low, high
        self._least, self._most = low.to(rows.device), high.to(rows.device)
        self._start = begin(rows, centroids, self._least)  # the prices so far, after that
        self._fresh = True
        self._before = math.inf
        self._slack, self._patience = 0.0, PATIENCE

    def climb(self, last: bool = False) -> None:
        """Prices at which few rows are misplaced."""
        N, K = self._rows.shape[0], len(self.centroids)
        if not self._fresh:
            step = FIRST_STEP / 4 if last else FIRST_STEP
            self._ascend(1, step, LAST_PASSES if last else WARM_PASSES)
        elif N < COARSE * COARSE_ROWS * K:
            self._ascend(1, FIRST_STEP, PASSES)
        else:
            self._ascend(COARSE, FIRST_STEP, COARSE_PASSES)
            self._ascend(1, FIRST_STEP / 4, LAST_PASSES)
        self._fresh = False

    def _ascend(self, every: int, step: float, passes: int) -> None:
        """On every n-th row, with bounds in proportion."""
        N, rows = len(self._rows), self._rows[::every]
        low, high = self._least, self._most
        if every > 1:
            low, high = low * len(rows) // N, (high * len(rows) + N - 1) // N
        found = ascend(rows, self.centroids, low, high, self._start, step, passes)
        self._start = self._start._replace(prices=found.prices)

    def assign(self, exponent: int) -> Tensor:
        """Each row to its best cluster at the prices; means to move to. -> g(λ) []"""
        self.climb()
        codes, score = nearest(self._rows, self.centroids, self._prices)
        sums, sizes = cluster_sums(self._rows, codes, len(self.centroids), exponent)
        means = (sums.double() / 2.0**exponent / sizes.clamp(min=1)[:, None]).float()
        self._means = torch.where(sizes[:, None] > 0, means, self.centroids)
        return self._dual(score)

    def move(self, value: float, tolerance: float) -> bool:
        """Takes the means as centroids, unless g(λ) hardly fell. -> whether it did"""
        if self._before - value <= tolerance * value:
            return False
        # A centroid that was cheap because it lay far out is nearer to its rows as their mean, by
        # that much on average; left as cheap it would draw in all rows.
        nearer = (self._means.double() - self.centroids.double()).square().sum(dim=1)
        prices = self._prices
        prices = torch.where(prices < 0, (prices + nearer).clamp(max=0.0), prices)
        self._before, self.centroids = value, self._means
        self._start = self._start._replace(prices=prices)
        return True

    @property
    def _prices(self) -> Tensor:
        return self._start.prices

    def _dual(self, score: Tensor) -> Tensor:
        """g(λ) [] of the rows' best scores at the prices."""
        prices = self._prices
        return score.sum() - (prices * torch.where(prices > 0, self._most, self._least)).sum()

    def collect(self) -> bool:
        """Lists the clusters within the slack of each row's best; False if they are too many."""
        scores_ = sampled_distances(self._rows, self.centroids) + self._prices
        best = scores_.amin(dim=1, keepdim=True)
        if self._slack == 0.0 and len(self.centroids) > 1:
            gap = (scores_.kthvalue(2, dim=1).values - best[:, 0]).quantile(CONTESTED)
            least = torch.maximum(LEAST_SLACK * self._start.scale, 2.0**-40 * scores_.abs().max())
            self._slack = float(torch.maximum(gap, least))
        arcs, wider = self._listed(scores_ - best)
        most = SHORT_ARCS if 2 * self._patience > PATIENCE else MOST_ARCS
        if self._patience < PATIENCE and wider <= most:
            self._slack, arcs = ASKED * self._slack, wider
        if arcs > MOST_ARCS or self._patience == 0:
            return False
        starts, words, costs = within(self._rows, self.centroids, self._prices, self._slack)
        number = starts.diff()
        choice = number > 1
        own = words[starts[:-1]]
        settled = torch.zeros_like(self._least).index_add_(0, own, (~choice).long())
        kept = choice.repeat_interleave(number, output_size=len(words))
        begins = pad(number[choice].cumsum(0), (1, 0))
        self._arcs = _Arcs(
            own, choice.nonzero()[:, 0], *_to_host(begins, words[kept], costs[kept], settled)
        )
        self._collected = _to_host(self._prices)[0]
        return True

    def _listed(self, gaps: Tensor) -> list[float]:
        """Clusters a row within the slack, and within the next one, of a sample's gaps [S, K]."""
        slacks = gaps.new_tensor([self._slack, ASKED * self._slack])
        numbers = (gaps[..., None] <= slacks).sum(dim=(0, 1)) / len(gaps)
        return [float(number) for number in numbers.tolist()]

    def repair(self) -> Transport:
        """On the host, in any thread."""
        arcs = self._arcs
        return transport(
            arcs.starts,
            arcs.clusters,
            arcs.costs,
            self._low - arcs.settled,
            self._high - arcs.settled,
            self._slack,
            self._collected,
        )

    def check(self, found: Transport) -> Proven | None:
        """The assignment, if it is the cheapest; else the next collection will know more."""
        device = self._rows.device
        self._start = self._start._replace(prices=found.prices.to(device))
        if found.done:
            labels = self._arcs.own.long()
            labels[self._arcs.contested] = found.labels.to(device)
            cost, bound, terms = self._certificate(labels)
            if cost - bound <= _ROUNDING * terms or torch.equal(found.prices, self._collected):
                return Proven(labels, cost, min(bound, cost))
        self._patience -= 1
        return None

    def _certificate(self, labels: Tensor) -> tuple[float, float, float]:
        """Cost, a bound that owes nothing to the lists, and the size of their terms."""
        costs = scores(self._rows, self.centroids, None, labels)
        _, best = nearest(self._rows, self.centroids, self._prices)
        parts = torch.stack([costs.sum(), self._dual(best), costs.sum() + best.abs().sum()])
        cost, bound, terms = parts.tolist()
        return cost, bound, terms

    def on_host(self) -> Proven:
        rows, centroids = self._rows.cpu()[None], self.centroids.cpu()[None]
        _, labels, cost, bound = host().balanced_lloyd(
            rows, centroids, self._low, self._high, 1, 0.0, 0
        )
        return Proven(labels[0].to(self._rows.device), float(cost), float(bound))


def _to_host(*tensors: Tensor) -> list[Tensor]:
    """Copies in pinned memory, made side by side, with one wait for all."""
    device = tensors[0].device
    if device.type == "cpu":
        return [each.clone() for each in tensors]
    copies = [torch.empty(each.shape, dtype=each.dtype, pin_memory=True) for each in tensors]
    for copy, each in zip(copies, tensors):
        copy.copy_(each, non_blocking=True)
    torch.cuda.current_stream(device).synchronize()
    return copies
