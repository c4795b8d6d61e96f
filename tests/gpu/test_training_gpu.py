"""A training step on a CUDA device: what the CPU's gives, and the same as one CUDA graph."""

from __future__ import annotations

from copy import deepcopy

import pytest
import torch

import letter_fast as lf
from letter_fast.bench.step import Step, capture
from letter_fast.training.capture import ORDINARY_STEPS
from tests.support import oracle

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]


def letter() -> lf.Letter:
    torch.manual_seed(0)
    config = lf.LetterConfig(input_dim=24, hidden=(32,), latent_dim=16, codebook_size=(32, 32))
    model = lf.Letter(config)
    model.quantizer.fit(model.encode_latents(oracle.clustered(600, 24, 40, seed=1)))
    return model


def test_moving_averages_are_the_cpu_s() -> None:
    z = oracle.clustered(700, 16, 40, seed=1)
    here = lf.ResidualQuantizer(16, [32, 32], codebook_update="ema", ema_decay=0.9)
    here.fit(z, method="kmeans")
    there = deepcopy(here).cuda()
    for part in z.split(100):
        assert torch.equal(here(part).codes, there(part.cuda()).codes.cpu())
        torch.testing.assert_close(there.codebooks.cpu(), here.codebooks, rtol=1e-5, atol=1e-6)
        # The same codebooks for both again, or a near-tie would part them.
        there.load_state_dict(here.state_dict())


def test_a_captured_step_learns_what_an_eager_one_does() -> None:
    s, h = oracle.clustered(512, 24, 40, seed=2).cuda(), torch.randn(512, 16).cuda()
    eager, captured = Step(letter().cuda(), s, h), Step(letter().cuda(), s, h)
    replay = capture(captured)
    for _ in range(ORDINARY_STEPS + 1):
        eager()
    for _ in range(5):
        eager()
        replay()
    for name, value in eager.model.state_dict().items():
        torch.testing.assert_close(
            captured.model.state_dict()[name], value, rtol=1e-3, atol=1e-5, msg=name
        )


@pytest.mark.parametrize("options", [{}, {"schedule": "cosine", "clip_norm": 0.5}])
def test_a_captured_run_has_an_ordinary_one_s_bits(options: dict[str, object]) -> None:
    text, cf = oracle.clustered(700, 24, 40, seed=3), torch.randn(700, 16)
    few = dict(epochs=3, batch_size=128, allow_collisions=True, **options)
    weights = []
    for captured in (False, True):
        settings = lf.TrainSettings(capture=captured, **few)
        result = lf.train(letter().cuda(), text, cf, settings=settings)
        weights.append(result.model.state_dict().values())
    assert all(map(torch.equal, *weights))
