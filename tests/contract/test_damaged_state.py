"""A damaged checkpoint or log of training is refused in one line, whatever is wrong with it."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

import letter_fast as lf
from letter_fast.model import ResidualKMeans, ResidualKMeansConfig
from letter_fast.training import FitSettings, fit_residual_kmeans
from letter_fast.training.checkpoint import CHECKPOINT_FILE
from letter_fast.training.journal import LOG_FILE, read_log
from tests.support import oracle

TEXT = oracle.clustered(64, 6, 6, seed=1).numpy()
SETTINGS = lf.TrainSettings(epochs=2, early_stop="loss", evaluate_every=1)
REFUSED = r"is not a readable checkpoint; delete it|belongs to a run with other|checkpoint format"


def train(folder: Path) -> str:
    config = lf.LetterConfig(6, (4,), latent_dim=4, codebook_size=(4, 4, 4), cf_weight=0)
    result = lf.train(lf.Letter(config), TEXT, out=folder, settings=SETTINGS)
    return result.model.fingerprint()


def fit(folder: Path) -> str:
    model = ResidualKMeans(ResidualKMeansConfig(6, (8, 8)))
    fit_residual_kmeans(model, TEXT, folder, FitSettings())
    return model.fingerprint()


def wrong_values(value: Any) -> Iterator[Any]:
    """The value with one thing in it missing, more, or of another kind."""
    yield from (x for x in ([], {}, "x", None, 1.5, torch.zeros(3)) if type(x) is not type(value))
    if isinstance(value, dict):
        yield {**value, "more": 1}
        for name, one in value.items():
            yield {other: kept for other, kept in value.items() if other != name}
            for wrong in wrong_values(one):
                yield {**value, name: wrong}
    if isinstance(value, torch.Tensor):
        yield value.new_zeros((*value.shape, 2))
        yield value.to(torch.float16 if value.dtype != torch.float16 else torch.float32)
        if value.is_floating_point() and value.numel():
            yield torch.full_like(value, torch.nan)
    if isinstance(value, int) and not isinstance(value, bool):
        yield -1
    if isinstance(value, list):
        yield [*value, *value, *value]


@pytest.mark.parametrize("work", [train, fit])
def test_structure(tmp_path: Path, work: Any) -> None:
    wanted = work(tmp_path)
    path = tmp_path / CHECKPOINT_FILE
    right = torch.load(path, weights_only=True)
    wrongs = list(wrong_values(right))
    random.Random(0).shuffle(wrongs)
    refused = 0
    for wrong in wrongs[:80]:
        torch.save(wrong, path)
        try:
            # Some things are not looked at, as what else is there, or the optimizer's options.
            assert work(tmp_path) == wanted
        except ValueError as error:
            assert re.search(REFUSED, str(error))
            refused += 1
    assert refused > 50


@pytest.mark.parametrize("work", [train, fit])
def test_bytes(tmp_path: Path, work: Any) -> None:
    work(tmp_path)
    path = tmp_path / CHECKPOINT_FILE
    right = path.read_bytes()
    chance = random.Random(0)
    for _ in range(40):
        wrong = bytearray(right)
        if chance.random() < 0.3:
            del wrong[chance.randrange(len(wrong)) :]
        else:
            place = chance.randrange(len(wrong))
            wrong[place : place + 40] = chance.randbytes(40)
        path.write_bytes(wrong)
        try:
            work(tmp_path)  # where nothing is that anybody reads
        except ValueError as error:
            assert "readable checkpoint" in str(error)
    path.write_bytes(right)
    work(tmp_path)


LINES = [
    "[]",
    "3",
    "null",
    '"x"',
    "{}",
    '{"epoch": "1"}',
    "{",
    "\x00",
    "[" * 10_000,
    '{"epoch": null}',
]


@pytest.mark.parametrize("line", LINES, ids=lambda line: line[:20])
def test_logs(tmp_path: Path, line: str) -> None:
    good = json.dumps({"epoch": 1})
    (tmp_path / LOG_FILE).write_text(f"{good}\n{line}\n")
    with pytest.raises(ValueError, match=rf"{LOG_FILE} line 2 is no"):
        read_log(tmp_path)
    (tmp_path / LOG_FILE).write_bytes(b"\xff\xfe\n")
    with pytest.raises(ValueError, match=rf"{LOG_FILE} line 1 is not JSON"):
        read_log(tmp_path)


def test_a_log_that_is_shorter_than_the_checkpoint_says(tmp_path: Path) -> None:
    train(tmp_path)
    log = tmp_path / LOG_FILE
    first = log.read_bytes().splitlines(keepends=True)[0]
    log.write_bytes(first)
    more = lf.TrainSettings(epochs=3, early_stop="loss", evaluate_every=1)
    config = lf.LetterConfig(6, (4,), latent_dim=4, codebook_size=(4, 4, 4), cf_weight=0)
    lf.train(lf.Letter(config), TEXT, out=tmp_path, settings=more)
    assert [record["epoch"] for record in read_log(tmp_path)] == [1, 3]
