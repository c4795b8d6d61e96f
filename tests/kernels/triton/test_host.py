"""The Triton backend's work on the host, and the cards that it leaves to the reference."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from unittest import mock

import pytest
import torch

from letter_fast import kernels
from letter_fast.kernels import reference
from letter_fast.kernels.cpp.library import NativeLibraryError
from tests.support import oracle
from tests.support.triton_backend import DEVICE, backend


@pytest.fixture
def no_native_library() -> Iterator[None]:
    """As on a machine without a compiler."""
    kernels._default.cache_clear()
    failed = mock.Mock(side_effect=NativeLibraryError("native.so is absent"))
    with mock.patch.object(kernels, "load_library", failed):
        yield
    kernels._default.cache_clear()


@pytest.mark.usefixtures("no_native_library")
def test_without_the_native_library_the_reference_does_it_after_one_warning() -> None:
    x = oracle.clustered(60, 3, 4, seed=1)
    low, high = torch.full((4,), 12), torch.full((4,), 18)
    points = (x * 64).round()
    weights, draws = torch.ones(1, 60).double(), torch.rand(1, 4, 2).double()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        start = backend.kmeans_plusplus(
            points[None].to(DEVICE), weights.to(DEVICE), draws.to(DEVICE)
        )
        arguments = (x[None], x[None, start[0].cpu()], low, high, 5, 0.0, 20)
        moved = [each.to(DEVICE) if torch.is_tensor(each) else each for each in arguments]
        found = backend.balanced_lloyd(*moved)
    assert torch.equal(start.cpu(), reference.kmeans_plusplus(points[None], weights, draws))
    for one, other in zip(found, reference.balanced_lloyd(*arguments)):
        assert one.device.type == DEVICE.type
        assert torch.equal(one.cpu(), other)
    messages = [str(each.message) for each in caught]
    assert len(messages) == 1, messages
    assert "reference backend" in messages[0]


@pytest.mark.parametrize(("capability", "expected"), [((7, 5), "reference"), ((8, 0), "triton")])
def test_cards_below_8_0_get_the_reference(capability: tuple[int, int], expected: str) -> None:
    kernels._default.cache_clear()
    with mock.patch("torch.cuda.get_device_capability", return_value=capability):
        if expected == "reference":
            with pytest.warns(UserWarning, match="compute capability 7.5"):
                assert kernels._default(torch.device("cuda")) == expected
        else:
            assert kernels._default(torch.device("cuda")) == expected
    kernels._default.cache_clear()
