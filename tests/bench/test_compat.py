"""Both sides of a line do the same work."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import torch

from letter_fast.bench import compat, losses


def test_both_letter_steps_have_one_loss_and_gradient(monkeypatch: pytest.MonkeyPatch) -> None:
    # Partners of the diversity term are drawn differently; with no weight they do not matter.
    monkeypatch.setattr(losses, "BETA", 0.0)
    monkeypatch.setattr(compat, "_BATCH", 200)
    plain, drop_in = (run() for run in compat.letter_step(looped=False))
    torch.testing.assert_close(drop_in[:2], plain[:2], rtol=1e-4, atol=1e-7)
    torch.testing.assert_close(torch.cat(drop_in[2:]), plain[2], rtol=1e-4, atol=1e-6)


def test_the_entrance_compares_and_writes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("faiss", reason="faiss is not installed")
    file = tmp_path / "compat.json"
    arguments = ["--only", "faiss encode, beam 1,", "--rounds", "2", "--cpu-time"]
    monkeypatch.setattr(sys, "argv", ["compat", *arguments, "--json", str(file)])
    compat.main()
    assert "faiss encode, beam 1" in capsys.readouterr().out
    (line,) = json.loads(file.read_text())["lines"]
    assert len(line["peer_seconds"]) == len(line["our_seconds"]) == 2
