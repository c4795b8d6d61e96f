"""A run learns, repeats itself bit for bit, resumes as if unbroken, refuses what doesn't fit."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import torch
from torch import Tensor

import letter_fast as lf
from letter_fast.training.checkpoint import CHECKPOINT_FILE
from letter_fast.training.journal import read_log
from tests.support import oracle

TEXT = oracle.clustered(150, 12, 10, seed=1)
CF = oracle.clustered(150, 4, 6, seed=2)
EMA = dict(codebook_update="ema", diversity_weight=0.0)


def model(**options: object) -> lf.Letter:
    torch.manual_seed(0)
    shape = dict(input_dim=12, hidden=(16,), latent_dim=4, codebook_size=(8, 8))
    shape["diversity_clusters"] = 3
    return lf.Letter(lf.LetterConfig(**{**shape, **options}))


def settings(**options: object) -> lf.TrainSettings:
    few = dict(epochs=6, batch_size=64, evaluate_every=2, checkpoint_every=2)
    few["allow_collisions"] = True
    return lf.TrainSettings(**{**few, **options})


def weights(letter: lf.Letter) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in letter.state_dict().items()}


def same(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return all(torch.equal(a[name], b[name]) for name in a)


@pytest.mark.parametrize("start", ["balanced_kmeans", "kmeans", "random"])
def test_it_learns(start: str) -> None:
    letter = model()
    records: list[dict[str, object]] = []
    result = lf.train(
        letter, TEXT, CF, settings=settings(epochs=40, start=start), on_epoch=records.append
    )
    assert result.epochs == len(records) == 40
    assert records[-1]["loss"] < records[0]["loss"]
    assert bool(letter.quantizer.initialized)
    assert not letter.training
    for name in ("codebook", "commitment", "usage", "perplexity", "catalog_usage"):
        assert len(result.record[name]) == 2
    assert 0 <= result.record["collision_rate"] < 1
    for name in ("cf", "diversity", "recon"):
        assert result.record[name] > 0


@pytest.mark.parametrize(
    "options",
    [
        {},
        dict(precision="bfloat16", clip_norm=0.5),
        dict(revive_after=1),
        dict(early_stop="recon", patience=1),
        dict(batch_size=149),  # the last batch has one row
    ],
)
def test_a_run_repeats_itself(options: dict[str, object]) -> None:
    runs = [lf.train(model(dropout=0.1), TEXT, CF, settings=settings(**options)) for _ in range(2)]
    assert same(weights(runs[0].model), weights(runs[1].model))
    assert runs[0].record == runs[1].record


@pytest.mark.parametrize(
    ("shape", "options"),
    [({}, {}), ({}, dict(revive_after=1, early_stop="loss")), (EMA, dict(revive_after=1))],
)
@pytest.mark.parametrize("broken_at", [1, 2, 3, 5])
def test_a_broken_run_resumes_with_the_same_bits(
    tmp_path: Path, broken_at: int, shape: dict[str, object], options: dict[str, object]
) -> None:
    class Killed(Exception):
        pass

    def kill(record: dict[str, object]) -> None:
        if record["epoch"] == broken_at:
            raise Killed

    wanted = settings(**options)
    shape = dict(dropout=0.1) | shape
    whole, pieces = tmp_path / "whole", tmp_path / "pieces"
    unbroken = lf.train(model(**shape), TEXT, CF, whole, wanted)
    with pytest.raises(Killed):
        lf.train(model(**shape), TEXT, CF, pieces, wanted, on_epoch=kill)
    torch.manual_seed(99)
    torch.rand(3)
    resumed = lf.train(model(**shape), TEXT, CF, pieces, wanted)
    assert same(weights(unbroken.model), weights(resumed.model))
    name = "model.safetensors"
    assert (whole / name).read_bytes() == (pieces / name).read_bytes()
    logs = [[{**line, "seconds": 0} for line in read_log(folder)] for folder in (whole, pieces)]
    assert logs[0] == logs[1]


def test_a_finished_run_may_be_made_longer(tmp_path: Path) -> None:
    lf.train(model(), TEXT, CF, tmp_path, settings(epochs=4))
    longer = lf.train(model(), TEXT, CF, tmp_path, settings(epochs=6))
    straight = lf.train(model(), TEXT, CF, settings=settings(epochs=6))
    assert same(weights(longer.model), weights(straight.model))
    assert [line["epoch"] for line in read_log(tmp_path)] == [1, 2, 3, 4, 5, 6]


def test_schedules() -> None:
    def rates(**options: object) -> list[float]:
        chosen = settings(learning_rate=0.5, **options)
        return [chosen.learning_rate_at(step, 10) for step in range(10)]

    assert rates() == [0.5] * 10
    assert rates(warmup_steps=2) == [0.25] + [0.5] * 9
    assert rates(warmup_steps=20)[-1] == 0.25
    cosine = rates(schedule="cosine", warmup_steps=2)
    assert cosine[:3] == [0.25, 0.5, 0.5]
    assert cosine[6] == pytest.approx(0.25)  # half-way down
    assert sorted(cosine[2:], reverse=True) == cosine[2:]
    assert 0 < cosine[-1] < 0.025


def test_a_schedule_is_followed_and_fixes_the_number_of_epochs(tmp_path: Path) -> None:
    falling = dict(schedule="cosine", warmup_steps=3)
    lf.train(model(), TEXT, CF, tmp_path, settings(**falling))
    saved = torch.load(tmp_path / CHECKPOINT_FILE, weights_only=True)["state"]["optimizer"]
    wanted = settings(**falling).learning_rate_at(6 * 3 - 1, 6 * 3)
    assert saved["param_groups"][0]["lr"] == wanted
    with pytest.raises(ValueError, match=r"other settings \(epochs was 6, is 7\)"):
        lf.train(model(), TEXT, CF, tmp_path, settings(epochs=7, **falling))


def test_another_run_s_checkpoint_is_refused(tmp_path: Path) -> None:
    lf.train(model(), TEXT, CF, tmp_path, settings())
    with pytest.raises(ValueError, match=r"other settings \(seed was 0, is 1\)"):
        lf.train(model(), TEXT, CF, tmp_path, settings(seed=1))
    with pytest.raises(ValueError, match=r"other model \(cf_weight was 0.01, is 0.5\)"):
        lf.train(model(cf_weight=0.5), TEXT, CF, tmp_path, settings())
    with pytest.raises(ValueError, match="other embeddings"):
        lf.train(model(), TEXT + 1, CF, tmp_path, settings())
    lf.train(model(), TEXT + 1, CF, tmp_path, settings(), resume=False)
    (tmp_path / CHECKPOINT_FILE).write_bytes(b"broken")
    with pytest.raises(ValueError, match="not a readable checkpoint"):
        lf.train(model(), TEXT, CF, tmp_path, settings())


def test_tf32_is_float32_on_a_cpu_and_lasts_no_longer_than_a_step() -> None:
    before = torch.backends.cuda.matmul.allow_tf32
    seen = []
    real = lf.Letter.losses

    def losses(*arguments: Any, **options: Any) -> object:
        seen.append(torch.backends.cuda.matmul.allow_tf32)
        return real(*arguments, **options)

    plain = lf.train(model(), TEXT, CF, settings=settings())
    with mock.patch.object(lf.Letter, "losses", losses):
        found = lf.train(model(), TEXT, CF, settings=settings(precision="tf32"))
    assert same(weights(plain.model), weights(found.model))
    assert set(seen) == {True}
    assert torch.backends.cuda.matmul.allow_tf32 == before


def test_compiled_layers_keep_the_model_s_names_and_numbers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = torch.compile  # whose own backend would need a C++ compiler, and half a minute
    monkeypatch.setattr(torch, "compile", lambda call: real(call, backend="eager"))
    plain = lf.train(model(), TEXT, CF, settings=settings())
    lf.train(model(), TEXT, CF, tmp_path, settings(compile=True, epochs=2))
    compiled = lf.train(model(), TEXT, CF, tmp_path, settings(compile=True))
    assert same(weights(plain.model), weights(compiled.model))
    assert same(weights(plain.model), weights(lf.Letter.from_pretrained(tmp_path)))


def test_early_stop_keeps_the_best_weights() -> None:
    records: list[dict[str, object]] = []
    options = dict(epochs=400, early_stop="collision_rate", patience=2, evaluate_every=1)
    result = lf.train(model(), TEXT, CF, settings=settings(**options), on_epoch=records.append)
    assert result.stopped_early
    rates = [float(record["collision_rate"]) for record in records]
    codes = result.model.encode(TEXT)
    final = 1 - len(codes.unique(dim=0)) / len(codes)
    assert final == pytest.approx(min(rates))


def test_moving_averages_learn_and_only_they_move_the_codebooks() -> None:
    letter = model(**EMA, ema_decay=0.9)
    lf.train(letter, TEXT, CF, settings=settings(epochs=1, learning_rate=1e-30))
    start = letter.quantizer.codebooks.detach().clone()
    records: list[dict[str, object]] = []
    still = settings(epochs=3, learning_rate=1e-30, weight_decay=0.9)
    lf.train(letter, TEXT, CF, settings=still)
    assert not torch.equal(letter.quantizer.codebooks, start)
    assert bool(letter.quantizer.ema_weights.any())

    lf.train(model(**EMA), TEXT, CF, settings=settings(epochs=20), on_epoch=records.append)
    assert records[-1]["loss"] < records[0]["loss"]


@pytest.mark.parametrize("shape", [dict(diversity_weight=0.0), EMA])
def test_dead_codewords_are_revived(shape: dict[str, object]) -> None:
    def used(revive_after: int) -> float:
        letter = model(**shape)
        lf.train(
            letter,
            TEXT,
            CF,
            settings=settings(epochs=10, start="random", revive_after=revive_after),
        )
        codes = letter.encode(TEXT)
        return sum(len(codes[:, level].unique()) for level in range(2))

    assert used(1) > used(0)


def test_what_does_not_fit_is_refused(tmp_path: Path) -> None:
    for arguments, message in (
        ((model(), TEXT[:, :5], CF), "width 5, the model expects 12"),
        ((model(), TEXT), "no collaborative embeddings"),
        ((model(), TEXT, CF[:, :3]), "set cf_dim=3"),
        ((model(), TEXT, CF[:9]), "has 9 rows"),
        ((model(), TEXT[:7], CF[:7]), "7 items, fewer than the 8 codewords"),
    ):
        with pytest.raises(ValueError, match=message):
            lf.train(*arguments, settings=settings())
    with pytest.raises(ValueError, match="is a file"):
        (tmp_path / "file").write_text("")
        lf.train(model(), TEXT, CF, tmp_path / "file", settings())
    with pytest.raises(ValueError, match="lower learning_rate"):
        lf.train(model(), TEXT, CF, settings=settings(learning_rate=1e30))
    with pytest.raises(ValueError, match="batch_size must be at least 1"):
        settings(batch_size=0)
    with pytest.raises(ValueError, match="did you mean 'cosine'"):
        settings(schedule="cosin")
    with pytest.raises(ValueError, match="did you mean 'batch_size'"):
        lf.TrainSettings.from_dict({"batchsize": 3})


def test_bad_rows_are_found_before_anything_is_written(tmp_path: Path) -> None:
    broken = TEXT.clone()
    broken[140, 3] = torch.nan
    with pytest.raises(ValueError, match="row 140 holds NaN"):
        lf.train(model(), broken, CF, tmp_path / "out", settings())
    assert not (tmp_path / "out").exists()


def test_tensorboard_and_log(tmp_path: Path) -> None:
    lf.train(model(), TEXT, CF, tmp_path, settings(tensorboard=True))
    assert list((tmp_path / "tensorboard").glob("events*"))
    log = tmp_path / "log.jsonl"
    assert all(json.loads(line)["seconds"] >= 0 for line in log.read_text().splitlines())
    log.write_text(log.read_text() + '{"epoch": 7, "lo')
    assert len(read_log(tmp_path)) == 6
