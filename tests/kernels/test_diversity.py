"""The diversity loss of every CPU backend against its definition, term by term; bits."""

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
