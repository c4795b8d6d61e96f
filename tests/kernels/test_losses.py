"""The loss kernels of every CPU backend against float64 autograd of their formulas; bits."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from letter_fast import kernels
from letter_fast.kernels import cpp, reference
from letter_fast.kernels.reference.diversity import draw_partners
from tests.support import oracle
from tests.support.cpu_backends import same_bits

UNIT = 2.0**-24


# Contrastive.


def contrastive_case(B: int, M: int, D: int, scale: float = 1.0) -> tuple[Tensor, Tensor]:
    q = scale * oracle.clustered(B, D, 5, seed=B + D)
    return q, oracle.clustered(M, D, 5, seed=M + 1)


def check_contrastive(backend: kernels.Backend, q: Tensor, h: Tensor) -> None:
    """Float32 logits err by δ ≤ (D + 2)·u·|q|·|h|, and with them log-sums by δ, weights by 2δ of
    themselves; sums of weighted rows by 256 + M/256 roundings, 8 for exp and scales."""
    a, b = (t.double().requires_grad_() for t in (q, h))
    logits = a @ b.T
    exact = logits.logsumexp(1)
    loss = (exact - logits.diagonal()).mean()
    grad_q, grad_h = torch.autograd.grad(loss, [a, b])
    logits, exact, loss = logits.detach(), exact.detach(), loss.detach()

    found, log_total, gradient = backend.contrastive(q, h, True)
    gradient_h = backend.contrastive_gradient_h(q, h, log_total)
    B, D = q.shape
    delta = (D + 2) * UNIT * float(q.norm(dim=1).max() * h.norm(dim=1).max())
    sums = UNIT * (256 + max(q.shape[0], h.shape[0]) / 256 + 8)
    assert float((log_total - exact).abs().max()) <= delta + 16 * UNIT
    assert abs(float(found) - float(loss)) <= 2 * delta + 16 * UNIT * (1 + float(loss))
    limit = (2 * delta + sums) * float(h.abs().max())
    assert float((gradient - grad_q).abs().max()) <= limit / B
    weight = float((logits - exact[:, None]).exp().sum(0).max()) + 1
    assert (
        float((gradient_h - grad_h).abs().max())
        <= (2 * delta + sums) * weight * float(q.abs().max()) / B
    )
    alone = backend.contrastive(q, h, False)
    assert torch.equal(alone[0], found)
    assert alone[2].shape == (0, D)


@pytest.mark.parametrize("B", [1, 2, 5, 13, 48, 101])
@pytest.mark.parametrize("D", [1, 3, 16, 32, 33])
def test_contrastive_of_awkward_sizes(backend: kernels.Backend, B: int, D: int) -> None:
    check_contrastive(backend, *contrastive_case(B, B, D))


@pytest.mark.parametrize(
    ("B", "M", "D"), [(30, 300, 20), (7, 600, 100), (3, 70, 600), (260, 257, 8)]
)
def test_contrastive_over_tiles_and_negatives(
    backend: kernels.Backend, B: int, M: int, D: int
) -> None:
    check_contrastive(backend, *contrastive_case(B, max(B, M), D))


@pytest.mark.parametrize("scale", [0.0, 1e-30, 1e2, 1e4])
def test_contrastive_of_every_scale(backend: kernels.Backend, scale: float) -> None:
    q, h = contrastive_case(40, 40, 6, scale)
    check_contrastive(backend, q, h)
    q[:20] = q[20:]  # equal rows: every logit twice
    check_contrastive(backend, q, h)


def test_contrastive_has_no_hidden_overflow(backend: kernels.Backend) -> None:
    """Logits of ±10⁴ and more: the largest is subtracted before exp."""
    q = torch.tensor([[1e4], [-1e4], [3.0]])
    loss, log_total, gradient = backend.contrastive(q, torch.tensor([[1.0], [-1.0], [2.0]]), True)
    assert log_total[:2].tolist() == pytest.approx([2e4, 1e4])
    assert gradient.isfinite().all()
    assert float(loss) == pytest.approx((1e4 + 0 + math.log(1 + math.exp(-3) + math.exp(-9))) / 3)


def test_exp_is_within_three_roundings(backend: kernels.Backend) -> None:
    """With h = (0, …, 0, 1) the gradient is eˣ/(B + eˣ)/B, to exp's error and four roundings."""
    q = torch.linspace(-75, 0, 501)[:, None]
    h = torch.zeros(502, 1)
    h[-1] = 1.0
    _, _, gradient = backend.contrastive(q, h, True)
    exact = q.double().exp() / (501 + q.double().exp()) / 501
    assert float((gradient / exact - 1).abs().max()) < 6 * UNIT


def test_a_nan_shows(backend: kernels.Backend) -> None:
    q, h = contrastive_case(9, 9, 4)
    q[3, 1] = math.nan
    loss, log_total, gradient = backend.contrastive(q, h, True)
    assert loss.isnan()
    assert log_total.isnan().nonzero().flatten().tolist() == [3]
    assert gradient.isnan().any(dim=1).nonzero().flatten().tolist() == [3]
    h[5, 0] = math.nan
    assert backend.contrastive(q, h, True)[1].isnan().all()


def test_contrastive_bits() -> None:
    q, h = contrastive_case(150, 310, 20, 3.0)

    def call() -> tuple[Tensor, ...]:
        found = cpp.contrastive(q, h, True)
        return *found, cpp.contrastive_gradient_h(q, h, found[1])

    same_bits(call)


# Diversity.


def diversity_case(B: int, sizes: list[int], D: int) -> tuple[Tensor, Tensor, list[int], Tensor]:
    generator = torch.Generator().manual_seed(B + D)
    codes = torch.stack([torch.randint(K, (B,), generator=generator) for K in sizes], dim=1)
    books = torch.cat([oracle.clustered(K, D, 4, seed=K) for K in sizes])
    return codes, books, sizes, torch.randint(-2, 3, (sum(sizes),), generator=generator)


def literal_diversity(
    codes: Tensor, books: Tensor, sizes: list[int], groups: Tensor, seed: Tensor
) -> Tensor:
    """Cross-entropy over e_c · Eᵀ with the own column pushed out, row by row."""
    partners = draw_partners(codes, sizes, groups, seed)
    losses = []
    for level, words in enumerate(books.split(sizes)):
        total = words.new_zeros(())
        for code, partner in zip(codes[:, level].tolist(), partners[:, level].tolist()):
            if partner >= 0:
                logits = words[code] @ words.T
                logits = logits.masked_fill(torch.arange(len(words)) == code, -math.inf)
                total = total - logits.log_softmax(0)[partner]
        losses.append(total / max(1, int((codes[:, level] >= 0).sum())))
    return torch.stack(losses)


@pytest.mark.parametrize("B", [0, 1, 7, 90])
@pytest.mark.parametrize("sizes", [[2], [11, 1, 30], [70, 260]])
@pytest.mark.parametrize("D", [1, 5, 32])
def test_diversity(backend: kernels.Backend, B: int, sizes: list[int], D: int) -> None:
    codes, books, sizes, groups = diversity_case(B, sizes, D)
    codes[2:4] = -1
    seed = torch.tensor(B)
    exact_books = books.double().requires_grad_()
    exact = literal_diversity(codes, exact_books, sizes, groups, seed)
    losses, gradient = backend.diversity(codes, books, sizes, groups, seed, True)
    # Float32 logits err by at most δ, and a backend may take the partner's from elsewhere.
    delta = (D + 2) * UNIT * float(books.norm(dim=1).max()) ** 2
    torch.testing.assert_close(losses, exact.detach().float(), rtol=1e-6, atol=2 * delta + UNIT)
    expected = torch.zeros_like(books)
    if exact.requires_grad:
        expected = torch.autograd.grad(exact.sum(), exact_books)[0].float()
    limit = 4 * (delta + 64 * UNIT) * float(books.abs().max())
    torch.testing.assert_close(gradient, expected, rtol=1e-6, atol=limit)
    alone = backend.diversity(codes, books, sizes, groups, seed, False)
    assert torch.equal(alone[0], losses)
    assert alone[1].shape == (0, D)


def test_partners_are_the_same_everywhere(backend: kernels.Backend) -> None:
    """Codewords far apart on a line: the loss tells which partners were drawn."""
    codes, _, sizes, _ = diversity_case(300, [40, 23], 1)
    books, groups = 0.01 * torch.arange(63.0)[:, None].square(), torch.arange(63) % 7
    for seed in (0, -1, 2**63 - 1):
        found = backend.diversity(codes, books, sizes, groups, torch.tensor(seed), False)[0]
        exact = reference.diversity(codes, books.double(), sizes, groups, torch.tensor(seed), False)
        torch.testing.assert_close(found, exact[0].float())


def test_diversity_bits() -> None:
    codes, books, sizes, groups = diversity_case(200, [60, 270, 3], 9)
    seed = torch.tensor(5)
    same_bits(lambda: cpp.diversity(codes, books, sizes, groups, seed, True))


# Residual losses.


def residual_case(N: int, D: int) -> tuple[Tensor, Tensor, list[int], Tensor]:
    sizes = [5, 9, 3]
    x = oracle.clustered(N, D, 4, seed=N + D)
    books = torch.cat([oracle.clustered(K, D, 4, seed=K) for K in sizes])
    codes = torch.stack([torch.randint(K - 1, (N,)) for K in sizes], dim=1)  # the last is unused
    return x, books, sizes, codes


@pytest.mark.parametrize("N", [0, 1, 40, 600])
@pytest.mark.parametrize("D", [1, 6, 16, 32, 37])
@pytest.mark.parametrize("later", [False, True])
def test_residual_losses(backend: kernels.Backend, N: int, D: int, later: bool) -> None:
    x, books, sizes, codes = residual_case(N, D)
    codes[3:5] = -1
    x[3:5] = math.nan
    valid = codes[:, 0] >= 0
    residual, total, residuals = x[valid], torch.zeros(int(valid.sum()), D), []
    for level, table in enumerate(books.split(sizes)):
        residual = residual - table[codes[valid, level]]
        total = total + table[codes[valid, level]]
        residuals.append(residual.double())

    quantized, errors, counted = backend.residual_losses(x, books, sizes, codes)
    assert int(counted) == int(valid.sum())
    assert torch.equal(quantized[valid], total)
    assert bool((quantized[~valid] == 0).all())
    expected = torch.stack([r.square().sum() for r in residuals])
    torch.testing.assert_close(errors, expected, rtol=1e-12, atol=0)

    grad, weights = torch.randn(N, D), torch.randn(3, 3, dtype=torch.float64)
    weights[2] *= later
    grad_x, grad_books = backend.residual_losses_backward(
        x, books, sizes, codes, errors, grad, weights
    )
    assert bool((grad_x[~valid] == 0).all())
    expected_x, starts = grad[valid].double(), [0, 5, 14]
    expected_books = torch.zeros_like(books, dtype=torch.float64)
    for level, start in enumerate(starts):
        expected_x = expected_x + weights[0, level] * residuals[level]
        moved = weights[1, level] * residuals[level]
        for after in range(level + 1, 3):
            moved = moved + weights[2, after] * residuals[after]
        expected_books.index_add_(0, start + codes[valid, level], -moved)
    torch.testing.assert_close(grad_x[valid], expected_x.float(), rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(grad_books, expected_books.float(), rtol=1e-6, atol=1e-6)
    for last in (4, 13, 16):
        assert bool((grad_books[last] == 0).all())


def test_residual_losses_bits() -> None:
    x, books, sizes, codes = residual_case(900, 50)
    grad, weights = torch.randn(900, 50), torch.randn(3, 3, dtype=torch.float64)

    def call() -> tuple[Tensor, ...]:
        found = cpp.residual_losses(x, books, sizes, codes)
        back = cpp.residual_losses_backward(x, books, sizes, codes, found[1], grad, weights)
        return *found, *back

    same_bits(call)
