"""A captured run has the bits of an ordinary one, and is refused where it can't be.

A GPU's graph is stood in for by one that at each replay calls the step as it was when recorded,
with that epoch's groups and that step's inputs, unless they are copied over.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch

import letter_fast as lf
from letter_fast.model import LetterLosses
from letter_fast.training import loop
from letter_fast.training.capture import ORDINARY_STEPS, Capture, capture_of
from letter_fast.training.ranks import Ranks
from letter_fast.training.run import Run
from tests.support import oracle

TEXT, CF = oracle.clustered(150, 12, 10, seed=1), oracle.clustered(150, 4, 6, seed=2)
# 7 batches of 20 and one of 10 rows.
ROWS, EPOCHS = 20, 3


@dataclass
class StandIn:
    """For `capture.Graph`."""

    records: int = 0
    replays: int = 0
    call: Callable[[], LetterLosses] | None = field(default=None)

    @contextmanager
    def stream(self) -> Iterator[None]:
        yield

    def record(self, call: Callable[[], LetterLosses]) -> None:
        self.records, self.call = self.records + 1, call

    def replay(self) -> LetterLosses:
        assert self.call is not None
        self.replays += 1
        return self.call()


def trained(model: dict[str, Any], **options: Any) -> tuple[list[torch.Tensor], dict[str, Any]]:
    torch.manual_seed(0)
    shape = dict(input_dim=12, hidden=(16,), latent_dim=4, codebook_size=(8, 8))
    letter = lf.Letter(lf.LetterConfig(**{**shape, "diversity_clusters": 3, **model}))
    few: dict[str, Any] = dict(epochs=EPOCHS, batch_size=ROWS, allow_collisions=True)
    settings = lf.TrainSettings(**few, **options)
    cf = CF if letter.config.cf_weight else None
    result = lf.train(letter, TEXT, cf, settings=settings)
    return list(letter.state_dict().values()), result.record


@pytest.mark.parametrize(
    ("model", "options"),
    [
        ({}, {}),
        ({"dropout": 0.1, "batch_norm": True}, {"schedule": "cosine", "warmup_steps": 5}),
        ({"cf_weight": 0.0, "diversity_weight": 0.0}, {"clip_norm": 0.5, "revive_after": 1}),
        ({"codebook_update": "ema", "diversity_weight": 0.0}, {"precision": "bfloat16"}),
    ],
)
def test_the_same_bits(
    model: dict[str, Any], options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    ordinary, record = trained(model, **options)
    graph = StandIn()
    monkeypatch.setattr(loop, "capture_of", lambda run, *_: Capture(graph, run))
    captured, its_record = trained(model, **options)
    assert all(map(torch.equal, ordinary, captured))
    assert record == its_record
    full = 150 // ROWS * EPOCHS
    assert (graph.records, graph.replays) == (1, full - ORDINARY_STEPS)


@pytest.mark.parametrize(
    ("ranks", "without_cf", "message"),
    [
        (Ranks(0, 1, torch.device("cpu")), 0, "capture needs a CUDA device, the model is on cpu"),
        (Ranks(0, 2, torch.device("cuda")), 0, "capture is for one process, this run has 2"),
        (Ranks(0, 1, torch.device("cuda")), 3, "3 have no collaborative embedding"),
    ],
)
def test_refusals(ranks: Ranks, without_cf: int, message: str) -> None:
    letter = lf.Letter(lf.LetterConfig(input_dim=12, hidden=(16,), latent_dim=4))
    assert capture_of(Run(letter, lf.TrainSettings()), ranks, without_cf) is None
    with pytest.raises(ValueError, match=message):
        capture_of(Run(letter, lf.TrainSettings(capture=True)), ranks, without_cf)


def test_a_run_on_a_cpu_is_refused() -> None:
    with pytest.raises(ValueError, match="capture needs a CUDA device"):
        trained({}, capture=True)
