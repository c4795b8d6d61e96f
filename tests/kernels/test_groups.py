"""Assignments within groups: optimal where promised, and the same codes from every CPU backend."""

from __future__ import annotations

from itertools import pairwise, permutations
from typing import NamedTuple

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from letter_fast import kernels
from letter_fast.kernels import cpp, reference
from tests.support.cpu_backends import same_bits


class Problem(NamedTuple):
    """The arguments of both functions."""

    x: Tensor
    codebook: Tensor
    starts: Tensor
    home: Tensor
    rank: Tensor
    taken: Tensor
    taken_starts: Tensor

    def groups(self) -> list[tuple[slice, list[int]]]:
        """Rows and taken codes of each."""
        rows = [slice(begin, end) for begin, end in pairwise(self.starts.tolist())]
        ends = pairwise(self.taken_starts.tolist())
        return [(of, self.taken[a:b].tolist()) for of, (a, b) in zip(rows, ends)]

    def cost(self, rows: slice) -> np.ndarray:
        gap = self.x[rows, None].double() - self.codebook[None].double()
        return np.asarray(gap.square().sum(-1))


def problem(groups: int, rows: int, words: int, width: int, seed: int, **kind: object) -> Problem:
    """Groups of up to `rows` rows around one point each; integers where `lattice` asks for ties."""
    random = np.random.default_rng(seed)
    capacity = int(kind.get("capacity", 1))

    def points(count: int, spread: float) -> np.ndarray:
        if kind.get("lattice"):
            return random.integers(-1, 2, (count, width)).astype(np.float32)
        return (spread * random.standard_normal((count, width))).astype(np.float32)

    codebook = points(words, 1.0)
    x, taken = [], []
    for _ in range(groups):
        places = np.repeat(np.arange(words), capacity)
        taken.append(random.permutation(places)[: random.integers(len(places))])
        count = random.integers(1, min(rows, len(places) - len(taken[-1])) + 1)
        x.append(points(1, 1.0) * (not kind.get("lattice")) + points(count, 0.3))
    rows_of = torch.from_numpy(np.concatenate(x))
    return Problem(
        rows_of,
        torch.from_numpy(codebook),
        torch.tensor([0, *np.cumsum([len(part) for part in x])]),
        reference.nearest(rows_of, torch.from_numpy(codebook), None)[0],
        torch.from_numpy(random.permutation(len(rows_of))),
        torch.from_numpy(np.concatenate(taken)),
        torch.tensor([0, *np.cumsum([len(part) for part in taken])]),
    )


def check_distinct(of: Problem, codes: Tensor) -> None:
    """One to one, nothing taken, and as cheap as scipy's assignment."""
    for rows, taken in of.groups():
        chosen = codes[rows].numpy()
        assert len(set(chosen.tolist())) == len(chosen)
        assert not set(chosen.tolist()) & set(taken)
        cost = of.cost(rows)
        free = np.setdiff1d(np.arange(len(of.codebook)), taken)
        best = cost[:, free][linear_sum_assignment(cost[:, free])].sum()
        assert cost[np.arange(len(chosen)), chosen].sum() == pytest.approx(best, rel=1e-12)


@pytest.mark.parametrize("lattice", [False, True])
@pytest.mark.parametrize(("words", "width"), [(1, 1), (2, 3), (7, 2), (16, 5), (17, 4), (40, 3)])
def test_distinct_codes_are_optimal(
    backend: kernels.Backend, words: int, width: int, lattice: bool
) -> None:
    for seed in range(4):
        of = problem(6, 40, words, width, seed, lattice=lattice)
        codes = backend.distinct_codes(*of)
        check_distinct(of, codes)
        assert torch.equal(codes, reference.distinct_codes(*of))


def test_distinct_codes_equal_brute_force(backend: kernels.Backend) -> None:
    for seed in range(20):
        of = problem(1, 5, 6, 2, seed)
        ((rows, taken),) = of.groups()
        cost = of.cost(rows)
        free = [code for code in range(6) if code not in taken]
        best = min(permutations(free, len(cost)), key=lambda p: sum(c[k] for c, k in zip(cost, p)))
        assert backend.distinct_codes(*of).tolist() == list(best)


def test_a_full_codebook(backend: kernels.Backend) -> None:
    of = problem(1, 64, 64, 3, seed=1)
    x = 0.1 * torch.randn(64, 3)
    full = of._replace(
        x=x,
        starts=torch.tensor([0, 64]),
        home=reference.nearest(x, of.codebook, None)[0],
        rank=torch.arange(64),
        taken=of.taken[:0],
        taken_starts=torch.tensor([0, 0]),
    )
    check_distinct(full, backend.distinct_codes(*full))


def test_equal_rows_take_the_nearest_codes_in_order_of_rank(backend: kernels.Backend) -> None:
    codebook = torch.tensor([[4.0], [1.0], [-1.0], [1.0], [3.0]])
    rank = torch.tensor([3, 0, 2, 1])
    empty = torch.zeros(0, dtype=torch.int64)
    codes = backend.distinct_codes(
        torch.zeros(4, 1), codebook, torch.tensor([0, 4]), torch.tensor([1, 1, 1, 1]), rank, empty,
        torch.tensor([0, 0]),
    )  # fmt: skip
    # Three codes are at the same distance, the lowest first; then that at 3.
    assert codes[rank.argsort()].tolist() == [1, 2, 3, 4]


@pytest.mark.parametrize("lattice", [False, True])
def test_row_order_and_group_order_do_not_matter(backend: kernels.Backend, lattice: bool) -> None:
    for seed in range(5):
        capacity = 3
        of = problem(5, 30, 8, 2, seed, lattice=lattice, capacity=capacity)
        shuffle = torch.cat(
            [rows.start + torch.randperm(rows.stop - rows.start) for rows, _ in of.groups()]
        )
        other = of._replace(x=of.x[shuffle], home=of.home[shuffle], rank=of.rank[shuffle])
        spilled = backend.evict_codes(*of, capacity)
        assert torch.equal(backend.evict_codes(*other, capacity), spilled[shuffle])
        of = problem(5, 30, 8, 2, seed, lattice=lattice)
        shuffle = torch.cat(
            [rows.start + torch.randperm(rows.stop - rows.start) for rows, _ in of.groups()]
        )
        other = of._replace(x=of.x[shuffle], home=of.home[shuffle], rank=of.rank[shuffle])
        assert torch.equal(backend.distinct_codes(*other), backend.distinct_codes(*of)[shuffle])


def greedy_spill(of: Problem, capacity: int) -> list[int]:
    """The definition of evict_codes, move by move."""
    codes = of.home.tolist()
    for rows, taken in of.groups():
        cost = of.cost(rows)
        own = codes[rows]
        room = [capacity - taken.count(k) - own.count(k) for k in range(len(of.codebook))]
        while min(room) < 0:
            _, _, _, to, row = min(
                (
                    cost[i, k] - cost[i, own[i]],
                    (own[i], of.x[rows][i].tolist()),
                    -int(of.rank[rows][i]),
                    k,
                    i,
                )
                for i in range(len(own))
                if room[own[i]] < 0
                for k in range(len(room))
                if room[k] > 0
            )
            room[own[row]] += 1
            room[to] -= 1
            own[row] = to
        codes[rows] = own
    return codes


@pytest.mark.parametrize("lattice", [False, True])
@pytest.mark.parametrize("capacity", [1, 2, 5])
def test_spilling_makes_the_cheapest_moves(
    backend: kernels.Backend, capacity: int, lattice: bool
) -> None:
    for seed in range(6):
        of = problem(4, 25, 9, 3, seed, lattice=lattice, capacity=capacity)
        assert backend.evict_codes(*of, capacity).tolist() == greedy_spill(of, capacity)


def test_spilling_from_codes_that_are_not_the_nearest(backend: kernels.Backend) -> None:
    of = problem(3, 40, 20, 3, seed=3, capacity=4)
    of = of._replace(home=torch.randint(3, of.home.shape))
    assert backend.evict_codes(*of, 4).tolist() == greedy_spill(of, 4)


@settings(max_examples=40, deadline=None)
@given(
    st.integers(0, 10_000), st.integers(1, 30), st.integers(1, 6), st.integers(1, 4), st.booleans()
)
def test_cpp_equals_the_reference(
    seed: int, words: int, width: int, capacity: int, lattice: bool
) -> None:
    of = problem(3, 40, words, width, seed, lattice=lattice)
    assert torch.equal(cpp.distinct_codes(*of), reference.distinct_codes(*of))
    of = problem(3, 60, words, width, seed, lattice=lattice, capacity=capacity)
    spilled = cpp.evict_codes(*of, capacity)
    assert torch.equal(spilled, reference.evict_codes(*of, capacity))


@pytest.mark.parametrize("scale", [1e-40, 1e-20, 1e15, 1e30])
def test_scale_is_ordinary(backend: kernels.Backend, scale: float) -> None:
    of = problem(3, 20, 24, 3, seed=2)
    of = of._replace(x=of.x * scale, codebook=of.codebook * scale)
    check_distinct(of, backend.distinct_codes(*of))


def test_the_same_bits_whatever_computes_them() -> None:
    of = problem(40, 30, 32, 4, seed=5)
    same_bits(lambda: [cpp.distinct_codes(*of)])


def test_more_rows_than_distances_are_kept_of() -> None:
    """The kernel keeps 64 MiB: 512 rows of 16,384."""
    x = torch.linspace(-0.1, 0.1, 520).round(decimals=3)[:, None] + 1e-6 * torch.randn(520, 1)
    codebook = torch.linspace(-1, 1, 16_384)[:, None]
    empty = torch.zeros(0, dtype=torch.int64)
    of = Problem(
        x, codebook, torch.tensor([0, 520]), cpp.nearest(x, codebook, None)[0], torch.arange(520),
        empty, torch.tensor([0, 0]),
    )  # fmt: skip
    check_distinct(of, cpp.distinct_codes(*of))
