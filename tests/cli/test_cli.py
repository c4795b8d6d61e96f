"""The commands do their job; bad input gives exit code 2, one line, and no output file."""

from __future__ import annotations

import dataclasses
import errno
import inspect
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import letter_fast as lf
from letter_fast.cli.app import run
from letter_fast.cli.config import build, chosen_model, read_options
from letter_fast.cli.train import train
from letter_fast.tokenization import SemanticIds, finished
from letter_fast.training import FitSettings
from tests.support import oracle

TEXT = oracle.clustered(120, 10, 8, seed=1).numpy()
CF = oracle.clustered(120, 4, 5, seed=2).numpy()
SMALL = ["--hidden", "16", "--latent-dim", "4", "--codebook-size", "8,8,16", "--epochs", "3"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A catalog and a trained model."""
    root = tmp_path_factory.mktemp("cli")
    ids = [f"item-{row}" for row in range(120)]
    pq.write_table(pa.table({"item_id": ids, "vector": list(TEXT)}), root / "text.parquet")
    np.save(root / "text.npy", TEXT)
    np.save(root / "cf.npy", CF)
    arguments = [str(root / "text.npy"), "--cf", str(root / "cf.npy")]
    assert run(["train", *arguments, "--out", str(root / "run"), *SMALL]) == 0
    return root


def test_train_tokenize_evaluate(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    table, index = folder / "ids.parquet", folder / "index.json"
    text = str(folder / "text.parquet")
    arguments = [str(folder / "run"), text, "--out", str(table), "--index-json", str(index)]
    capfd.readouterr()
    assert run(["tokenize", *arguments, "--json"]) == 0
    report = json.loads(capfd.readouterr().out)
    assert report["after"]["collision_rate"] == 0.0
    ids = SemanticIds.load(table)
    assert len(ids) == 120
    assert ids.items_of(ids.codes_of("item-7")) == ["item-7"]
    assert len(json.loads(index.read_text())) == 120

    first = table.read_bytes()
    assert run(["tokenize", *arguments, "--existing", str(table), "--removed", "free"]) == 0
    assert "nothing new" in capfd.readouterr().out
    assert table.read_bytes() == first
    assert run(["tokenize", *arguments]) == 0
    assert "largest group" in capfd.readouterr().out
    assert table.read_bytes() == first

    capfd.readouterr()
    plots = folder / "plots"
    more = ["--cf", str(folder / "cf.npy"), "--cf-by-row", "--plots", str(plots), "--json"]
    assert run(["evaluate", str(folder / "run"), "--embeddings", text, *more]) == 0
    result = json.loads(capfd.readouterr().out)[str(folder / "run")]
    assert len(result["usage"]) == 3
    assert {path.name for path in plots.iterdir()} == {
        "usage.png", "losses.png", "perplexity.png",
    }  # fmt: skip
    assert run(["evaluate", str(folder / "run"), "--embeddings", text, "--ids", str(table)]) == 0
    assert "codes used, level 3" in capfd.readouterr().out


def refused(arguments: list[str], capfd: pytest.CaptureFixture[str]) -> str:
    """The one line that a command ends with."""
    capfd.readouterr()
    assert run(arguments) == 2
    captured = capfd.readouterr()
    assert captured.out == ""
    assert len(captured.err.splitlines()) == 1
    return captured.err


def test_tokenize_goes_on_where_it_failed(
    folder: Path,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(finished, "_ROWS", 16)
    shards, out = tmp_path / "shards", tmp_path / "ids.parquet"
    shards.mkdir()
    for number, part in enumerate(np.split(TEXT, 3)):
        np.save(shards / f"{number}.npy", part)
    arguments = ["tokenize", str(folder / "run"), str(shards), "--out", str(out), "--margins"]
    arguments += ["--batch-size", "8"]
    unfinished = tmp_path / "ids.parquet.unfinished"

    with monkeypatch.context() as patch:
        syncs = iter(range(100))

        def full(_: int) -> None:
            if next(syncs) >= 4:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        patch.setattr(os, "fsync", full)
        said = refused(arguments, capfd)
    assert "No space left on device" in said
    assert "ids.parquet.unfinished/codes-000003-" in said
    assert len(list(unfinished.glob("codes-*"))) == 3

    assert "differs: margins); finish" in refused([a for a in arguments if a != "--margins"], capfd)
    assert run([*arguments, "--json"]) == 0
    report = json.loads(capfd.readouterr().out)
    assert (report["encoded"], report["found_finished"]) == (120 - 48, 48)
    assert list(tmp_path.iterdir()) in ([shards, out], [out, shards])
    first = out.read_bytes()
    assert SemanticIds.load(out).margins is not None

    broken = TEXT[40:80].copy()
    broken[30, 1] = np.nan
    np.save(shards / "1.npy", broken)
    assert "1.npy: row 30 holds NaN or Inf" in refused(arguments, capfd)
    assert len(list(unfinished.glob("codes-*"))) == 4
    np.save(shards / "1.npy", TEXT[40:80])
    assert "what differs: input" in refused(arguments, capfd)
    assert out.read_bytes() == first
    assert run([*arguments, "--fresh"]) == 0
    assert "120 items encoded" in capfd.readouterr().out
    assert out.read_bytes() == first
    assert not unfinished.exists()


KMEANS = ["--model", "residual-kmeans", "--codebook-size", "8,4,16"]


@pytest.fixture(scope="module")
def kmeans(folder: Path) -> Path:
    """A fitted residual k-means of the same catalog."""
    text = str(folder / "text.npy")
    assert run(["train", text, "--out", str(folder / "kmeans"), *KMEANS, "--balanced"]) == 0
    return folder / "kmeans"


def test_residual_kmeans_from_end_to_end(
    folder: Path, kmeans: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    text, table = str(folder / "text.parquet"), tmp_path / "ids.parquet"
    fitted = json.loads((kmeans / "config.json").read_text())
    assert fitted == {
        "model_type": "residual-kmeans", "input_dim": 10, "codebook_size": [8, 4, 16],
        "balanced": True, "normalize": "none", "training_facts": {"items": 120},
    }  # fmt: skip
    arguments = ["train", text, *KMEANS, "--balanced", "--seed", "2", "--iterations", "4"]
    capfd.readouterr()
    assert run([*arguments, "--out", str(tmp_path / "json"), "--json"]) == 0
    report = json.loads(capfd.readouterr().out)
    assert report["levels"] == 3
    assert len(report["usage"]) == len(report["latent_error"]) == 3
    assert run([*arguments, "--out", str(tmp_path / "said"), "--restarts", "2"]) == 0
    said = capfd.readouterr()
    assert "level 3: " in said.out
    assert f"next: letter-fast tokenize {tmp_path / 'said'} {text}" in said.out
    assert said.err == ""

    assert run(["tokenize", str(kmeans), text, "--out", str(table), "--json"]) == 0
    assert json.loads(capfd.readouterr().out)["after"]["collision_rate"] == 0.0
    ids = SemanticIds.load(table)
    assert ids.items_of(ids.codes_of("item-7")) == ["item-7"]
    model = lf.ResidualKMeans.from_pretrained(kmeans)
    assert ids.metadata["model"] == model.fingerprint()

    both = ["evaluate", str(kmeans), str(folder / "run"), "--embeddings", text]
    cf = ["--cf", str(folder / "cf.npy"), "--cf-by-row"]
    assert run([*both, *cf, "--plots", str(tmp_path / "plots")]) == 0
    assert "latent error, level 3" in capfd.readouterr().out
    assert [path.name for path in (tmp_path / "plots" / "kmeans").iterdir()] == ["usage.png"]


def test_residual_kmeans_by_config_file(folder: Path, tmp_path: Path) -> None:
    config = tmp_path / "run.toml"
    config.write_text(
        '[model]\nmodel_type = "residual-kmeans"\ncodebook_size = [8, 8]\nnormalize = "unit"\n'
        "[training]\niterations = 3\ntolerance = 0.01\nseed = 5\nallow_collisions = true\n"
    )
    arguments = [str(folder / "text.npy"), "--out", str(tmp_path), "--config", str(config)]
    assert run(["train", *arguments, "--codebook-size", "4,8"]) == 0
    wanted = lf.ResidualKMeansConfig(10, (4, 8), normalize="unit")
    by_hand = lf.ResidualKMeans(wanted).fit(TEXT, iterations=3, tolerance=0.01, seed=5)
    assert lf.ResidualKMeans.from_pretrained(tmp_path).fingerprint() == by_hand.fingerprint()


def test_config_file_and_flags_that_override_it(folder: Path, tmp_path: Path) -> None:
    config = tmp_path / "run.toml"
    config.write_text(
        "[model]\nhidden = [8]\nlatent_dim = 4\ncodebook_size = [8, 8]\ncf_weight = 0.5\n"
        "[training]\nepochs = 2\nseed = 5\nallow_collisions = true\n"
    )
    arguments = [str(folder / "text.npy"), "--cf", str(folder / "cf.npy"), "--out", str(tmp_path)]
    assert run(["train", *arguments, "--config", str(config), "--epochs", "1"]) == 0
    saved = json.loads((tmp_path / "config.json").read_text())
    assert (saved["hidden"], saved["cf_weight"]) == ([8], 0.5)
    assert len((tmp_path / "log.jsonl").read_text().splitlines()) == 1


def test_moving_averages(folder: Path, tmp_path: Path) -> None:
    ema = ["--codebook-update", "ema", "--ema-decay", "0.9", "--diversity-weight", "0"]
    arguments = [str(folder / "text.npy"), "--out", str(tmp_path / "run"), *SMALL, *ema]
    assert run(["train", *arguments]) == 0
    model = lf.Letter.from_pretrained(tmp_path / "run")
    assert model.quantizer.ema_decay == 0.9
    assert model.quantizer.ema_weights is not None
    table = tmp_path / "ids.parquet"
    assert (
        run(["tokenize", str(tmp_path / "run"), str(folder / "text.npy"), "--out", str(table)]) == 0
    )


@pytest.mark.parametrize("rows", [120, 5])
def test_progress_is_drawn_on_a_terminal_and_vanishes_on_failure(
    folder: Path,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    rows: int,
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")  # makes rich take stderr for a terminal
    np.save(tmp_path / "text.npy", TEXT[:rows])
    arguments = ["train", str(tmp_path / "text.npy"), "--out", str(tmp_path / "run"), *SMALL]
    capfd.readouterr()
    code = run(arguments)
    drawn = capfd.readouterr().err
    assert "training" in drawn
    if rows == 120:
        assert code == 0
        assert "3/3" in drawn
        assert "epochs/s" in drawn
        assert "collisions" in drawn
    else:
        assert code == 2
        assert "5 items, fewer than the 16 codewords of a level" in drawn.splitlines()[-1]
        assert "\x1b[2K" in drawn  # the line of the bar is erased


def flags() -> dict[str, Any]:
    """The options of train that are fields, by name."""
    return {
        name: flag.default
        for name, flag in inspect.signature(train).parameters.items()
        if hasattr(flag.default, "help")
    }


def test_help_states_the_defaults() -> None:
    defaults = {
        field.name: field.default
        for options in (FitSettings, lf.ResidualKMeansConfig, lf.LetterConfig, lf.TrainSettings)
        for field in dataclasses.fields(options)
    }
    for name, flag in flags().items():
        value = defaults[name]
        shown = ",".join(map(str, value)) if isinstance(value, tuple) else str(value)
        stated = not isinstance(value, bool) and shown != ""
        assert flag.help.endswith(f"({shown})") == stated, name
    assert "256,256,256 with --model residual-kmeans. (" in flags()["codebook_size"].help


def test_every_field_has_its_flag() -> None:
    """Those of the inputs' shapes are measured."""
    for options in (lf.ResidualKMeansConfig, FitSettings, lf.LetterConfig, lf.TrainSettings):
        named = {field.name for field in dataclasses.fields(options)}
        assert named - flags().keys() <= {"input_dim", "cf_dim"}, options


@pytest.mark.parametrize(
    ("name", "classes"),
    [
        ("train.toml", (lf.LetterConfig, lf.TrainSettings)),
        ("residual_kmeans.toml", (lf.ResidualKMeansConfig, FitSettings)),
    ],
)
def test_the_example_configurations_are_valid(name: str, classes: tuple[Any, Any]) -> None:
    path = Path(__file__).parents[2] / "examples" / name
    assert all(read_options(path))
    config, _ = build(path, {}, *classes, {"input_dim": 8})
    assert config.model_type == chosen_model(path, None)


def write_bad(root: Path) -> dict[str, str]:
    nan = TEXT.copy()
    nan[5, 1] = np.nan
    np.save(root / "nan.npy", nan)
    np.save(root / "ints.npy", np.ones((9, 10), dtype=np.int64))
    np.save(root / "empty.npy", np.ones((0, 10), dtype=np.float32))
    np.save(root / "narrow.npy", TEXT[:, :3])
    np.save(root / "few.npy", TEXT[:5])
    (root / "bad.toml").write_text("[model]\nlatent = 3\n")
    (root / "worse.toml").write_text("[model\n")
    (root / "type.toml").write_text('[training]\nepochs = "many"\n')
    (root / "float.toml").write_text("[model]\nlatent_dim = 4.0\n")
    (root / "bool.toml").write_text("[training]\nepochs = true\n")
    (root / "list.toml").write_text("[model]\nhidden = 16\n")
    (root / "nan.toml").write_text("[model]\ncf_weight = nan\n")
    (root / "table.toml").write_text("[modle]\n")
    (root / "which.toml").write_text('[model]\nmodel_type = "residual_kmeans"\n')
    (root / "mixed.toml").write_text('[model]\nmodel_type = "residual-kmeans"\nhidden = [8]\n')
    (root / "file").write_text("")
    whole = (root / "narrow.npy").read_bytes()
    (root / "cut.npy").write_bytes(whole[: len(whole) // 2])
    pq.write_table(pa.table({"v": list(TEXT)}), root / "cut.parquet")
    whole = (root / "cut.parquet").read_bytes()
    (root / "cut.parquet").write_bytes(whole[: len(whole) // 2])
    others = [f"other-{row}" for row in range(len(CF))]
    pq.write_table(pa.table({"item_id": others, "v": list(CF)}), root / "others.parquet")
    return {path.name: str(path) for path in root.iterdir()}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train", "absent.npy", "--out", "OUT"], "does not exist"),
        (["train", "nan.npy", "--out", "OUT", "--codebook-size", "8,16"], "row 5 holds NaN"),
        (
            ["train", "text.npy", "--out", "OUT", "--codebook-size", "8,4"],
            "has 120 items, but codebooks of [8, 4] make only 32 IDs",
        ),
        (
            [
                "train",
                "text.npy",
                "--out",
                "OUT",
                "--model",
                "residual-kmeans",
                "--codebook-size",
                "8,4",
            ],
            "make only 32 IDs",
        ),
        (["train", "ints.npy", "--out", "OUT"], "got int64"),
        (["train", "empty.npy", "--out", "OUT"], "is empty"),
        (["train", "few.npy", "--out", "OUT"], "5 items, fewer than the 256"),
        (
            ["train", "text.npy", "--cf", "few.npy", "--out", "OUT", "--codebook-size", "8"],
            "has 5 rows",
        ),
        (["train", "text.npy", "--out", "OUT", "--epoch", "3"], "--epoch"),
        (["train", "text.npy", "--out", "OUT", "--epochs", "x"], "--epochs"),
        (["train", "text.npy", "--out", "OUT", "--epochs", "0"], "epochs must be at least 1"),
        (["train", "text.npy", "--out", "OUT", "--hidden", "a"], "joined by commas"),
        (["train", "text.npy", "--out", "OUT", "--config", "bad.toml"], "did you mean"),
        (["train", "text.npy", "--out", "OUT", "--config", "worse.toml"], "is not TOML"),
        (["train", "text.npy", "--out", "OUT", "--config", "type.toml"], "epochs must be an int"),
        (["train", "text.npy", "--out", "OUT", "--config", "float.toml"], "float.toml: latent_dim"),
        (["train", "text.npy", "--out", "OUT", "--config", "bool.toml"], "bool.toml: epochs must"),
        (["train", "text.npy", "--out", "OUT", "--config", "list.toml"], "hidden must be a list"),
        (["train", "text.npy", "--out", "OUT", "--config", "nan.toml"], "finite number, got nan"),
        (["train", "text.npy", "--out", "OUT", "--config", "table.toml"], "did you mean 'model'"),
        (
            ["train", "text.npy", "--out", "file", "--codebook-size", "8"],
            "there is a file of that name",
        ),
        (["train", "text.npy", "--out", "OUT", "--ids", "item"], "has no columns"),
        (["train", "text.npy", "--out", "OUT", "--vectors", "x"], "has no columns"),
        (["train", "cut.npy", "--out", "OUT"], "cut.npy can't be read as npy"),
        (["train", "cut.parquet", "--out", "OUT"], "cut.parquet can't be read as parquet"),
        (
            [
                "train",
                "text.parquet",
                "--cf",
                "others.parquet",
                "--out",
                "OUT",
                "--codebook-size",
                "8",
            ],
            "lacks 120 of 120",
        ),
        (["train", "bad", "--out", "OUT"], "which holds no embeddings that can be read"),
        (["train", "text.npy", "--out", "OUT", "--config", "none.toml"], "does not exist"),
        (["train", "text.npy", "--out", "OUT", "--device", "gpu"], "can't be used"),
        (["train", "nan.npy", "--out", "OUT", *KMEANS], "row 5 holds NaN or Inf"),
        (["train", "few.npy", "--out", "OUT", *KMEANS], "5 items, fewer than the 16 codewords"),
        (["train", "text.npy", "--out", "OUT", *KMEANS, "--cf", "cf.npy"], "leave out --cf"),
        (
            ["train", "text.npy", "--out", "OUT", *KMEANS, "--batch-size", "3"],
            "--batch-size is not an option of --model residual-kmeans",
        ),
        (["train", "text.npy", "--out", "OUT", "--balanced"], "not an option of --model letter"),
        (["train", "text.npy", "--out", "OUT", "--codebook-update", "ema"], "diversity_weight=0"),
        (["train", "text.npy", "--out", "OUT", *KMEANS, "--iterations", "0"], "at least 1, got 0"),
        (["train", "text.npy", "--out", "OUT", *KMEANS, "--normalize", "l2"], "one of none, unit"),
        (["train", "text.npy", "--out", "OUT", *KMEANS, "--device", "gpu"], "can't be used"),
        (["train", "text.npy", "--out", "file", *KMEANS], "there is a file of that name"),
        (["train", "text.npy", "--out", "OUT", "--model", "kmeans"], "--model must be one of"),
        (["train", "text.npy", "--out", "OUT", "--config", "which.toml"], "which.toml: model_type"),
        (["train", "text.npy", "--out", "OUT", "--config", "mixed.toml"], "option 'hidden'"),
        (["tokenize", "KMEANS", "narrow.npy", "--out", "OUT.parquet"], "width 3, the model expect"),
        (["evaluate", "KMEANS", "--embeddings", "narrow.npy"], "width 3"),
        (["tokenize", "RUN", "narrow.npy", "--out", "OUT.parquet"], "width 3, the model expects"),
        (["tokenize", "RUN", "nan.npy", "--out", "OUT.parquet"], "row 5"),
        (["tokenize", "nowhere", "text.npy", "--out", "OUT.parquet"], "not a folder"),
        (["tokenize", "RUN", "text.npy", "--out", "OUT.csv"], "must end in .parquet"),
        (["tokenize", "RUN", "text.npy", "--out", "file/x.parquet"], "can't be written"),
        (
            ["tokenize", "RUN", "text.npy", "--out", "OUT.parquet", "--index-json", "RUN"],
            "a folder",
        ),
        (["tokenize", "RUN", "text.npy", "--out", "OUT.parquet", "--unique", "x"], "one of none"),
        (
            ["tokenize", "RUN", "text.npy", "--out", "OUT.parquet", "--removed", "x"],
            "one of reserve",
        ),
        (["tokenize", "RUN", "text.npy", "--out", "OUT.parquet", "--existing", "nan.npy"], "ID t"),
        (["evaluate", "RUN", "--embeddings", "narrow.npy"], "width 3"),
        (["demo", "--items", "3"], "at least 256"),
        (["tokenise"], "No such command"),
    ],
)
def test_bad_input(
    folder: Path,
    kmeans: Path,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    arguments: list[str],
    message: str,
) -> None:
    bad = tmp_path / "bad"
    bad.mkdir()
    names = {**write_bad(bad), "RUN": str(folder / "run"), "KMEANS": str(kmeans)}
    names |= {name: str(folder / name) for name in ("text.npy", "text.parquet", "cf.npy")}
    names |= {"bad": str(bad), "file/x.parquet": str(bad / "file" / "x.parquet")}
    outputs = {"OUT": "out", "OUT.parquet": "out.parquet", "OUT.csv": "out.csv"}
    names |= {name: str(tmp_path / file) for name, file in outputs.items()}
    capfd.readouterr()
    assert run([names.get(argument, argument) for argument in arguments]) == 2
    captured = capfd.readouterr()
    assert captured.out == ""
    assert len(captured.err.splitlines()) == 1
    assert captured.err.startswith("letter-fast: ")
    assert message in captured.err
    assert list(tmp_path.iterdir()) == [bad]


def test_help_is_quick_about_imports() -> None:
    import subprocess
    import sys

    code = (
        "import sys; from letter_fast.cli.app import run; run(['train', '--help']);"
        "assert 'torch' not in sys.modules and 'sklearn' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
