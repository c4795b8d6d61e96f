"""Every row comes once an epoch, in an order that seed and epoch fix, from whatever holds it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.numpy import save_file

import letter_fast as lf
from letter_fast.catalog import CatalogError, Embeddings, arrays, parquet
from letter_fast.training import batches
from letter_fast.training.batches import Batches, epoch_order
from letter_fast.training.ranks import Ranks
from tests.support import oracle

ROWS, WIDTH, SIZE = 1000, 6, 16
TEXT = oracle.clustered(ROWS, WIDTH, 10, seed=1).numpy()
CF = oracle.clustered(ROWS, 3, 10, seed=2).numpy()
CPU = torch.device("cpu")


@pytest.fixture
def small_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks of 7 rows, windows of 10 batches of 16 rows; nothing stays mapped."""
    monkeypatch.setattr(batches, "_WHOLE_BYTES", 0)
    monkeypatch.setattr(batches, "_WINDOW_BYTES", 10 * SIZE * WIDTH * 4)
    monkeypatch.setattr(batches, "_BLOCK_BYTES", 7 * WIDTH * 4)
    monkeypatch.setattr(arrays, "_MAPPED_BYTES", 0)
    monkeypatch.setattr(parquet, "_UNPACKED_BYTES", 0)


def order(seed: int = 0, epoch: int = 0, rows: int = ROWS) -> list[np.ndarray]:
    return list(epoch_order(rows, WIDTH, SIZE, seed, epoch))


def test_a_small_catalog_is_permuted_as_a_whole() -> None:
    (whole,) = order()
    assert sorted(whole) == list(range(ROWS))


@pytest.mark.usefixtures("small_windows")
@pytest.mark.parametrize("rows", [1, 6, 7, 160, 161, 994, 1000, 1120])
def test_windows_hold_every_row_once(rows: int) -> None:
    windows = order(rows=rows)
    assert sorted(np.concatenate(windows)) == list(range(rows))
    assert [len(window) for window in windows[:-1]] == [160] * (len(windows) - 1)


@pytest.mark.usefixtures("small_windows")
def test_seed_and_epoch_fix_the_order() -> None:
    first = np.concatenate(order())
    np.testing.assert_array_equal(first, np.concatenate(order()))
    for other in (order(seed=1), order(epoch=1)):
        assert (first != np.concatenate(other)).mean() > 0.9


@pytest.mark.usefixtures("small_windows")
def test_a_batch_mixes_blocks() -> None:
    windows = order()
    blocks = [len(set(window[:SIZE] // 7)) for window in windows[:-1]]
    assert min(blocks) > 6  # of the 23 blocks of a window, 16 rows meet 11 or 12 on average


def sources(folder: Path) -> dict[str, Any]:
    np.save(folder / "text.npy", TEXT)
    np.save(folder / "columns.npy", np.asfortranarray(TEXT))
    save_file({"text": TEXT}, folder / "text.safetensors")
    pq.write_table(pa.table({"text": list(TEXT)}), folder / "text.parquet", row_group_size=300)
    names = ("text.npy", "columns.npy", "text.safetensors", "text.parquet")
    return {name: folder / name for name in names} | {"array": TEXT}


@pytest.mark.usefixtures("small_windows")
@pytest.mark.parametrize("whole", [False, True])
def test_the_order_is_the_same_from_any_source(
    tmp_path: Path, whole: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if whole:
        monkeypatch.setattr(batches, "_WHOLE_BYTES", ROWS * WIDTH * 4)
    wanted = np.concatenate(order(seed=3, epoch=5))
    cf = Embeddings.open(CF)
    for name, source in sources(tmp_path).items():
        loader = Batches(Embeddings.open(source), cf, SIZE, 3, Ranks(0, 1, CPU))
        found = list(loader.epoch(5))
        assert [len(batch.s) for batch in found] == [SIZE] * 62 + [8]
        assert loader.steps == 63
        np.testing.assert_array_equal(torch.cat([b.s for b in found]), TEXT[wanted], name)
        np.testing.assert_array_equal(
            torch.cat([b.h for b in found if b.h is not None]), CF[wanted], name
        )


@pytest.mark.parametrize("whole", [False, True])
@pytest.mark.usefixtures("small_windows")
def test_processes_share_every_batch(whole: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if whole:
        monkeypatch.setattr(batches, "_WHOLE_BYTES", ROWS * WIDTH * 4)
    text, cf = Embeddings.open(TEXT), Embeddings.open(CF)
    alone = Batches(text, cf, SIZE, 0, Ranks(0, 1, CPU)).epoch(0)
    ranks = [Batches(text, cf, SIZE, 0, Ranks(rank, 3, CPU)).epoch(0) for rank in range(3)]
    for batch, *shares in zip(alone, *ranks, strict=True):
        assert torch.equal(batch.s, torch.cat([part.s for part in shares]))
        for part in shares:
            assert part.h is not None
            assert part.share is not None
            assert torch.equal(part.h, batch.h)
            assert torch.equal(part.s, batch.s[part.share.own])


@pytest.mark.usefixtures("small_windows")
def test_a_bad_row_is_named(tmp_path: Path) -> None:
    broken = TEXT.copy()
    broken[777, 2] = np.inf
    np.save(tmp_path / "text.npy", broken)
    loader = Batches(Embeddings.open(tmp_path / "text.npy"), None, SIZE, 0, Ranks(0, 1, CPU))
    with pytest.raises(CatalogError, match="row 777 holds NaN or Inf"):
        list(loader.epoch(0))


@pytest.mark.usefixtures("small_windows")
def test_training_in_windows_resumes_with_the_same_bits(tmp_path: Path) -> None:
    np.save(tmp_path / "text.npy", TEXT)

    def train(out: str, epochs: int, source: Any) -> dict[str, torch.Tensor]:
        torch.manual_seed(0)
        shape = dict(input_dim=WIDTH, hidden=(16,), latent_dim=3, codebook_size=(8, 8))
        model = lf.Letter(lf.LetterConfig(**shape))
        settings = lf.TrainSettings(epochs=epochs, batch_size=SIZE, allow_collisions=True)
        return lf.train(model, source, CF, tmp_path / out, settings).model.state_dict()

    straight = train("straight", 4, TEXT)
    train("pieces", 2, tmp_path / "text.npy")
    pieces = train("pieces", 4, tmp_path / "text.npy")
    assert all(torch.equal(straight[name], pieces[name]) for name in straight)
