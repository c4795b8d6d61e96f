"""Every format gives the same float32 rows; every kind of bad file gives one CatalogError."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import save_file

from letter_fast.catalog import CatalogError, Embeddings, MappedEmbeddings, align_cf, arrays

DATA = np.random.default_rng(0).standard_normal((57, 6)).astype(np.float32)


def npy(folder: Path, data: np.ndarray) -> Path:
    np.save(folder / "e.npy", data)
    return folder / "e.npy"


def tensors(folder: Path, data: np.ndarray) -> Path:
    save_file({"x": torch.from_numpy(data)}, folder / "e.safetensors")
    return folder / "e.safetensors"


def parquet(folder: Path, data: np.ndarray) -> Path:
    lists = pa.array(list(data))
    table = pa.table({"item_id": [f"i{row}" for row in range(len(data))], "vector": lists})
    pq.write_table(table, folder / "e.parquet", row_group_size=10)
    return folder / "e.parquet"


def fixed_parquet(folder: Path, data: np.ndarray) -> Path:
    lists = pa.FixedSizeListArray.from_arrays(pa.array(data.ravel()), data.shape[1])
    pq.write_table(pa.table({"vector": lists}), folder / "f.parquet", row_group_size=10)
    return folder / "f.parquet"


WRITERS = [npy, tensors, parquet, fixed_parquet]


@pytest.mark.parametrize("write", WRITERS)
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("size", [1, 7, 1000])
def test_formats_agree(
    tmp_path: Path, write: Callable[[Path, np.ndarray], Path], dtype: type, size: int
) -> None:
    data = DATA.astype(dtype)
    source = Embeddings.open(write(tmp_path, data))
    assert (source.rows, source.width) == data.shape
    batches = list(source.batches(size))
    assert all(len(batch) == size for batch in batches[:-1])
    np.testing.assert_array_equal(np.concatenate(batches), data.astype(np.float32))
    index = np.array([5, 0, 56, 5])
    taken = source.take(index)
    assert taken.dtype == np.float32
    np.testing.assert_array_equal(taken, data[index].astype(np.float32))
    chosen = np.array([0, 1, 9, 10, 29, 41, 56])
    some = list(source.batches_of(chosen, size))
    assert all(len(batch) == size for batch in some[:-1])
    np.testing.assert_array_equal(np.concatenate(some), data[chosen].astype(np.float32))
    assert list(source.batches_of(chosen[:0], size)) == []


def test_fingerprint_is_of_the_content(tmp_path: Path) -> None:
    prints = {Embeddings.open(w(tmp_path, DATA)).fingerprint() for w in (npy, tensors)}
    assert prints == {Embeddings.open(DATA).fingerprint()}
    changed = DATA.copy()
    changed[3, 2] += 1
    assert Embeddings.open(changed).fingerprint() not in prints


def test_large_files_are_read_piece_by_piece(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(arrays, "_MAPPED_BYTES", 400)  # of which a quarter is four rows
    path = npy(tmp_path, DATA)
    for source in (Embeddings.open(path), Embeddings.open(np.load(path, mmap_mode="r"))):
        for index in (np.array([0, 3, 4, 5, 30, 56]), np.array([30, 0, 56, 5]), np.array([], int)):
            np.testing.assert_array_equal(source.take(index), DATA[index])


def test_bfloat16_and_pairs() -> None:
    tensor = torch.from_numpy(DATA).bfloat16()
    np.testing.assert_array_equal(
        next(Embeddings.open(tensor).batches(100)), tensor.float().numpy()
    )
    source = Embeddings.open((["a", "b"], DATA[:2]))
    assert source.item_ids is not None
    assert source.item_ids.to_pylist() == ["a", "b"]


@pytest.mark.parametrize("write", WRITERS)
def test_nonfinite_rows_are_named(tmp_path: Path, write: Callable[..., Path]) -> None:
    data = DATA.copy()
    data[31, 2], data[40, 0] = np.nan, np.inf
    source = Embeddings.open(write(tmp_path, data))
    with pytest.raises(CatalogError, match=r"row 31 holds NaN or Inf \(2 such rows"):
        list(source.batches(57))


def test_float64_beyond_float32_is_refused_not_made_infinite() -> None:
    data = np.ones((3, 2))
    data[1, 1] = 1e300
    with pytest.raises(CatalogError, match="row 1 leaves the range of float32"):
        list(Embeddings.open(data).batches())


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (np.ones((3, 2), dtype=np.int64), "float16, float32 or float64, got int64"),
        (np.ones(3), r"matrix \[items, width\], got shape \[3\]"),
        (np.ones((0, 4)), "is empty"),
        ("nothing/here.npy", "does not exist"),
        (object(), "got object"),
    ],
)
def test_wrong_kinds(bad: object, message: str) -> None:
    with pytest.raises(CatalogError, match=message):
        Embeddings.open(bad)


def test_unknown_suffix_and_folder(tmp_path: Path) -> None:
    (tmp_path / "e.csv").write_text("1,2")
    with pytest.raises(CatalogError, match="no known suffix"):
        Embeddings.open(tmp_path / "e.csv")
    with pytest.raises(CatalogError, match=r"has 'e.csv' in it, which holds no embeddings"):
        Embeddings.open(tmp_path)
    (tmp_path / "e.csv").unlink()
    with pytest.raises(CatalogError, match="is a folder without embeddings"):
        Embeddings.open(tmp_path)


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"item_id": ["a", "b"]}, "no column of float lists"),
        ({"a": [[1.0], [2.0]], "b": [[1.0], [2.0]]}, "several columns of float lists"),
        ({"v": [[1.0, 2.0], [1.0]]}, "width 1 in row 1"),
        ({"v": [[1.0], None]}, "no vector in row 1"),
        ({"v": [[1.0, None], [1.0, 2.0]]}, "null inside the vector of row 0"),
        (
            {"v": [[1.0], [2.0]], "item_id": ["a", "a"]},
            "'a' in row 1, after row 0; item ids must be unique",
        ),
        ({"v": [[1.0], [2.0]], "item_id": ["a", None]}, "1 are null"),
        ({"v": pa.array([], pa.list_(pa.float32()))}, "is empty"),
    ],
)
def test_bad_parquet(tmp_path: Path, columns: dict[str, object], message: str) -> None:
    pq.write_table(pa.table(columns), tmp_path / "e.parquet")
    with pytest.raises(CatalogError, match=message):
        list(Embeddings.open(tmp_path / "e.parquet").batches())


@pytest.mark.parametrize("write", [npy, tensors, parquet])
def test_truncated_and_flipped_files_never_surprise(
    tmp_path: Path, write: Callable[..., Path]
) -> None:
    path = write(tmp_path, DATA)
    whole = path.read_bytes()
    random = np.random.default_rng(1)
    for trial in range(60):
        broken = bytearray(whole)
        if trial % 2:
            broken = broken[: random.integers(len(whole))]
        else:
            # Only headers and footers: what a flip in the middle gives is other, valid numbers.
            place = int(random.integers(200)) * (1 if trial % 4 else -1)
            broken[place] ^= 1 << int(random.integers(8))
        path.write_bytes(broken)
        try:
            source = Embeddings.open(path)
            rows = sum(len(batch) for batch in source.batches())
        except CatalogError as error:
            assert str(path) in str(error)
        else:
            assert rows == source.rows


def test_cf_by_id_and_by_row() -> None:
    items = Embeddings.open((["a", "b", "c"], DATA[:3]))
    cf = Embeddings.open((["c", "x", "a", "b"], DATA[10:14]))
    aligned = align_cf(items, cf)
    np.testing.assert_array_equal(aligned.take(np.arange(3)), DATA[[12, 13, 10]])
    np.testing.assert_array_equal(np.concatenate(list(aligned.batches(2))), DATA[[12, 13, 10]])
    with pytest.raises(CatalogError, match="lacks 1 of 3 items of the array, the first is 'd'"):
        align_cf(Embeddings.open((["a", "d", "b"], DATA[:3])), cf)
    plain = Embeddings.open(DATA[:3])
    assert align_cf(plain, plain) is plain
    with pytest.raises(CatalogError, match="has 4 rows, the array has 3"):
        align_cf(plain, cf, by_row=True)
    numbers = Embeddings.open(([1, 2], DATA[:2]))
    words = Embeddings.open((["2", "1"], DATA[4:6]))
    np.testing.assert_array_equal(align_cf(numbers, words).take(np.arange(2)), DATA[[5, 4]])


def test_real_catalogs_open(shared_data: Path) -> None:
    source = Embeddings.open(shared_data / "industrial" / "text_embeddings.npy")
    assert (source.rows, source.width) == (3686, 384)


@pytest.mark.parametrize("write", WRITERS)
def test_mapped_rows(tmp_path: Path, write: Callable[[Path, np.ndarray], Path]) -> None:
    data = DATA.copy()
    data[40] = np.inf
    source = Embeddings.open(write(tmp_path, data))
    mapped = MappedEmbeddings(source, lambda batch: -2 * batch)
    assert (mapped.rows, mapped.width, mapped.item_ids) == (57, 6, source.item_ids)
    np.testing.assert_array_equal(next(iter(mapped.batches(40))), -2 * data[:40])
    mapped.check_width(6)
    with pytest.raises(CatalogError, match="width 6, the model expects 7"):
        mapped.check_width(7)
    with pytest.raises(CatalogError, match="row 40 holds NaN or Inf"):
        list(mapped.batches(7))
    if write in (npy, tensors):  # parquet loads and checks all of it
        index = np.array([5, 0, 56, 5])
        np.testing.assert_array_equal(mapped.take(index), -2 * data[index])
    with pytest.raises(CatalogError, match="row 40"):
        mapped.take(np.array([3, 40]))
