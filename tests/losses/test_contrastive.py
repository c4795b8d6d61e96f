"""In-batch InfoNCE as a function of tensors: its formula, options, dtypes and limits."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from letter_fast import kernels
from letter_fast.bench import memory
from letter_fast.losses import contrastive_loss


def literal(q: Tensor, h: Tensor) -> Tensor:
    return -((q @ h.T).log_softmax(dim=1).diagonal()).mean()


def leaves(rows: int, width: int = 6, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
    return tuple(torch.randn(rows, width, dtype=dtype).requires_grad_() for _ in range(2))


@pytest.mark.parametrize("rows", [1, 2, 23])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_values_and_gradients(rows: int, dtype: torch.dtype) -> None:
    q, h = leaves(rows, dtype=dtype)
    ours, expected = contrastive_loss(q, h), literal(q, h)
    assert ours.dtype == dtype
    torch.testing.assert_close(ours, expected)
    for a, b in zip(
        torch.autograd.grad(3 * ours, [q, h]), torch.autograd.grad(3 * expected, [q, h])
    ):
        torch.testing.assert_close(a, b)


def test_gradcheck() -> None:
    torch.autograd.gradcheck(contrastive_loss, leaves(7, dtype=torch.float64))


def test_only_what_needs_a_gradient_gets_one() -> None:
    q, h = leaves(9)
    whole = torch.autograd.grad(contrastive_loss(q, h), [q, h])
    assert torch.equal(torch.autograd.grad(contrastive_loss(q, h.detach()), q)[0], whole[0])
    assert torch.equal(torch.autograd.grad(contrastive_loss(q.detach(), h), h)[0], whole[1])
    assert not contrastive_loss(q.detach(), h.detach()).requires_grad
    with torch.no_grad():
        assert not contrastive_loss(q, h).requires_grad


def test_options_are_the_formula_with_them() -> None:
    q, h = leaves(12)
    negatives = torch.randn(5, 6, requires_grad=True)
    rows = F.normalize(torch.cat([h, negatives.detach()]), dim=1)
    logits = F.normalize(q, dim=1) @ rows.T / 0.3
    expected = -logits.log_softmax(dim=1).diagonal().mean()
    ours = contrastive_loss(q, h, temperature=0.3, normalize=True, negatives=negatives)
    torch.testing.assert_close(ours, expected)
    found = torch.autograd.grad(ours, [q, h, negatives], allow_unused=True)
    assert found[2] is None
    for a, b in zip(found[:2], torch.autograd.grad(expected, [q, h])):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_float32(dtype: torch.dtype) -> None:
    q, h = leaves(20)
    low = [t.detach().to(dtype).requires_grad_() for t in (q, h)]
    full = [t.detach().float().requires_grad_() for t in low]
    ours, expected = contrastive_loss(*low), contrastive_loss(*full)
    assert torch.equal(ours, expected)
    for a, b in zip(torch.autograd.grad(ours, low), torch.autograd.grad(expected, full)):
        assert torch.equal(a, b.to(dtype))


@pytest.mark.parametrize("backend", ["reference", "cpp"])
def test_autocast_does_not_reach_the_products(backend: str) -> None:
    q, h = leaves(30)
    with kernels.use_backend(backend):
        expected = contrastive_loss(q, h)
        with torch.autocast("cpu", torch.bfloat16):
            assert torch.equal(contrastive_loss(q, h), expected)


def test_any_strides() -> None:
    q, h = leaves(10)
    expected = torch.autograd.grad(contrastive_loss(q, h), q)[0]
    turned = q.detach().T.contiguous().T.requires_grad_()
    spread = torch.stack([h, h], dim=2)[:, :, 0]
    assert torch.equal(torch.autograd.grad(contrastive_loss(turned, spread), turned)[0], expected)


def test_a_second_derivative_is_refused() -> None:
    q, h = leaves(4)
    with pytest.raises(RuntimeError, match="contrastive_loss has no second derivative"):
        torch.autograd.grad(contrastive_loss(q, h), q, create_graph=True)


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="needs Linux's /proc")
def test_memory_grows_with_the_rows_not_with_their_square() -> None:
    rows = 6000  # whose logits would take 137 MB, forward and again backward
    q, h = (torch.randn(rows, 8).requires_grad_() for _ in range(2))
    contrastive_loss(q[:100], h[:100]).backward()
    before = memory.start(torch.device("cpu"))
    contrastive_loss(q, h).backward()
    assert memory.peak(torch.device("cpu")) - before < 16 << 20


def test_bad_input_is_refused() -> None:
    q, h = torch.randn(3, 2), torch.randn(3, 2)
    with pytest.raises(ValueError, match="share a shape"):
        contrastive_loss(q, torch.randn(4, 2))
    with pytest.raises(ValueError, match="at least one row"):
        contrastive_loss(torch.empty(0, 2), torch.empty(0, 2))
    with pytest.raises(ValueError, match=r"temperature must be above 0, got 0\.0"):
        contrastive_loss(q, h, temperature=0.0)
    with pytest.raises(ValueError, match=r"negatives must be \[M, 2\]"):
        contrastive_loss(q, h, negatives=torch.randn(4, 3))
