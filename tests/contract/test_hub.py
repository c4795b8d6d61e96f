"""Models and tables go to a hub and come back; cards say settings, data, measures and licence."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import letter_fast as lf
from tests.support.hub_server import local_hub

ROWS = torch.randn(60, 8)
CONFIG = lf.LetterConfig(
    input_dim=8, hidden=(8,), latent_dim=4, codebook_size=(8, 8), cf_weight=0, diversity_weight=0
)
_JOURNEY = """
import json, sys, torch, numpy as np, letter_fast as lf
torch.manual_seed(0)
rows = torch.randn(60, 8)
model = lf.ResidualKMeans(lf.ResidualKMeansConfig(input_dim=8, codebook_size=(4, 4, 8))).fit(rows)
card = dict(license="cc-by-4.0", data="sixty rows", measures={"recall": 0.25})
model.push_to_hub("someone/tokenizer", model_card_kwargs=card)
ids = lf.tokenize(model, rows)
address = ids.push_to_hub("someone/tokenizer", license="cc-by-4.0")
ids.push_to_hub("someone/table", repo_type="dataset", file="monday.parquet", license="mit")
ids.push_to_hub("someone/bare")
again = lf.ResidualKMeans.from_pretrained("someone/tokenizer")
assert again.fingerprint() == model.fingerprint()
assert again.training_facts == {"items": 60}
for place in ({}, dict(repo_type="dataset", file="monday.parquet")):
    table = lf.SemanticIds.from_pretrained("someone/table" if place else "someone/bare", **place)
    assert np.array_equal(table.codes, ids.codes) and table.metadata["model"] == model.fingerprint()
assert np.array_equal(lf.SemanticIds.from_pretrained("someone/tokenizer").codes, ids.codes)
print(address)
"""


def test_models_and_tables_there_and_back(tmp_path: Path) -> None:
    with local_hub() as (address, files):
        done = subprocess.run(
            [sys.executable, "-c", _JOURNEY],
            env={
                **os.environ,
                "HF_ENDPOINT": address,
                "HF_HOME": str(tmp_path),
                "HF_TOKEN": "hf_test",
                "HF_HUB_DISABLE_XET": "1",
                "HF_HUB_DISABLE_TELEMETRY": "1",
                "PYTHONPATH": str(Path(__file__).parents[2]),
            },
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1].startswith(f"{address}/someone/tokenizer/commit/")
    assert {name: sorted(held) for name, held in files.items()} == {
        "someone/tokenizer": ["README.md", "config.json", "ids.parquet", "model.safetensors"],
        "datasets/someone/table": ["README.md", "monday.parquet"],
        "someone/bare": ["README.md", "ids.parquet"],
    }
    card = files["someone/tokenizer"]["README.md"].decode()
    assert card.startswith("---\nlicense: cc-by-4.0\nlibrary_name: letter-fast\n")
    assert "sixty rows; 60 items, embeddings of width 8" in card
    assert "| recall | 0.25 |" in card
    assert "| codebook_size | 4, 4, 8 |" in card
    table = files["datasets/someone/table"]["README.md"].decode()
    assert table.startswith("---\nlicense: mit\n")
    assert 'from_pretrained("someone/table", repo_type="dataset", file="monday.parquet")' in table
    assert "| items | 60 |" in table
    assert "Licence: not stated" in files["someone/bare"]["README.md"].decode()


def test_a_trained_models_card_has_its_measures(tmp_path: Path) -> None:
    model = lf.Letter(CONFIG)
    settings = lf.TrainSettings(epochs=2, batch_size=30)
    result = lf.train(model, ROWS.numpy(), out=tmp_path, settings=settings)
    for _ in range(2):  # as it was written, and as a loaded model writes it
        card = (tmp_path / "README.md").read_text()
        assert f"| reconstruction loss of the last epoch | {result.record['recon']:.4g} |" in card
        assert "not said by who trained it; 60 items, embeddings of width 8, 2 epochs." in card
        assert "| latent_dim | 4 |" in card
        assert "license:" not in card
        (tmp_path / "README.md").unlink()
        lf.Letter.from_pretrained(tmp_path).save_pretrained(tmp_path)
    # Ours grows old with the model; one that somebody has taken over stays.
    lf.train(lf.Letter(CONFIG), ROWS[:50].numpy(), out=tmp_path, settings=settings, resume=False)
    assert "50 items" in (tmp_path / "README.md").read_text()
    (tmp_path / "README.md").write_text("# Mine\n")
    lf.Letter.from_pretrained(tmp_path).save_pretrained(tmp_path)
    assert (tmp_path / "README.md").read_text() == "# Mine\n"


def test_an_early_stop_keeps_no_measures_of_another_epoch() -> None:
    model = lf.Letter(CONFIG)
    settings = lf.TrainSettings(epochs=3, batch_size=30, evaluate_every=1, early_stop="recon")
    lf.train(model, ROWS.numpy(), settings=settings)
    assert model.training_facts == {"items": 60, "epochs": 3}


@pytest.mark.parametrize("facts", [[1], {"recon": "low"}, {"recon": None}, {"x": [True]}])
def test_facts_that_are_no_numbers_are_refused(tmp_path: Path, facts: object) -> None:
    model = lf.Letter(CONFIG)
    model.quantizer.initialized.fill_(True)
    model.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, "training_facts": facts}))
    with pytest.raises(ValueError, match="training_facts must hold numbers by name"):
        lf.Letter.from_pretrained(tmp_path)


def test_a_table_comes_from_a_folder_too(tmp_path: Path) -> None:
    ids = lf.SemanticIds(np.array([[0, 1], [1, 0]]), [2, 2])
    ids.save(tmp_path / "ids.parquet")
    assert np.array_equal(lf.SemanticIds.from_pretrained(tmp_path).codes, ids.codes)
    with pytest.raises(ValueError, match=r"other\.parquet"):
        lf.SemanticIds.from_pretrained(tmp_path, file="other.parquet")
    with pytest.raises(ValueError, match=r"must end in \.parquet"):
        ids.push_to_hub("someone/x", file="ids.csv")
    with pytest.raises(ValueError, match="repo_type"):
        ids.push_to_hub("someone/x", repo_type="space")


@pytest.mark.parametrize("name", ["runs/monday", "no such/repository", "-"])
@pytest.mark.parametrize("kind", [lf.Letter, lf.ResidualKMeans, lf.SemanticIds])
def test_what_is_neither_here_nor_on_the_hub_is_one_line(name: str, kind: type) -> None:
    with pytest.raises(ValueError, match=f"{name} is not a folder here, and the Hugging") as raised:
        kind.from_pretrained(name, local_files_only=True)  # type: ignore[attr-defined]
    assert len(str(raised.value).splitlines()) == 1
