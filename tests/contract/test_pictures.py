"""A picture shows what was trained and what is reported."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import letter_fast as lf
from letter_fast.evaluation import evaluate, plots
from letter_fast.model import LetterConfig
from letter_fast.training.journal import read_log
from tests.support import oracle

TEXT = oracle.clustered(120, 10, 8, seed=1).numpy()
CF = oracle.clustered(120, 4, 5, seed=2).numpy()
WEIGHTS = dict(cf_weight=0.3, diversity_weight=0.2, quantization_weight=0.7)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose last level is spread by Sinkhorn in training."""
    out = tmp_path_factory.mktemp("pictures") / "run"
    config = LetterConfig(
        input_dim=10, hidden=(16,), latent_dim=4, codebook_size=(8, 8, 8), cf_dim=4,
        sinkhorn_epsilon=(0, 0, 0.1), **WEIGHTS,
    )  # fmt: skip
    settings = lf.TrainSettings(epochs=3, batch_size=60, evaluate_every=3, checkpoint_every=1)
    lf.train(lf.Letter(config), TEXT, CF, out, settings)
    return out


@pytest.fixture
def figures(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The axes of each picture, by its file's name."""
    kept = {}
    save = plots._save

    def keeping(figure: Any, path: Path, *rest: Any) -> Path:
        kept[path.name] = figure.axes[0]
        return save(figure, path, *rest)

    monkeypatch.setattr(plots, "_save", keeping)
    return kept


def test_the_stacked_terms_add_up_to_the_loss(
    trained: Path, tmp_path: Path, figures: dict[str, Any]
) -> None:
    log, config = read_log(trained), lf.Letter.from_pretrained(str(trained)).config
    plots.plot_run(tmp_path, log, config)
    terms = plots.contributions(log, config)
    assert list(terms) == ["reconstruction", "quantization", "diversity", "CF"]
    np.testing.assert_allclose(
        np.sum(list(terms.values()), axis=0), [record["loss"] for record in log], rtol=1e-9
    )
    top = figures["losses.png"].collections[-1].get_paths()[0].vertices[:, 1].max()
    assert top == pytest.approx(max(record["loss"] for record in log))


def test_perplexity_is_of_the_catalog_not_of_sinkhorns_batches(
    trained: Path, tmp_path: Path, figures: dict[str, Any]
) -> None:
    log, model = read_log(trained), lf.Letter.from_pretrained(str(trained))
    plots.plot_run(tmp_path, log, model.config)
    reported = evaluate(model, TEXT).perplexity
    shown = [line.get_ydata()[-1] for line in figures["perplexity.png"].lines[:3]]
    np.testing.assert_allclose(shown, reported, rtol=1e-9)
    assert log[-1]["perplexity"][2] > reported[2] + 0.1  # what the batches would have shown
    plots.plot_usage(tmp_path, model.encode(torch.from_numpy(TEXT)).numpy(), [8, 8, 8])
    labels = [line.get_label() for line in figures["usage.png"].lines]
    assert labels[2] == f"level 3\n(perplexity {reported[2]:.1f})"


@pytest.mark.parametrize("name", ["epoch", "loss", "recon", "cf", "catalog_perplexity"])
@pytest.mark.parametrize("value", [None, "1", [], [1.0], {}, float("nan"), True])
def test_a_log_that_lacks_a_number_is_refused_in_one_line(
    trained: Path, tmp_path: Path, name: str, value: object
) -> None:
    log, config = read_log(trained), lf.Letter.from_pretrained(str(trained)).config
    log[-1][name] = value
    with pytest.raises(ValueError, match=f"the log's record of epoch .* has no number {name}"):
        plots.plot_run(tmp_path, log, config)
