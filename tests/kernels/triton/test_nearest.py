"""Scores of the Triton backend, and k-means with it: the bits of the CPU."""

from __future__ import annotations

import math

import pytest
import torch

from letter_fast import kernels
from letter_fast.clustering import kmeans
from letter_fast.kernels import cpp, reference
from tests.support import oracle
from tests.support.triton_backend import DEVICE, backend

# Scales are tried out where they overflow, and numpy, which interprets, says so.
pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")


@pytest.mark.parametrize("scale", [0.0, 1e-320, 1.0, 1e6, 1e200])
def test_nearest_with_offset(scale: float) -> None:
    rows = 1 if 0 < scale < 1e-300 else 6
    x, book = oracle.clustered(rows, 5, 4, seed=15), oracle.clustered(17, 5, 4, seed=16)
    book[9:] = book[:8]
    offset = scale * torch.linspace(1, -1, 17, dtype=torch.float64)
    code, score = (
        part.cpu() for part in backend.nearest(*(t.to(DEVICE) for t in (x, book, offset)))
    )
    assert code.tolist() == oracle.nearest(x, book, offset)
    expected = (x.double() - book[code].double()).square().sum(1) + offset[code]
    torch.testing.assert_close(score, expected, rtol=1e-12, atol=1e-12 * max(scale, 1.0))


@pytest.mark.parametrize("width", [1, 130])
def test_nearest_has_no_residual_that_could_overflow(width: int) -> None:
    x, book = torch.full((2, width), 3e38), torch.full((1, width), -3e38)
    code, score = (part.cpu() for part in backend.nearest(x.to(DEVICE), book.to(DEVICE), None))
    assert code.tolist() == [0, 0]
    assert score.isfinite().all()
    searched = backend.residual_search(x.to(DEVICE), book.to(DEVICE), [1])
    assert (searched[0] == -1).all()


def test_nearest_marks() -> None:
    x = torch.tensor([[1.0], [math.nan]], device=DEVICE)
    code, score = backend.nearest(x, torch.zeros(2, 1, device=DEVICE), None)
    assert code.tolist() == [0, -1]
    assert score[0] == 1.0
    assert score[1].isnan()


@pytest.mark.parametrize("width", [1, 7, 8, 9, 33, 130])
@pytest.mark.parametrize("shifted", [False, True])
def test_scores_are_the_bits_of_every_backend(width: int, shifted: bool) -> None:
    x, book = oracle.clustered(70, width, 6, seed=width), oracle.clustered(9, width, 6, seed=99)
    offset = torch.linspace(-1, 1, 9, dtype=torch.float64) if shifted else None
    _, expected = reference.nearest(x, book, offset)
    on_device = [None if each is None else each.to(DEVICE) for each in (x, book, offset)]
    assert torch.equal(backend.nearest(*on_device)[1].cpu(), expected)
    assert torch.equal(cpp.nearest(x, book, offset)[1], expected)


def test_kmeans_is_the_bits_of_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Centroids, labels and inertia; among them, clusters that are empty are refilled."""
    x = oracle.clustered(150, 9, 4, seed=21)
    x[40:60] = x[:20]
    start = x[:7].clone()
    start[5:] = 100.0
    found = []
    for name, device in (("triton", DEVICE), ("cpp", "cpu"), ("reference", "cpu")):
        monkeypatch.setenv("TRITON_INTERPRET", "1")
        with kernels.use_backend(name):
            found.append(kmeans(x.to(device), 7, start=start, iterations=4, tolerance=0.0))
    for other in found[1:]:
        assert torch.equal(found[0].centroids.cpu(), other.centroids)
        assert torch.equal(found[0].labels.cpu(), other.labels)
        assert found[0].inertia == other.inertia
