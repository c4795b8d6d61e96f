"""The beam of every CPU backend: greedy when narrow, exhaustive when wide, ties to the lowest."""

from __future__ import annotations

import pytest
import torch

from letter_fast import kernels
from letter_fast.kernels import cpp, reference
from tests.support import oracle


@pytest.mark.parametrize("beam", [1, 2, 5])
def test_beam_one_is_greedy_and_wider_is_no_worse(backend: kernels.Backend, beam: int) -> None:
    x = oracle.clustered(40, 6, 8, seed=17)
    books = [oracle.clustered(9, 6, 8, seed=s) * 0.7**s for s in range(3)]
    table = torch.cat(books)
    codes, quantized = backend.residual_search_beam(x, table, [9, 9, 9], beam)
    greedy, sums, _, _ = backend.residual_search(x, table, [9, 9, 9])
    if beam == 1:
        assert torch.equal(codes, greedy)
        assert torch.equal(quantized, sums)
    error, plain = ((x - q).square().sum() for q in (quantized, sums))
    assert error <= plain * (1 + 1e-6)


def test_a_beam_of_all_paths_is_exhaustive(backend: kernels.Backend) -> None:
    x = oracle.clustered(25, 4, 5, seed=18)
    books = [oracle.clustered(5, 4, 5, seed=s) for s in (19, 20)]
    codes, _ = backend.residual_search_beam(x, torch.cat(books), [5, 5], 5)
    for row, code in zip(x, codes.tolist()):
        paths = [(a, b) for a in range(5) for b in range(5)]
        cost = {
            (a, b): float(((row - books[0][a]) - books[1][b]).double().square().sum())
            for a, b in paths
        }
        assert tuple(code) == min(paths, key=lambda path: (cost[path], path))


def test_beam_ties_go_to_the_lowest_path(backend: kernels.Backend) -> None:
    books = torch.tensor([[1.0], [-1.0], [1.0], [-1.0], [0.0]])
    codes, _ = backend.residual_search_beam(torch.zeros(3, 1), books, [2, 3], 4)
    assert codes.tolist() == [[0, 1]] * 3
    codes, _ = backend.residual_search_beam(torch.full((1, 1), torch.nan), books, [2, 3], 4)
    assert codes.tolist() == [[-1, -1]]


@pytest.mark.parametrize("beam", [2, 9, 40])
def test_beam_on_clusters(instruction_set: str, beam: int) -> None:
    x = oracle.clustered(30, 32, 8, seed=6)
    x[4, 0] = float("inf")
    books = oracle.levels(x.nan_to_num(posinf=0.0), [256, 100, 30])
    for scale in (1.0, 1e-30):
        arguments = (x * scale, torch.cat(books) * scale, [256, 100, 30], beam)
        expected, found = (backend.residual_search_beam(*arguments) for backend in (reference, cpp))
        assert torch.equal(found[0], expected[0])
        assert torch.equal(found[1], expected[1])


def test_beam_on_a_grid(instruction_set: str) -> None:
    x = torch.randint(-3, 4, (60, 3)).float()
    books = torch.randint(-2, 3, (90, 3)).float()
    for beam in (2, 7, 200):
        expected = reference.residual_search_beam(x, books, [40, 40, 10], beam)
        found = cpp.residual_search_beam(x, books, [40, 40, 10], beam)
        assert torch.equal(found[0], expected[0])
