"""The step is the trainer's, compiled or not; what a machine can't do is said."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import torch

import letter_fast as lf
from letter_fast.bench import from_disk, step


@pytest.fixture(autouse=True)
def _quick_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    real = torch.compile  # whose own backend would need a C++ compiler, and half a minute
    monkeypatch.setattr(torch, "compile", lambda call, **_: real(call, backend="eager"))


def test_compiled_or_not_the_step_learns_the_same() -> None:
    torch.manual_seed(0)
    model = lf.Letter(lf.LetterConfig(input_dim=8, hidden=(16,), latent_dim=4, codebook_size=(8,)))
    s, h = torch.randn(40, 8), torch.randn(40, 4)
    steps = [step.build(name, model, s, h) for name in ("eager", "compiled")]
    before = model.encoder[0].weight
    found = []
    for one in steps:
        assert isinstance(one, step.Step)
        one()
        found.append(one.model.encoder[0].weight)
    assert torch.equal(*found)
    assert not torch.equal(found[0], before)


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU can capture")
def test_the_entrance_compares_and_writes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "step.json"
    small = ["--rows", "32", "--width", "8", "--hidden", "16", "--rounds", "2"]
    monkeypatch.setattr(sys, "argv", ["step", *small, "--json", str(file)])
    step.main()
    assert capsys.readouterr().out.count("CUDA graphs need a GPU") == 2
    lanes = json.loads(file.read_text())["lines"]["32"]
    assert [len(lane["seconds"]) for lane in lanes] == [2, 2, 2, 0, 0]


def test_from_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "disk.json"
    small = ["--rows", "3000", "--width", "8", "--hidden", "16", "--batch-size", "512", "--cold"]
    monkeypatch.setattr(sys, "argv", ["from_disk", *small, "--json", str(file)])
    with pytest.raises(SystemExit) as left:
        from_disk.main()
    assert not left.value.code
    assert "rows/s" in capsys.readouterr().out
    found = json.loads(file.read_text())
    assert set(found["rates"]) == {"loader", "epoch", "evaluation"}
    assert found["resident_bytes"] > 0
