"""The diversity loss as a function of tensors: partners, levels, gradients, limits."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from letter_fast import kernels
from letter_fast.kernels.reference.diversity import draw_partners, random_bits
from letter_fast.losses import diversity_loss, diversity_losses
from tests.support import oracle


def partners(codes: Tensor, groups: Tensor, seed: int) -> Tensor:
    """Of one level."""
    return draw_partners(codes[:, None], [len(groups)], groups, torch.tensor(seed))[:, 0]


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


@pytest.mark.parametrize("backend", ["reference", "cpp"])
@pytest.mark.parametrize("rows", [1, 7, 200])
@pytest.mark.parametrize("size", [2, 11, 30])
def test_values_and_gradients(rows: int, size: int, backend: str) -> None:
    book = (0.5 * oracle.clustered(size, 5, 3, seed=size)).requires_grad_()
    groups = torch.arange(size) % 3  # size is not always divisible by the groups
    codes = torch.randint(size, (rows,))
    with kernels.use_backend(backend):
        ours = diversity_losses(codes[:, None], book, [size], groups, 4)[0]
    targets = partners(codes, groups, 4)
    expected = literal(codes, book, targets)
    torch.testing.assert_close(ours, expected)
    if bool((targets >= 0).any()):
        (a,) = torch.autograd.grad(3 * ours, book)
        (b,) = torch.autograd.grad(3 * expected, book)
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)


def test_gradcheck() -> None:
    book = oracle.clustered(9, 3, 3, seed=1).double().requires_grad_()
    codes, groups = torch.randint(4, (20, 2)), torch.arange(9) % 2

    def losses(table: Tensor) -> Tensor:
        return diversity_losses(codes, table, [4, 5], groups, 3)

    torch.autograd.gradcheck(losses, book)


def test_levels_are_independent_and_weighted_alone() -> None:
    book = oracle.clustered(20, 4, 3, seed=2).requires_grad_()
    codes, groups = torch.randint(6, (50, 3)), torch.arange(20) % 4
    sizes = [6, 8, 6]
    whole = diversity_losses(codes, book, sizes, groups, 9)
    (first,) = torch.autograd.grad(whole[1], book, retain_graph=True)
    assert bool((first[:6] == 0).all())
    assert bool((first[14:] == 0).all())
    (mixed,) = torch.autograd.grad((whole * torch.tensor([1.0, 2.0, 0.0])).sum(), book)
    assert torch.equal(mixed[6:14], 2 * first[6:14])
    (alone,) = torch.autograd.grad(
        diversity_losses(codes[:, :1], book[:6], [6], groups[:6], 9), book
    )
    torch.testing.assert_close(mixed[:6], alone[:6])


def test_positives_are_other_members_of_the_group_and_all_occur() -> None:
    groups = torch.tensor([2, 0, 2, 1, 2, 0])
    codes = torch.arange(6).repeat_interleave(400)
    targets = partners(codes, groups, 0)
    for code in range(6):
        drawn = targets[codes == code]
        others = [k for k in range(6) if k != code and groups[k] == groups[code]]
        assert sorted(set(drawn.tolist())) == (others or [-1])
        for other in others:
            share = (drawn == other).double().mean().item()
            assert abs(share - 1 / len(others)) < 0.1


def test_positives_depend_on_seed_level_and_row_alone() -> None:
    groups, codes = torch.zeros(64, dtype=torch.int64), torch.randint(32, (500, 2))
    seed = torch.tensor(7)
    whole = draw_partners(codes, [32, 32], groups, seed)
    assert torch.equal(draw_partners(codes[:100], [32, 32], groups, seed), whole[:100])
    # Another seed, or another level, agrees by chance: 1 in 31.
    other = draw_partners(codes, [32, 32], groups, seed + 1)
    assert (other == whole).double().mean() < 0.1
    same = draw_partners(codes[:, :1].expand(-1, 2), [32, 32], groups, seed)
    assert (same[:, 0] == same[:, 1]).double().mean() < 0.1
    # The bits themselves, for whoever implements them anew (SplitMix64, seed 0).
    bits = random_bits(torch.tensor(0), torch.arange(2))
    assert [int(z) % 2**64 for z in bits] == [0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4]


def test_a_generator_draws_the_seed() -> None:
    book, groups = torch.randn(12, 3), torch.arange(12) % 3
    codes = torch.randint(12, (40,))
    one, again = (
        diversity_loss(codes, book, groups, torch.Generator().manual_seed(1)) for _ in range(2)
    )
    assert torch.equal(one, again)
    generator = torch.Generator().manual_seed(1)
    losses = {float(diversity_loss(codes, book, groups, generator)) for _ in range(3)}
    assert len(losses) == 3
    torch.manual_seed(5)
    first = diversity_loss(codes, book, groups)
    torch.manual_seed(5)
    assert torch.equal(diversity_loss(codes, book, groups), first)


@pytest.mark.parametrize("backend", ["reference", "cpp"])
def test_a_codeword_alone_in_its_group_contributes_nothing(backend: str) -> None:
    with kernels.use_backend(backend):
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
        assert bool((single.grad == 0).all())


@pytest.mark.parametrize("backend", ["reference", "cpp"])
def test_marked_rows_count_nowhere(backend: str) -> None:
    book, groups = torch.randn(6, 3), torch.zeros(6, dtype=torch.int64)
    codes = torch.tensor([0, -1, 2, -1])
    targets = partners(codes, groups, 1)
    with kernels.use_backend(backend):
        loss = diversity_losses(codes[:, None], book, [6], groups, 1)[0]
    assert targets[[1, 3]].tolist() == [-1, -1]
    torch.testing.assert_close(loss, literal(codes[[0, 2]], book, targets[[0, 2]]))


def test_half_precision_codebooks_and_autocast() -> None:
    book = torch.randn(8, 3).bfloat16().requires_grad_()
    codes, groups = torch.randint(8, (30, 1)), torch.arange(8) % 2
    full = book.detach().float().requires_grad_()
    with kernels.use_backend("reference"), torch.autocast("cpu", torch.bfloat16):
        low = diversity_losses(codes, book, [8], groups, 2).sum()
    with kernels.use_backend("reference"):
        high = diversity_losses(codes, full, [8], groups, 2).sum()
    assert torch.equal(low, high)
    assert torch.equal(
        torch.autograd.grad(low, book)[0], torch.autograd.grad(high, full)[0].bfloat16()
    )


def test_a_second_derivative_is_refused() -> None:
    book = torch.randn(4, 2, requires_grad=True)
    loss = diversity_loss(torch.tensor([0, 1]), book, torch.zeros(4, dtype=torch.int64))
    with pytest.raises(RuntimeError, match="diversity_loss has no second derivative"):
        torch.autograd.grad(loss, book, create_graph=True)


def test_shapes_are_checked() -> None:
    codes, book, groups = torch.zeros(2).long(), torch.randn(4, 2), torch.zeros(3).long()
    with pytest.raises(ValueError, match=r"groups \[4\]"):
        diversity_loss(codes, book, groups)
    with pytest.raises(ValueError, match=r"codes must be \[B\]"):
        diversity_loss(codes[:, None], book, torch.zeros(4).long())
    with pytest.raises(ValueError, match=r"codes must be \[B, 2\]"):
        diversity_losses(codes[:, None], book, [1, 3], torch.zeros(4).long())
    with pytest.raises(ValueError, match="add up to the 4 codewords"):
        diversity_losses(codes[:, None], book, [2, 3], torch.zeros(5).long())
