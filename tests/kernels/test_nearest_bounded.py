"""A search that knows the answer before: only what moved codewords may change is searched."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from letter_fast.clustering.kmeans import moved_at_most
from letter_fast.kernels import cpp, reference
from tests.support import oracle


class Walk:
    """Codewords on the move, and what is known of the rows."""

    def __init__(self, x: Tensor, codebook: Tensor) -> None:
        self.x, self.codebook = x, codebook
        self.codes = torch.full((len(x),), -1)
        self.bounds = torch.zeros(len(x))
        self.movement = torch.zeros(len(codebook))

    def move(self, codebook: Tensor) -> None:
        self.movement = moved_at_most(self.codebook, codebook)
        self.codebook = codebook

    def check(self) -> None:
        """Codes and scores are those of `nearest`; no other codeword is nearer than promised."""
        code, score, lower = cpp.nearest_bounded(
            self.x, self.codebook, self.codes, self.bounds, self.movement
        )
        expected, distance = reference.nearest(self.x, self.codebook, None)
        assert torch.equal(code, expected)
        torch.testing.assert_close(score, distance, rtol=1e-12, atol=0)
        squares = (self.x.double()[:, None] - self.codebook.double()).square().sum(2)
        others = squares.scatter(1, code[:, None], torch.inf).amin(1)
        assert bool((lower.double().square() <= others * (1 + 1e-12)).all())
        self.codes, self.bounds = code, lower


@pytest.mark.usefixtures("instruction_set")
@pytest.mark.parametrize(("width", "words"), [(1, 3), (17, 70), (32, 130)])
@pytest.mark.parametrize("scale", [1e-42, 1e-38, 1e-25, 1.0, 1e15, 1e30])
def test_codes_are_those_of_a_new_search(width: int, words: int, scale: float) -> None:
    """However far or little codewords moved, and whatever the scale: 1e-42 is denormal."""
    x = oracle.clustered(150, width, 12, seed=width)
    random = torch.Generator().manual_seed(width)
    walk = Walk(x * scale, x[:words] * scale)
    walk.check()
    for step in (3.0, 0.1, 0.01, 0.001, 0.0):
        noise = torch.randn(words, width, generator=random) * step
        noise[: words // 20 + 1] *= 30  # a few move far
        noise[words // 2 :] = 0.0  # half stay
        walk.move(walk.codebook + noise * scale)
        walk.check()


@pytest.mark.usefixtures("instruction_set")
@pytest.mark.parametrize("width", [1, 4, 32])
def test_one_step_from_a_tie(width: int) -> None:
    x, codebook = oracle.near_ties(150, width, 9, seed=width)
    random = torch.Generator().manual_seed(width)
    walk = Walk(x, codebook)
    for _ in range(3):
        walk.check()
        # The smallest steps there are turn the ties over.
        step = torch.randn(walk.codebook.shape, generator=random)
        walk.move(torch.nextafter(walk.codebook, step))


@pytest.mark.usefixtures("instruction_set")
def test_a_twin_that_leaves_is_seen() -> None:
    # Codeword 1 hides behind its equal, 0; when 0 leaves, the row is 1's.
    walk = Walk(torch.tensor([[0.0], [10.0]]), torch.tensor([[0.0], [0.0], [10.0]]))
    walk.check()
    walk.move(torch.tensor([[5.0], [0.0], [10.0]]))
    walk.check()
    assert walk.codes.tolist() == [1, 2]


@pytest.mark.usefixtures("instruction_set")
def test_what_is_proven_is_not_searched() -> None:
    # A wrong code under a bound that claims to prove it is believed: only a search would notice.
    x, book = torch.tensor([[1.0, 0.0], [1.0, 0.0]]), torch.tensor([[0.0, 0.0], [1.0, 0.0]])
    codes, bounds = torch.tensor([0, 0]), torch.tensor([2.0, 0.5])
    found, _, _ = cpp.nearest_bounded(x, book, codes, bounds, torch.zeros(2))
    assert found.tolist() == [0, 1]
    found, _, _ = cpp.nearest_bounded(x[:1], book, codes[:1], bounds[:1], torch.zeros(2))
    assert found.tolist() == [0]


def test_movement_is_never_rounded_down() -> None:
    random = torch.Generator().manual_seed(5)
    for scale in (1e-45, 1e-44, 1e-40, 1e-30, 1.0, 1e30):
        before = torch.randn(500, 3, generator=random) * scale
        after = before + torch.randn(500, 3, generator=random) * scale
        moved = (after.double() - before.double()).square().sum(1).sqrt()
        assert bool((moved_at_most(before, after).double() >= moved).all())
    assert not moved_at_most(before, before).any()
