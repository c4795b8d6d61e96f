"""Values to 1e-6 and gradients by autograd of the formulas written out per mode."""

from __future__ import annotations

import oracle
import pytest
import torch
from torch import Tensor

from letter_fast.losses import RESIDUAL_GRADS, residual_losses


def literal(z: Tensor, books: list[Tensor], codes: Tensor, mode: str) -> tuple[Tensor, Tensor]:
    """Σ_l per-level means with μ = 1 and the straight-through sum, each mode in its own words."""
    residual, total, out = z, torch.zeros(()), torch.zeros_like(z)
    for level, book in enumerate(books):
        e = book[codes[:, level]]
        if mode == "straight_through":
            total = total + ((residual.detach() - e) ** 2).mean()
            total = total + ((residual - e.detach()) ** 2).mean()
            passed = residual + (e - residual).detach()
            residual = residual - passed
            out = out + passed
        elif mode == "aggregate":
            out = out + e
            total = total + ((z.detach() - out) ** 2).mean() + ((z - out.detach()) ** 2).mean()
        else:
            total = total + ((residual.detach() - e) ** 2).mean()
            total = total + ((residual - e.detach()) ** 2).mean()
            residual = residual - (e.detach() if mode == "detach" else e)
            out = out + e
    if mode != "straight_through":
        out = z + (out - z).detach()
    return total, out


@pytest.mark.parametrize("mode", RESIDUAL_GRADS)
@pytest.mark.parametrize("rows", [1, 40])
def test_each_mode_against_its_formula(mode: str, rows: int) -> None:
    books = [oracle.clustered(k, 6, 4, seed=k).double().requires_grad_() for k in (5, 9, 3)]
    z = oracle.clustered(rows, 6, 4, seed=1).double().requires_grad_()
    codes, _ = oracle.residual_search(z.detach().float(), [b.detach().float() for b in books])
    chosen = torch.tensor(codes)
    weights = torch.linspace(-1, 1, 6, dtype=torch.float64)

    terms = residual_losses(z, books, chosen, residual_grad=mode)
    ours = terms.codebook.sum() + terms.commitment.sum()
    got = torch.autograd.grad(ours + (terms.quantized * weights).sum(), [z, *books])
    expected, out = literal(z, books, chosen, mode)
    want = torch.autograd.grad(expected + (out * weights).sum(), [z, *books])

    torch.testing.assert_close(ours, expected, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(terms.quantized, out, rtol=1e-9, atol=1e-12)
    for a, b in zip(got, want):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-12)


def test_sum_is_the_papers_reduction() -> None:
    z = oracle.clustered(10, 4, 3, seed=2)
    books = [oracle.clustered(6, 4, 3, seed=3)]
    codes = torch.tensor(oracle.nearest(z, books[0]))[:, None]
    mean = residual_losses(z, books, codes)
    total = residual_losses(z, books, codes, reduction="sum")
    torch.testing.assert_close(total.codebook, mean.codebook * z.numel())


@pytest.mark.parametrize("mode", RESIDUAL_GRADS)
def test_marked_rows_count_nowhere(mode: str) -> None:
    z = oracle.clustered(8, 4, 3, seed=4)
    books = [oracle.clustered(6, 4, 3, seed=5), oracle.clustered(6, 4, 3, seed=6)]
    codes = torch.tensor(oracle.residual_search(z, books)[0])
    alone = residual_losses(z[1:], books, codes[1:], residual_grad=mode)
    dirty = z.clone()
    dirty[0, 1] = torch.nan
    dirty.requires_grad_()
    marked = codes.clone()
    marked[0] = -1
    both = residual_losses(dirty, books, marked, residual_grad=mode)
    torch.testing.assert_close(both.codebook, alone.codebook)
    torch.testing.assert_close(both.commitment, alone.commitment)
    (both.quantized.sum() + both.commitment.sum()).backward()
    assert dirty.grad is not None
    assert bool(dirty.grad.isfinite().all())
    assert bool((dirty.grad[0] == 0).all())
    assert bool((both.quantized[0] == 0).all())
