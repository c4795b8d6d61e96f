"""The K × K form equals the row-by-row definition of the paper."""

from __future__ import annotations

import oracle
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from letter_fast.losses import diversity_loss
from letter_fast.losses.diversity import draw_positives


def literal(codes: Tensor, book: Tensor, targets: Tensor) -> Tensor:
    """Cross-entropy over e_c · Eᵀ with the own column pushed out, row by row."""
    total = torch.zeros((), dtype=book.dtype)
    for code, target in zip(codes.tolist(), targets.tolist()):
        if target < 0:
            continue
        logits = book[code] @ book.T
        own = torch.arange(len(book)) == code
        logits = logits.masked_fill(own, -torch.inf)
        total = total + F.cross_entropy(logits[None], torch.tensor([target]))
    return total / len(codes)


@pytest.mark.parametrize("rows", [1, 7, 200])
@pytest.mark.parametrize("size", [2, 11, 30])
def test_values_and_gradients(rows: int, size: int) -> None:
    book = oracle.clustered(size, 5, 3, seed=size).double().requires_grad_()
    groups = torch.arange(size) % 3  # size is not always divisible by the groups
    codes = torch.randint(size, (rows,))
    ours = diversity_loss(codes, book, groups, torch.Generator().manual_seed(4))
    targets = draw_positives(codes, groups, torch.Generator().manual_seed(4))
    expected = literal(codes, book, targets)
    torch.testing.assert_close(ours, expected, rtol=1e-9, atol=1e-12)
    if bool((targets >= 0).any()):
        (a,) = torch.autograd.grad(ours, book)
        (b,) = torch.autograd.grad(expected, book)
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-12)


def test_positives_are_other_members_of_the_group_and_all_occur() -> None:
    groups = torch.tensor([2, 0, 2, 1, 2, 0])
    codes = torch.arange(6).repeat_interleave(400)
    targets = draw_positives(codes, groups, torch.Generator().manual_seed(0))
    for code in range(6):
        drawn = targets[codes == code]
        others = [k for k in range(6) if k != code and groups[k] == groups[code]]
        assert sorted(set(drawn.tolist())) == (others or [-1])
        for other in others:
            share = (drawn == other).double().mean().item()
            assert abs(share - 1 / len(others)) < 0.1


def test_a_codeword_alone_in_its_group_contributes_nothing() -> None:
    book = torch.randn(4, 3, requires_grad=True)
    loss = diversity_loss(torch.tensor([3, 3]), book, torch.tensor([0, 0, 0, 1]))
    loss.backward()
    assert loss.item() == 0.0
    assert book.grad is not None
    assert bool((book.grad == 0).all())
    single = torch.randn(1, 3, requires_grad=True)
    loss = diversity_loss(torch.tensor([0]), single, torch.tensor([0]))
    loss.backward()
    assert loss.item() == 0.0
    assert single.grad is not None
    assert bool(single.grad.isfinite().all())


def test_marked_rows_count_nowhere() -> None:
    book, groups = torch.randn(6, 3), torch.zeros(6, dtype=torch.int64)
    codes = torch.tensor([0, -1, 2, -1])
    targets = draw_positives(codes, groups, torch.Generator().manual_seed(1))
    loss = diversity_loss(codes, book, groups, torch.Generator().manual_seed(1))
    assert targets[[1, 3]].tolist() == [-1, -1]
    torch.testing.assert_close(loss, literal(codes[[0, 2]], book, targets[[0, 2]]))


def test_shapes_are_checked() -> None:
    with pytest.raises(ValueError, match=r"groups \[4\]"):
        diversity_loss(torch.zeros(2, dtype=torch.int64), torch.randn(4, 2), torch.zeros(3))
