"""Folders of shards and iterators are catalogs like any other; reading ahead changes nothing."""

from __future__ import annotations

import os
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from threading import Barrier

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from letter_fast import kernels
from letter_fast.catalog import CatalogError, Embeddings
from letter_fast.catalog.batching import ahead, in_batches, in_threads

DATA = np.random.default_rng(0).standard_normal((57, 6)).astype(np.float32)
CUTS = [0, 1, 20, 21, 57]


def write_shards(folder: Path, suffix: str = ".parquet") -> Path:
    folder.mkdir()
    for number, (begin, end) in enumerate(pairwise(CUTS)):
        path = folder / f"part-{number}{suffix}"
        if suffix == ".npy":
            np.save(path, DATA[begin:end])
        else:
            names = [f"i{row}" for row in range(begin, end)]
            table = pa.table({"item_id": names, "vector": list(DATA[begin:end])})
            pq.write_table(table, path, row_group_size=5)
    (folder / "_SUCCESS").touch()
    (folder / ".part-0.npy").touch()
    return folder


@pytest.mark.parametrize("suffix", [".npy", ".parquet"])
@pytest.mark.parametrize("size", [1, 7, 1000])
def test_a_folder_is_its_shards_in_order(tmp_path: Path, suffix: str, size: int) -> None:
    source = Embeddings.open(write_shards(tmp_path / "shards", suffix))
    assert (source.rows, source.width) == DATA.shape
    batches = list(source.batches(size))
    assert all(len(batch) == size for batch in batches[:-1])
    np.testing.assert_array_equal(np.concatenate(batches), DATA)
    index = np.array([56, 0, 20, 0, 33])
    np.testing.assert_array_equal(source.take(index), DATA[index])
    chosen = np.array([0, 2, 19, 20, 21, 50])
    np.testing.assert_array_equal(
        np.concatenate(list(source.batches_of(chosen, size))), DATA[chosen]
    )
    if suffix == ".parquet":
        assert source.item_ids.to_pylist() == [f"i{row}" for row in range(57)]
    else:
        assert source.item_ids is None
        assert source.fingerprint() == Embeddings.open(DATA).fingerprint()


def test_shards_that_do_not_fit_are_named(tmp_path: Path) -> None:
    folder = write_shards(tmp_path / "shards")
    np.save(folder / "wide.npy", np.ones((2, 7), dtype=np.float32))
    with pytest.raises(CatalogError, match=r"wide.npy has vectors of width 7, .*part-0.parquet of"):
        Embeddings.open(folder)
    np.save(folder / "wide.npy", DATA[:2])
    with pytest.raises(
        CatalogError, match=r"wide.npy names its items by row number, .*'item_id', text"
    ):
        Embeddings.open(folder)
    (folder / "wide.npy").unlink()
    pq.write_table(
        pa.table({"item_id": ["z", "i3"], "vector": list(DATA[:2])}), folder / "twice.parquet"
    )
    with pytest.raises(CatalogError, match=r"shards: the item ids: 1 are repeated, .*'i3'"):
        Embeddings.open(folder)
    (folder / "twice.parquet").write_bytes(b"PAR1")
    with pytest.raises(CatalogError, match=r"twice.parquet can't be read as parquet"):
        Embeddings.open(folder)


def test_a_bad_row_is_named_by_its_shard(tmp_path: Path) -> None:
    folder = write_shards(tmp_path / "shards", ".npy")
    broken = DATA[1:20].copy()
    broken[4, 2] = np.nan
    np.save(folder / "part-1.npy", broken)
    with pytest.raises(CatalogError, match=r"part-1.npy: row 4 holds NaN or Inf"):
        list(Embeddings.open(folder).batches(8))


def test_version_sees_every_change_of_a_file(tmp_path: Path) -> None:
    folder = write_shards(tmp_path / "shards")
    before = Embeddings.open(folder).version()
    assert Embeddings.open(folder).version() == before
    state = (folder / "part-2.parquet").stat()
    os.utime(folder / "part-2.parquet", ns=(state.st_atime_ns, state.st_mtime_ns + 1))
    touched = Embeddings.open(folder).version()
    (folder / "part-3.parquet").rename(folder / "part-9.parquet")
    assert len({before, touched, Embeddings.open(folder).version()}) == 3
    assert Embeddings.open(DATA).version() == Embeddings.open(DATA.copy()).version()
    assert Embeddings.open(DATA).version() != Embeddings.open(DATA + 1).version()


def batches_with_ids() -> Iterator[tuple[list[str], np.ndarray]]:
    for begin, end in pairwise(CUTS):
        yield [f"i{row}" for row in range(begin, end)], DATA[begin:end]


def test_iterators_are_kept_on_disk() -> None:
    source = Embeddings.open(batches_with_ids())
    assert source.item_ids is not None
    assert source.item_ids.to_pylist() == [f"i{row}" for row in range(57)]
    for _ in range(2):
        np.testing.assert_array_equal(np.concatenate(list(source.batches(7))), DATA)
    plain = Embeddings.open(torch.from_numpy(DATA[row : row + 1]) for row in range(57))
    assert plain.item_ids is None
    np.testing.assert_array_equal(plain.take(np.array([5, 1])), DATA[[5, 1]])


@pytest.mark.parametrize(
    ("batches", "message"),
    [
        ([], "the iterator is empty"),
        ([DATA, DATA[:, :3]], "width 3 from row 57 on, 6 before"),
        ([DATA, (["a"], DATA[:1])], "item ids with every batch, or with none"),
        ([(["a"], DATA[:1]), DATA], "item ids with every batch, or with none"),
        ([(["a"], DATA[:1]), ([1], DATA[:1])], "by text and, from row 1 on, by integers"),
        ([(["a"], DATA[:1]), (["a"], DATA[:1])], "1 are repeated, the first is 'a' in row 1"),
        ([DATA, DATA * np.inf], "in the batch from row 57 on: .*row 0 holds NaN or Inf"),
    ],
)
def test_iterators_that_do_not_fit(batches: list[object], message: str) -> None:
    with np.errstate(invalid="ignore"), pytest.raises(CatalogError, match=message):
        Embeddings.open(iter(batches))


@pytest.mark.parametrize("size", [1, 3, 57, 100])
def test_cutting_anew(size: int) -> None:
    pieces = [DATA[begin:end] for begin, end in pairwise(CUTS)]
    batches = list(in_batches(pieces, size))
    assert all(len(batch) == size for batch in batches[:-1])
    np.testing.assert_array_equal(np.concatenate(batches), DATA)


def test_reading_ahead_keeps_order_and_errors() -> None:
    assert list(ahead(iter(range(50)))) == list(range(50))
    assert list(ahead(iter([]))) == []

    def failing() -> Iterator[int]:
        yield 0
        yield 1
        raise ValueError("here")

    seen = []
    with pytest.raises(ValueError, match="here"):
        for item in ahead(failing()):
            seen.append(item)
    assert seen == [0, 1]


def broken_after(count: int) -> Iterator[int]:
    yield from range(count)
    raise CatalogError("broken")


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_threads_keep_order_errors_and_the_backend(threads: int) -> None:
    def work(item: int) -> tuple[int, str]:
        if item == 40:
            raise ValueError("here")
        return item, kernels.pick(torch.device("cpu")).__name__

    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        with kernels.use_backend("reference"):
            done = list(in_threads(work, iter(range(30))))
            assert [item for item, _ in done] == list(range(30))
            assert all(name.endswith("reference") for _, name in done)
        with pytest.raises(ValueError, match="here"):
            list(in_threads(work, iter(range(50))))
        seen = []
        with pytest.raises(CatalogError, match="broken"):
            for item, _ in in_threads(work, broken_after(5)):
                seen.append(item)
        assert seen == list(range(5))  # nothing that could be read is lost
        assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)


def test_threads_are_as_many_within_quiet_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    """Batches still share the threads while PyTorch's operations are kept on one."""
    monkeypatch.setattr("letter_fast.kernels.cpp.threads._allowed", lambda: 2)
    monkeypatch.setattr("letter_fast.kernels.cpp.threads._quota", lambda: 2)
    two_at_once = Barrier(2, timeout=60)

    def work(_: int) -> tuple[int, int]:
        two_at_once.wait()
        return torch.get_num_threads(), kernels.usable_threads()

    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        with kernels.quiet_torch(torch.device("cpu")):
            assert list(in_threads(work, iter(range(4)))) == [(1, 1)] * 4
            assert (torch.get_num_threads(), kernels.usable_threads()) == (1, 2)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def write(path: Path, rows: slice, ids: object = None, name: str = "item_id") -> None:
    """One shard: .npy, or .parquet, with ids where there are any."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".npy":
        np.save(path, DATA[rows])
    else:
        columns = {} if ids is None else {name: ids}
        pq.write_table(pa.table({**columns, "vector": list(DATA[rows])}), path)


@pytest.mark.parametrize(
    "names",
    [
        ["part_1", "part_2", "part_10"],
        ["part-00000-ab1-c000.snappy", "part-00001-ab1-c000.snappy", "part-00010-ab1-c000.snappy"],
        ["0", "1", "02", "10"],
        ["2026-9-30", "2026-10-1", "2026-11-1"],
        ["train-0-of-12", "train-2-of-12", "train-11-of-12"],
        ["apples", "bananas", "cherries"],
        ["day=9/part-1", "day=10/part-0", "day=10/part-1"],
    ],
)
@pytest.mark.parametrize("suffix", [".npy", ".parquet", ".NPY", ".pq"])
def test_numbers_order_rows_without_ids(tmp_path: Path, names: list[str], suffix: str) -> None:
    for number, name in enumerate(names):
        lower = tmp_path / f"{name}{'.npy' if suffix.lower() == '.npy' else '.parquet'}"
        write(lower, slice(number * 5, number * 5 + 5))
        lower.rename(tmp_path / f"{name}{suffix}")
    source = Embeddings.open(tmp_path)
    assert source.item_ids is None
    np.testing.assert_array_equal(np.concatenate(list(source.batches())), DATA[: 5 * len(names)])


@pytest.mark.parametrize(
    "names",
    [
        ["part-1.npy", "part-01.npy"],
        ["part-00000-aaa.npy", "part-00000-bbb.npy"],
        ["head.npy", "part-1.npy"],
        ["books-1.npy", "movies-1.npy"],
        ["part-0.npy", "part-0.parquet"],
        ["text.npy", "text.parquet"],
        ["a1.npy", "b.npy"],
    ],
)
def test_an_order_that_is_not_known_is_asked_for(tmp_path: Path, names: list[str]) -> None:
    for number, name in enumerate(names):
        write(tmp_path / name, slice(number, number + 1))
    with pytest.raises(
        CatalogError, match=r"can't be told from their names.*give them ids"
    ) as told:
        Embeddings.open(tmp_path)
    assert all(name in str(told.value) for name in names)
    for name in names:
        (tmp_path / name).unlink()
        write(tmp_path / f"{name}.parquet", slice(0, 1), [name])
    assert set(Embeddings.open(tmp_path).item_ids.to_pylist()) == set(names)


@pytest.mark.parametrize("suffix", [".npy", ".parquet"])
def test_empty_parts_add_nothing(tmp_path: Path, suffix: str) -> None:
    for number, rows in enumerate([slice(0, 0), slice(0, 3), slice(0, 0), slice(3, 5)]):
        write(tmp_path / f"part-{number}{suffix}", rows)
    if suffix == ".npy":
        np.save(tmp_path / "part-4.npy", np.zeros(0))
    else:  # as Spark writes one of other columns, or of none
        pq.write_table(pa.table({"other": pa.array([], pa.int8())}), tmp_path / "part-4.parquet")
    source = Embeddings.open(tmp_path)
    np.testing.assert_array_equal(np.concatenate(list(source.batches())), DATA[:5])
    for number in (1, 3):
        write(tmp_path / f"part-{number}{suffix}", slice(0, 0))
    with pytest.raises(CatalogError, match="is empty: none of its 5 shards has rows"):
        Embeddings.open(tmp_path)


def test_a_shard_cut_to_nothing_is_not_an_empty_part(tmp_path: Path) -> None:
    write(tmp_path / "part-0.npy", slice(0, 3))
    (tmp_path / "part-1.npy").touch()
    with pytest.raises(CatalogError, match=r"part-1.npy can't be read as npy"):
        Embeddings.open(tmp_path)


@pytest.mark.parametrize(
    ("others", "named"),
    [
        ({"old/part-0.parquet": "shard"}, "has a folder 'old' in it"),
        ({"part-1.parquet/part-0.parquet": "shard"}, "has a folder 'part-1.parquet' in it"),
        ({"part-1.csv": "text"}, "has 'part-1.csv' in it"),
        ({"part-1.parquet.gz": "text"}, "has 'part-1.parquet.gz' in it"),
        ({"data-0.arrow": "text"}, "write it by dataset.to_parquet"),
        ({"dataset_dict.json": "text"}, "write it by dataset.to_parquet"),
        ({"_delta_log/0.json": "text"}, "is a table of Delta Lake"),
        ({".hoodie/x": "text"}, "is a table of Hudi"),
        ({"day=1/old/part-0.parquet": "shard"}, "day=1 has a folder 'old' in it"),
        ({"part-1.parquet": "unnamed"}, "names its items by row number, .*'item_id', text"),
        ({"part-1.npy": "npy"}, "names its items by row number"),
        ({"part-1.parquet": "numbered"}, "by column 'item_id', integers, .* text"),
        ({"part-1.parquet": "bytes"}, "by column 'item_id', bytes, .* text"),
        ({"part-1.parquet": "asin"}, "by column 'asin', text, .*'item_id', text"),
        ({"part-1.parquet": "repeated"}, r"'a' in row 0 of .*part-1.*, after row 0 of .*part-0"),
        ({"part-1.parquet": "null"}, r"part-1.parquet: column 'item_id': 1 are null.* row 1"),
    ],
)
def test_nothing_in_a_folder_is_passed_over(
    tmp_path: Path, others: dict[str, str], named: str
) -> None:
    write(tmp_path / "part-0.parquet", slice(0, 2), ["a", "b"])
    kinds = {
        "shard": ["c", "d"], "unnamed": None, "npy": None, "numbered": [1, 2], "asin": ["c", "d"],
        "bytes": [b"c", b"d"], "repeated": ["a", "c"], "null": ["c", None],
    }  # fmt: skip
    for name, kind in others.items():
        if kind == "text":
            (tmp_path / name).parent.mkdir(exist_ok=True)
            (tmp_path / name).write_text("x")
        else:
            column = "asin" if kind == "asin" else "item_id"
            write(tmp_path / name, slice(2, 4), kinds[kind], column)
    with pytest.raises(CatalogError, match=named):
        Embeddings.open(tmp_path)


def test_what_is_aside_and_what_is_a_partition(tmp_path: Path) -> None:
    for name in ("_SUCCESS", "_metadata", ".part-0.parquet.crc", "README.md", "LICENSE", "x.crc"):
        (tmp_path / name).write_text("x")
    (tmp_path / "_temporary").mkdir()
    (tmp_path / ".ipynb_checkpoints").mkdir()
    write(tmp_path / "part-0.parquet", slice(0, 2), ["a", "b"])
    write(tmp_path / "category=Books" / "day=2" / "part-0.parquet", slice(2, 4), ["c", "d"])
    write(tmp_path / "category=Films" / "day=1" / "part-0.parquet", slice(4, 5), ["e"])
    source = Embeddings.open(tmp_path)
    assert sorted(source.item_ids.to_pylist()) == ["a", "b", "c", "d", "e"]
    order = [ord(name) - ord("a") for name in source.item_ids.to_pylist()]
    np.testing.assert_array_equal(np.concatenate(list(source.batches())), DATA[order])


def test_shards_of_one_kind_of_id(tmp_path: Path) -> None:
    """Widths and encodings may differ from shard to shard."""
    write(tmp_path / "part-0.parquet", slice(0, 2), pa.array([1, 2], pa.int8()))
    write(tmp_path / "part-1.parquet", slice(2, 4), pa.array([3, 4]).dictionary_encode())
    write(tmp_path / "part-2.parquet", slice(4, 6), pa.array([2**63 + 1, 2**64 - 1], pa.uint64()))
    source = Embeddings.open(tmp_path)
    assert source.item_ids.to_pylist() == [1, 2, 3, 4, 2**63 + 1, 2**64 - 1]
    write(tmp_path / "part-0.parquet", slice(0, 2), pa.array([-1, 2], pa.int8()))
    with pytest.raises(CatalogError, match="int64 and uint64 have no type in common"):
        Embeddings.open(tmp_path)
