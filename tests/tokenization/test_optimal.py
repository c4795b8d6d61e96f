"""optimal.py reads the latents of few items, and gives the IDs that reading all would give."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from letter_fast import kernels, ops
from letter_fast.tokenization import items, resolve
from letter_fast.tokenization.groups import Groups, rows_under, rows_with

SIZES = [2, 3, 8]


class Noted:
    """Latents that note which rows were asked for."""

    made_the_codes = True

    def __init__(self, latents: Tensor) -> None:
        self.latents, self.shape, self.asked = latents, tuple(latents.shape), set[int]()

    def __getitem__(self, rows: NDArray[np.int64]) -> Tensor:
        self.asked |= set(rows.tolist())
        return self.latents[torch.from_numpy(rows)]


def problem(seed: int, rows: int, grid: bool) -> tuple[NDArray[np.int64], Tensor, list[Tensor]]:
    """Codes, latents and codebooks; on a grid many rows and distances are equal."""
    generator = torch.Generator().manual_seed(seed)
    books = [0.5**level * torch.randn(k, 3, generator=generator) for level, k in enumerate(SIZES)]
    latents = torch.randn(rows, 3, generator=generator)
    if grid:
        books, latents = [(4 * book).round() / 4 for book in books], (2 * latents).round() / 2
    codes = ops.residual_search(latents, torch.cat(books), SIZES, None, False)[0]
    return codes.numpy(), latents, books


@pytest.fixture(params=["reference", None])
def backend(request: pytest.FixtureRequest) -> Iterator[None]:
    if request.param is None:
        yield
        return
    with kernels.use_backend(request.param):
        yield


@pytest.mark.usefixtures("backend")
@pytest.mark.parametrize("grid", [False, True])
@pytest.mark.parametrize("together", [1, 1 << 20])
def test_reading_few_latents_gives_the_ids_of_reading_all(
    grid: bool, together: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(items, "_TOGETHER", together)
    unread = 0
    for seed in range(25):
        rows = 6 + seed
        codes, latents, books = problem(seed, rows, grid)
        taken = np.unique(codes[::3] if seed % 2 else codes[:0], axis=0)
        noted = Noted(latents)
        few = resolve(codes, noted, books, held=taken)
        whole = resolve(codes, latents, books, held=taken)
        np.testing.assert_array_equal(few.codes, whole.codes)
        assert few.report.to_dict() == whole.report.to_dict()
        unread += rows - len(noted.asked)
    assert unread > 25


def test_an_item_that_a_path_comes_to_is_read() -> None:
    """The second of two equal items would move to the code of a third, which had better move on."""
    book = torch.tensor([[0.0], [1.0], [2.0]])
    latents = torch.tensor([[0.0], [0.0], [1.4]])
    noted = Noted(latents)
    found = resolve(np.array([[0], [0], [1]]), noted, [book])
    assert found.codes.tolist() == [[0], [1], [2]]
    assert noted.asked == {0, 1, 2}


def test_an_item_that_no_path_comes_to_is_not_read() -> None:
    book = torch.tensor([[0.0], [0.5], [2.0]])
    noted = Noted(torch.tensor([[0.0], [0.0], [1.9]]))
    found = resolve(np.array([[0], [0], [2]]), noted, [book])
    assert found.codes.tolist() == [[0], [1], [2]]
    assert noted.asked == {0, 1}


def test_codes_that_others_chose_are_made_anew_in_a_crowded_prefix() -> None:
    """Latents given as they are need not have made the codes: then all of the prefix is read."""
    book = torch.tensor([[0.0], [0.5], [2.0]])
    found = resolve(np.array([[0], [0], [1]]), torch.tensor([[0.0], [0.0], [1.9]]), [book])
    assert found.codes.tolist() == [[0], [1], [2]]


@pytest.mark.parametrize("chosen", [[], [3], [0, 5, 7], [0, 1, 2, 3, 4, 5, 6, 7, 8, 2**40]])
def test_rows_of_chosen_prefixes(chosen: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("letter_fast.tokenization.groups._BLOCK", 7)
    codes = np.random.default_rng(0).integers(0, 3, (50, 2)).astype(np.int32)
    numbers = codes[:, 0].astype(np.int64) * 3 + codes[:, 1]
    wanted = [np.flatnonzero(numbers == one).tolist() for one in chosen]
    prefixes = np.array(chosen, dtype=np.int64)
    for found in (rows_under(numbers, prefixes), rows_with(codes, [3, 3], prefixes)):
        starts = found.starts.tolist()
        assert [found.rows[a:b].tolist() for a, b in pairwise(starts)] == wanted


def test_parts_of_groups() -> None:
    groups = Groups(np.array([5, 2, 9, 1]), np.array([0, 2, 2, 4]))
    assert groups.of_rows().tolist() == [0, 0, 2, 2]
    some = groups.only(np.array([True, False, True, True]))
    assert (some.rows.tolist(), some.starts.tolist()) == ([5, 9, 1], [0, 1, 1, 3])
    last = groups.those(np.array([False, True, True]))
    assert (last.rows.tolist(), last.starts.tolist()) == ([9, 1], [0, 0, 2])
