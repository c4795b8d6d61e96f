"""The ID table: lookups, words, its file, and refusing what is none."""

from __future__ import annotations

import json
from pathlib import Path
from random import Random

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from letter_fast.tokenization import SemanticIds

CODES = np.array([[0, 2], [1, 0], [0, 2], [1, 1]])
IDS = SemanticIds(CODES, [2, 3], ["w", "x", "y", "z"], {"policy": "none"})


def test_lookups_both_ways() -> None:
    assert IDS.codes_of("x") == (1, 0)
    assert IDS.items_of([0, 2]) == ["w", "y"]
    assert IDS.items_of([0, 0]) == []
    assert IDS.duplicates() == {(0, 2): ["w", "y"]}
    for unknown in ("v", 1, ""):
        with pytest.raises(KeyError):
            IDS.codes_of(unknown)
    with pytest.raises(KeyError):
        SemanticIds(CODES, [2, 3]).codes_of(2**70)
    for part in ([0], [0, 2, 0]):
        with pytest.raises(ValueError, match="an ID has 2 codes"):
            IDS.items_of(part)


ITEMS = st.one_of(
    st.lists(st.integers(-(2**63), 2**63 - 1), unique=True, max_size=20),
    st.lists(st.text(), unique=True, max_size=20),
)


@settings(deadline=None)
@given(ITEMS, st.sampled_from([[2, 3], [1, 2, 2], [2**31] * 3]), st.randoms())
def test_lookups_are_those_of_a_dictionary(
    items: list[object], sizes: list[int], random: Random
) -> None:
    rows = [[random.choice((0, size - 1)) for size in sizes] for _ in items]
    codes = np.array(rows, dtype=np.int64).reshape(-1, len(sizes))
    ids = SemanticIds(codes, sizes, pa.array(items, None if items else pa.string()))
    row_of = {item: row for row, item in enumerate(items)}
    asked = [*items, *(items or [""])[:1]]
    assert ids.rows_of_items(asked).tolist() == [row_of.get(item, -1) for item in asked]
    named: dict[tuple[int, ...], list[object]] = {}
    for item, row in zip(items, rows):
        named.setdefault(tuple(row), []).append(item)
        assert ids.codes_of(item) == tuple(row)
    foreign = [[0] * (len(sizes) - 1) + [sizes[-1]], [-1] * len(sizes)]
    for row in [*rows, *foreign]:
        assert ids.items_of(row) == named.get(tuple(row), [])
    expected = [row_of[named[tuple(row)][0]] for row in rows] + [-1, -1]
    assert ids.rows_of_codes(np.array([*rows, *foreign])).tolist() == expected
    assert ids.duplicates() == {key: some for key, some in named.items() if len(some) > 1}


def test_an_unknown_item_has_no_row() -> None:
    assert IDS.rows_of_items(["z", "", "a", "~", "w"]).tolist() == [3, -1, -1, -1, 0]
    numbers = SemanticIds(CODES, [2, 3], [30, 10, 20, 40])
    assert numbers.rows_of_items(np.array([10, 11, 40, -5, 99])).tolist() == [1, -1, 3, -1, -1]
    assert numbers.rows_of_items(["20"]).tolist() == [2]
    with pytest.raises(ValueError, match="item ids are int64"):
        numbers.rows_of_items(["x"])


@pytest.mark.parametrize("order", ["ascending", "descending", "shuffled"])
@pytest.mark.parametrize("kind", [int, str])
def test_few_items_of_many(order: str, kind: type) -> None:
    random = np.random.default_rng(0)
    items = [kind(item) for item in random.choice(10**6, 2000, replace=False).tolist()]
    if order != "shuffled":
        items.sort(reverse=order == "descending")
    ids = SemanticIds(random.integers(0, 2, (2000, 1)), [2], items)
    edges = [min(items), max(items)]
    asked = [*items[::50], *edges, kind(-1), kind(10**7), kind(0)]
    row_of = {item: row for row, item in enumerate(items)}
    expected = [row_of.get(item, -1) for item in asked]
    assert ids.rows_of_items(asked).tolist() == expected
    assert ids.rows_of_items(asked * 50).tolist() == expected * 50  # hashed, not searched
    assert ids.rows_of_items(np.array([], dtype=kind)).tolist() == []
    for item, row in zip(asked, expected):
        if row >= 0:
            assert ids.codes_of(item) == tuple(ids.codes[row].tolist())


def test_words() -> None:
    assert IDS.tokens()[1] == ["<a_1>", "<b_0>"]
    assert IDS.tokens([3, 0]) == [IDS.tokens()[3], IDS.tokens()[0]]
    assert IDS.vocabulary().tokens() == ["<a_0>", "<a_1>", "<b_0>", "<b_1>", "<b_2>"]
    assert IDS.token_ids(100).tolist() == [[100, 104], [101, 102], [100, 104], [101, 103]]
    assert IDS.packed().tolist() == [2, 3, 2, 4]
    assert IDS.packed_bits().tolist() == [[4], [1], [4], [3]]


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.lists(st.integers(0, 3), min_size=3, max_size=3), max_size=20), st.integers(0, 3)
)
def test_round_trips(
    tmp_path_factory: pytest.TempPathFactory, rows: list[list[int]], measured: int
) -> None:
    path = tmp_path_factory.mktemp("ids") / "ids.parquet"
    codes = np.array(rows, dtype=np.int64).reshape(-1, 3)
    margins = np.random.default_rng(0).random((len(rows), measured)) if measured else None
    ids = SemanticIds(codes, [4, 4, 4], None, {"policy": "none", "note": [1, 2]}, margins)
    ids.save(path)
    back = SemanticIds.load(path)
    np.testing.assert_array_equal(back.codes, ids.codes)
    assert back.sizes == ids.sizes
    assert back.metadata == ids.metadata
    assert back.item_ids.equals(ids.item_ids)
    if measured:
        np.testing.assert_array_equal(back.margins, ids.margins)
    else:
        assert back.margins is None


def test_the_file_is_what_it_says(tmp_path: Path) -> None:
    path = tmp_path / "ids.parquet"
    SemanticIds(CODES, [2, 3], list("wxyz"), {"model": "f00"}, np.ones((4, 1))).save(path)
    schema = pq.read_schema(path)
    assert schema.names == ["item_id", "codes", "live", "margin"]
    assert schema.field("codes").type == pa.list_(pa.int32(), 2)
    assert schema.field("margin").type == pa.list_(pa.float32(), 1)
    assert json.loads(schema.metadata[b"letter_fast"]) == {
        "format": 2, "sizes": [2, 3], "base": 0, "level_offset": None, "model": "f00",
    }  # fmt: skip


def test_a_file_that_other_tools_rewrote(tmp_path: Path) -> None:
    path = tmp_path / "ids.parquet"
    IDS.save(path)
    table = pq.read_table(path)
    lists = table.column("codes").cast(pa.list_(pa.int64()))
    names = table.column("item_id").cast(pa.large_string())
    columns = {"codes": lists, "live": table.column("live"), "item_id": names}
    pq.write_table(pa.table(columns).replace_schema_metadata(table.schema.metadata), path)
    np.testing.assert_array_equal(SemanticIds.load(path).codes, CODES)


@pytest.mark.parametrize(
    ("codes", "sizes", "items", "message"),
    [
        (CODES, [2, 2], None, "row 0 of codes is"),
        (CODES, [2], None, r"must be \[N, 1\] for 1 codebooks"),
        (CODES, [2, 2**31 + 1], None, "at most 2147483648"),
        (CODES, [], None, "sizes are empty"),
        (CODES - 1, [2, 3], None, "outside codebooks"),
        (CODES.astype(float), [2, 3], None, "must be integers"),
        (CODES, [2, 3], ["a"], "4 rows of codes but 1 item ids"),
        (CODES, [2, 3], ["a", "b", "a", "c"], "must be unique"),
    ],
)
def test_bad_tables(codes: np.ndarray, sizes: list[int], items: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SemanticIds(codes, sizes, items)


def test_bad_margins_and_metadata() -> None:
    for margins in (np.ones(4), np.ones((3, 2)), np.ones((4, 3)), np.ones((4, 0))):
        with pytest.raises(ValueError, match=r"margins must be \[4, L\]"):
            SemanticIds(CODES, [2, 3], margins=margins)
    with pytest.raises(ValueError, match="metadata can't be called base, sizes"):
        SemanticIds(CODES, [2, 3], metadata={"sizes": 1, "base": 1, "policy": "none"})


def test_foreign_and_broken_files(tmp_path: Path) -> None:
    path = tmp_path / "ids.parquet"
    pq.write_table(pa.table({"a": [1]}), path)
    with pytest.raises(ValueError, match="not an ID table"):
        SemanticIds.load(path)
    IDS.save(path)
    whole = path.read_bytes()
    for size in (0, 4, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:size])
        with pytest.raises(ValueError, match="can't be read as an ID table"):
            SemanticIds.load(path)
    for absent in (tmp_path / "absent.parquet", tmp_path):
        with pytest.raises(ValueError, match="can't be read"):
            SemanticIds.load(absent)


@pytest.mark.parametrize(
    ("codes", "facts", "message"),
    [
        ([[0, 1]], {"format": 3, "sizes": [2, 2]}, "newer letter-fast"),
        ([[0, 1]], {"format": 2, "sizes": [2, 2]}, "lost its column live"),
        ([[0, 1]], {"format": 1, "sizes": [2, 2], "base": 1}, "another base than 0"),
        ([[0, 1]], {"format": 1, "sizes": [2, 2], "level_offset": 0}, "another level_offset"),
        ([[0, 1]], {"format": 1}, "broken ID table"),
        ([[0, 1]], {"format": 1, "sizes": "ab"}, "broken ID table"),
        ([[0, 2]], {"format": 1, "sizes": [2, 2]}, "row 0 of codes is"),
        ([[0, None]], {"format": 1, "sizes": [2, 2]}, "row 0 has a null"),
        ([None], {"format": 1, "sizes": [2, 2]}, "a row has no list"),
        ([[0, 1], [0], [0, 1, 1]], {"format": 1, "sizes": [2, 2]}, "row 1 has a list of another"),
        ([3], {"format": 1, "sizes": [2, 2]}, "broken ID table"),
    ],
)
def test_files_that_contradict_themselves(
    tmp_path: Path, codes: list[list[int]], facts: dict[str, object], message: str
) -> None:
    path = tmp_path / "ids.parquet"
    columns = {"item_id": list(range(len(codes))), "codes": codes}
    table = pa.table(columns).replace_schema_metadata({"letter_fast": json.dumps(facts)})
    pq.write_table(table, path)
    with pytest.raises(ValueError, match=message):
        SemanticIds.load(path)


def test_a_trie_of_some_items_holds_their_ids_and_no_removed_ones() -> None:
    codes = np.array([[0, 1], [1, 1], [0, 2], [1, 0]])
    live = np.array([True, True, False, True])
    ids = SemanticIds(codes, [2, 3], ["a", "b", "c", "d"], is_live=live)
    some = ids.trie(items=["d", "c", "a", "a"])
    assert (some.nodes(torch.from_numpy(codes)) >= 0).tolist() == [True, False, False, True]
    everyone = ids.trie(with_removed=True, items=["c"])
    assert (everyone.nodes(torch.from_numpy(codes)) >= 0).tolist() == [False, False, True, False]
    assert len(ids.trie(items=[])) == 0
    with pytest.raises(ValueError, match="lacks item 1 of `items`"):
        ids.trie(items=["a", "z"])
