"""python -m bench.tokenize runs, and says what it is meant to measure."""

from __future__ import annotations

import sys

import pytest

from letter_fast.bench import tokenize


def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *options: str) -> str:
    arguments = ["--width", "16", "--hidden", "8", *options]
    monkeypatch.setattr(sys, "argv", ["bench.tokenize", *arguments])
    tokenize.main()
    return capsys.readouterr().out


def test_stages(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    out = run(monkeypatch, capsys, "--rows", "3000")
    stages = ("read alone", "encoder alone", "search alone", "encode", "resolve: optimal", "save")
    lines = out.splitlines()
    assert all(any(line.startswith(stage) for line in lines) for stage in stages)
    assert "→ 0.00%" in out
    assert "MB beyond the model" in out


def test_incremental(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(tokenize, "_CATALOG", 2_000)
    monkeypatch.setattr(tokenize, "_BATCHES", (10, 25))
    out = run(monkeypatch, capsys, "--incremental")
    assert "20 batches of 10" in out
    assert "2,500 items, 2,500 IDs, none changed" in out
