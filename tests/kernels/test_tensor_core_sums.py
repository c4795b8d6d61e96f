"""The screens' certificates under sums like a tensor core's, where the interpreter has numpy's.

Model of one step: b products, exact, and the accumulator are aligned to the largest of them,
truncated to F bits behind its leading one, added, and the sum is truncated to float32 (Fasi,
Higham, Mikaitis and Pranesh, 2021). score.py assumes b ≥ 8 and F ≥ 23.
"""

from __future__ import annotations

from typing import Any
from unittest import mock

import numpy as np
import oracle
import pytest
import torch
from numpy.typing import NDArray
from triton_backend import DEVICE, backend

pytestmark = [
    pytest.mark.filterwarnings("ignore::RuntimeWarning"),
    pytest.mark.skipif(DEVICE.type == "cuda", reason="a GPU has sums of its own"),
]


def truncated(values: NDArray[Any], unit: NDArray[Any]) -> NDArray[Any]:
    """values towards zero, in multiples of `unit`, a power of two."""
    return np.trunc(values / unit) * unit


def top_bit(values: NDArray[Any]) -> NDArray[Any]:
    """The power of two at the leading bit; tiny for 0."""
    return np.exp2(np.frexp(np.maximum(np.abs(values), 2.0**-300))[1] - 1.0)


def tensor_core(block: int, bits: int) -> Any:
    """A `create_dot` of the interpreter that adds as such a core does."""
    from triton.runtime.interpreter import TensorHandle

    def create_dot(self: Any, a: Any, b: Any, d: Any, precision: Any, imprecise: Any) -> Any:
        left, right = a.data.astype(np.float64), b.data.astype(np.float64)
        total = d.data.astype(np.float64)
        for start in range(0, left.shape[1], block):
            part = slice(start, start + block)
            terms = left[:, None, part] * right.T[None, :, part]
            terms = np.concatenate([terms, total[..., None]], axis=2)
            unit = top_bit(np.abs(terms).max(axis=2, keepdims=True)) * 2.0**-bits
            added = truncated(terms, unit).sum(axis=2)
            total = truncated(added, top_bit(added) * 2.0**-23)
        return TensorHandle(total.astype(d.data.dtype), d.dtype.scalar)

    return create_dot


def wrong_codes(width: int, block: int, bits: int) -> int:
    """How many codes of near-ties come out wrong."""
    from triton.runtime.interpreter import InterpreterBuilder

    book = oracle.clustered(64, width, 4, seed=3)
    generator = torch.Generator().manual_seed(width)
    pairs = torch.randint(64, (2, 48), generator=generator)
    middle = (book[pairs[0]] + book[pairs[1]]) / 2
    x = middle + 2.0**-9 * torch.randn(middle.shape, generator=generator) * book[pairs[0]].abs()
    expected, _ = oracle.residual_search(x, [book, book[:40] / 8])
    with mock.patch.object(InterpreterBuilder, "create_dot", tensor_core(block, bits)):
        codes, _, _, _ = backend.residual_search(x, torch.cat([book, book[:40] / 8]), [64, 40])
    return int((codes != torch.tensor(expected)).any(dim=1).sum())


@pytest.mark.parametrize(
    ("block", "bits"), [(8, 24), (16, 25), (16, 23)], ids=["A100", "H100", "assumed"]
)
@pytest.mark.parametrize("width", [32, 128, 200])
def test_certified_codes_are_right(width: int, block: int, bits: int) -> None:
    assert wrong_codes(width, block, bits) == 0


def test_sums_rougher_than_assumed_give_wrong_codes() -> None:
    assert wrong_codes(128, 16, 8) > 0
