"""Kernels that read what their own program wrote, by several warps in adversarial order."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from types import ModuleType
from unittest import mock

import pytest
import torch

from tests.support import oracle
from tests.support.many_warps import ORDERS, many_warps
from tests.support.triton_backend import DEVICE, backend

# isort: split
import triton
import triton.language as tl

from letter_fast.kernels import reference

stages, settling, margins = (
    sys.modules[f"{backend.__name__}.{name}"] for name in ("residual_search", "settle", "margins")
)
Queue = sys.modules[f"{backend.__name__}.queue"].Queue
pytestmark = [
    pytest.mark.filterwarnings("ignore::RuntimeWarning"),
    pytest.mark.skipif(DEVICE.type == "cuda", reason="a GPU has warps of its own"),
]
SIZES = [6, 5]


def published_and_read_back(place, r, inside):
    """As until November 2026: what is tested is loaded again, with no barrier between."""
    tl.store(place, r, mask=inside)
    back = tl.load(place, mask=inside, other=0.0)
    return tl.min((tl.abs(back) < float("inf")).to(tl.int32), axis=0)


def barrier(module: ModuleType, reason: str) -> tuple[str, int]:
    """File and line of the barrier that has this comment."""
    path = Path(str(module.__file__))
    lines = path.read_text().splitlines()
    (place,) = [number for number, line in enumerate(lines, 1) if f"()  # {reason}" in line]
    assert "tl.debug_barrier()" in lines[place - 1]
    return path.name, place


def settled(order: str, without: tuple[str, int] | None = None) -> bool:
    """Whether one program, with a few elements a step, gives the reference's codes of all rows."""
    x, books = torch.randn(3, 20), torch.randn(sum(SIZES), 20)
    x[1, 19] = torch.nan
    packed = stages.pack(books, SIZES, None, 32)
    codes = torch.full((len(x), len(SIZES)), -7)
    small = {"BLOCK_K": 4, "BLOCK_D": 8}
    every = Queue(torch.arange(len(x)) << 16, torch.tensor([len(x)]))
    with (
        mock.patch.object(settling, "programs", return_value=1),
        mock.patch.object(settling, "block_shape", return_value=small),
        many_warps(order, without) as problems,
    ):
        settling.settle(x, books, None, packed, codes, every)
    expected = reference.residual_search(x, books, SIZES)[0]
    return not problems and torch.equal(codes, expected)


@pytest.mark.parametrize("order", ORDERS)
def test_settle_is_right_in_any_order_of_its_warps(order: str) -> None:
    assert settled(order)


@pytest.mark.parametrize("reason", ["r_row is written", "this part of r_row is read"])
def test_settle_is_wrong_without_a_barrier(reason: str) -> None:
    assert not all(settled(order, barrier(settling, reason)) for order in ORDERS)


def test_the_race_that_settle_had_is_found() -> None:
    with mock.patch.dict(os.environ, TRITON_INTERPRET="1"):
        old = triton.jit(published_and_read_back)
    with mock.patch.object(settling, "publish", old):
        assert not settled("warp 0 last")


def measured(order: str, without: tuple[str, int] | None = None) -> bool:
    """Whether one program gives the reference's margins of all rows."""
    x, books = torch.randn(3, 20), torch.randn(sum(SIZES), 20)
    codes, _, expected, _ = reference.residual_search(x, books, SIZES, with_margins=True)
    packed = stages.pack(books, SIZES, None, 32)
    found = torch.empty(codes.shape)
    items = (torch.arange(len(x)) << 16) + torch.arange(2)[:, None]
    every = Queue(items.flatten(), torch.tensor([items.numel()]))
    small = {"BLOCK_K": 4, "BLOCK_D": 8}
    with (
        mock.patch.object(margins, "programs", return_value=1),
        mock.patch.object(margins, "block_shape", return_value=small),
        many_warps(order, without) as problems,
    ):
        margins._measure_left(x, books, None, packed, codes, every, found)
    return not problems and torch.allclose(found, expected)


@pytest.mark.parametrize("order", ORDERS)
def test_margins_are_right_in_any_order_of_their_warps(order: str) -> None:
    assert measured(order)


@pytest.mark.parametrize("reason", ["the row before is done with r_row", "r_row is written"])
def test_margins_are_wrong_without_a_barrier(reason: str) -> None:
    assert not all(measured(order, barrier(margins, reason)) for order in ORDERS)


def best_paths(order: str) -> bool:
    books = torch.randint(-1, 2, (sum(SIZES), 6)).float()
    x = torch.randint(-1, 2, (4, 6)).float() / 2
    expected = reference.residual_search_beam(x, books, SIZES, 3)[0]
    with many_warps(order) as problems:
        codes, _ = backend.residual_search_beam(x, books, SIZES, 3)
    return not problems and torch.equal(codes, expected)


@pytest.mark.parametrize("order", ORDERS)
def test_the_beam_is_right_in_any_order_of_its_warps(order: str) -> None:
    assert best_paths(order)


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("width", [5, 130])
def test_a_whole_search_is_right_in_any_order(order: str, width: int) -> None:
    """Screens, their queues and what they leave to the last stage."""
    books = [oracle.clustered(size, width, 2, seed=size) for size in SIZES]
    x = torch.cat([books[0][:3], (books[0][:2] + books[0][2:4]) / 2])
    expected, _ = oracle.residual_search(x, books)
    with many_warps(order) as problems:
        codes = backend.residual_search(x, torch.cat(books), SIZES)[0]
    assert problems == []
    assert codes.tolist() == expected


@pytest.mark.parametrize("order", ORDERS)
def test_lists_within_a_slack_are_right_in_any_order(order: str) -> None:
    x, book = torch.randn(9, 5), torch.randn(7, 5)
    offset = torch.rand(7).double()
    expected = reference.within(x, book, offset, 0.5)
    with many_warps(order) as problems:
        found = backend.within(x, book, offset, 0.5)
    assert problems == []
    assert all(torch.equal(a, b) for a, b in zip(found, expected))
