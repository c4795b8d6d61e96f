"""Every CPU backend finds the cheapest assignment within the bounds, and proves it."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from letter_fast import kernels
from letter_fast.clustering.fixed_point import exponent_for
from letter_fast.kernels import cpp, reference
from tests.support import oracle
from tests.support.cpu_backends import same_bits


def table_of(x: Tensor, centroids: Tensor) -> np.ndarray:
    gaps = x.double()[:, None] - centroids.double()[None]
    return gaps.square().sum(-1).numpy()


def optimum(costs: np.ndarray, low: np.ndarray, high: np.ndarray) -> float:
    """As an assignment to slots: high_k a cluster, the first low_k of which must be filled."""
    slots = np.repeat(np.arange(len(high)), high)
    place = np.concatenate([np.arange(size) for size in high])
    forced = place < low[slots]
    prize = (1 + len(costs)) * float(costs.max())
    rows, columns = linear_sum_assignment(costs[:, slots] - prize * forced)
    assert forced[columns].sum() == low.sum()
    return float(costs[rows, slots[columns]].sum())


def assign(
    backend: kernels.Backend, x: Tensor, centroids: Tensor, low: np.ndarray, high: np.ndarray
) -> tuple[Tensor, float, float]:
    after, labels, cost, bound = backend.balanced_lloyd(
        x[None], centroids[None], torch.from_numpy(low), torch.from_numpy(high), 1, 0.0, 0
    )
    assert torch.equal(after[0], centroids)
    return labels[0], float(cost), float(bound)


# The oracle is slow, and asked the same for every backend.
_answers: dict[bytes, float] = {}


def check(
    backend: kernels.Backend, x: Tensor, centroids: Tensor, low: np.ndarray, high: np.ndarray
) -> None:
    labels, cost, bound = assign(backend, x, centroids, low, high)
    sizes = torch.bincount(labels, minlength=len(centroids)).numpy()
    assert (sizes >= low).all()
    assert (sizes <= high).all()
    costs = table_of(x, centroids)
    question = pickle.dumps([costs, low, high])
    if question not in _answers:
        _answers[question] = optimum(costs, low, high)
    best = _answers[question]
    rounding = 1e-9 * best + 1e-12 * float(costs.max())
    assert cost == pytest.approx(
        costs[np.arange(len(x)), labels.numpy()].sum(), rel=1e-12, abs=1e-300
    )
    assert cost == pytest.approx(best, abs=rounding)
    assert bound <= cost
    assert cost - bound <= rounding


def bounds(
    random: np.random.Generator, n: int, k: int, tight: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Random bounds that can be met; tight ones leave each cluster one size, or hardly more."""
    sizes = random.multinomial(n, random.dirichlet(np.full(k, 5.0)))
    if tight:
        return sizes - (sizes > 0) * random.integers(0, 2, k), sizes
    low = (sizes * random.random(k)).astype(np.int64)
    return low, np.minimum(sizes + random.integers(0, 1 + 2 * n // k, k), n)


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_equals_an_assignment_to_slots(data: st.DataObject) -> None:
    n, k = data.draw(st.integers(1, 120)), data.draw(st.integers(1, 12))
    random = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    width = data.draw(st.sampled_from([1, 2, 5, 33]))
    kind = data.draw(st.sampled_from(["grid", "clustered", "normal", "equal"]))
    if kind == "grid":  # massive ties and duplicates
        x, centroids = (random.integers(-1, 2, size=(size, width)) for size in (n, k))
    elif kind == "clustered":
        x, centroids = (
            random.integers(3, size=(size, 1)) + 0.1 * random.standard_normal((size, width))
            for size in (n, k)
        )
    elif kind == "normal":
        x, centroids = (random.standard_normal((size, width)) for size in (n, k))
    else:
        x, centroids = np.ones((n, width)), random.standard_normal((k, width))
    low, high = bounds(random, n, k, tight=data.draw(st.booleans()))
    check(
        cpp,
        torch.from_numpy(x.astype(np.float32)),
        torch.from_numpy(centroids.astype(np.float32)),
        low,
        high,
    )


@pytest.mark.parametrize("tight", [True, False])
@pytest.mark.parametrize("kind", ["clustered", "grid", "outliers"])
def test_more_pairs_than_are_all_looked_at(
    backend: kernels.Backend, kind: str, tight: bool
) -> None:
    random = np.random.default_rng(1)
    n, k = 1100, 60  # above kFewPairs of balanced_lloyd.cpp
    x = oracle.clustered(n, 8, 15, seed=2)
    if kind == "grid":
        x = x.round()
    if kind == "outliers":
        x[:7] *= 100
    centroids = x[torch.from_numpy(random.choice(n, k, replace=False))].clone()
    centroids[5] = centroids[6]
    low, high = bounds(random, n, k, tight)
    check(backend, x, centroids, low, high)


@pytest.mark.parametrize("crowded", [1, 3])
def test_a_crowd_must_leave(backend: kernels.Backend, crowded: int) -> None:
    """A few clusters grow so dear that most of their rows go far: their rows reach further."""
    random = np.random.default_rng(6)
    n, k = 1100, 64
    centroids = torch.from_numpy(random.standard_normal((k, 8)).astype(np.float32))
    x = centroids[torch.from_numpy(random.integers(k, size=n))]
    x[:700] = centroids[torch.from_numpy(random.integers(crowded, size=700))]
    x = x + 0.3 * torch.from_numpy(random.standard_normal((n, 8)).astype(np.float32))
    check(backend, x, centroids, np.full(k, n // (2 * k)), np.full(k, 2 * n // k))


@pytest.mark.parametrize("kind", ["one point", "eight points", "half equal", "equal start"])
def test_ties_leave_prices_room_to_rise(kind: str) -> None:
    """No margin tells how far arcs should reach if most rows have several best clusters."""
    random = torch.Generator().manual_seed(10)
    x = torch.randn(3000, 4, generator=random)
    k = 60
    if kind == "one point":
        x = torch.ones(3000, 4)
    elif kind == "eight points":
        x = torch.randint(0, 2, (3000, 3), generator=random).float()
    elif kind == "half equal":
        x[:1500] = 0.0
    start = x[:1].repeat(k, 1) if kind == "equal start" else x[1400 : 1400 + k].clone()
    low, high = torch.full((k,), 49), torch.full((k,), 51)
    _, labels, cost, bound = cpp.balanced_lloyd(
        x[None], start[None], low, high, 6, -1.0, exponent_for(x)
    )
    sizes = labels[0].bincount(minlength=k)
    assert int(sizes.min()) >= 49
    assert int(sizes.max()) <= 51
    assert float(cost - bound) <= 1e-9 * float(cost)


def test_centroids_that_come_in_from_far_out_draw_in_nobody_else() -> None:
    """Their rows had to be lured there; as means of these rows they need no lure."""
    n, k = 9922, 256
    x = torch.randn(n, 32, generator=torch.Generator().manual_seed(11))
    far = x.square().sum(1).argsort(descending=True)
    start = torch.cat([2 * x[far[:20]], x[: k - 20]])
    low, high = torch.full((k,), n // (2 * k)), torch.full((k,), 2 * n // k)
    run = [
        cpp.balanced_lloyd(x[None], start[None], low, high, count, -1.0, exponent_for(x))[2]
        for count in (2, 3, 4)
    ]
    costs = torch.cat(run).tolist()
    assert costs == sorted(costs, reverse=True)


@pytest.mark.parametrize("scale", [1e-12, 1e-3, 1e12])
def test_scales(backend: kernels.Backend, scale: float) -> None:
    x = oracle.clustered(90, 3, 4, seed=3) * scale
    check(backend, x, x[:9].clone(), np.full(9, 10), np.full(9, 10))


@pytest.mark.parametrize(
    ("low", "high"), [(0, 600), (3, 3), (0, 3), (3, 600)], ids=["free", "even", "max", "min"]
)
def test_all_rows_equal(low: int, high: int) -> None:
    """Every row may move at the same price: one path moves as many as it can."""
    x = torch.ones(600, 4)
    centroids = torch.randn(200, 4, generator=torch.Generator().manual_seed(4))
    sizes = np.full(200, low), np.full(200, high)
    labels, cost, bound = assign(cpp, x, centroids, *sizes)
    counts = np.bincount(labels.numpy(), minlength=200)
    costs = np.sort(table_of(x[:1], centroids)[0])
    spare = 600 - 200 * low
    best = low * costs.sum() + (np.minimum(high - low, spare) * costs[0] if high == 600 else 0.0)
    if (low, high) == (0, 3):
        best = 3 * costs.sum()
    assert counts.min() >= low
    assert counts.max() <= high
    assert cost == pytest.approx(best, rel=1e-12)
    assert cost - bound <= 1e-9 * best


@pytest.mark.parametrize("case", ["one cluster", "as many as rows", "one row"])
def test_degenerate_sizes(backend: kernels.Backend, case: str) -> None:
    n, k = {"one cluster": (30, 1), "as many as rows": (30, 30), "one row": (1, 1)}[case]
    x = oracle.clustered(n, 4, 3, seed=5)
    check(backend, x, x[:k].clone(), np.full(k, n // k), np.full(k, n // k))


def test_the_same_bits_whatever_computes_them() -> None:
    x = oracle.clustered(4000, 16, 30, seed=6)
    start = x[:64].clone()
    low, high = torch.full((64,), 31), torch.full((64,), 125)
    exponent = exponent_for(x)
    same_bits(lambda: cpp.balanced_lloyd(x[None], start[None], low, high, 6, 0.0, exponent))


def test_lloyd_equals_the_reference() -> None:
    x = torch.stack([oracle.clustered(400, 6, 9, seed=seed) for seed in (7, 8)])
    start = x[:, :20].clone()
    low, high = torch.full((20,), 10), torch.full((20,), 40)
    ours, plain = (
        backend.balanced_lloyd(x, start, low, high, 12, 1e-4, exponent_for(x))
        for backend in (cpp, reference)
    )
    for mine, expected in zip(ours[:2], plain[:2]):
        assert torch.equal(mine, expected)
    torch.testing.assert_close(ours[2], plain[2], rtol=1e-12, atol=0)


def test_any_strides_and_shared_rows() -> None:
    x = oracle.clustered(300, 5, 4, seed=9)
    low, high = torch.full((8,), 20), torch.full((8,), 60)
    starts = torch.stack([x[:8], x[8:16]])
    plain = cpp.balanced_lloyd(x.repeat(2, 1, 1), starts, low, high, 5, 0.0, exponent_for(x))
    shared = cpp.balanced_lloyd(
        x.T.contiguous().T.expand(2, -1, -1), starts, low, high, 5, 0.0, exponent_for(x)
    )
    for mine, expected in zip(shared, plain):
        assert torch.equal(mine, expected)
