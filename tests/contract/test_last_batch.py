"""A last batch of one row: it trains, or it is refused before the training, with both numbers."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch

import letter_fast as lf
from letter_fast.catalog import Embeddings
from letter_fast.training import batches
from letter_fast.training.batches import Batches
from letter_fast.training.ranks import Ranks
from tests.support import oracle

TEXT = oracle.clustered(200, 6, 6, seed=1).numpy()
CF = oracle.clustered(200, 4, 6, seed=2).numpy()


def model(batch_norm: bool, cf: bool, update: str = "gradient") -> lf.Letter:
    torch.manual_seed(0)
    config = lf.LetterConfig(
        6, (8,), latent_dim=4, codebook_size=(8, 8, 4), cf_weight=0.1 if cf else 0,
        diversity_weight=1e-4 if update == "gradient" else 0,
        batch_norm=batch_norm, codebook_update=update,
    )  # fmt: skip
    return lf.Letter(config)


@pytest.mark.parametrize("rows", [8, 9, 17, 64, 65])
@pytest.mark.parametrize(("batch_norm", "cf"), [*product([False, True], [False, True])])
@pytest.mark.parametrize("windows", [False, True])
@pytest.mark.parametrize("update", ["gradient", "ema"])
def test_any_number_of_rows_trains(
    rows: int,
    batch_norm: bool,
    cf: bool,
    windows: bool,
    update: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if windows:
        monkeypatch.setattr(batches, "_WHOLE_BYTES", 0)
        monkeypatch.setattr(batches, "_WINDOW_BYTES", 16 * 6 * 4)
        monkeypatch.setattr(batches, "_BLOCK_BYTES", 5 * 6 * 4)
    settings = lf.TrainSettings(epochs=2, batch_size=8, schedule="cosine", evaluate_every=1)
    result = lf.train(
        model(batch_norm, cf, update), TEXT[:rows], CF[:rows] if cf else None, settings=settings
    )
    assert result.epochs == 2
    assert np.isfinite(result.record["loss"])


@pytest.mark.parametrize("rows", range(2, 40))
@pytest.mark.parametrize("window", [8, 16, 1000])
def test_every_row_comes_once_and_none_alone(
    rows: int, window: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batches, "_WHOLE_BYTES", 0)
    monkeypatch.setattr(batches, "_WINDOW_BYTES", window * 6 * 4)
    monkeypatch.setattr(batches, "_BLOCK_BYTES", 5 * 6 * 4)
    catalog = Embeddings.open(TEXT[:rows])
    alone = Ranks(0, 1, torch.device("cpu"))
    for least in (1, 2):
        loader = Batches(catalog, None, 8, 0, alone, least)
        found = [batch.s for batch in loader.epoch(0)]
        assert len(found) == loader.steps
        assert min(map(len, found)) >= min(least, rows)
        assert max(map(len, found)) <= 8 + least - 1
        rows_seen = torch.cat(found)
        assert sorted(rows_seen.tolist()) == sorted(TEXT[:rows].tolist())


@pytest.mark.parametrize(("rows", "size"), [(40, 1), (1, 8)])
def test_what_batch_norm_cannot_learn_from_is_refused_first(
    tmp_path: Path, rows: int, size: int
) -> None:
    config = lf.LetterConfig(
        6,
        (8,),
        latent_dim=4,
        codebook_size=(min(rows, 8),) * 2,
        cf_weight=0,
        diversity_weight=0,
        batch_norm=True,
    )
    settings = lf.TrainSettings(epochs=1, batch_size=size)
    with pytest.raises(ValueError, match=rf"the catalog has {rows} and batch_size is {size}"):
        lf.train(lf.Letter(config), TEXT[:rows], out=tmp_path / "run", settings=settings)
    assert not (tmp_path / "run").exists()


def test_weights_that_the_last_step_has_ruined_are_noticed(tmp_path: Path) -> None:
    """The last step's losses were numbers still; what it made of the weights is not."""
    settings = lf.TrainSettings(epochs=1, batch_size=200, learning_rate=3e38)
    with pytest.raises(ValueError, match=r"training diverged in epoch 1: lower learning_rate"):
        lf.train(model(False, False), TEXT, out=tmp_path, settings=settings)
    assert not (tmp_path / "model.safetensors").exists()
