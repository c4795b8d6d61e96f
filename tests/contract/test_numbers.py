"""Bad numbers at every public callable and every op: an answer or one line, and no dead process.

The calls are made in another process (numbers_table.py), so that one that kills it is a failing
test; the calls after it go on in a new one.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import letter_fast as lf
from letter_fast import functional as F
from letter_fast import losses
from tests.support import numbers_table

TABLE = Path(numbers_table.__file__)


def outcomes(count: int) -> dict[int, tuple[str, str]]:
    """The fault of each call ("" if there is none), and what came of the call."""
    found: dict[int, tuple[str, str]] = {}
    path = os.pathsep.join(sys.path)
    while len(found) < count:
        run = subprocess.run(
            [sys.executable, str(TABLE), str(len(found))],
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
        )
        for line in run.stdout.splitlines():
            number, wrong, said = json.loads(line)
            found[number] = (wrong, said)
        if run.returncode != 0:
            assert run.returncode < 0, run.stderr
            found[len(found)] = (f"killed by signal {-run.returncode}", "")
    return found


def test_a_bad_number_gets_an_answer_or_one_line() -> None:
    cases = numbers_table.cases()
    found = outcomes(len(cases))
    wrong = [
        f"{cases[number].name}({cases[number].argument} = {cases[number].label}): {what}: {said}"
        for number, (what, said) in sorted(found.items())
        if what
    ]
    assert not wrong, "\n".join([f"{len(wrong)} of {len(cases)} calls:", *wrong[:50]])


def test_the_table_is_about_something() -> None:
    cases = numbers_table.cases()
    assert len(cases) > 3000
    assert len({case.name for case in cases}) > 40


@pytest.mark.parametrize("rows", [0, 1])
def test_no_row_or_one(rows: int) -> None:
    z, codes = torch.randn(rows, 4), torch.zeros(rows, 2, dtype=torch.int64)
    quantizer = lf.ResidualQuantizer(4, [3, 2], codebook_update="ema")
    out = quantizer(z)
    assert out.codes.shape == (rows, 2)
    assert out.quantized.shape == (rows, 4)
    assert bool(out.loss.isfinite())
    assert bool(quantizer.codebooks.isfinite().all())
    assert quantizer.encode(z, beam=2).shape == (rows, 2)
    assert quantizer.decode(codes).shape == (rows, 4)
    table = torch.randn(5, 4, requires_grad=True)
    terms = losses.residual_losses(z, table, [3, 2], codes)
    groups = torch.tensor([0, 0, 1, 0, 0])
    diversity = losses.diversity_losses(codes, table, [3, 2], groups, 3)
    (terms.codebook.sum() + terms.commitment.sum() + diversity.sum()).backward()
    assert table.grad is not None
    assert bool(table.grad.isfinite().all())
    if rows:
        assert float(losses.contrastive_loss(z, z)) == 0.0  # nothing else to find
        assert F.kmeans(z, 1).inertia == 0.0
        assert F.balanced_kmeans(z, 1).labels.tolist() == [0]
    config = lf.LetterConfig(4, (5,), 4, (3, 2), sinkhorn_epsilon=(0.0, 0.01))
    model = lf.Letter(config)
    assert model.encode(z).shape == (rows, 2)
    if rows:
        assert bool(model.losses(z, z, [groups[:3], groups[3:]]).total.isfinite())


@pytest.mark.parametrize("backend", ["cpp", "reference"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_code_outside_is_named_on_every_backend(backend: str, dtype: torch.dtype) -> None:
    z, table = torch.randn(2, 4, dtype=dtype), torch.randn(5, 4, dtype=dtype)
    for codes in ([[3, 0], [0, 0]], [[0, 2], [0, 0]], [[0, -1], [0, 0]], [[-2, -2], [0, 0]]):
        with lf.use_backend(backend), pytest.raises(ValueError, match="outside its codebook"):
            losses.residual_losses(z, table, [3, 2], torch.tensor(codes))
    groups = torch.zeros(5, dtype=torch.int64)
    with lf.use_backend(backend), pytest.raises(ValueError, match="outside its codebook"):
        losses.diversity_losses(torch.tensor([[0, 2]]), table, [3, 2], groups)
