"""The commands do their job; bad input gives exit code 2, one line, and no output file."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import oracle
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from letter_fast.cli.app import run
from letter_fast.tokenization import SemanticIds

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
    arguments = [str(root / "text.parquet"), "--cf", str(root / "cf.npy")]
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
    assert run(["tokenize", *arguments, "--existing", str(table)]) == 0
    np.testing.assert_array_equal(SemanticIds.load(table).codes, ids.codes)
    assert run(["tokenize", *arguments]) == 0
    assert table.read_bytes() == first

    capfd.readouterr()
    plots = folder / "plots"
    more = ["--cf", str(folder / "cf.npy"), "--plots", str(plots), "--json"]
    assert run(["evaluate", str(folder / "run"), "--embeddings", text, *more]) == 0
    result = json.loads(capfd.readouterr().out)[str(folder / "run")]
    assert len(result["usage"]) == 3
    assert {path.name for path in plots.iterdir()} == {
        "usage.png", "losses.png", "perplexity.png",
    }  # fmt: skip
    assert run(["evaluate", str(folder / "run"), "--embeddings", text, "--ids", str(table)]) == 0
    assert "codewords used, level 3" in capfd.readouterr().out


def test_config_file_and_flags_that_override_it(folder: Path, tmp_path: Path) -> None:
    config = tmp_path / "run.toml"
    config.write_text(
        "[model]\nhidden = [8]\nlatent_dim = 4\ncodebook_size = [8, 8]\ncf_weight = 0.5\n"
        "[training]\nepochs = 2\nseed = 5\n"
    )
    arguments = [str(folder / "text.npy"), "--cf", str(folder / "cf.npy"), "--out", str(tmp_path)]
    assert run(["train", *arguments, "--config", str(config), "--epochs", "1"]) == 0
    saved = json.loads((tmp_path / "config.json").read_text())
    assert (saved["hidden"], saved["cf_weight"]) == ([8], 0.5)
    assert len((tmp_path / "log.jsonl").read_text().splitlines()) == 1


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
    return {path.name: str(path) for path in root.iterdir()}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train", "absent.npy", "--out", "OUT"], "does not exist"),
        (["train", "nan.npy", "--out", "OUT", "--codebook-size", "8"], "row 5 holds NaN or Inf"),
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
        (["train", "text.npy", "--out", "OUT", "--config", "type.toml"], "wrong type"),
        (["train", "text.npy", "--out", "OUT", "--config", "none.toml"], "does not exist"),
        (["train", "text.npy", "--out", "OUT", "--device", "gpu"], "can't be used"),
        (["tokenize", "RUN", "narrow.npy", "--out", "OUT.parquet"], "width 3, the model expects"),
        (["tokenize", "RUN", "nan.npy", "--out", "OUT.parquet"], "row 5"),
        (["tokenize", "nowhere", "text.npy", "--out", "OUT.parquet"], "not a folder"),
        (["tokenize", "RUN", "text.npy", "--out", "OUT.csv"], "must end in .parquet"),
        (["tokenize", "RUN", "text.npy", "--out", "OUT.parquet", "--unique", "x"], "one of none"),
        (["tokenize", "RUN", "text.npy", "--out", "OUT.parquet", "--existing", "nan.npy"], "ID t"),
        (["evaluate", "RUN", "--embeddings", "narrow.npy"], "width 3"),
        (["demo", "--items", "3"], "at least 256"),
        (["tokenise"], "No such command"),
    ],
)
def test_bad_input(
    folder: Path,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    arguments: list[str],
    message: str,
) -> None:
    bad = tmp_path / "bad"
    bad.mkdir()
    names = {**write_bad(bad), "RUN": str(folder / "run")}
    names |= {name: str(folder / name) for name in ("text.npy", "cf.npy")}
    outputs = {"OUT": "out", "OUT.parquet": "out.parquet", "OUT.csv": "out.csv"}
    names |= {name: str(tmp_path / file) for name, file in outputs.items()}
    capfd.readouterr()
    assert run([names.get(argument, argument) for argument in arguments]) == 2
    captured = capfd.readouterr()
    lines = [line for line in captured.err.splitlines() if line.startswith("letter-fast:")]
    assert len(lines) == 1
    assert message in lines[0]
    assert "Traceback" not in captured.err
    left = [path for path in tmp_path.rglob("*") if path.is_file() and bad not in path.parents]
    assert [path for path in left if path.name != "log.jsonl"] == []


def test_help_is_quick_about_imports() -> None:
    import subprocess
    import sys

    code = (
        "import sys; from letter_fast.cli.app import run; run(['train', '--help']);"
        "assert 'torch' not in sys.modules and 'sklearn' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
