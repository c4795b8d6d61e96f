"""The items that moved between two tables, and those that were only numbered anew."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest

from letter_fast.tokenization import SemanticIds, diff
from letter_fast.tokenization import diff as diff_module


def table(codes: np.ndarray, sizes: list[int], items: object = None) -> SemanticIds:
    return SemanticIds(np.asarray(codes), sizes, items)


def test_a_table_is_itself() -> None:
    ids = table(np.random.default_rng(0).integers(0, 5, (50, 3)), [5, 5, 5])
    result = diff(ids, ids)
    assert (result.kept, result.moved, result.added, result.removed) == (50, 0, 0, 0)
    assert result.churn == result.churn_matched == [0.0, 0.0, 0.0]
    assert result.same_prefix == result.same_prefix_matched == [1.0, 1.0, 1.0]


def test_items_come_and_go_in_any_order() -> None:
    old = table([[0, 0], [0, 1], [1, 0], [1, 1]], [2, 2], ["a", "b", "c", "d"])
    new = table([[1, 1], [0, 0], [0, 1], [1, 0]], [2, 2], ["d", "b", "e", "a"])
    result = diff(old, new)
    assert (result.old_items, result.new_items) == (4, 4)
    # d keeps (1, 1); b goes from (0, 1) to (0, 0), a from (0, 0) to (1, 0); c went, e came.
    assert (result.kept, result.moved, result.added, result.removed) == (1, 2, 1, 1)
    assert result.churn == [pytest.approx(1 / 3), pytest.approx(1 / 3)]
    assert result.same_prefix == [pytest.approx(2 / 3), pytest.approx(1 / 3)]


def test_numbering_anew_is_no_move() -> None:
    random = np.random.default_rng(1)
    codes = random.integers(0, [6, 9, 4], (400, 3))
    renamed = np.column_stack(
        [random.permutation(size)[column] for column, size in zip(codes.T, (6, 9, 4))]
    )
    result = diff(table(codes, [6, 9, 4]), table(renamed, [6, 9, 4]))
    assert min(result.churn) > 0.3
    assert result.churn_matched == [0.0, 0.0, 0.0]
    assert result.same_prefix_matched == [1.0, 1.0, 1.0]


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("sizes", [(4, 4), (3, 5), (5, 2)])
def test_no_permutation_matches_more(seed: int, sizes: tuple[int, int]) -> None:
    random = np.random.default_rng(seed)
    before, after = random.integers(0, sizes[0], 30), random.integers(0, sizes[1], 30)
    result = diff(table(before[:, None], [sizes[0]]), table(after[:, None], [sizes[1]]))
    names = list(range(max(sizes)))
    best = min(
        float((np.array(order)[before] != after).mean())
        for order in permutations(names, len(names))
    )
    assert result.churn_matched == [pytest.approx(best)]


def test_one_permutation_a_level_not_one_a_prefix() -> None:
    # Below 0 the new table swaps codes 0 and 1, below 1 it doesn't: half of the items moved.
    old = table([[0, 0], [0, 1], [1, 0], [1, 1]], [2, 2])
    new = table([[0, 1], [0, 0], [1, 0], [1, 1]], [2, 2])
    assert diff(old, new).churn_matched == [0.0, 0.5]


def test_tables_of_different_length_and_of_other_items() -> None:
    old = table([[0, 1], [1, 0]], [2, 2], [7, 8])
    longer = table([[0, 1, 0], [1, 1, 0]], [2, 2, 3], ["7", "8"])
    result = diff(old, longer)
    assert (result.kept, result.moved) == (0, 2)
    assert result.same_prefix == [1.0, 0.5]
    assert diff(longer, old).same_prefix == [1.0, 0.5]
    nothing = diff(old, table([[0, 1]], [2, 2], [9]))
    assert (nothing.kept, nothing.moved, nothing.added, nothing.removed) == (0, 0, 1, 2)
    assert nothing.churn == nothing.same_prefix_matched == [0.0, 0.0]


def test_too_many_codes_to_match(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setattr(sys.modules[diff_module.__module__], "_MOST_CODES", 2)
    with pytest.raises(ValueError, match="level 2 uses 3 codes; they are matched up to 2"):
        diff(table([[0, 0], [0, 1], [0, 2]], [1, 3]), table([[0, 0], [0, 1], [0, 2]], [1, 3]))
