"""The screens' certificates under sums like a tensor core's, where the interpreter has numpy's.

score.py assumes blocks of b ≥ 8 products and F ≥ 23 fraction bits.
"""

from __future__ import annotations

from unittest import mock

import pytest
import torch

from letter_fast.kernels import reference
from tests.support import oracle
from tests.support.tensor_core_model import tensor_core
from tests.support.triton_backend import DEVICE, backend

pytestmark = [
    pytest.mark.filterwarnings("ignore::RuntimeWarning"),
    pytest.mark.skipif(DEVICE.type == "cuda", reason="a GPU has sums of its own"),
]


def wrong_codes(width: int, block: int, bits: int) -> int:
    """The number of rows of near-ties that come out with wrong codes, margins or paths."""
    from triton.runtime.interpreter import InterpreterBuilder

    book = oracle.clustered(64, width, 4, seed=3)
    generator = torch.Generator().manual_seed(width)
    pairs = torch.randint(64, (2, 48), generator=generator)
    middle = (book[pairs[0]] + book[pairs[1]]) / 2
    x = middle + 2.0**-9 * torch.randn(middle.shape, generator=generator) * book[pairs[0]].abs()
    expected, _ = oracle.residual_search(x, [book, book[:40] / 8])
    table = torch.cat([book, book[:40] / 8])
    few = x[:16]
    with mock.patch.object(InterpreterBuilder, "create_dot", tensor_core(block, bits)):
        codes, _, _, _ = backend.residual_search(x, table, [64, 40])
        _, _, margins, _ = backend.residual_search(few, table, [64, 40], with_margins=True)
        paths, _ = backend.residual_search_beam(few, table, [64, 40], 3)
    _, _, right, _ = reference.residual_search(few, table, [64, 40], with_margins=True)
    best, _ = reference.residual_search_beam(few, table, [64, 40], 3)
    wrong = codes != torch.tensor(expected)
    wrong[:16] |= (paths != best) | ~margins.isclose(right, rtol=1e-5, atol=0.0)
    return int(wrong.any(dim=1).sum())


@pytest.mark.parametrize(
    ("block", "bits"), [(8, 24), (16, 25), (16, 23)], ids=["A100", "H100", "assumed"]
)
@pytest.mark.parametrize("width", [32, 128, 200])
def test_certified_codes_are_right(width: int, block: int, bits: int) -> None:
    assert wrong_codes(width, block, bits) == 0


def test_sums_rougher_than_assumed_give_wrong_codes() -> None:
    assert wrong_codes(128, 16, 8) > 0
