"""Assignment within size bounds by the Triton backend: the CPU's labels, and a proof of its own."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from itertools import pairwise
from unittest import mock

import pytest
import torch
from torch import Tensor

from letter_fast.clustering.fixed_point import exponent_for
from letter_fast.kernels import cpp, reference
from tests.support import oracle
from tests.support.triton_backend import DEVICE, backend

balancing, climbing, tiles = (
    sys.modules[f"{backend.__name__}.{name}"] for name in ("balanced_lloyd", "ascent", "tiles")
)

search = climbing.search

pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")

Result = tuple[Tensor, Tensor, Tensor, Tensor]


@pytest.fixture(autouse=True)
def on_the_device() -> Iterator[None]:
    """Small problems too, with few passes; interpreted, codes of the ascent come from PyTorch, and
    tiles are large, which is quicker."""

    def plain_search(x: Tensor, words: Tensor, sizes: object, offset: Tensor, mark: bool) -> object:
        return reference.nearest(x, words, offset)[0][:, None], None

    few = {"HOST_PAIRS": 0, "PASSES": 12, "WARM_PASSES": 5, "LAST_PASSES": 5, "COARSE_PASSES": 8}
    few["PATIENCE"] = 24
    codes = search if DEVICE.type == "cuda" else plain_search
    large = {P: (tiles.ScreenTile(128, 32, 1, 1),) * 2 for P in tiles.NARROW["interpreter"]}
    with (
        mock.patch.multiple(balancing, **few),
        mock.patch.dict(tiles.NARROW, interpreter=large),
        mock.patch.object(climbing, "search", codes),
    ):
        yield


def run(x: Tensor, start: Tensor, low: Tensor, high: Tensor, iterations: int = 1) -> Result:
    exponent = exponent_for(x)
    found = backend.balanced_lloyd(
        x.to(DEVICE), start.to(DEVICE), low, high, iterations, 0.0, exponent
    )
    return tuple(each.cpu() for each in found)


def full(K: int, size: int) -> Tensor:
    return torch.full((K,), size)


def check(x: Tensor, words: Tensor, low: Tensor, high: Tensor, unique: bool = True) -> Result:
    """One assignment, proven; its labels are the CPU's, unless others cost the same."""
    found = run(x[None], words[None], low, high)
    after, labels, cost, bound = found
    _, expected, least, _ = cpp.balanced_lloyd(x[None], words[None], low, high, 1, 0.0, 0)
    assert torch.equal(after[0], words)
    if unique:
        assert torch.equal(labels, expected)
    sizes = torch.bincount(labels[0], minlength=len(words))
    assert bool(((sizes >= low) & (sizes <= high)).all())
    costs = (x.double() - words.double()[labels[0]]).square().sum()
    rounding = 1e-12 * float(costs)
    assert float(cost) == pytest.approx(float(costs), rel=1e-12)
    assert float(cost) == pytest.approx(float(least), rel=1e-12)
    assert -rounding <= float(cost - bound) <= rounding
    return found


@pytest.mark.parametrize(("low", "high"), [(15, 15), (5, 40), (0, 90), (13, 90)])
def test_one_assignment(low: int, high: int) -> None:
    x = oracle.clustered(90, 5, 4, seed=1)
    check(x, x[:6].clone(), full(6, low), full(6, high))


@pytest.mark.parametrize(
    ("rows", "clusters", "width"), [(1, 1, 1), (37, 1, 3), (1, 3, 2), (3, 3, 17), (41, 4, 33)]
)
def test_awkward_sizes(rows: int, clusters: int, width: int) -> None:
    x, words = (
        oracle.clustered(rows, width, 3, seed=2),
        oracle.clustered(clusters, width, 3, seed=3),
    )
    check(x, words, full(clusters, rows // clusters), full(clusters, -(-rows // clusters)))


def test_bounds_that_differ() -> None:
    x = oracle.clustered(80, 4, 5, seed=4)
    sizes = torch.tensor([1, 40, 0, 20, 19])
    check(x, x[:5].clone(), sizes, sizes)
    check(x, x[:5].clone(), torch.tensor([0, 30, 0, 1, 5]), torch.tensor([3, 80, 9, 30, 80]))


def test_strided_rows_and_columns_far_from_0() -> None:
    x = oracle.clustered(60, 6, 4, seed=5)
    check(x.T.contiguous().T, x[:4].clone(), full(4, 15), full(4, 15))
    check(x.repeat(1, 2)[:, :6] + 300, x[:4] + 300, full(4, 10), full(4, 20))
    check(1e-12 * x, 1e-12 * x[:4], full(4, 15), full(4, 15))


def test_near_ties() -> None:
    """Rows one float32 step off the middle of two clusters: the screens can't tell."""
    x, words = oracle.near_ties(60, 16, 4, seed=6)
    x = x.unique(dim=0)
    check(x, words, full(4, len(x) // 4), full(4, -(-len(x) // 4)))


@pytest.mark.parametrize("case", ["equal rows", "equal clusters", "all equal", "grid"])
def test_ties_cost_what_they_cost_on_the_cpu(case: str) -> None:
    x, words = oracle.clustered(8, 3, 4, seed=7), oracle.clustered(4, 3, 4, seed=8)
    if case in ("equal rows", "all equal"):
        x = x[:1].repeat(8, 1)
    if case == "equal clusters":
        words = words[:2].repeat(2, 1)
    if case == "all equal":
        words = x[:4].clone()
    if case == "grid":
        x, words = x.round(), words.round()
    # Every row of these is for the exact sums, which take a minute if interpreted.
    nearest = balancing.nearest if DEVICE.type == "cuda" else reference.nearest
    with mock.patch.object(balancing, "nearest", nearest):
        check(x, words, full(4, 2), full(4, 2), unique=False)


def test_what_lists_most_clusters_is_the_cpu_s() -> None:
    x, words = torch.ones(60, 3), oracle.clustered(20, 3, 4, seed=8)
    listed = mock.Mock(side_effect=AssertionError)
    with mock.patch.object(balancing, "within", listed):
        labels = run(x[None], words[None], full(20, 3), full(20, 3))[1]
    expected = cpp.balanced_lloyd(x[None], words[None], full(20, 3), full(20, 3), 1, 0.0, 0)[1]
    assert torch.equal(labels, expected)


@pytest.mark.parametrize(("short", "larger"), [(3.0, False), (5.0, True)])
def test_more_slack_while_lists_are_short(short: float, larger: bool) -> None:
    """All rows lie at one cluster's centroid, and most must go far away. Prices get there in
    several rounds with the same slack, or sooner with more."""
    x = torch.cat([oracle.clustered(60, 3, 1, seed=3), 50 + oracle.clustered(4, 3, 1, seed=4)])
    words = torch.cat([x[:1], x[60:63], x[:1] + 20])
    on_host = mock.Mock(side_effect=AssertionError)
    with (
        mock.patch.object(balancing, "within", wraps=balancing.within) as within,
        mock.patch.object(balancing._Problem, "on_host", on_host),
        mock.patch.object(balancing, "SHORT_ARCS", short),
    ):
        check(x, words, full(5, 12), full(5, 13))
    slacks = [call.args[3] for call in within.call_args_list]
    assert len(slacks) > 1
    assert {after / before for before, after in pairwise(slacks)} == {2.0 if larger else 1.0}


def test_the_cpu_s_when_patience_ends() -> None:
    """A repair that never has what it needs."""
    x = oracle.clustered(80, 4, 5, seed=9)

    def never(*arguments: object) -> object:
        return balancing_transport(*arguments)._replace(done=False)

    balancing_transport = balancing.transport
    with (
        mock.patch.object(balancing, "PATIENCE", 3),
        mock.patch.object(balancing, "transport", never),
        mock.patch.object(balancing, "within", wraps=balancing.within) as within,
    ):
        check(x, x[:5].clone(), full(5, 16), full(5, 16))
    assert within.call_count == 3


@pytest.mark.parametrize("kind", ["zeros", "noise", "huge"])
def test_wherever_the_ascent_ends_the_labels_are_the_same(kind: str) -> None:
    x = oracle.clustered(80, 4, 5, seed=9)

    def astray(rows: Tensor, words: Tensor, *_: object) -> object:
        generator = torch.Generator().manual_seed(1)
        noise = torch.randn(len(words), generator=generator, dtype=torch.float64).to(rows.device)
        prices = {"zeros": 0 * noise, "noise": noise, "huge": 1e3 * noise}[kind]
        return climbing.Ascent(prices, torch.zeros((), dtype=torch.int64))

    with mock.patch.object(balancing, "ascend", astray):
        check(x, x[:5].clone(), full(5, 16), full(5, 16))


@pytest.mark.parametrize("fault", ["price", "labels"])
def test_a_wrong_price_or_label_is_found_out(fault: str) -> None:
    x = oracle.clustered(80, 4, 5, seed=9)
    faults = [fault]

    def faulty(*arguments: object) -> object:
        found = balancing_transport(*arguments)
        if not found.done or not faults:
            return found
        faults.clear()
        labels, prices = found.labels.clone(), found.prices.clone()
        if fault == "price":
            prices[0] += 1.0
        else:  # two rows change places: sizes stay
            other = int((labels != labels[0]).nonzero()[0])
            labels[[0, other]] = labels[[other, 0]]
            prices += 1e-9
        return found._replace(labels=labels, prices=prices)

    balancing_transport = balancing.transport
    with mock.patch.object(balancing, "transport", faulty):
        check(x, x[:5].clone(), full(5, 16), full(5, 16))
    assert not faults


def test_lists_that_lack_clusters_leave_a_gap() -> None:
    """As a bound too small would make them: nobody but `nearest` can know."""
    x = oracle.clustered(80, 4, 5, seed=9)

    def within(*arguments: object) -> object:
        starts, words, costs = reference.within(*arguments)
        last = starts[1:] - 1  # a row's last cluster, unless it is the best
        lost = torch.zeros(len(words), dtype=torch.bool)
        lost[last[(starts.diff() > 1) & (torch.arange(80) % 2 == 0).to(DEVICE)]] = True
        ends = (~lost).long().cumsum(0)[last]
        return torch.cat([starts[:1], ends]), words[~lost], costs[~lost]

    with mock.patch.object(balancing, "within", within):
        _, _, cost, bound = run(x[None], x[None, :5], full(5, 16), full(5, 16))
    least = cpp.balanced_lloyd(x[None], x[None, :5].clone(), full(5, 16), full(5, 16), 1, 0.0, 0)[2]
    assert float(bound) <= float(least) * (1 + 1e-12)
    assert float(cost) > float(least) * (1 + 1e-6)


def test_a_start_on_every_eighth_row() -> None:
    x = oracle.clustered(160, 4, 5, seed=10)
    with (
        mock.patch.object(balancing, "COARSE_ROWS", 4),
        mock.patch.object(balancing, "ascend", wraps=balancing.ascend) as ascend,
    ):
        check(x, x[:5].clone(), full(5, 16), full(5, 64))
    assert [len(call.args[0]) for call in ascend.call_args_list][:2] == [20, 160]


@pytest.mark.parametrize(("low", "high"), [(8, 8), (4, 16)])
def test_lloyd_of_several_problems(low: int, high: int) -> None:
    """Its last assignment is the cheapest for its centroids, and as good as the CPU's run."""
    x = torch.stack([oracle.clustered(48, 5, 4, seed=seed) for seed in (1, 2)])
    start = x[:, :6].clone()
    sizes = full(6, low), full(6, high)
    centroids, labels, cost, bound = run(x, start, *sizes, iterations=3)
    assert not torch.equal(centroids, start)
    for rows, words, found in zip(x, centroids, labels):
        expected = cpp.balanced_lloyd(rows[None], words[None], *sizes, 1, 0.0, 0)
        assert torch.equal(found, expected[1][0])
    assert bool((cost - bound <= 1e-9 * cost).all())
    theirs = cpp.balanced_lloyd(x, start, *sizes, 3, 0.0, exponent_for(x))[2]
    assert bool((cost < 1.1 * theirs).all())


def test_it_stops_where_the_cost_hardly_falls() -> None:
    x = oracle.clustered(90, 5, 4, seed=1)
    with mock.patch.object(balancing, "cluster_sums", wraps=balancing.cluster_sums) as sums:
        exponent = exponent_for(x)
        arguments = x[None].to(DEVICE), x[None, :6].to(DEVICE), full(6, 10), full(6, 20)
        backend.balanced_lloyd(*arguments, 50, 10.0, exponent)
    assert sums.call_count == 2


def test_small_problems_are_the_cpu_s_bits() -> None:
    x = torch.stack([oracle.clustered(90, 5, 4, seed=seed) for seed in (1, 2)])
    start, sizes = x[:, :6].clone(), (full(6, 5), full(6, 40))
    with mock.patch.object(balancing, "HOST_PAIRS", 90 * 6):
        found = run(x, start, *sizes, iterations=5)
    for one, other in zip(found, cpp.balanced_lloyd(x, start, *sizes, 5, 0.0, exponent_for(x))):
        assert torch.equal(one, other)


def test_everything_interpreted() -> None:
    """The ascent with the search whose codes it counts."""
    x = oracle.clustered(33, 4, 3, seed=11)
    with (
        mock.patch.object(climbing, "search", search),
        mock.patch.multiple(balancing, PASSES=3),
    ):
        check(x, x[:3].clone(), full(3, 11), full(3, 11))
