"""The ascent of prices: on a GPU or interpreted, the bits of its formula in PyTorch."""

from __future__ import annotations

import math
import sys
from typing import Any
from unittest import mock

import pytest
import torch
from torch import Tensor

from letter_fast.kernels import reference
from tests.support import oracle
from tests.support.triton_backend import DEVICE, backend

climbing = sys.modules[f"{backend.__name__}.ascent"]

pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")


def plain_search(
    x: Tensor, words: Tensor, sizes: list[int], offset: Tensor, mark: bool
) -> tuple[Tensor, None]:
    assert (sizes, mark) == ([len(words)], False)
    return reference.nearest(x, words, offset)[0][:, None], None


def literal(
    x: Tensor, words: Tensor, low: Tensor, high: Tensor, start: Any, step: float, passes: int
) -> tuple[Tensor, int]:
    price, K = start.prices, len(words)
    steps, before = torch.full((K,), step * float(start.scale)).double(), torch.zeros(K).double()
    best, fewest = price, math.inf
    for _ in range(passes):
        codes, _ = reference.nearest(x, words, price)
        count = torch.bincount(codes, minlength=K)
        excess = torch.where(price > 0, count - high, torch.where(price < 0, count - low, 0))
        bounded = torch.where(count > high, count - high, torch.where(count < low, count - low, 0))
        excess = torch.where(price == 0, bounded, excess)
        if int(excess.abs().sum()) < fewest:
            best, fewest = price, int(excess.abs().sum())
        sign = excess.sign().double()
        steps = torch.where(sign * before > 0, 1.5 * steps, steps)
        steps = torch.where(sign * before < 0, 0.5 * steps, steps).clamp(max=4 * start.scale)
        before = sign
        part = (excess.abs().double() * min(K / len(x), 1.0)).clamp(max=1.0)
        moved = price + sign * (steps * part)
        price = torch.where(moved * price < 0, 0.0, moved)
    return best, fewest


def check(
    x: Tensor, words: Tensor, low: Tensor, high: Tensor, passes: int = 8, searched: bool = False
) -> int:
    """The rows that the best pass misplaced. searched: by the real search, slow if interpreted."""
    start = climbing.begin(x, words, low)
    expected, misplaced = literal(x, words, low, high, start, 0.25, passes)
    moved = [each.to(DEVICE) for each in (x, words, low, high)]
    start = climbing.Start(*(each.to(DEVICE) for each in start))
    with mock.patch.object(climbing, "search", climbing.search if searched else plain_search):
        found = climbing.ascend(*moved, start, 0.25, passes)
    assert torch.equal(found.prices.cpu(), expected)
    assert int(found.misplaced) == misplaced
    return misplaced


@pytest.mark.parametrize("sizes", ["usual", "equal", "free"])
@pytest.mark.parametrize(("rows", "clusters", "width"), [(90, 6, 5), (101, 9, 33), (40, 3, 130)])
def test_prices_are_the_bits_of_the_formula(
    rows: int, clusters: int, width: int, sizes: str
) -> None:
    x = oracle.clustered(rows, width, 4, seed=rows)
    words = x[:clusters].clone()
    low, high = {
        "usual": (rows // (2 * clusters), -(-2 * rows // clusters)),
        "equal": (rows // clusters, -(-rows // clusters)),
        "free": (0, rows),
    }[sizes]
    check(x, words, torch.full((clusters,), low), torch.full((clusters,), high))


@pytest.mark.parametrize(("rows", "width"), [(17, 5), (16, 130)])
def test_with_the_search_whose_codes_it_counts(rows: int, width: int) -> None:
    x = oracle.clustered(rows, width, 3, seed=width)
    check(x, x[:4].clone(), torch.full((4,), 4), torch.full((4,), 5), passes=3, searched=True)


@pytest.mark.parametrize(
    "case", ["one row", "one cluster", "equal rows", "equal words", "all equal"]
)
def test_degenerate_sizes(case: str) -> None:
    x, words = oracle.clustered(30, 4, 3, seed=1), oracle.clustered(5, 4, 3, seed=2)
    if case == "one row":
        x = x[:1]
    if case == "one cluster":
        words = words[:1]
    if "equal rows" in case:
        x = x[:1].repeat(30, 1)
    if case in ("equal words", "all equal"):
        words = words[:1].repeat(5, 1)
    if case == "all equal":
        x = words[:1].repeat(30, 1)
    N, K = len(x), len(words)
    check(x, words, torch.full((K,), N // K), torch.full((K,), -(-N // K)))


def test_strided_rows_and_large_prices() -> None:
    x, words = oracle.clustered(160, 6, 4, seed=3), oracle.clustered(8, 6, 4, seed=4)
    words[:2] *= 1e3
    check(x[::8], words, torch.full((8,), 2), torch.full((8,), 3))
    check(x.T.contiguous().T, words, torch.full((8,), 15), torch.full((8,), 30))


def test_it_misplaces_few_rows() -> None:
    x = oracle.clustered(400, 6, 7, seed=5)
    first = check(x, x[:8].clone(), torch.full((8,), 50), torch.full((8,), 50), passes=1)
    assert check(x, x[:8].clone(), torch.full((8,), 50), torch.full((8,), 50), 40) < 0.1 * first


@pytest.mark.parametrize("clusters", [1, 255, 256, 257, 600])
def test_counts_of_several_programs(clusters: int) -> None:
    codes = torch.randint(clusters, (700,)).to(DEVICE)
    codes[::9] = -1
    counts = torch.zeros(3, clusters, dtype=torch.int64, device=DEVICE)
    rows = 256
    grid = -(-700 // rows) * -(-clusters // climbing.COUNT_BINS)
    climbing.count_kernel[(grid,)](
        codes, counts, 700, clusters, 1, BLOCK_N=rows, BINS=climbing.COUNT_BINS
    )
    assert torch.equal(counts[1].cpu(), torch.bincount(codes[codes >= 0].cpu(), minlength=clusters))
    assert not counts[::2].any()


def test_steps_of_several_blocks_of_clusters() -> None:
    x = oracle.clustered(60, 3, 4, seed=6)
    words = oracle.clustered(21, 3, 4, seed=7)
    with mock.patch.object(climbing, "STEP_WORDS", 8):
        check(x, words, torch.full((21,), 2), torch.full((21,), 3))


def test_a_start_gives_each_cluster_alone_its_least_number_of_rows() -> None:
    x, words = oracle.clustered(300, 5, 4, seed=8), oracle.clustered(7, 5, 4, seed=9)
    words[0] *= 50
    low = torch.tensor([20, 0, 300, 1, 40, 40, 40])
    prices, scale = climbing.begin(x, words, low)
    costs = (x.double()[:, None] - words.double()).square().sum(2)
    gaps = costs - costs.amin(1, keepdim=True)
    for k, (wanted, price) in enumerate(zip(low.tolist(), prices.tolist())):
        assert price <= 0
        assert int((gaps[:, k] + price * (1 + 1e-9) <= 0).sum()) >= wanted
        if price < 0:
            assert int((gaps[:, k] + price * (1 - 1e-9) <= 0).sum()) < wanted
    assert math.frexp(float(scale))[0] == 0.5
