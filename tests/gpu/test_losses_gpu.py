"""The loss kernels on a CUDA device, at sizes the interpreter can't do, against float64 there."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from letter_fast.kernels import reference
from letter_fast.losses import RESIDUAL_GRADS, contrastive_loss, diversity_losses, residual_losses

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]

if torch.cuda.is_available():
    from letter_fast.kernels import triton as backend


def normal(rows: int, width: int, seed: int, scale: float = 1.0) -> Tensor:
    generator = torch.Generator("cuda").manual_seed(seed)
    return scale * torch.randn(rows, width, device="cuda", generator=generator)


def close(found: Tensor, expected: Tensor, limit: float) -> None:
    assert float((found.double() - expected).abs().max()) <= limit


# What a dot of three TF32 products may lose, of |q|·|h|: 2⁻²¹ for what the split leaves out, and
# float32 sums.
def product_error(q: Tensor, h: Tensor) -> float:
    unit = 2.0**-21 + (q.shape[1] + 2) * 2.0**-24
    return unit * float(q.norm(dim=1).max() * h.norm(dim=1).max()) + 4e-6


@pytest.mark.parametrize("D", [5, 32, 64, 128])
@pytest.mark.parametrize(("B", "M"), [(1, 1), (1000, 1000), (4097, 5000)])
@pytest.mark.parametrize("scale", [0.3, 3.0])
def test_contrastive(B: int, M: int, D: int, scale: float) -> None:
    q, h = normal(B, D, 1, scale), normal(M, D, 2)
    loss, log_total, gradient = reference.contrastive(q.double(), h.double(), True)
    gradient_h = reference.contrastive_gradient_h(q.double(), h.double(), log_total)
    delta = product_error(q, h)
    found = backend.contrastive(q, h, True)
    close(found[0], loss, 2 * delta + 1e-6 * float(loss))
    close(found[1], log_total, delta)
    sums = 2 * delta + 2.0**-24 * (256 + M / 32)
    close(found[2], gradient, sums * float(h.abs().max()) / B)
    found_h = backend.contrastive_gradient_h(q, h, log_total)
    weight = 1 + float((q.double() @ h.double().T - log_total[:, None]).exp().sum(0).max())
    close(found_h, gradient_h, sums * weight * float(q.abs().max()) / B)


def test_the_same_bits_from_run_to_run() -> None:
    q, h = normal(3000, 32, 3), normal(3000, 32, 4)
    codes = torch.randint(256, (3000, 4), device="cuda")
    books, groups = normal(1024, 32, 5), torch.arange(1024, device="cuda") % 10
    weights = torch.randn(3, 4, dtype=torch.float64, device="cuda")
    sizes, seed = [256] * 4, torch.tensor(1, device="cuda")

    def call() -> list[Tensor]:
        found = backend.contrastive(q, h, True)
        walked = backend.residual_losses(q, books, sizes, codes)
        return [
            *found,
            backend.contrastive_gradient_h(q, h, found[1]),
            *walked,
            *backend.residual_losses_backward(q, books, sizes, codes, walked[1], h, weights),
            *backend.diversity(codes, books, sizes, groups, seed, True),
        ]

    first = call()
    for _ in range(3):
        assert all(torch.equal(a, b) for a, b in zip(call(), first, strict=True))


@pytest.mark.parametrize("sizes", [[256] * 4, [1000, 3, 1, 300]])
@pytest.mark.parametrize("rows", [1, 5000])
def test_diversity(sizes: list[int], rows: int) -> None:
    codes = torch.stack([torch.randint(K, (rows,), device="cuda") for K in sizes], dim=1)
    codes[3:5] = -1
    books, groups = normal(sum(sizes), 32, 6, 0.5), torch.arange(sum(sizes), device="cuda") % 7
    for seed in (torch.tensor(5, device="cuda"), torch.tensor(-(2**62), device="cuda")):
        expected = reference.diversity(codes, books.double(), sizes, groups, seed, True)
        found = backend.diversity(codes, books, sizes, groups, seed, True)
        for a, b in zip(found, expected):
            torch.testing.assert_close(a.double(), b, rtol=1e-4, atol=1e-5)
        alone = reference.diversity(
            codes.cpu(), books.double().cpu(), sizes, groups.cpu(), seed.cpu(), False
        )
        torch.testing.assert_close(expected[0].cpu(), alone[0])  # the CPU draws the same partners


@pytest.mark.parametrize("mode", RESIDUAL_GRADS)
@pytest.mark.parametrize(("N", "D"), [(1, 1), (100_000, 32), (3000, 200)])
def test_residual_losses(mode: str, N: int, D: int) -> None:
    sizes = [256, 100, 300]
    codes = torch.stack([torch.randint(K - 1, (N,), device="cuda") for K in sizes], dim=1)
    codes[3:5] = -1
    z, books = normal(N, D, 7), normal(sum(sizes), D, 8)
    slopes = torch.tensor([0.5, -1.0, 2.0], device="cuda")
    results = []
    for dtype in (torch.float32, torch.float64):
        leaves = [t.to(dtype).requires_grad_() for t in (z, books)]
        terms = residual_losses(leaves[0], leaves[1], sizes, codes, residual_grad=mode)
        total = (slopes * terms.codebook + terms.commitment).sum() + terms.quantized.sum()
        results.append([total, *torch.autograd.grad(total, leaves)])
    for a, b in zip(*results):
        torch.testing.assert_close(a.double(), b, rtol=2e-5, atol=1e-6 * float(b.abs().max()))
    for unused in (255, 355, 655):
        assert bool((results[0][2][unused] == 0).all())


def test_a_step_needs_no_wait() -> None:
    z, books = normal(512, 32, 9).requires_grad_(), normal(512, 32, 10).requires_grad_()
    codes, h = torch.randint(256, (512, 2), device="cuda"), normal(512, 32, 11)
    groups, seed = torch.arange(512, device="cuda") % 9, torch.tensor(3, device="cuda")

    def step() -> None:
        terms = residual_losses(z, books, [256, 256], codes)
        loss = terms.codebook.sum() + contrastive_loss(terms.quantized, h)
        loss = loss + diversity_losses(codes, books, [256, 256], groups, seed).sum()
        torch.autograd.grad(loss, [z, books])

    step()  # compiles
    torch.cuda.set_sync_debug_mode("error")
    try:
        step()
    finally:
        torch.cuda.set_sync_debug_mode("default")


def test_memory_grows_with_the_rows_not_with_their_square() -> None:
    q, h = (normal(50_000, 32, seed).requires_grad_() for seed in (1, 2))
    contrastive_loss(q[:100], h[:100]).backward()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    contrastive_loss(q, h).backward()
    assert torch.cuda.max_memory_allocated() - before < 64 << 20
