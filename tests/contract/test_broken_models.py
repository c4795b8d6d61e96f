"""Model folders that are damaged or ask for too much: one line, and at once."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

import letter_fast as lf
from letter_fast.model import load


@pytest.fixture(params=["letter", "residual-kmeans"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    model: Any = (
        lf.Letter(lf.LetterConfig(6, (5,), 4, (5, 3)))
        if request.param == "letter"
        else lf.ResidualKMeans(lf.ResidualKMeansConfig(6, (5, 3)))
    )
    model.save_pretrained(tmp_path)
    return tmp_path


def change(folder: Path, **values: Any) -> None:
    file = folder / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **values}))


@pytest.mark.parametrize(
    "sizes",
    [[2**31, 3], [2**63, 3], [10**40, 3], [2**31 - 1] * 2, [2**30] * 1000, [5] * 10_000, [5, 4],
     [], [0, 8], [-1, 9], [5.5, 3], ["5", 3], [None], "5", 8],
)  # fmt: skip
def test_sizes(folder: Path, sizes: Any) -> None:
    change(folder, codebook_size=sizes, **_epsilons(folder, sizes))
    with pytest.raises(ValueError, match=r"config\.json|model\.safetensors") as error:
        load(folder)
    assert "\n" not in str(error.value)


def _epsilons(folder: Path, sizes: Any) -> dict[str, Any]:
    known = "sinkhorn_epsilon" in json.loads((folder / "config.json").read_text())
    return {"sinkhorn_epsilon": [0.0] * len(sizes)} if known and isinstance(sizes, list) else {}


@pytest.mark.parametrize("width", [0, -6, 7, 2**31 - 1, 2**31, 2**63, 6.5, None, "6", float("nan")])
def test_widths(folder: Path, width: Any) -> None:
    change(folder, input_dim=width)
    with pytest.raises(ValueError, match=r"config\.json|model\.safetensors") as error:
        load(folder)
    assert "\n" not in str(error.value)


def test_nested_beyond_reason(folder: Path) -> None:
    (folder / "config.json").write_text("[" * 100_000)
    with pytest.raises(ValueError, match="is not JSON"):
        load(folder)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_weights_that_are_not_finite(folder: Path, value: float) -> None:
    model: Any = load(folder)
    with torch.no_grad():
        model.quantizer.codebooks[2, 1] = value
    model.save_pretrained(folder)
    with pytest.raises(ValueError, match=r"quantizer\.codebooks holds NaN or Inf"):
        load(folder)


@pytest.mark.parametrize("name", ["absent", "absent/deeper", "config.json"])
@pytest.mark.parametrize("spelled", ["absolute", "./", "../"])
def test_a_folder_that_is_not_there(
    name: str, spelled: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The hub is not asked for a name that no repository can have."""
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    path = str(tmp_path / name) if spelled == "absolute" else spelled + name
    with pytest.raises(ValueError, match="is not a folder"):
        load(path)
