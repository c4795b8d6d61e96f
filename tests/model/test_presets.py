"""The preset in Python and on the command line, and what may not be asked of it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import letter_fast as lf
from letter_fast.cli.app import run

ROWS = np.random.default_rng(0).standard_normal((60, 16)).astype(np.float32)
CF = np.random.default_rng(1).standard_normal((60, 8)).astype(np.float32)


def test_it_is_the_documented_recipe_and_fields_of_yours_win() -> None:
    config = lf.LetterConfig.preset("recommended", input_dim=384)
    assert (config.cf_similarity, config.cf_temperature) == ("cosine", 0.2)
    assert config.cf_weight == pytest.approx(0.1 / 384)
    assert config.diversity_weight == lf.LetterConfig(input_dim=384).diversity_weight
    assert lf.LetterConfig.preset("recommended", input_dim=384, cf_weight=0.5).cf_weight == 0.5
    settings = lf.TrainSettings.preset("recommended", epochs=3)
    assert (settings.revive_after, settings.epochs) == (5, 3)
    assert lf.LetterConfig(input_dim=384).cf_similarity == "product"  # the public code's


def test_no_other_name_and_no_unknown_field() -> None:
    with pytest.raises(ValueError, match="preset must be"):
        lf.LetterConfig.preset("best", input_dim=3)
    with pytest.raises(ValueError, match="preset must be"):
        lf.TrainSettings.preset("best")
    with pytest.raises(ValueError, match="did you mean 'cf_weight'"):
        lf.LetterConfig.preset("recommended", input_dim=3, cf_weigth=1.0)
    with pytest.raises(ValueError, match="input_dim"):
        lf.LetterConfig.preset("recommended", input_dim=0)


def test_on_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    np.save(tmp_path / "text.npy", ROWS)
    np.save(tmp_path / "cf.npy", CF)
    rest = ["--hidden", "16", "--latent-dim", "8", "--codebook-size", "4,16", "--epochs", "1"]

    def trained(*more: str) -> int:
        out = ["--out", str(tmp_path / f"run{len(more)}")]
        return run(["train", str(tmp_path / "text.npy"), *out, *rest, *more])

    cf = ["--cf", str(tmp_path / "cf.npy")]
    assert trained("--preset", "recommended", *cf) == 0
    kept = json.loads((tmp_path / "run4" / "config.json").read_text())
    assert kept["cf_similarity"] == "cosine"
    assert kept["cf_weight"] == pytest.approx(0.1 / 16)
    assert trained("--preset", "recommended", "--cf-weight", "0.5", *cf) == 0
    assert json.loads((tmp_path / "run6" / "config.json").read_text())["cf_weight"] == 0.5
    # without CF an RQ-VAE, as without a preset
    assert trained("--preset", "recommended") == 0
    assert json.loads((tmp_path / "run2" / "config.json").read_text())["cf_weight"] == 0
    capsys.readouterr()
    assert trained("--preset", "best", *cf) == 2
    assert "preset must be" in capsys.readouterr().err
    assert trained("--model", "residual-kmeans", "--preset", "recommended", *cf) == 2
    assert "--preset is not an option of --model residual-kmeans" in capsys.readouterr().err
