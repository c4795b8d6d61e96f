"""Values and gradients against autograd of the formulas written out per mode."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from letter_fast import kernels
from letter_fast.losses import RESIDUAL_GRADS, residual_losses
from tests.support import oracle

SIZES = [5, 9, 3]


def literal(
    z: Tensor,
    books: list[Tensor],
    codes: Tensor,
    mode: str,
    codebook: Tensor | None = None,
    commitment: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Per-level means, weighted and added up, and the straight-through sum, each mode in its own
    words."""
    residual, total, out = z, z.new_zeros(()), torch.zeros_like(z)
    for level, book in enumerate(books):
        a = 1.0 if codebook is None else codebook[level]
        b = 1.0 if commitment is None else commitment[level]
        e = book[codes[:, level]]
        if mode == "straight_through":
            total = total + a * ((residual.detach() - e) ** 2).mean()
            total = total + b * ((residual - e.detach()) ** 2).mean()
            passed = residual + (e - residual).detach()
            residual = residual - passed
            out = out + passed
        elif mode == "aggregate":
            out = out + e
            total = total + a * ((z.detach() - out) ** 2).mean()
            total = total + b * ((z - out.detach()) ** 2).mean()
        else:
            total = total + a * ((residual.detach() - e) ** 2).mean()
            total = total + b * ((residual - e.detach()) ** 2).mean()
            residual = residual - (e.detach() if mode == "detach" else e)
            out = out + e
    if mode != "straight_through":
        out = z + (out - z).detach()
    return total, out


def case(rows: int, dtype: torch.dtype) -> tuple[Tensor, list[Tensor], Tensor]:
    """z, codebooks and the codes of the nearest codewords."""
    books = [oracle.clustered(k, 6, 4, seed=k) for k in (5, 9, 3)]
    z = oracle.clustered(rows, 6, 4, seed=1)
    codes = torch.tensor(oracle.residual_search(z, books)[0])
    leaves = [book.to(dtype).requires_grad_() for book in books]
    return z.to(dtype).requires_grad_(), leaves, codes


@pytest.mark.parametrize("backend", ["reference", "cpp"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("mode", RESIDUAL_GRADS)
@pytest.mark.parametrize("rows", [1, 40])
def test_each_mode_against_its_formula(
    mode: str, rows: int, dtype: torch.dtype, backend: str
) -> None:
    z, books, codes = case(rows, dtype)
    weights = torch.linspace(-1, 1, 6, dtype=dtype)
    with kernels.use_backend(backend):
        terms = residual_losses(z, torch.cat(books), SIZES, codes, residual_grad=mode)
        ours = terms.codebook.sum() + terms.commitment.sum()
        got = torch.autograd.grad(ours + (terms.quantized * weights).sum(), [z, *books])
    expected, out = literal(z, books, codes, mode)
    want = torch.autograd.grad(expected + (out * weights).sum(), [z, *books])

    torch.testing.assert_close(ours, expected)
    torch.testing.assert_close(terms.quantized, out)
    for a, b in zip(got, want):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("mode", RESIDUAL_GRADS)
def test_both_terms_of_each_level_have_their_own_slope(mode: str) -> None:
    z, books, codes = case(30, torch.float64)
    one, two = torch.tensor([0.3, -1.0, 2.0]), torch.tensor([-0.5, 0.25, 1.5])
    terms = residual_losses(z, torch.cat(books), SIZES, codes, residual_grad=mode)
    got = torch.autograd.grad((one * terms.codebook + two * terms.commitment).sum(), [z, *books])
    want = torch.autograd.grad(literal(z, books, codes, mode, one, two)[0], [z, *books])
    for a, b in zip(got, want):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-12)


def test_gradcheck() -> None:
    """Of the terms without a stop-gradient; those with one are no derivatives of their values."""
    z, books, codes = case(8, torch.float64)
    table = torch.cat(books).detach().requires_grad_()

    def error(z: Tensor) -> Tensor:  # detach: every level's commitment moves z by its true slope
        codebooks = table.detach()
        return residual_losses(z, codebooks, SIZES, codes, residual_grad="detach").commitment

    def distortion(table: Tensor) -> Tensor:  # aggregate: every codeword by the codebook term's
        terms = residual_losses(z.detach(), table, SIZES, codes, residual_grad="aggregate")
        return terms.codebook

    torch.autograd.gradcheck(error, z)
    torch.autograd.gradcheck(distortion, table)


def test_sum_is_the_papers_reduction() -> None:
    z, books, codes = case(10, torch.float32)
    table = torch.cat(books)
    mean = residual_losses(z, table, SIZES, codes)
    total = residual_losses(z, table, SIZES, codes, reduction="sum")
    torch.testing.assert_close(total.codebook, mean.codebook * z.numel())
    one = torch.autograd.grad(total.commitment.sum(), z, retain_graph=True)[0]
    torch.testing.assert_close(one, torch.autograd.grad(mean.commitment.sum(), z)[0] * z.numel())


@pytest.mark.parametrize("backend", ["reference", "cpp"])
@pytest.mark.parametrize("mode", RESIDUAL_GRADS)
def test_marked_rows_count_nowhere(mode: str, backend: str) -> None:
    z, books, codes = case(8, torch.float32)
    table = torch.cat(books)
    dirty = z.detach().clone()
    dirty[0, 1] = torch.nan
    dirty.requires_grad_()
    marked = codes.clone()
    marked[0] = -1
    with kernels.use_backend(backend):
        alone = residual_losses(z[1:], table, SIZES, codes[1:], residual_grad=mode)
        both = residual_losses(dirty, table, SIZES, marked, residual_grad=mode)
        torch.testing.assert_close(both.codebook, alone.codebook)
        torch.testing.assert_close(both.commitment, alone.commitment)
        (both.quantized.sum() + both.commitment.sum()).backward()
    assert dirty.grad is not None
    assert bool(dirty.grad.isfinite().all())
    assert bool((dirty.grad[0] == 0).all())
    assert bool((both.quantized[0] == 0).all())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_latents(dtype: torch.dtype) -> None:
    z, books, codes = case(20, torch.float32)
    low = z.detach().to(dtype).requires_grad_()
    full = low.detach().float().requires_grad_()
    ours = residual_losses(low, torch.cat(books), SIZES, codes, residual_grad="detach")
    expected = residual_losses(full, torch.cat(books), SIZES, codes, residual_grad="detach")
    assert ours.quantized.dtype == dtype
    assert torch.equal(ours.quantized, expected.quantized.to(dtype))
    assert torch.equal(ours.commitment, expected.commitment)
    a = torch.autograd.grad(ours.commitment.sum(), [low, *books])
    b = torch.autograd.grad(expected.commitment.sum(), [full, *books])
    assert torch.equal(a[0], b[0].to(dtype))
    assert all(torch.equal(one, other) for one, other in zip(a[1:], b[1:]))


def test_any_strides_of_inputs_and_gradients() -> None:
    z, books, codes = case(20, torch.float32)
    table = torch.cat(books)
    slope = torch.randn(6, 20).T
    expected = torch.autograd.grad(
        residual_losses(z, table, SIZES, codes).quantized, z, slope.contiguous()
    )[0]
    turned = z.detach().T.contiguous().T.requires_grad_()
    spread = torch.stack([codes, codes], dim=2)[:, :, 1]
    quantized = residual_losses(turned, table, SIZES, spread).quantized
    assert torch.equal(torch.autograd.grad(quantized, turned, slope)[0], expected)
    constant = torch.ones(()).expand(20, 6)
    quantized = residual_losses(turned, table, SIZES, codes).quantized
    assert torch.equal(torch.autograd.grad(quantized, turned, constant)[0], constant)


def test_a_second_derivative_is_refused() -> None:
    z, books, codes = case(4, torch.float32)
    terms = residual_losses(z, torch.cat(books), SIZES, codes)
    with pytest.raises(RuntimeError, match="residual_losses has no second derivative"):
        torch.autograd.grad(terms.commitment.sum(), z, create_graph=True)
