"""IDs that are given already: their numbers, sorted once and merged from table to table."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pytest
import torch
from numpy.typing import NDArray

from letter_fast.catalog.item_ids import rows_among
from letter_fast.model import ResidualKMeans, ResidualKMeansConfig
from letter_fast.tokenization import POLICIES, SemanticIds, held, optimal, resolve, tokenize
from letter_fast.tokenization.held import HeldIds, ascending, merged, packed, repeated
from letter_fast.tokenization.packing import pack
from letter_fast.tokenization.policies import Policy
from letter_fast.tokenization.statistics import collision_statistics, statistics_of

SIZES = [5, 4, 6]
RANDOM = np.random.default_rng(0)
ROWS = RANDOM.normal(size=(90, 4)).astype(np.float32)


def codes(rows: int) -> NDArray[np.int32]:
    return RANDOM.integers(0, SIZES, (rows, len(SIZES))).astype(np.int32)


@pytest.fixture(scope="module")
def model() -> ResidualKMeans:
    model = ResidualKMeans(ResidualKMeansConfig(input_dim=4, codebook_size=SIZES))
    return model.fit(ROWS)


@pytest.mark.parametrize(("new", "there"), [(0, 0), (0, 9), (9, 0), (3, 40), (40, 3)])
def test_new_and_held_ids_in_one_order(new: int, there: int) -> None:
    mine, theirs = codes(new), codes(there)
    found = ascending(mine, HeldIds(theirs, SIZES), SIZES)
    everyone = np.concatenate([mine, theirs])
    np.testing.assert_array_equal(found, np.sort(pack(everyone, SIZES)))
    assert statistics_of(found) == collision_statistics(everyone)
    few, counts = np.unique(found, return_counts=True)
    np.testing.assert_array_equal(repeated(found), few[counts > 1])


def test_merging_copies_nothing_that_stays_as_it_is() -> None:
    numbers = np.array([1, 4, 4, 9])
    assert merged(numbers, numbers[:0]) is numbers
    assert merged(np.array([0, 4, 10]), numbers).tolist() == [0, 1, 4, 4, 4, 9, 10]
    assert numbers.tolist() == [1, 4, 4, 9]


@pytest.mark.parametrize("policy", POLICIES)
def test_numbers_are_handed_on_from_night_to_night(model: ResidualKMeans, policy: Policy) -> None:
    table = tokenize(model, ROWS[:40], policy, item_ids=range(40))
    for begin in range(40, 90, 10):
        part = slice(begin, begin + 10)
        known = table.codes.copy()
        later, anew = (
            tokenize(model, ROWS[part], policy, existing, item_ids=range(90)[part], removed="keep")
            for existing in (table, SemanticIds(*_arguments(table)))
        )
        np.testing.assert_array_equal(later.codes, anew.codes)
        np.testing.assert_array_equal(later.codes[10:], known)
        assert later.metadata["resolution"] == anew.metadata["resolution"]
        fresh = HeldIds(later.codes, later.sizes)
        np.testing.assert_array_equal(later.held_ids.numbers, fresh.numbers)
        table = later


def _arguments(table: SemanticIds) -> tuple[object, ...]:
    return table.codes, table.sizes, table.item_ids, table.metadata


def test_a_night_looks_at_the_numbers_it_was_handed(model: ResidualKMeans) -> None:
    table = tokenize(model, ROWS[:40], item_ids=range(40))
    later = tokenize(model, ROWS[40:50], "optimal", table, item_ids=range(40, 50), removed="keep")
    assert later.held_ids.are_sorted


@pytest.mark.parametrize("refresh", ["none", "changed"])
@pytest.mark.parametrize("removed", ["reserve", "keep", "free"])
def test_ids_that_became_free_are_not_held(
    model: ResidualKMeans, removed: str, refresh: str
) -> None:
    table = tokenize(model, ROWS[:40], item_ids=range(40))
    assert table.held_ids.are_sorted is False
    assert len(table.held_ids.numbers) == 40
    rows = ROWS[10:60].copy()
    rows[:5] += 1.0
    later = tokenize(
        model, rows, "optimal", table, item_ids=range(10, 60), removed=removed, refresh=refresh
    )
    assert later.held_ids.numbers.tolist() == np.sort(pack(later.codes, SIZES)).tolist()
    assert len(later) == (50 if removed == "free" else 60)


@pytest.mark.parametrize("policy", POLICIES)
def test_ids_beyond_int64_are_resolved_alike(
    policy: Policy, monkeypatch: pytest.MonkeyPatch
) -> None:
    generator = torch.Generator().manual_seed(0)
    books = [torch.randn(size, 3, generator=generator) for size in (3, 2, 4)]
    latents = torch.randn(10, 3, generator=generator)
    given = np.zeros((10, 3), dtype=np.int32)  # a prefix of 4 IDs, one of them held
    taken = np.array([[0, 0, 1], [0, 1, 2], [2, 1, 0]])
    if policy == "suffix":
        taken = np.column_stack([taken, [0, 0, 3]])
    plain = resolve(given, latents, books, policy, held=taken)
    for module in (held, optimal):
        monkeypatch.setattr(module, "is_packable", lambda _: False)
    ranked = resolve(given, latents, books, policy, held=taken)
    np.testing.assert_array_equal(ranked.codes, plain.codes)
    assert ranked.report.to_dict() == plain.report.to_dict()


@pytest.mark.parametrize(
    "make",
    [
        lambda numbers: pa.array(numbers),
        lambda numbers: pa.array(numbers).cast(pa.uint64()),
        lambda numbers: pa.array([f"item-{one}" for one in numbers.tolist()]),
        lambda numbers: pa.array([f"item-{one}".encode() for one in numbers.tolist()]),
    ],
)
@pytest.mark.parametrize("wanted", [0, 1, 7, 100, 400])
def test_rows_of_few_or_many_items(
    make: Callable[[NDArray[np.int64]], pa.Array], wanted: int
) -> None:
    there = RANDOM.permutation(1000)[:400]
    asked = RANDOM.permutation(1000)[:wanted]
    row = {one: place for place, one in enumerate(there.tolist())}
    found = rows_among(make(asked), make(there)).to_pylist()
    assert found == [row.get(one) for one in asked.tolist()]


@pytest.mark.parametrize(
    ("sizes", "kind"), [([2**16, 2**16], np.uint32), ([2**16, 2**17], np.int64)]
)
def test_numbers_take_half_the_memory_where_they_fit(sizes: list[int], kind: type) -> None:
    extremes = np.array([[0, 0], [0, sizes[1] - 1], [sizes[0] - 1, sizes[1] - 1]], dtype=np.int32)
    numbers = packed(extremes, sizes)
    assert numbers.dtype == kind
    np.testing.assert_array_equal(numbers, pack(extremes, sizes))
    assert HeldIds(extremes, sizes).numbers.dtype == kind


def test_the_largest_of_32_bits_are_resolved() -> None:
    books = [torch.arange(2.0**8)[:, None] * 2.0 ** (8 * level) for level in (3, 2, 1, 0)]
    given = np.full((3, 4), 255)
    taken = np.array([[255, 255, 255, 254]])
    found = resolve(given, torch.full((3, 1), 2.0**32), books, held=taken)
    assert found.codes.tolist() == [[255, 255, 255, last] for last in (255, 253, 252)]
