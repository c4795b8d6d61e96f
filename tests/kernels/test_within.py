"""The reference's lists of codewords that are nearly the best, against a literal version."""

from __future__ import annotations

import math
import sys
from unittest import mock

import pytest
import torch
from torch import Tensor

from letter_fast.kernels import reference
from tests.support import oracle


def literal(
    x: Tensor, book: Tensor, offset: Tensor, slack: float
) -> tuple[list[int], list[int], list[float]]:
    """Python floats: float64, each operation rounded, in the order written."""
    starts, words, costs = [0], [], []
    for row in x.float().tolist():
        distances = []
        for word in book.tolist():
            total = 0.0
            for a, b in zip(row, word):
                total += (a - b) * (a - b)
            distances.append(total)
        scores = [distance + extra for distance, extra in zip(distances, offset.tolist())]
        listed = [k for k, score in enumerate(scores) if score <= min(scores) + slack]
        starts.append(starts[-1] + len(listed))
        words += listed
        costs += [distances[k] for k in listed]
    return starts, words, costs


def check(x: Tensor, book: Tensor, offset: Tensor, slack: float) -> None:
    starts, words, costs = reference.within(x, book, offset, slack)
    assert (starts.dtype, words.dtype, costs.dtype) == (torch.int64, torch.int32, torch.float64)
    assert (starts.tolist(), words.tolist(), costs.tolist()) == literal(x, book, offset, slack)


@pytest.mark.parametrize(("rows", "words", "width"), [(1, 1, 1), (3, 2, 5), (33, 17, 16)])
@pytest.mark.parametrize("slack", [0.0, 1e-9, 2.0, math.inf])
def test_it_is_the_literal_definition(rows: int, words: int, width: int, slack: float) -> None:
    x, book = oracle.clustered(rows, width, 4, seed=1), oracle.clustered(words, width, 4, seed=2)
    offset = torch.linspace(-1, 1, words, dtype=torch.float64)
    check(x, book, offset, slack)
    check(x.bfloat16(), book, offset, slack)
    check(x.T.contiguous().T, book, 1e15 * offset, slack)


def test_ties_and_equal_codewords() -> None:
    generator = torch.Generator().manual_seed(5)
    x = torch.randint(-2, 3, (20, 3), generator=generator).float()
    book = torch.randint(-2, 3, (30, 3), generator=generator).float()
    check(x, book, torch.zeros(30, dtype=torch.float64), 0.0)
    check(x, book, torch.zeros(30, dtype=torch.float64), 1.0)


def test_blocks_of_rows_and_no_rows() -> None:
    x, book = oracle.clustered(20, 3, 4, seed=3), oracle.clustered(7, 3, 4, seed=4)
    offset = torch.zeros(7, dtype=torch.float64)
    with mock.patch.object(
        sys.modules["letter_fast.kernels.reference.within"], "_BLOCK_ELEMENTS", 21
    ):
        check(x, book, offset, 0.5)
    check(x[:0], book, offset, 0.5)


def test_what_is_not_finite_is_not_listed() -> None:
    x, book = oracle.clustered(4, 3, 4, seed=3), oracle.clustered(6, 3, 4, seed=4)
    offset = torch.zeros(6, dtype=torch.float64)
    x[1, 0], x[2, 2] = math.nan, math.inf
    book[0, 0], book[1, 2] = math.nan, -math.inf
    offset[2], offset[3], offset[4] = math.nan, math.inf, -math.inf
    starts, words, _ = reference.within(x, book, offset, math.inf)
    assert starts.tolist() == [0, 1, 1, 1, 2]
    assert words.tolist() == [5, 5]
