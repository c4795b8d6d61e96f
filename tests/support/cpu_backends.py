"""The C++ kernels on every instruction set there is, with any number of threads."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import pytest
import torch
from torch import Tensor

from letter_fast.kernels.cpp import library

CPU = torch.device("cpu")
# Those of this processor, or of the library that `make test-emulated` names.
SETS = library.instruction_sets()


@contextmanager
def threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def same_bits(call: Callable[[], Sequence[Tensor]]) -> None:
    """Of every run, number of threads and instruction set of the C++ kernels."""
    with threads(1):
        expected = call()
    for name in SETS:
        for count in (1, 2, 3):
            with threads(count), pytest.MonkeyPatch.context() as patch:
                patch.setenv("LETTER_FAST_INSTRUCTION_SET", name)
                found = call()
            assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True)), (
                f"{name}, {count} threads"
            )
