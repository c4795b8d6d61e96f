"""Residual k-means into a folder: whole or not at all, resumed by level, refused by name."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import letter_fast as lf
from letter_fast.training import FitSettings, fit_residual_kmeans
from tests.support import oracle

ROWS = oracle.clustered(120, 6, 9, seed=1)
SETTINGS = FitSettings(iterations=5, seed=3)


def model(**options: object) -> lf.ResidualKMeans:
    return lf.ResidualKMeans(lf.ResidualKMeansConfig(6, (8, 4, 5), **options))


def test_the_settings_are_those_of_fit(tmp_path: Path) -> None:
    for settings, options in (
        (FitSettings(), {}),
        (FitSettings(2, 3, 0.1, 4), dict(iterations=2, restarts=3, tolerance=0.1, seed=4)),
    ):
        fit_residual_kmeans(model(), ROWS, tmp_path, settings, resume=False)
        saved = lf.ResidualKMeans.from_pretrained(tmp_path)
        assert saved.fingerprint() == model().fit(ROWS, **options).fingerprint()


@pytest.mark.parametrize("broken_at", [1, 2, 3])
@pytest.mark.parametrize("balanced", [False, True])
def test_a_broken_run_resumes_with_the_same_bits(
    tmp_path: Path, broken_at: int, balanced: bool
) -> None:
    class Killed(Exception):
        pass

    def kill(levels: int) -> None:
        if levels == broken_at:
            raise Killed

    whole, pieces = tmp_path / "whole", tmp_path / "pieces"
    fit_residual_kmeans(model(balanced=balanced), ROWS, whole, SETTINGS)
    with pytest.raises(Killed):
        fit_residual_kmeans(model(balanced=balanced), ROWS, pieces, SETTINGS, on_level=kill)
    assert [path.name for path in pieces.iterdir()] == ["checkpoint.pt"]
    seen: list[int] = []
    fit_residual_kmeans(model(balanced=balanced), ROWS, pieces, SETTINGS, on_level=seen.append)
    assert seen == [1, 2, 3][broken_at:]
    for name in ("model.safetensors", "config.json"):
        assert (whole / name).read_bytes() == (pieces / name).read_bytes()


def test_another_run_s_checkpoint_is_refused(tmp_path: Path) -> None:
    fit_residual_kmeans(model(), ROWS, tmp_path, SETTINGS)
    first = (tmp_path / "model.safetensors").read_bytes()
    for other, rows, settings, message in (
        (model(), ROWS, FitSettings(iterations=5), r"other settings \(seed was 3, is 0\)"),
        (model(balanced=True), ROWS, SETTINGS, r"other model \(balanced was False, is True\)"),
        (model(), ROWS + 1, SETTINGS, "other embeddings"),
    ):
        with pytest.raises(ValueError, match=message):
            fit_residual_kmeans(other, rows, tmp_path, settings)
    assert (tmp_path / "model.safetensors").read_bytes() == first
    fit_residual_kmeans(model(), ROWS + 1, tmp_path, SETTINGS, resume=False)
    assert (tmp_path / "model.safetensors").read_bytes() != first


def test_bad_input_is_found_before_anything_is_written(tmp_path: Path) -> None:
    broken = ROWS.clone()
    broken[77, 2] = torch.nan
    for rows, message in (
        (broken, "row 77 holds NaN"),
        (ROWS[:7], "7 items, fewer than the 8"),
        (ROWS[:, :5], "width 5, the model expects 6"),
    ):
        with pytest.raises(ValueError, match=message):
            fit_residual_kmeans(model(), rows, tmp_path / "out", SETTINGS)
    assert not (tmp_path / "out").exists()


def test_bad_settings() -> None:
    for values, message in (
        (dict(iterations=0), "iterations must be at least 1"),
        (dict(restarts=0), "restarts must be at least 1"),
        (dict(tolerance=-1.0), "tolerance must be at least 0"),
        (dict(seed=1.5), "seed must be an integer"),
        (dict(iteration=5), "did you mean 'iterations'"),
    ):
        with pytest.raises(ValueError, match=message):
            FitSettings.from_dict(values)
