"""A variant is followed through an interruption, and the curves become a picture."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest

from letter_fast.bench import recipe
from tests.support import oracle


def test_the_entrance_follows_and_draws(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    np.save(tmp_path / "text_embeddings.npy", oracle.clustered(300, 12, 40, seed=1).numpy())
    np.save(tmp_path / "cf_embeddings.npy", oracle.clustered(300, 32, 40, seed=2).numpy())
    published = np.arange(1200).reshape(300, 4)
    published[7] = published[9]
    np.save(tmp_path / "published_letter_ids.npy", published)
    file = tmp_path / "found.json"
    folders = ["--data", str(tmp_path), "--runs", str(tmp_path / "runs"), "--json", str(file)]
    few = ["--variants", "public", "--hidden", "8", "--every", "1", "--plot"]
    for epochs in ("1", "3"):
        monkeypatch.setattr(sys, "argv", ["recipe", *folders, *few, "--epochs", epochs])
        recipe.main()
    found = json.loads(file.read_text())["public"]
    assert [record["epoch"] for record in found["curve"]] == [1, 2, 3]
    assert found["first_epoch"] == 2
    assert 0 <= found["after_sinkhorn_rounds"] <= found["curve"][-1]["collision_rate"]
    assert file.with_suffix(".png").stat().st_size > 10_000
