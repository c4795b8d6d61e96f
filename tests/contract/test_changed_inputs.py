"""An input that shrinks, grows, is written to or replaced during a run is noticed."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import save_file

import letter_fast as lf
from letter_fast.catalog import CatalogError, Embeddings, arrays, stored
from letter_fast.model import ResidualKMeans, ResidualKMeansConfig
from letter_fast.training import batches
from tests.support import oracle

ROWS, WIDTH = 2000, 8
TEXT = oracle.clustered(ROWS, WIDTH, 16, seed=1).numpy()


def write(path: Path, name: str, rows: np.ndarray = TEXT) -> Path:
    """The rows as one of `KINDS`."""
    target = path / name
    if name.endswith(".npy"):
        np.save(target, np.asfortranarray(rows) if "columns" in name else rows)
    elif name.endswith(".safetensors"):
        save_file({"x": torch.from_numpy(rows)}, target)
    elif name.endswith(".parquet"):
        pq.write_table(pa.table({"vector": list(rows)}), target, row_group_size=500)
    else:
        target.mkdir()
        for number, part in enumerate(np.array_split(rows, 4)):
            np.save(target / f"{number}.npy", part)
    return target


KINDS = ("text.npy", "columns.npy", "text.safetensors", "text.parquet", "shards")


def shrink(file: Path) -> None:
    os.truncate(file, file.stat().st_size // 3)


def grow(file: Path) -> None:
    with file.open("ab") as end:
        end.write(b"more")


def overwrite(file: Path) -> None:
    with file.open("r+b") as there:
        there.seek(file.stat().st_size // 2)
        there.write(b"\0" * 64)
    os.utime(file, ns=(0, 0))  # within one tick of the clock no time stamp could tell


def replace(file: Path) -> None:
    content = file.read_bytes()
    file.rename(file.with_name(f".{file.name}"))
    file.write_bytes(content)


def remove(file: Path) -> None:
    file.unlink()


CHANGES = (shrink, grow, overwrite, replace, remove)


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
@pytest.mark.parametrize("kind", KINDS)
def test_readers(tmp_path: Path, kind: str, change: Callable[[Path], None]) -> None:
    path = write(tmp_path, kind)
    file = path / "2.npy" if kind == "shards" else path
    reads: dict[str, Callable[[Embeddings], Iterator[Any]]] = {
        "batches": lambda source: source.batches(100),
        "batches_of": lambda source: source.batches_of(np.arange(0, ROWS, 3), 100),
        "take": lambda source: (source.take(np.arange(start, ROWS, 7)) for start in range(7)),
    }
    if kind == "text.parquet":
        del reads["take"]  # the first one reads all of it
    for read in reads.values():
        rows = read(Embeddings.open(path))
        assert np.isfinite(next(rows)).all()
        saved = file.read_bytes()
        change(file)
        with pytest.raises(CatalogError, match=r"has changed while|can't be read any more") as told:
            list(rows)
        assert str(file) in str(told.value)
        file.write_bytes(saved)


@pytest.fixture
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is held whole, and reading ahead does not reach the end at once."""
    monkeypatch.setattr(batches, "_WHOLE_BYTES", 0)
    monkeypatch.setattr(batches, "_WINDOW_BYTES", 100 * WIDTH * 4)
    monkeypatch.setattr(batches, "_BLOCK_BYTES", 20 * WIDTH * 4)


def train(path: Path, change: Callable[[], None]) -> None:
    config = lf.LetterConfig(WIDTH, (4,), latent_dim=4, codebook_size=(16, 16, 16), cf_weight=0)
    settings = lf.TrainSettings(epochs=3, batch_size=50, evaluate_every=1, allow_collisions=True)
    lf.train(
        lf.Letter(config), path, out=path.parent / "run", settings=settings,
        on_epoch=lambda _: change(),
    )  # fmt: skip


def tokenize(path: Path, change: Callable[[], None]) -> None:
    model = ResidualKMeans(ResidualKMeansConfig(WIDTH, (4, 512))).fit(TEXT)
    lf.tokenize(model, path, batch_size=20, on_batch=lambda done, _: change() if done else None)


@pytest.mark.usefixtures("small_pieces")
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("work", [train, tokenize])
def test_work(tmp_path: Path, kind: str, work: Callable[..., None]) -> None:
    path = write(tmp_path, kind)
    file = path / "3.npy" if kind == "shards" else path
    once: Iterator[Any] = iter([shrink])

    def change() -> None:
        for act in once:
            act(file)

    with pytest.raises(CatalogError, match=r"has changed while|can't be read any more"):
        work(path, change)
    assert not (tmp_path / "run" / "model.safetensors").exists()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", ["<f4", "<f2", "<f8", ">f4"])
def test_rows_are_what_the_file_holds(tmp_path: Path, kind: str, dtype: str) -> None:
    rows = TEXT.astype(dtype if kind.endswith(".npy") or kind == "shards" else dtype[1:])
    if kind == "text.safetensors" and not rows.dtype.isnative:
        rows = rows.astype(np.float32)
    source = Embeddings.open(write(tmp_path, kind, rows))
    wanted = rows.astype(np.float32)
    np.testing.assert_array_equal(np.concatenate(list(source.batches(301))), wanted)
    chance = np.random.default_rng(0)
    for index in (
        np.arange(0),
        np.array([5]),
        np.array([7, 7, 7, 9]),
        np.arange(100, 900),
        np.sort(chance.permutation(ROWS)[:50]),
        chance.permutation(ROWS),
        np.array([3, 3, 1, ROWS - 1, 0]),
    ):
        np.testing.assert_array_equal(source.take(index), wanted[index])


@pytest.mark.parametrize("piece", [1, 100, 4096])
def test_pieces_of_any_size(tmp_path: Path, piece: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stored, "_PIECE_BYTES", piece)
    monkeypatch.setattr(stored, "_GAP_BYTES", piece)
    chance = np.random.default_rng(0)
    for kind in ("text.npy", "columns.npy"):
        source = Embeddings.open(write(tmp_path, kind))
        index = chance.integers(0, ROWS, 500)
        np.testing.assert_array_equal(source.take(index), TEXT[index])
        np.testing.assert_array_equal(source.take(np.sort(index)), TEXT[np.sort(index)])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float8_e4m3fn, torch.float8_e5m2])
def test_dtypes_that_numpy_lacks(tmp_path: Path, dtype: torch.dtype) -> None:
    wanted = torch.from_numpy(TEXT).clamp(-8, 8).to(dtype)
    save_file({"x": wanted}, tmp_path / "x.safetensors")
    source = Embeddings.open(tmp_path / "x.safetensors")
    np.testing.assert_array_equal(next(source.batches(ROWS)), wanted.float().numpy())
    np.testing.assert_array_equal(source.take(np.array([9, 2, 2])), wanted.float()[[9, 2, 2]])


def test_arrays_that_a_user_has_mapped_stay_mapped(tmp_path: Path) -> None:
    path = write(tmp_path, "text.npy")
    source = Embeddings.open(np.load(path, mmap_mode="r"))
    assert isinstance(source, arrays.ArrayEmbeddings)
    np.testing.assert_array_equal(source.take(np.array([4, 2])), TEXT[[4, 2]])
