"""The step that is timed is the same for all: its loss and gradients."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor

from letter_fast.bench import losses
from letter_fast.bench.workloads import W1
from letter_fast.kernels.reference.diversity import draw_partners


@pytest.mark.parametrize("name", ["fair", "fair, chunked"])
def test_peers_compute_the_same(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    batch = losses.make_batch(300)
    # The diversity term must not hide in its weight; partners must be the same for both.
    monkeypatch.setattr(losses, "BETA", 1.0)
    monkeypatch.setattr(losses, "_CHUNK", 128)
    sizes, groups = list(W1.sizes), batch.groups.flatten()
    codes = batch.quantizer(batch.z).codes
    partners = iter(draw_partners(codes, sizes, groups, torch.tensor(1)).unbind(1))

    def drawn(code: Tensor, group: Tensor, members: Tensor) -> Tensor:
        return next(partners)

    monkeypatch.setattr(losses, "_positives", drawn)
    expected = losses.step_and_gradients(losses.ours, batch)
    found = losses.step_and_gradients(losses.STEPS[name], batch)
    for a, b in zip(found, expected):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)


def test_positives_are_others_of_the_group() -> None:
    batch = losses.make_batch(64)
    code = torch.arange(256)
    for draw in (losses._positives, losses.looped):
        target = draw(code, batch.groups[0], batch.members[0])
        assert bool((target != code).all())
        assert torch.equal(batch.groups[0][target], batch.groups[0])


def test_the_entrance_compares_and_writes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "losses.json"
    arguments = ["losses", "--rows", "128", "--threads", "2", "--rounds", "2", "--json", str(file)]
    monkeypatch.setattr(sys, "argv", arguments)
    losses.main()
    shown = capsys.readouterr().out
    for name in (*losses.STEPS, "row by row", "sgemm"):
        assert name in shown
    assert '"seconds"' in file.read_text()
