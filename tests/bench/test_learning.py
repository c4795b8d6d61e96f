"""The plain loop is the trainer's formula, so that both learn the same; curves become a picture."""

from __future__ import annotations

from pathlib import Path

import pytest

import letter_fast as lf
from letter_fast.bench import learning
from letter_fast.bench.training import Plain, started, synthetic

CATALOG = synthetic(300, 8)


@pytest.fixture(scope="module")
def runs() -> list[dict[str, object]]:
    config = lf.LetterConfig(
        input_dim=8, hidden=(16,), codebook_size=(8, 8), diversity_clusters=2, cf_weight=0.1
    )
    start = started(CATALOG, config, lf.TrainSettings(start="kmeans"))
    return [
        {"name": kind.name, "seed": 0, "epochs": learning.follow(kind, start, CATALOG, 0, 4)}
        for kind in (*learning.KINDS, Plain)
    ]


def test_all_learn_the_same(runs: list[dict[str, object]]) -> None:
    ours, *others = (run["epochs"] for run in runs)
    for plain in others:
        for epoch in range(4):
            for name in ("loss", "recon", "cf", "quantization"):
                assert plain[epoch][name] == pytest.approx(ours[epoch][name], rel=0.02)
            # Its positives are drawn: 300 rows of a spread of some tenths.
            assert plain[epoch]["diversity"] == pytest.approx(ours[epoch]["diversity"], abs=0.1)


def test_they_are_told_and_drawn(
    runs: list[dict[str, object]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    learning.tell(runs, 4)
    told = capsys.readouterr().out
    assert all(f"epoch {epoch}" in told for epoch in (1, 2, 4))
    assert "collisions" in told
    assert "perplexity 2" in told
    learning.plot(runs, 4, tmp_path / "curves.png")
    assert (tmp_path / "curves.png").stat().st_size > 10_000
