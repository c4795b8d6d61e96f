"""Every format there and back, byte for byte what its project reads, and never a traceback."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from letter_fast.tokenization import (
    FORMATS,
    SemanticIds,
    collision_statistics,
    export_ids,
    import_ids,
)
from letter_fast.tokenization.formats import flashrec, index_json, items_path, recsys, sidecar_path

CODES = np.array([[0, 2], [1, 0], [0, 1], [1, 1]])
IDS = SemanticIds(CODES, [2, 3], ["w", "x", "y", "z"], {"policy": "none", "model": "f00"})
# As TIGER's suffix leaves them: the last token counts within a group of equal IDs.
SUFFIXED = SemanticIds(
    np.array([[3, 0], [5, 0], [3, 1], [3, 2], [4, 0]]), [6, 3], None, {"policy": "suffix"}
)


def read(path: Path) -> Any:
    return json.loads(path.read_text())


def assert_equal(one: SemanticIds, other: SemanticIds) -> None:
    np.testing.assert_array_equal(one.codes, other.codes)
    assert one.sizes == other.sizes
    assert one.item_ids.equals(other.item_ids) or len(one) == len(other) == 0
    assert one.metadata == other.metadata


@st.composite
def tables(draw: st.DrawFn) -> SemanticIds:
    sizes = draw(st.lists(st.sampled_from([1, 2, 3, 200, 8192]), min_size=1, max_size=4))
    rows = draw(st.lists(st.tuples(*(st.integers(0, k - 1) for k in sizes)), max_size=12))
    items: Any = draw(
        st.one_of(
            st.none(),
            st.lists(st.integers(), min_size=12, max_size=12, unique=True).map(
                lambda some: [item % 2**40 for item in some]
            ),
            st.lists(st.text(), min_size=12, max_size=12, unique=True),
        )
    )
    if items is not None:
        items = list(dict.fromkeys(items))
        rows = rows[: len(items)]
        items = pa.array(items, pa.string() if isinstance(items[0], str) else pa.int64())
        items = items[: len(rows)]
    policy = draw(st.sampled_from(["none", "suffix"]))
    codes = np.array(rows, dtype=np.int64).reshape(-1, len(sizes))
    return SemanticIds(codes, sizes, items, {"policy": policy})


@pytest.mark.parametrize("format", FORMATS)
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(tables())
def test_round_trips(
    tmp_path_factory: pytest.TempPathFactory, format: str, table: SemanticIds
) -> None:
    path = tmp_path_factory.mktemp("ids") / FORMATS[format].example
    if format in ("recsys", "flashrec") and table.duplicates():
        with pytest.raises(ValueError, match="share their ID"):
            export_ids(table, path, format)
        assert not list(path.parent.iterdir())
        return
    facts = export_ids(table, path, format)
    assert facts.duplicates == len(table) - collision_statistics(table.codes).distinct
    assert_equal(import_ids(path), table)
    assert_equal(import_ids(path, format, sizes=table.sizes), table)


# What is in the files


def test_letter(tmp_path: Path) -> None:
    path = tmp_path / "index.json"
    IDS.to_letter_json(path)
    assert path.read_text() == (
        '{"0": ["<a_0>", "<b_2>"], "1": ["<a_1>", "<b_0>"], "2": ["<a_0>", "<b_1>"], '
        '"3": ["<a_1>", "<b_1>"]}\n'
    )
    assert_equal(SemanticIds.from_letter_json(path), IDS)
    export_ids(IDS, path, "letter", base=1)
    assert read(path)["0"] == ["<a_1>", "<b_3>"]
    assert_equal(import_ids(path), IDS)


@pytest.mark.parametrize("block", [1, 2, 3, 4, 9])
def test_files_are_the_same_however_they_are_cut(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, block: int
) -> None:
    for module in (index_json, recsys, flashrec):
        monkeypatch.setattr(module, "_BLOCK", block)
    export_ids(IDS, tmp_path / "index.json", "letter")
    expected = {str(row): tokens for row, tokens in enumerate(IDS.tokens())}
    assert read(tmp_path / "index.json") == expected
    export_ids(IDS, tmp_path / "catalog.jsonl", "recsys", level_offset=100)
    lines = (tmp_path / "catalog.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == [
        {"item_id": "w", "token_ids": [100, 104]},
        {"item_id": "x", "token_ids": [101, 102]},
        {"item_id": "y", "token_ids": [100, 103]},
        {"item_id": "z", "token_ids": [101, 103]},
    ]
    export_ids(IDS, tmp_path / "sid2vid.json", "flashrec")
    assert (tmp_path / "sid2vid.json").read_text() == '{"0,2":1,"1,0":1,"0,1":1,"1,1":1}'


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('["0,1"]', "one JSON object"),
        ('{"0,1": 1, "x": 1}', "the key 'x' is no ID"),
        ('{"0,1": 1, "-1,2": 1}', "the key '-1,2' is no ID"),
        ('{"0,1": 1, "1": 1}', "another number of codes than the first, 2"),
        ('{"0,1": 1, "0,1": 1}', "1 keys come twice"),
        ("{}", "give the sizes|sizes"),
    ],
)
def test_what_is_no_flashrec_catalog_says_so(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "sid2vid.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=message):
        import_ids(path, "flashrec")
    path.write_text('{"0,1": [{"pid": 7}], "3,0": []}')
    assert import_ids(path, "flashrec").codes.tolist() == [[0, 1], [3, 0]]


def test_minionerec_counts_from_1_and_tells_only_colliding_rows_apart(tmp_path: Path) -> None:
    path = tmp_path / "index.json"
    facts = export_ids(SUFFIXED, path, "minionerec")
    assert read(path) == {
        "0": ["<a_4>", "<b_1>"], "1": ["<a_6>"], "2": ["<a_4>", "<b_2>"],
        "3": ["<a_4>", "<b_3>"], "4": ["<a_5>"],
    }  # fmt: skip
    assert (facts.base, facts.extra_token) == (1, "colliding rows")
    sidecar_path(path).unlink()
    assert_equal(import_ids(path, "minionerec"), SUFFIXED)
    with pytest.raises(ValueError, match=r"some items have 1 tokens, 2 .*minionerec"):
        import_ids(path, "letter")
    export_ids(IDS, path, "minionerec")
    assert read(path)["0"] == ["<a_1>", "<b_3>"]
    sidecar_path(path).unlink()
    assert import_ids(path, "minionerec").metadata == {}


def test_grid_is_a_column_an_item(tmp_path: Path) -> None:
    path = tmp_path / "merged_predictions_tensor.pt"
    facts = export_ids(SUFFIXED, path, "grid")
    tensor = torch.load(path, weights_only=True)
    assert tensor.dtype == torch.int64
    assert tensor.tolist() == [[3, 5, 3, 3, 4], [0, 0, 1, 2, 0]]
    assert (facts.layout, facts.extra_token) == ("TN", "every row")
    sidecar_path(path).unlink()
    np.testing.assert_array_equal(import_ids(path, "grid").codes, SUFFIXED.codes)
    # The other way round it would be five tokens of two items: never taken for the truth.
    torch.save(tensor.T.contiguous(), path)
    with pytest.raises(ValueError, match=r"\[5, 2\] read as TN has more tokens than items"):
        import_ids(path, "grid")
    np.testing.assert_array_equal(import_ids(path, "grid", layout="NT").codes, SUFFIXED.codes)
    with pytest.raises(ValueError, match="read as TN has 5 tokens, 2 are expected"):
        import_ids(path, "grid", sizes=[6, 3])


def test_openonerec_holds_lists_and_packed_ids(tmp_path: Path) -> None:
    path = tmp_path / "pid2sid.parquet"
    export_ids(IDS, path, "openonerec")
    table = pq.read_table(path)
    assert table.column("pid").to_pylist() == ["w", "x", "y", "z"]
    assert table.column("sid").to_pylist() == CODES.tolist()
    assert table.column("packed").to_pylist() == [2, 8192, 1, 8193]
    sidecar_path(path).unlink()
    pq.write_table(table.drop_columns(["sid"]), path)
    np.testing.assert_array_equal(import_ids(path, "openonerec", sizes=[2, 3]).codes, CODES)
    pq.write_table(pa.table({"pid": [4], "packed": [8192**2 + 2 * 8192 + 3]}), path)
    assert import_ids(path, "openonerec").codes.tolist() == [[1, 2, 3]]
    pq.write_table(pa.table({"pid": [4], "codes": [[7, 8, 9]]}), path)
    assert import_ids(path, "openonerec").codes.tolist() == [[7, 8, 9]]
    with pytest.raises(ValueError, match="don't fit a packed radix of 2"):
        export_ids(IDS, path, "openonerec", radix=2)
    with pytest.raises(ValueError, match="don't fit an int64"):
        export_ids(SemanticIds(np.zeros((1, 5), dtype=int), [2] * 5), path, "openonerec")


def test_a_second_array_in_faiss_codes_is_not_left_out(tmp_path: Path) -> None:
    path = tmp_path / "codes.npy"
    with path.open("wb") as file:
        for _ in range(2):
            np.save(file, np.zeros((2, 1), np.uint8))
    with pytest.raises(ValueError, match="a second array saved into the same file"):
        import_ids(path, "faiss", sizes=[2, 3])


def test_faiss_needs_to_know_the_sizes(tmp_path: Path) -> None:
    path = tmp_path / "codes.npy"
    export_ids(IDS, path, "faiss")
    np.testing.assert_array_equal(np.load(path), [[4], [1], [2], [3]])
    sidecar_path(path).unlink()
    with pytest.raises(ValueError, match="how many codewords each token has: give the sizes"):
        import_ids(path, "faiss")
    back = import_ids(path, "faiss", sizes=[2, 3], item_ids=["w", "x", "y", "z"])
    np.testing.assert_array_equal(back.codes, CODES)
    assert back.item_ids.equals(IDS.item_ids)
    # Nine bits a code: read as bytes, these would be other items.
    with pytest.raises(ValueError, match=r"pack to uint8 \[N, 3\]"):
        import_ids(path, "faiss", sizes=[512, 512])


def test_recsys_without_a_sidecar(tmp_path: Path) -> None:
    path = tmp_path / "catalog.jsonl"
    export_ids(IDS, path, "recsys", level_offset=100)
    sidecar_path(path).unlink()
    back = import_ids(path, "recsys", sizes=[2, 3], level_offset=100)
    np.testing.assert_array_equal(back.codes, CODES)
    for known, message in (
        ({"sizes": [2, 3]}, r"row 0 holds token ids \[100, 104\]"),
        ({"level_offset": 100}, "give the sizes"),
        ({"sizes": [2]}, "line 1 is not an item_id with 1 token_ids"),
    ):
        with pytest.raises(ValueError, match=message):
            import_ids(path, "recsys", **known)


# The sidecar


def test_the_seven_facts_stand_beside_the_file(tmp_path: Path) -> None:
    path = tmp_path / "index.json"
    export_ids(IDS, path, "letter")
    facts = read(sidecar_path(path))
    del facts["sha256"], facts["items_sha256"]
    assert facts == {
        "letter_fast": 1, "format": "letter", "rows": 4, "sizes": [2, 3], "base": 0,
        "layout": "NT", "extra_token": "no row", "level_offset": None, "radix": None,
        "item_ids": "items file", "duplicates": 0, "removed": [],
        "metadata": {"policy": "none", "model": "f00"},
    }  # fmt: skip
    assert pq.read_table(items_path(path)).column("item_id").to_pylist() == list("wxyz")
    export_ids(SemanticIds(CODES, [2, 3]), path, "letter")
    assert read(sidecar_path(path))["item_ids"] == "row number"
    assert not items_path(path).exists()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"format": "minionerec"}, "format is given as 'minionerec'.*says 'letter'"),
        ({"format": "lettre"}, "did you mean 'letter'"),
        ({"sizes": [2, 2]}, r"sizes is given as \(2, 2\).*says \(2, 3\)"),
        ({"base": 1}, "base is given as 1.*says 0"),
        ({"layout": "NT"}, "letter has no layout to choose; it takes base"),
        ({"item_ids": [1, 2, 3, 4]}, "item ids are given, but it has them in its items file"),
    ],
)
def test_arguments_that_the_sidecar_contradicts(
    tmp_path: Path, given: dict[str, Any], message: str
) -> None:
    path = tmp_path / "index.json"
    export_ids(IDS, path, "letter")
    with pytest.raises(ValueError, match=message):
        import_ids(path, **given)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rows": 5}, "has {'rows': 4, 'duplicates': 0}, but .* says {'rows': 5"),
        ({"duplicates": 1}, "says {'rows': 4, 'duplicates': 1}"),
        ({"sizes": [2, 2]}, "can't be read as letter: row 0 of codes is"),
        ({"sizes": [2, 3, 4]}, "some items have 2 tokens, 3 are expected"),
        ({"sizes": [0]}, "is broken"),
        ({"sizes": 3}, "is broken"),
        ({"base": "0"}, "base must be an integer"),
        ({"base": 1}, "row 0 has codes"),
        ({"layout": "XY"}, "layout must be one of NT, TN"),
        ({"extra_token": "few"}, "extra_token must be one of"),
        ({"radix": 0}, "radix must be at least 1, got 0"),
        ({"base": -1}, "base must be at least 0, got -1"),
        ({"letter_fast": 2}, "a newer letter-fast wrote it"),
        ({"format": "lettre"}, "did you mean 'letter'"),
        ({"sha256": "0"}, "is not about index.json as it is now"),
        ({"items_sha256": "0"}, "is not about index.json.items.parquet as it is now"),
        ({"metadata": 3}, "is broken"),
        ({"metadata": {"base": 3}}, "metadata can't be called base"),
    ],
)
def test_sidecars_that_are_wrong(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    path = tmp_path / "index.json"
    export_ids(IDS, path, "letter")
    sidecar_path(path).write_text(json.dumps({**read(sidecar_path(path)), **change}))
    with pytest.raises(ValueError, match=message):
        import_ids(path)


def test_sidecars_that_are_none(tmp_path: Path) -> None:
    path = tmp_path / "index.json"
    export_ids(IDS, path, "letter")
    for content in ("", "{}", "[]", "3", '{"letter_fast": 1}', "[" * 100_000, "\0"):
        sidecar_path(path).write_text(content)
        with pytest.raises(ValueError, match=r"facts\.json is broken.*repair or delete it"):
            import_ids(path)
    sidecar_path(path).unlink()
    with pytest.raises(ValueError, match="no sidecar to name its format: give one of letter"):
        import_ids(path)
    with pytest.raises(ValueError, match="does not exist"):
        import_ids(tmp_path / "absent.json", "letter")
    with pytest.raises(ValueError, match="is not a file"):
        import_ids(tmp_path, "letter")


def test_numbers_of_rows_are_looked_up(tmp_path: Path) -> None:
    path = tmp_path / "index.json"
    path.write_text('{"2": ["<a_1>"], "0": ["<a_0>"]}')
    assert import_ids(path, "letter").item_ids.to_pylist() == [2, 0]
    named = import_ids(path, "letter", item_ids=["p", "q", "r"])
    assert named.item_ids.to_pylist() == ["r", "p"]
    with pytest.raises(ValueError, match=r"index\.json can't be read as letter"):
        import_ids(path, "letter", item_ids=["p"])


# Broken files


BROKEN_INDEX = (
    "{", "[]", "{}", "3", '{"0": ["<b_1>"]}', '{"0": 3}', '{"0": {"0": 1}}', '{"0": ["<a_1>", 2]}',
    '{"0": [[]]}', '{"0": ["<a_1>"], "1": []}', '{"0": ["<a_1>"], "0": ["<a_2>"]}',
    '{"0": ["<a_-1>"]}', '{"0": ["<a_4000000000>"]}', '{"0": ["<a_9999999999999999999>"]}',
    '{"0": ["<a_1>", "<b_1>", "<c_1>"], "1": ["<a_1>"]}', '{"0": ["<a_１>"]}', "\ufeff{}",
)  # fmt: skip


@pytest.mark.parametrize("text", [*BROKEN_INDEX, "[" * 100_000])
@pytest.mark.parametrize("format", ["letter", "minionerec"])
def test_broken_indexes(tmp_path: Path, format: str, text: str) -> None:
    path = tmp_path / "index.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=rf"index\.json can't be read as {format}"):
        import_ids(path, format)


BROKEN: dict[str, Sequence[Any]] = {
    "grid": [torch.zeros(2, 3), torch.zeros(4).long(), [1, 2], {"keys": torch.zeros(2)}],
    "openonerec": [{"pid": [1]}, {"sid": [[1]]}, {"pid": [1], "sid": ["x"]},
                   {"pid": [1, 1], "sid": [[1], [2]]}, {"pid": [1], "packed": [-1]},
                   {"pid": [1], "packed": [2**60]}, {"pid": [1.5], "sid": [[1]]},
                   {"pid": [1, 2], "sid": [[1], None]}, {"pid": [1, 2], "sid": [[1], [1, 2]]}],
    "recsys": ["{}", "[]", "3", '{"item_id": 1}', '{"item_id": 1, "token_ids": [1, true]}',
               '{"item_id": 1.5, "token_ids": [1, 4]}', '{"item_id": 1, "token_ids": [1, 1e9]}',
               '{"item_id": 1, "token_ids": [0, 1000000000000000000000]}', "\n"],
    "faiss": [np.zeros((2, 2), np.uint8), np.zeros((2, 1), np.int32), np.array([3], np.uint8),
              np.full((2, 1), 255, np.uint8), np.array([{}])],
}  # fmt: skip


@pytest.mark.parametrize(
    ("format", "content"), [(name, one) for name, some in BROKEN.items() for one in some]
)
def test_broken_contents(tmp_path: Path, format: str, content: Any) -> None:
    path = tmp_path / "file"
    if format == "grid":
        torch.save(content, path)
    elif format == "openonerec":
        pq.write_table(pa.table(content), path)
    elif format == "recsys":
        path.write_text(content)
    else:
        with path.open("wb") as file:
            np.save(file, content, allow_pickle=True)
    sizes = [2, 3] if format in ("recsys", "faiss") else None
    with pytest.raises(ValueError, match=f"file can't be read as {format}: ."):
        import_ids(path, format, sizes=sizes)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """A good file of each format."""
    folder = tmp_path_factory.mktemp("whole")
    for name in FORMATS:
        export_ids(IDS, folder / name, name)
    IDS.save(folder / "table")
    return {name: (folder / name).read_bytes() for name in (*FORMATS, "table")}


@pytest.mark.parametrize("format", [*FORMATS, "table"])
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_garbled_files_give_one_line_or_a_table(
    tmp_path_factory: pytest.TempPathFactory,
    whole: dict[str, bytes],
    format: str,
    data: st.DataObject,
) -> None:
    """Cut, overwritten or made up: a ValueError of one line, or (where it still is one) a table."""
    good = whole[format]
    content = bytearray(
        data.draw(
            st.one_of(
                st.integers(0, len(good) - 1).map(lambda size: good[:size]),
                st.binary(max_size=200),
                st.just(good),
            )
        )
    )
    places = st.integers(0, max(len(content) - 1, 0))
    for place, byte in data.draw(st.lists(st.tuples(places, st.integers(0, 255)), max_size=4)):
        if content:
            content[place] = byte
    path = tmp_path_factory.mktemp("garbled") / "file"
    path.write_bytes(content)
    sizes = [2, 3] if format in ("recsys", "faiss") else None
    try:
        table = (
            SemanticIds.load(path) if format == "table" else import_ids(path, format, sizes=sizes)
        )
    except ValueError as error:
        assert len(str(error).splitlines()) == 1
        assert "file" in str(error)
    else:
        assert isinstance(table, SemanticIds)


# Published files


@pytest.mark.parametrize(
    ("catalog", "items", "distinct", "rate", "largest"),
    [
        ("instruments", 9_922, 9_897, 0.0025, 3),
        ("beauty", 12_101, 12_088, 0.0011, 3),
        ("yelp", 20_033, 19_201, 0.0415, 65),
    ],
)
def test_published_letter_ids(
    shared_data: Path, tmp_path: Path, catalog: str, items: int, distinct: int, rate: float,
    largest: int,
) -> None:  # fmt: skip
    codes = np.load(shared_data / catalog / "published_letter_ids.npy").tolist()
    path = tmp_path / "index.json"  # as LETTER's generate_indices.py dumps it
    index = {str(row): [f"<{a}_{c}>" for a, c in zip("abcd", one)] for row, one in enumerate(codes)}
    path.write_text(json.dumps(index))
    table = import_ids(path, "letter", sizes=[256] * 4)
    statistics = collision_statistics(table.codes)
    assert (statistics.items, statistics.distinct) == (items, distinct)
    assert statistics.collision_rate == pytest.approx(rate, abs=5e-5)
    assert statistics.largest_group == largest
    assert len(table.trie()) == distinct
    again = tmp_path / "again.json"
    assert export_ids(table, again, "letter").duplicates == items - distinct
    assert again.read_bytes() == path.read_bytes() + b"\n"
