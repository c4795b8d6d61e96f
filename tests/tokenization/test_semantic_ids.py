"""The ID table: lookups, words, files, and refusing what is none."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from letter_fast.tokenization import SemanticIds, collision_statistics, semantic_ids

CODES = np.array([[0, 2], [1, 0], [0, 2], [1, 1]])
IDS = SemanticIds(CODES, [2, 3], ["w", "x", "y", "z"], {"policy": "none"})


def test_lookups_both_ways() -> None:
    assert IDS.codes_of("x") == (1, 0)
    assert IDS.items_of([0, 2]) == ["w", "y"]
    assert IDS.items_of([0, 0]) == []
    assert IDS.duplicates() == {(0, 2): ["w", "y"]}
    with pytest.raises(KeyError):
        IDS.codes_of("v")


def test_words() -> None:
    assert IDS.tokens()[1] == ["<a_1>", "<b_0>"]
    assert IDS.tokens([3, 0]) == [IDS.tokens()[3], IDS.tokens()[0]]
    assert IDS.vocabulary() == ["<a_0>", "<a_1>", "<b_0>", "<b_1>", "<b_2>"]


@pytest.mark.parametrize("block", [1, 2, 3, 4, 9])
def test_the_index_is_the_same_however_it_is_cut(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, block: int
) -> None:
    monkeypatch.setattr(semantic_ids, "_BLOCK", block)
    IDS.to_letter_json(tmp_path / "index.json")
    index = json.loads((tmp_path / "index.json").read_text())
    assert index == {str(row): tokens for row, tokens in enumerate(IDS.tokens())}


@settings(max_examples=30, deadline=None)
@given(st.lists(st.lists(st.integers(0, 3), min_size=3, max_size=3), min_size=1, max_size=20))
def test_round_trips(tmp_path_factory: pytest.TempPathFactory, rows: list[list[int]]) -> None:
    folder = tmp_path_factory.mktemp("ids")
    ids = SemanticIds(np.array(rows), [4, 4, 4], metadata={"policy": "none", "note": [1, 2]})
    ids.save(folder / "ids.parquet")
    back = SemanticIds.load(folder / "ids.parquet")
    np.testing.assert_array_equal(back.codes, ids.codes)
    assert back.sizes == ids.sizes
    assert back.metadata == ids.metadata
    assert back.item_ids.equals(ids.item_ids)
    ids.to_letter_json(folder / "index.json")
    again = SemanticIds.from_letter_json(folder / "index.json", [4, 4, 4])
    np.testing.assert_array_equal(again.codes, ids.codes)
    index = json.loads((folder / "index.json").read_text())
    assert index["0"] == [f"<{letter}_{code}>" for letter, code in zip("abc", rows[0])]


def test_trie_allows_exactly_what_continues() -> None:
    random = np.random.default_rng(0)
    codes = random.integers(0, 5, size=(40, 3))
    trie = SemanticIds(codes, [5, 5, 5]).trie()
    assert len(trie) == len(np.unique(codes, axis=0))
    for depth in range(3):
        prefixes = random.integers(-1, 6, size=(50, depth))
        for prefix, allowed in zip(prefixes, trie.allowed(prefixes)):
            match = (codes[:, :depth] == prefix).all(axis=1)
            assert allowed.tolist() == sorted(set(codes[match, depth].tolist()))
    with pytest.raises(ValueError, match="shorter"):
        trie.allowed(codes)


@pytest.mark.parametrize(
    ("codes", "sizes", "items", "message"),
    [
        (CODES, [2, 2], None, "row 0 has codes"),
        (CODES, [2], None, "don't fit"),
        (CODES - 1, [2, 3], None, "outside codebooks"),
        (CODES.astype(float), [2, 3], None, "must be integers"),
        (CODES, [2, 3], ["a"], "4 rows of codes but 1 item ids"),
        (CODES, [2, 3], ["a", "b", "a", "c"], "must be unique"),
    ],
)
def test_bad_tables(codes: np.ndarray, sizes: list[int], items: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SemanticIds(codes, sizes, items)


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
    with pytest.raises(ValueError, match="can't be read"):
        SemanticIds.load(tmp_path / "absent.parquet")
    index = tmp_path / "index.json"
    for text in ("{", "[]", "{}", '{"0": ["<b_1>"]}', '{"0": 3}', '{"0": ["<a_1>"], "1": []}'):
        index.write_text(text)
        with pytest.raises(ValueError, match=r"index\.json"):
            SemanticIds.from_letter_json(index)


@pytest.mark.parametrize(
    ("catalog", "distinct", "rate", "largest"),
    [("instruments", 9897, 0.0025, 3), ("beauty", 12088, 0.0011, 3), ("yelp", 19201, 0.0415, 65)],
)
def test_published_ids(
    shared_data: Path, catalog: str, distinct: int, rate: float, largest: int
) -> None:
    codes = np.load(shared_data / catalog / "published_letter_ids.npy").astype(np.int64)
    statistics = collision_statistics(codes)
    assert statistics.distinct == distinct
    assert statistics.collision_rate == pytest.approx(rate, abs=5e-5)
    assert statistics.largest_group == largest
