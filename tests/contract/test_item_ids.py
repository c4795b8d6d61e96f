"""The item of each row: ids of every type that identifies are read, the rest is asked for.

Types × readers × what becomes of ids afterwards × commands.
"""

from __future__ import annotations

import datetime
import json
import uuid
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import scipy.sparse
import torch
from safetensors.torch import save_file

import letter_fast as lf
from letter_fast.catalog import CatalogError, Embeddings, align_cf
from letter_fast.catalog.columns import is_known
from letter_fast.cli.app import run
from letter_fast.evaluation import evaluate
from letter_fast.model import load
from letter_fast.tokenization import FORMATS, SemanticIds, export_ids, import_ids
from tests.support import oracle

N = 24
TEXT = oracle.clustered(N, 4, 6, seed=1).numpy()
CF = oracle.clustered(N, 3, 4, seed=2).numpy()
NAMES = [f"item {row * 7 % N:02}" for row in range(N)]
NUMBERS = [row * 7 % N for row in range(N)]
BEYOND = [2**63 + number for number in NUMBERS]
UUIDS = [uuid.UUID(int=number << 96 | 5) for number in NUMBERS]
RAW = [bytes([255, number, 0, 254]) for number in NUMBERS]


def arrow(values: list[Any], kind: pa.DataType | None = None) -> pa.Array:
    return pa.array(values, kind)


# name → the column, and the ids as the library has them
ACCEPTED: dict[str, tuple[pa.Array, list[Any]]] = {
    "string": (arrow(NAMES), NAMES),
    "large_string": (arrow(NAMES, pa.large_string()), NAMES),
    "string_view": (arrow(NAMES).cast(pa.string_view()), NAMES),
    "categories": (arrow(NAMES).dictionary_encode(), NAMES),
    "large categories": (arrow(NAMES, pa.large_string()).dictionary_encode(), NAMES),
    "integer categories": (arrow(NUMBERS, pa.int32()).dictionary_encode(), NUMBERS),
    **{
        str(kind): (arrow(NUMBERS, kind), NUMBERS)
        for kind in (
            pa.int8(), pa.int16(), pa.int32(), pa.int64(), pa.uint8(), pa.uint16(), pa.uint32(),
            pa.uint64(),
        )
    },
    "negative": (arrow([-number for number in NUMBERS]), [-number for number in NUMBERS]),
    "beyond int64": (arrow(BEYOND, pa.uint64()), BEYOND),
    "decimal128(38, 0)": (arrow([Decimal(n) for n in NUMBERS], pa.decimal128(38, 0)), NUMBERS),
    "binary": (arrow(RAW), RAW),
    "large_binary": (arrow(RAW, pa.large_binary()), RAW),
    "binary_view": (arrow(RAW).cast(pa.binary_view()), RAW),
    "fixed_size_binary": (arrow(RAW, pa.binary(4)), RAW),
    "uuid": (arrow([one.bytes for one in UUIDS], pa.uuid()), [str(one) for one in UUIDS]),
}  # fmt: skip
DAY = datetime.date(2026, 11, 30)
REFUSED: dict[str, pa.Array] = {
    "double": arrow([float(number) for number in NUMBERS]),
    "float": arrow(NUMBERS, pa.float32()),
    "float categories": arrow([float(number) for number in NUMBERS]).dictionary_encode(),
    "bool": arrow([row % 2 == 0 for row in range(N)]),
    "date32": arrow([DAY + datetime.timedelta(number) for number in NUMBERS]),
    "timestamp": arrow(NUMBERS, pa.int64()).cast(pa.timestamp("s")),
    "duration": arrow(NUMBERS, pa.duration("s")),
    "decimal128(9, 2)": arrow([Decimal(number) for number in NUMBERS], pa.decimal128(9, 2)),
    "list": arrow([[number] for number in NUMBERS]),
    "struct": arrow([{"id": number} for number in NUMBERS]),
    "null": pa.nulls(N),
}


def table(ids: pa.Array, vectors: np.ndarray = TEXT, name: str = "item_id") -> pa.Table:
    return pa.table({name: ids, "vector": list(vectors)})


def as_parquet(root: Path, ids: pa.Array, name: str) -> Any:
    pq.write_table(table(ids, name=name), root / "text.parquet")
    return root / "text.parquet"


def as_folder(root: Path, ids: pa.Array, name: str) -> Any:
    (root / "shards").mkdir()
    whole = table(ids, name=name)
    for number, begin in enumerate(range(0, N, 10)):
        pq.write_table(whole.slice(begin, 10), root / "shards" / f"part-{number}.parquet")
    return root / "shards"


def as_table(root: Path, ids: pa.Array, name: str) -> Any:
    return table(ids, name=name)


def as_batches(root: Path, ids: pa.Array, name: str) -> Any:
    return iter(table(ids, name=name).to_batches(max_chunksize=10))


READERS = [as_parquet, as_folder, as_table, as_batches]


@pytest.mark.parametrize("read", READERS)
@pytest.mark.parametrize("kind", ACCEPTED)
def test_every_type_that_identifies_is_read(
    tmp_path: Path, kind: str, read: Callable[..., Any]
) -> None:
    column, wanted = ACCEPTED[kind]
    for source in (read(tmp_path, column, "item_id"), (column, TEXT)):
        found = Embeddings.open(source)
        assert found.item_ids is not None
        assert found.item_ids.to_pylist() == wanted
        np.testing.assert_array_equal(np.concatenate(list(found.batches())), TEXT)


@pytest.mark.parametrize("read", READERS)
@pytest.mark.parametrize("kind", REFUSED)
def test_a_type_that_does_not_is_refused_by_name(
    tmp_path: Path, kind: str, read: Callable[..., Any]
) -> None:
    column = REFUSED[kind]
    named = "" if "categories" in kind else kind.partition("(")[0]
    with pytest.raises(CatalogError, match=rf"column 'item_id' is {named}.* can't name items"):
        Embeddings.open(read(tmp_path, column, "item_id"))
    with pytest.raises(CatalogError, match=r"the item ids .*(can't name items|one kind)"):
        Embeddings.open((column, TEXT))
    if kind == "double":
        with pytest.raises(CatalogError, match="pandas makes integers floats"):
            Embeddings.open(table(column), ids="item_id")


def test_integers_beyond_64_bits() -> None:
    wide = arrow([Decimal(2**70 + number) for number in NUMBERS], pa.decimal128(38, 0))
    with pytest.raises(CatalogError, match="beyond 64 bits; write them as text"):
        Embeddings.open(table(wide))


@pytest.mark.parametrize(
    ("ids", "wanted"),
    [
        (NAMES, NAMES),
        (np.array(NAMES), NAMES),
        (np.array(NAMES, dtype=object), NAMES),
        (np.array(NUMBERS, dtype=">i4"), NUMBERS),
        (np.array(BEYOND, dtype=np.uint64), BEYOND),
        (BEYOND, BEYOND),
        (torch.tensor(NUMBERS), NUMBERS),
        (pd.Series(NAMES), NAMES),
        (pd.Series(NAMES, dtype="category"), NAMES),
        (pd.Index(NUMBERS), NUMBERS),
        (RAW, RAW),
        (pa.chunked_array([NAMES[:5], NAMES[5:]]), NAMES),
    ],
    ids=lambda one: type(one).__name__,
)
def test_ids_in_memory(ids: Any, wanted: list[Any]) -> None:
    assert Embeddings.open((ids, TEXT)).item_ids.to_pylist() == wanted
    assert SemanticIds(np.zeros((N, 1), int), [1], ids).item_ids.to_pylist() == wanted


@pytest.mark.parametrize(
    "ids",
    [
        set(NAMES), dict.fromkeys(NAMES), "a" * N, None, 3, [*NAMES[1:], 4], [[1]] * N, NAMES[:-1],
        [1.5, *NUMBERS[1:]], np.array(NUMBERS) > 3, np.array([NUMBERS]), [*NAMES[1:], None],
        [*NAMES[1:], NAMES[1]], [2**70, *NUMBERS[1:]],
    ],
    ids=lambda one: type(one).__name__,
)  # fmt: skip
def test_ids_that_are_none(ids: Any) -> None:
    with pytest.raises(CatalogError, match="ids"):
        Embeddings.open((ids, TEXT))


@pytest.fixture(scope="module")
def model() -> lf.ResidualKMeans:
    return lf.ResidualKMeans(lf.ResidualKMeansConfig(4, (8, 8))).fit(TEXT)


@pytest.mark.parametrize("kind", ACCEPTED)
def test_ids_survive_everything(tmp_path: Path, model: lf.ResidualKMeans, kind: str) -> None:
    column, wanted = ACCEPTED[kind]
    path = as_parquet(tmp_path, column, "item_id")
    monday = lf.tokenize(model, table(column.slice(0, 20), TEXT[:20]))
    monday.save(tmp_path / "ids.parquet")
    monday = SemanticIds.load(tmp_path / "ids.parquet")
    assert monday.item_ids.to_pylist() == wanted[:20]

    tuesday = lf.tokenize(model, path, existing=monday)
    assert tuesday.item_ids.to_pylist() == wanted
    np.testing.assert_array_equal(tuesday.codes[:20], monday.codes)
    gone = lf.tokenize(model, table(column.slice(4), TEXT[4:]), existing=monday)
    assert gone.item_ids.to_pylist() == wanted[4:] + wanted[:4]

    for asked in (wanted, column, wanted[:2]):
        assert tuesday.rows_of_items(asked).tolist() == list(range(len(asked)))
    assert all(tuesday.codes_of(one) == tuple(tuesday.codes[row]) for row, one in enumerate(wanted))
    assert lf.tokenize(model, TEXT, item_ids=column).item_ids.equals(tuesday.item_ids)

    for format in FORMATS:
        file = tmp_path / FORMATS[format].example
        if format == "recsys" and wanted is RAW:
            with pytest.raises(ValueError, match="no UTF-8 text, which JSON can't hold"):
                export_ids(tuesday, file, format)
            continue
        export_ids(tuesday, file, format)
        back = import_ids(file)
        assert back.item_ids.equals(tuesday.item_ids), format
        np.testing.assert_array_equal(back.codes, tuesday.codes)


JOINED = {
    "text": [key for key, (_, ids) in ACCEPTED.items() if ids == NAMES] + ["utf8"],
    "integers": [key for key, (_, ids) in ACCEPTED.items() if ids == NUMBERS] + ["digits"],
    "bytes": [key for key, (_, ids) in ACCEPTED.items() if ids == RAW],
    "uuid": ["uuid", "uuid text"],
    "beyond int64": ["beyond int64", "digits beyond int64"],
}
COLUMNS = {
    **{key: column for key, (column, _) in ACCEPTED.items()},
    "utf8": arrow([name.encode() for name in NAMES]),
    "digits": arrow([str(number) for number in NUMBERS]),
    "digits beyond int64": arrow([str(number) for number in BEYOND]),
    "uuid text": arrow([str(one) for one in UUIDS]),
}


def reordered(column: pa.Array, order: np.ndarray) -> pa.ChunkedArray:
    return pa.chunked_array([column.slice(row, 1) for row in order])  # views can't be taken from


@pytest.mark.parametrize("group", JOINED)
def test_equal_ids_join_whatever_their_types(group: str) -> None:
    order = np.random.default_rng(0).permutation(N)
    for left in JOINED[group]:
        for right in JOINED[group]:
            items = Embeddings.open(table(COLUMNS[left]))
            cf = Embeddings.open(table(reordered(COLUMNS[right], order), CF[order]))
            aligned = align_cf(items, cf)
            np.testing.assert_array_equal(aligned.take(np.arange(N)), CF, f"{left}, {right}")


@pytest.mark.parametrize("left", ["string", "utf8", "int16", "integer categories", "beyond int64"])
@pytest.mark.parametrize("right", ["categories", "utf8", "uint64", "beyond int64", "uuid"])
def test_an_earlier_table_of_another_type(model: lf.ResidualKMeans, left: str, right: str) -> None:
    """Equal ids keep their codes, the others' are reserved; integers and text are never mixed."""
    monday = lf.tokenize(model, table(COLUMNS[left].slice(0, 20), TEXT[:20]))
    source = table(COLUMNS[right])
    numbers = [pa.types.is_integer(Embeddings.open((COLUMNS[one], TEXT)).item_ids.type)
               for one in (left, right)]  # fmt: skip
    if numbers[0] != numbers[1]:
        with pytest.raises(ValueError, match=r"named by (text|integers|bytes) .*, these by"):
            lf.tokenize(model, source, existing=monday)
        return
    tuesday = lf.tokenize(model, source, existing=monday, removed="keep")
    kept = [one for one in JOINED if {left, right} <= set(JOINED[one])]
    assert len(tuesday) == (N if kept else N + 20)
    if kept:
        np.testing.assert_array_equal(tuesday.codes[:20], monday.codes)
    assert lf.SemanticIds(tuesday.codes, tuesday.sizes, tuesday.item_ids).item_ids.equals(
        tuesday.item_ids
    )


def test_lookups_do_not_take_007_for_7(model: lf.ResidualKMeans) -> None:
    ids = lf.tokenize(model, (NUMBERS, TEXT))
    assert ids.rows_of_items(["7", "77"]).tolist() == [NUMBERS.index(7), -1]
    for written in ("007", "+7", "-0", "x", "7.0"):
        with pytest.raises(ValueError, match="item ids are int64"):
            ids.rows_of_items(["7", written])
    assert ids.rows_of_items(np.array([7, 2**63 + 1], np.uint64)).tolist() == [NUMBERS.index(7), -1]
    assert ids.rows_of_items([7, None]).tolist() == [NUMBERS.index(7), -1]
    named = lf.tokenize(model, (COLUMNS["utf8"], TEXT))
    assert named.codes_of(NAMES[3]) == named.codes_of(NAMES[3].encode())
    assert named.rows_of_items(NAMES[:3]).tolist() == [0, 1, 2]


STRINGS = arrow(NAMES)
# columns beside the vectors → what names the items: a column, "row", or the error
RULE: list[tuple[dict[str, Any], dict[str, str], str]] = [
    ({}, {}, "row"),
    ({"item_id": STRINGS}, {}, "item_id"),
    ({"title": STRINGS, "parent_asin": STRINGS}, {}, "parent_asin"),
    ({"price": NUMBERS, "itemId": NUMBERS, "score": [0.5] * N}, {}, "itemId"),
    ({"item_id:token": STRINGS, "title:token_seq": STRINGS}, {}, "item_id:token"),
    ({"movieId": NUMBERS, "year": NUMBERS}, {}, "movieId"),
    ({"price": NUMBERS}, {}, r"none of price \(int64\) .* say --ids price, or --ids row"),
    ({"category": ["Books"] * N}, {}, r"say --ids category, or --ids row"),
    ({"category": ["Books"] * N}, {"ids": "row"}, "row"),
    ({"title": STRINGS}, {}, r"none of title \(string\)"),
    ({"title": STRINGS}, {"ids": "title"}, "title"),
    ({"score": [0.5] * N}, {}, r"none of score \(double\).*say --ids row"),
    ({"score": [0.5] * N}, {"ids": "row"}, "row"),
    ({"a": STRINGS, "b": STRINGS}, {}, "say --ids a, --ids b, or --ids row"),
    ({"asin": STRINGS, "parent_asin": STRINGS}, {}, r"asin \(string\), parent_asin .*may each"),
    ({"item_id": STRINGS, "sku": STRINGS}, {}, "--ids item_id, --ids sku, or --ids row"),
    ({"item_id": STRINGS, "sku": STRINGS}, {"ids": "sku"}, "sku"),
    ({"item_id": STRINGS, "sku": STRINGS}, {"ids": "skew"}, "no column 'skew' of item ids"),
    ({"item_id": [0.5] * N, "sku": STRINGS}, {}, r"item_id \(double\), sku"),
    ({"item_id": [0.5] * N, "title": STRINGS}, {}, "'item_id' is double.*say --ids title"),
    ({"row": STRINGS}, {"ids": "row"}, "has a column 'row'"),
    ({"__index_level_0__": NUMBERS}, {}, "none of __index_level_0__"),
]


@pytest.mark.parametrize(("columns", "said", "outcome"), RULE)
@pytest.mark.parametrize("held", ["file", "table", "folder"])
def test_the_rule(
    tmp_path: Path, columns: dict[str, Any], said: dict[str, str], outcome: str, held: str
) -> None:
    source: Any = pa.table({**columns, "vector": list(TEXT)})
    if held != "table":
        pq.write_table(source, tmp_path / "text.parquet")
        source = tmp_path / "text.parquet" if held == "file" else tmp_path
    if outcome == "row":
        assert Embeddings.open(source, **said).item_ids is None
        assert Embeddings.open(source, **said).named_by == "row numbers"
    elif outcome in columns:
        assert Embeddings.open(source, **said).named_by == f"column {outcome!r}"
        assert Embeddings.open(source, **said).columns.ids == outcome
    else:
        with pytest.raises(CatalogError, match=outcome) as raised:
            Embeddings.open(source, **said)
        assert len(str(raised.value).splitlines()) == 1


def test_known_names() -> None:
    for name in (
        "item_id", "ITEM_ID", "itemId", "Item ID", "item-id", "id", "pid", "asin", "parent_asin",
        "sku", "SKU", "movieId", "product_id", "item_id:token", "ids",
    ):  # fmt: skip
        assert is_known(name), name
    for name in (
        "user_id", "title", "price", "category", "category_id", "year", "brand", "paid", "idea",
        "index", "__index_level_0__", "item_id:float", "name", "key", "",
    ):  # fmt: skip
        assert not is_known(name), name


def test_tensors_beside_a_matrix_are_columns(tmp_path: Path) -> None:
    file, matrix = tmp_path / "x.safetensors", torch.from_numpy(TEXT)

    def saved(**tensors: torch.Tensor) -> Path:
        save_file({"x": matrix, **tensors}, file)
        return file

    ids, mean = torch.tensor(NUMBERS), torch.zeros(4)
    assert Embeddings.open(saved(ids=ids, mean=mean)).item_ids.to_pylist() == NUMBERS
    assert Embeddings.open(saved(mean=mean)).item_ids is None
    with pytest.raises(CatalogError, match=r"none of year .*--ids year, or --ids row"):
        Embeddings.open(saved(year=ids))
    assert Embeddings.open(file, ids="year").item_ids.to_pylist() == NUMBERS
    assert Embeddings.open(file, ids="row").item_ids is None
    with pytest.raises(CatalogError, match="'item_id' is float"):
        Embeddings.open(saved(item_id=ids.float()))
    with pytest.raises(CatalogError, match="24 rows but 5 item ids"):
        Embeddings.open(saved(ids=ids[:5]))


FRAME = pd.DataFrame({"item_id": NAMES, "vector": list(TEXT)})


@pytest.mark.parametrize(
    ("frame", "outcome"),
    [
        (FRAME, NAMES),
        (FRAME.assign(item_id=FRAME["item_id"].astype("category")), NAMES),
        (FRAME.set_index("item_id"), NAMES),
        (FRAME[["vector"]], None),
        (FRAME.set_index("item_id").rename_axis(None), "none of __index_level_0__"),
        (FRAME.iloc[::-1][["vector"]], "none of __index_level_0__"),
        (pd.DataFrame(TEXT), "pass .item ids, frame.columns..to_numpy"),
        (FRAME.iloc[:0], "has no column of float lists|is empty"),
        (pd.DataFrame({"vector": [[1.0], ["a"]]}), "can't be read by Arrow"),
    ],
)
def test_pandas(frame: pd.DataFrame, outcome: Any) -> None:
    if isinstance(outcome, str):
        with pytest.raises(CatalogError, match=outcome):
            Embeddings.open(frame)
        return
    found = Embeddings.open(frame)
    assert (found.item_ids.to_pylist() if found.item_ids is not None else None) == outcome
    np.testing.assert_array_equal(np.concatenate(list(found.batches())), TEXT)


def test_lists_of_rows_and_a_reader_of_batches(model: lf.ResidualKMeans) -> None:
    np.testing.assert_array_equal(next(Embeddings.open(TEXT.tolist()).batches()), TEXT)
    np.testing.assert_array_equal(next(Embeddings.open(list(TEXT)).batches()), TEXT)
    whole = table(STRINGS)
    reader = pa.RecordBatchReader.from_batches(whole.schema, whole.to_batches(max_chunksize=7))
    assert Embeddings.open(reader).item_ids.to_pylist() == NAMES
    assert lf.tokenize(model, whole).item_ids.to_pylist() == NAMES


@pytest.mark.parametrize(
    "source",
    [
        np.array([[1.0, "a"]], dtype=object), np.array([None, [1.0]], dtype=object),
        np.array([["a"]]), np.zeros((2, 2), dtype=complex), np.zeros((2, 2), dtype=bool),
        np.zeros(3, dtype=[("a", "f4")]), np.ma.masked_array(TEXT, TEXT > 0), np.float32(3),
        [], [1.0, 2.0], [[1.0], [1.0, 2.0]], [["a"]], [[1, 2]], [TEXT, TEXT], [None], [[None]],
        {}, {"a": TEXT}, None, 3, b"x", {1.0}, object(), range(3), (TEXT,), (NAMES, None),
        (NAMES, "x.npy"), (NAMES, {}), (NAMES, TEXT, TEXT), scipy.sparse.eye(4), iter([None]),
        torch.eye(3).to_sparse(), torch.empty(2, 2, device="meta"), iter([]), iter([{}]), "",
        torch.ones(2, 2, dtype=torch.int64), "no/such.npy", pa.table({}), pd.Series([1.0]),
        pa.table({"item_id": NAMES}),
    ],
    ids=lambda one: type(one).__name__,
)  # fmt: skip
def test_what_holds_no_embeddings_is_one_line(source: Any) -> None:
    with pytest.raises(ValueError, match=r".") as raised:
        list(Embeddings.open(source).batches())
    assert len(str(raised.value).splitlines()) == 1


def test_misnamed_files_are_named(tmp_path: Path) -> None:
    np.savez(tmp_path / "a", x=TEXT)
    (tmp_path / "a.npz").rename(tmp_path / "archive.npy")
    np.save(tmp_path / "objects.npy", np.array([[1.0], None], dtype=object))
    torch.save(TEXT, tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    (tmp_path / "old.pt").rename(tmp_path / "pickle.npy")
    (tmp_path / "text.npy").write_text("1.0 2.0\n")
    with (tmp_path / "two.npy").open("wb") as file:
        np.save(file, TEXT)
        np.save(file, TEXT)
    for name, what in (
        ("archive", "an archive"), ("objects", "Python objects"), ("pickle", "a pickle"),
        ("text", "doesn't begin"), ("two", "a second array"),
    ):  # fmt: skip
        with pytest.raises(CatalogError, match=what) as raised:
            Embeddings.open(tmp_path / f"{name}.npy")
        assert "corrupt" not in str(raised.value)
    for name in ("x.NPY", "x.Npy"):
        with (tmp_path / name).open("wb") as file:
            np.save(file, TEXT)
        assert Embeddings.open(tmp_path / name).rows == N
    for name in ("x.pq", "x.PARQUET"):
        pq.write_table(table(STRINGS), tmp_path / name)
        assert Embeddings.open(tmp_path / name).item_ids.to_pylist() == NAMES


# Pairing with collaborative embeddings


def letter() -> lf.Letter:
    torch.manual_seed(0)
    config = lf.LetterConfig(4, hidden=(8,), latent_dim=3, codebook_size=(4, 6), cf_weight=0.1)
    return lf.Letter(config)


SETTINGS = lf.TrainSettings(epochs=1, batch_size=8)


@pytest.mark.parametrize("sides", [(True, False), (False, True)])
def test_ids_on_one_side_only(sides: tuple[bool, bool]) -> None:
    text, cf = ((NAMES, x) if named else x for named, x in zip(sides, (TEXT, CF)))
    with pytest.raises(ValueError, match=r"row numbers only.*--cf-by-row, cf_by_row=True"):
        lf.train(letter(), text, cf, settings=SETTINGS)
    model = lf.train(letter(), text, cf, settings=SETTINGS, cf_by_row=True).model
    with pytest.raises(ValueError, match="row numbers only"):
        evaluate(model, text, cf)
    assert evaluate(model, text, cf, cf_by_row=True) == evaluate(model, TEXT, CF)


# The commands


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("ids")
    order = np.random.default_rng(0).permutation(N)
    columns = {"code": NAMES, "title": NAMES[::-1], "v": list(TEXT), "w": list(TEXT[::-1])}
    pq.write_table(pa.table(columns), root / "text.parquet")
    both = {"w": list(CF), "v": list(CF), "code": NAMES, "note": NAMES}
    pq.write_table(pa.table(both).take(pa.array(order)), root / "cf.parquet")
    pq.write_table(pa.table({"item_id": NAMES, "v": list(TEXT)}), root / "other.parquet")
    np.save(root / "text.npy", TEXT)
    np.save(root / "cf.npy", CF)
    pq.write_table(pa.table({"v": list(TEXT)}), root / "alone.parquet")
    return root


SMALL = ["--hidden", "8", "--latent-dim", "3", "--codebook-size", "4,8", "--epochs", "1"]
KINDS = {
    "letter": SMALL,
    "letter with cf": [*SMALL, "--cf", "{}/cf.parquet", "--cf-vectors", "v", "--cf-ids", "code"],
    "residual-kmeans": ["--model", "residual-kmeans", "--codebook-size", "4,8"],
}


@pytest.fixture(scope="module", params=KINDS)
def trained(
    request: pytest.FixtureRequest, files: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[str, Path]:
    """A kind of model, and its folder: trained with --vectors v --ids code."""
    out = tmp_path_factory.mktemp("model") / "run"
    options = [one.format(files) for one in KINDS[request.param]]
    chosen = ["--vectors", "v", "--ids", "code"]
    assert run(["train", str(files / "text.parquet"), "--out", str(out), *chosen, *options]) == 0
    return request.param, out


def refused(capfd: pytest.CaptureFixture[str], *arguments: object) -> str:
    capfd.readouterr()
    assert run([str(one) for one in arguments]) == 2
    captured = capfd.readouterr()
    assert captured.out == ""
    assert len(captured.err.splitlines()) == 1
    return captured.err


def printed(capfd: pytest.CaptureFixture[str], *arguments: object) -> str:
    capfd.readouterr()
    assert run([str(one) for one in arguments]) == 0
    return capfd.readouterr().out


def test_a_model_remembers_its_columns(
    trained: tuple[str, Path], files: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    kind, folder = trained
    wanted = {"embeddings": {"vectors": "v", "ids": "code"}}
    if kind == "letter with cf":
        wanted["cf"] = {"vectors": "v", "ids": "code"}
    assert json.loads((folder / "config.json").read_text())["trained_on"] == wanted
    model: Any = load(folder)
    model.save_pretrained(tmp_path / "again")
    again: Any = load(tmp_path / "again")
    assert again.fingerprint() == model.fingerprint()
    assert again.trained_on.to_dict() == wanted

    text, out = files / "text.parquet", tmp_path / "ids.parquet"
    assert "item ids: column 'code' of" in printed(capfd, "tokenize", folder, text, "--out", out)
    table = SemanticIds.load(out)
    assert table.item_ids.to_pylist() == NAMES
    np.testing.assert_array_equal(table.codes, lf.tokenize(model, TEXT).codes)
    np.testing.assert_array_equal(lf.tokenize(model, text).codes, table.codes)
    said = printed(capfd, "tokenize", folder, text, "--out", out, "--ids", "row", "--json")
    assert json.loads(said)["item_ids"] == "row numbers"
    assert SemanticIds.load(out).item_ids.to_pylist() == list(range(N))
    flags = ("--vectors", "w", "--ids", "title")
    assert "column 'title'" in printed(capfd, "tokenize", folder, text, "--out", out, *flags)
    np.testing.assert_array_equal(SemanticIds.load(out).codes[::-1], table.codes)

    assert "column 'code'" in printed(capfd, "evaluate", folder, "--embeddings", text)
    if kind == "letter with cf":
        said = printed(
            capfd, "evaluate", folder, "--embeddings", text, "--cf", files / "cf.parquet", "--json"
        )
        found = json.loads(said)[str(folder)]
        assert found["item_ids"] == "column 'code'"
        assert found["cf_recall"] == evaluate(model, TEXT, CF).cf_recall


def test_a_file_without_those_columns(
    trained: tuple[str, Path], files: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    folder, out = trained[1], tmp_path / "ids.parquet"
    for file, message, *flags in (
        ("other.parquet", "no column 'code', which the model was trained with", "--ids", "item_id"),
        ("alone.parquet", "no column 'code', which the model was trained with", "--ids", "row"),
        ("text.npy", "has no columns, but the model's items are named by column 'code'", "--ids",
         "row"),
    ):  # fmt: skip
        assert message in refused(capfd, "tokenize", folder, files / file, "--out", out)
        assert message in refused(capfd, "evaluate", folder, "--embeddings", files / file)
        assert not out.exists()
        with pytest.raises(ValueError, match="column 'code'"):
            lf.tokenize(load(folder), files / file)
        printed(capfd, "tokenize", folder, files / file, "--out", out, *flags)
        out.unlink()


@pytest.mark.parametrize("kind", ["letter", "residual-kmeans"])
def test_the_hint_carries_the_flags(
    files: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], kind: str
) -> None:
    out = tmp_path / "a run"
    command = ["train", files / "text.parquet", "--out", out, *KINDS[kind]]
    said = printed(capfd, *command, "--vectors", "v", "--ids", "row")
    hint = next(line for line in said.splitlines() if line.startswith("next: "))
    wanted = f"tokenize '{out}' {files / 'text.parquet'} --vectors v --ids row --out ids.parquet"
    assert hint == f"next: letter-fast {wanted}"
    assert "item ids: row numbers of" in said
    table = tmp_path / "ids.parquet"
    said = printed(capfd, "tokenize", out, files / "text.parquet", "--out", table)
    assert "item ids: row numbers of" in said  # asked for once


@pytest.mark.parametrize("kind", ["letter", "residual-kmeans"])
@pytest.mark.parametrize("file", ["text.npy", "alone.parquet"])
def test_vectors_alone_are_numbered_and_said_to_be(
    files: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], kind: str, file: str
) -> None:
    out, table = tmp_path / "run", tmp_path / "ids.parquet"
    said = printed(capfd, "train", files / file, "--out", out, *KINDS[kind], "--json")
    assert json.loads(said)["item_ids"] == "row numbers"
    assert "item ids: row numbers of" in printed(
        capfd, "tokenize", out, files / file, "--out", table
    )
    said = printed(capfd, "tokenize", out, files / "other.parquet", "--out", table)
    assert "item ids: column 'item_id' of" in said


def test_commands_ask(files: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    model = tmp_path / "model"
    printed(capfd, "train", files / "text.npy", "--out", model, *KINDS["residual-kmeans"])
    text, out = files / "text.parquet", tmp_path / "out"
    for command in (
        ["train", text, "--out", out, *SMALL],
        ["train", text, "--out", out, *KINDS["residual-kmeans"]],
        ["tokenize", model, text, "--out", tmp_path / "out.parquet"],
        ["evaluate", model, "--embeddings", text],
    ):
        ids = "--id-column" if command[0] == "evaluate" else "--ids"
        assert "several columns of float lists: say --vectors NAME" in refused(capfd, *command)
        said = refused(capfd, *command, "--vectors", "v")
        assert f"say {ids} code, {ids} title, or {ids} row for row numbers" in said
        assert "'nothing'" in refused(capfd, *command, "--vectors", "v", ids, "nothing")
        assert not out.exists()
    cf = ["--cf", files / "cf.parquet"]
    for command in (
        ["train", text, "--out", out, *SMALL, "--vectors", "v", "--ids", "code"],
        ["evaluate", model, "--embeddings", text, "--vectors", "v", "--id-column", "code"],
    ):
        assert "say --cf-vectors NAME" in refused(capfd, *command, *cf)
        said = refused(capfd, *command, *cf, "--cf-vectors", "w")
        assert "say --cf-ids code, --cf-ids note, or --cf-ids row" in said
        matrix = ["--cf", files / "cf.npy"]
        assert "--cf-by-row" in refused(capfd, *command, *matrix)
        assert "of --cf, which is not given" in refused(capfd, *command, "--cf-ids", "code")
        printed(capfd, *command, *matrix, "--cf-by-row")


def test_config_that_remembers_nonsense(tmp_path: Path, model: lf.ResidualKMeans) -> None:
    model.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    for bad in (
        3,
        "x",
        [1],
        {"embeddings": 3},
        {"text": {}},
        {"cf": {"id": "a"}},
        {"cf": {"ids": 3}},
    ):
        (tmp_path / "config.json").write_text(json.dumps({**config, "trained_on": bad}))
        with pytest.raises(ValueError, match=r"config.json: trained_on must name columns"):
            load(tmp_path)


# Ray: what workers and driver do with ids, without workers


@pytest.mark.parametrize("kind", ACCEPTED)
def test_ids_on_a_cluster(model: lf.ResidualKMeans, kind: str) -> None:
    pytest.importorskip("ray")
    from letter_fast import ray as cluster

    column, wanted = ACCEPTED[kind]
    names = Embeddings.open((column, TEXT)).item_ids.array
    encoder = cluster._Encoder(model, "item_id", "vector", names.slice(3), False)
    found = encoder.encode(table(column))
    assert found["item_id"].to_pylist() == wanted[3:]
    resolver = cluster._Resolver(model, "optimal", np.zeros((0, 2), int))
    done = resolver.resolve(found.slice(0, 1))
    assert done["item_id"].to_pylist() == wanted[3:4]
