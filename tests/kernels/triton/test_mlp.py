"""Encoder and decoder by the Triton backend, against the reference and against autograd."""

from __future__ import annotations

import sys
from itertools import pairwise

import pytest
import torch
from torch import Tensor, nn

from letter_fast import kernels
from letter_fast.kernels import reference
from letter_fast.model.encoder import _fits, mlp, output_of
from tests.support.triton_backend import DEVICE, backend, to_device

tiles = sys.modules["letter_fast.kernels.triton.mlp"]


def integers(*shape: int) -> Tensor:
    """Small ones, so that every sum is exact in whatever order."""
    return torch.randint(-2, 3, shape).float()


@pytest.mark.parametrize("widths", [(5, 3), (7, 40, 9, 33, 4), (20, 70, 9), (3, 4, 50, 70, 20, 4)])
@pytest.mark.parametrize("N", [1, 17, 50])
@pytest.mark.parametrize("many", [0, 300, 1 << 17])
def test_integers_have_the_references_bits(
    widths: tuple[int, ...], N: int, many: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Any choice of what counts as a large layer."""
    monkeypatch.setattr(tiles, "MANY_WEIGHTS", many)
    x = integers(N, widths[0])
    weights, biases = [integers(b, a) for a, b in pairwise(widths)], list(map(integers, widths[1:]))
    expected = reference.mlp(x, weights, biases)
    device_x, on_device = to_device(x)[0], to_device(*weights)
    found = backend.mlp(device_x, on_device, to_device(*biases))
    for one, other in zip(found, expected, strict=True):
        assert torch.equal(one.cpu(), other)
    grad = integers(*expected[-1].shape)
    for with_x in (True, False):
        slopes = reference.mlp_backward(grad, x, expected, weights, with_x)
        (device_grad,) = to_device(grad)
        back = backend.mlp_backward(device_grad, device_x, found, on_device, with_x)
        assert torch.equal(back[0].cpu(), slopes[0])
        for ours, theirs in zip(back[1:], slopes[1:], strict=True):
            for one, other in zip(ours, theirs, strict=True):
                assert torch.equal(one.cpu(), other)


def gradients(encoder: nn.Sequential, x: Tensor) -> list[Tensor]:
    x = x.clone().requires_grad_()
    encoder.zero_grad()
    y = output_of(encoder, x)
    y.square().sum().backward()
    assert x.grad is not None
    return [
        y.detach(),
        x.grad,
        *(p.grad.clone() for p in encoder.parameters() if p.grad is not None),
    ]


def test_an_encoder_has_the_gradients_of_its_layers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tiles, "MANY_WEIGHTS", 600)
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    encoder, x = mlp((24, 40, 16, 8, 5)).to(DEVICE), torch.randn(33, 24, device=DEVICE)
    with kernels.use_backend("reference"):
        expected = gradients(encoder, x)
    with kernels.use_backend("triton"):
        assert _fits(encoder, x)
        found = gradients(encoder, x)
    assert len(found) == len(expected) == 10
    for one, other in zip(found, expected):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)


def test_everything_else_is_left_to_the_layers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    x = torch.randn(4, 6, device=DEVICE)
    plain = mlp((6, 5, 3)).to(DEVICE)
    hooked, double = mlp((6, 5, 3)).to(DEVICE), mlp((6, 5, 3)).to(DEVICE).double()
    hooked[1].register_forward_hook(lambda *_: None)
    compiled = mlp((6, 5, 3)).to(DEVICE)
    monkeypatch.setattr(torch, "compile", lambda function, **_: function)
    compiled.compile()
    others = [
        compiled,
        mlp((6, 5, 3), dropout=0.1),
        mlp((6, 5, 3), batch_norm=True),
        hooked,
        double,
    ]
    with kernels.use_backend("triton"):
        assert _fits(plain, x)
        assert not _fits(plain, x[0])
        assert not _fits(plain, x[:0])
        assert not any(_fits(one, x) for one in others)
        with torch.autocast(DEVICE.type, torch.bfloat16):
            assert not _fits(plain, x)
    with kernels.use_backend("reference"):
        assert not _fits(plain, x)


def test_nan_stays_in_its_row() -> None:
    x, weights, biases = torch.ones(3, 4), [torch.ones(5, 4), torch.ones(2, 5)], [torch.zeros(5)]
    x[1, 2] = torch.nan
    (found,) = backend.mlp(*to_device(x), to_device(*weights), to_device(*biases, torch.zeros(2)))[
        1:
    ]
    assert found.isnan().all(dim=1).tolist() == [False, True, False]
