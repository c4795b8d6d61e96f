"""Measures against literal formulas, and against the published IDs' known figures."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import letter_fast as lf
from letter_fast.evaluation import comparison_table, evaluate
from letter_fast.evaluation.measures import cf_recall, code_overlap, level_spread
from letter_fast.evaluation.plots import plot_run, plot_usage
from letter_fast.model import LetterConfig
from tests.support import oracle


def test_spread_of_even_and_single_use() -> None:
    assert level_spread(np.arange(8), 8) == (1.0, 3.0)
    assert level_spread(np.zeros(5, dtype=np.int64), 4) == (0.25, 0.0)


@pytest.mark.parametrize(
    ("catalog", "used", "perplexity"),
    [("instruments", 150, 71.6), ("beauty", 197, 82.7), ("yelp", 256, 237.5)],
)
def test_published_level_one(shared_data: Path, catalog: str, used: int, perplexity: float) -> None:
    codes = np.load(shared_data / catalog / "published_letter_ids.npy").astype(np.int64)
    usage, entropy = level_spread(codes[:, 0], 256)
    assert usage == used / 256
    assert 2**entropy == pytest.approx(perplexity, abs=0.06)


def test_recall_counts_ranks() -> None:
    q, h = torch.randn(60, 4), torch.randn(60, 4)
    h[7] = 0.0
    ranks = (q @ h.T).argsort(dim=1, descending=True)
    hits = [int(i in ranks[i, :10].tolist()) for i in range(60) if i != 7]
    assert cf_recall(q, h) == pytest.approx(sum(hits) / 59)
    assert cf_recall(h * 100, h / h.norm(dim=1, keepdim=True).clamp(min=1e-9)) == 1.0
    assert cf_recall(q, torch.zeros_like(h)) == 0.0


def test_overlap_with_neighbours() -> None:
    h = torch.nn.functional.normalize(torch.randn(30, 3), dim=1)
    codes = np.random.default_rng(0).integers(0, 4, size=(30, 3))
    similar = h.double() @ h.double().T
    similar.fill_diagonal_(-2)
    near = similar.topk(10, dim=1).indices.numpy()
    expected = np.mean([(codes[i] == codes[near[i]]).mean() for i in range(30)])
    shared, chance = code_overlap(codes, h)
    assert shared == pytest.approx(expected)
    pairs = [(codes[i] == codes[j]).mean() for i in range(30) for j in range(30) if i != j]
    assert chance == pytest.approx(np.mean(pairs), abs=0.01)


def test_evaluation_of_a_model(tmp_path: Path) -> None:
    text, cf = oracle.clustered(90, 10, 6, seed=1), oracle.clustered(90, 4, 5, seed=2)
    config = lf.LetterConfig(input_dim=10, hidden=(8,), latent_dim=4, codebook_size=(8, 6))
    model = lf.Letter(config)
    settings = lf.TrainSettings(epochs=3, batch_size=32, allow_collisions=True)
    lf.train(model, text, cf, tmp_path, settings)
    result = evaluate(model, text, cf, batch_size=17)
    z = model.encode_latents(text)
    codes = model.encode(text)
    for level in range(2):
        q = model.quantizer.decode(codes[:, : level + 1]).detach()
        ratio = float((z - q).square().sum() / z.square().sum())
        assert result.latent_error[level] == pytest.approx(ratio, rel=1e-4)
    recon = float((model.reconstruct(codes) - text).square().mean())
    assert result.reconstruction == pytest.approx(recon, rel=1e-4)
    assert result.collision_rate == pytest.approx(1 - len(codes.unique(dim=0)) / 90)
    assert comparison_table({"a": result, "b": result}).row_count > 10

    ids = lf.tokenize(model, text, "suffix")
    suffixed = evaluate(model, text, ids=ids)
    assert suffixed.collision_rate == 0.0
    assert len(suffixed.usage) == 3
    assert suffixed.cf_recall is None
    comparison_table({"a": result, "suffix": suffixed})
    fewer = evaluate(model, text[:80], ids=ids)
    assert (fewer.items, fewer.beyond, fewer.first_beyond) == (80, 10, 80)
    with pytest.raises(ValueError, match="width 3, the model"):
        evaluate(model, text, cf[:, :3])


def test_plots_are_pictures(tmp_path: Path) -> None:
    config = LetterConfig(input_dim=4, codebook_size=(6, 6))
    record = dict(loss=2.0, recon=1.0, quantization=1.0, cf=0.0, diversity=0.5)
    records = [{"epoch": e, **record, "catalog_perplexity": [3.0, e]} for e in (1, 2, 3)]
    usage = plot_usage(tmp_path, np.arange(12)[:, None] % 5, [6])
    for path in [*plot_run(tmp_path, records, config), usage]:
        assert path.read_bytes().startswith(b"\x89PNG")
    assert plot_run(tmp_path, [{"epoch": 1, **record}], config) == [tmp_path / "losses.png"]
    with pytest.raises(ValueError, match="nothing to plot"):
        plot_run(tmp_path, [], config)
