"""PyTorch's own checks of each op: schema, fake tensors, and compiling without a graph break."""

from __future__ import annotations

import pytest
import torch

from letter_fast import ops

X, BOOK = torch.randn(9, 4), torch.randn(7, 4)
STARTS = torch.tensor([0, 4, 9])
NONE_TAKEN = (torch.zeros(0, dtype=torch.int64), torch.tensor([0, 0, 0]))
CALLS = [
    (ops.nearest, (X, BOOK, None)),
    (ops.nearest, (X, BOOK, torch.randn(7, dtype=torch.float64))),
    (ops.residual_search, (X, BOOK, [3, 4], None, True, True)),
    (ops.residual_search, (X.half(), BOOK, [3, 4], torch.randn(7, dtype=torch.float64), False)),
    (ops.residual_search, (X[:0], BOOK, [7], None, True, True)),
    (ops.residual_search_beam, (X, BOOK, [3, 4], 2)),
    (ops.distinct_codes, (X, BOOK, STARTS, torch.zeros(9).long(), torch.arange(9), *NONE_TAKEN)),
    (ops.spill_codes, (X, BOOK, STARTS, torch.zeros(9).long(), torch.arange(9), *NONE_TAKEN, 2)),
]


@pytest.mark.parametrize(("op", "arguments"), CALLS)
def test_opcheck(op: object, arguments: tuple[object, ...]) -> None:
    torch.library.opcheck(op, arguments)  # type: ignore[arg-type]


@pytest.mark.slow
def test_compiles_whole() -> None:
    def codes(x: torch.Tensor) -> torch.Tensor:
        return ops.residual_search(x * 2, BOOK, [3, 4])[0] + 1

    compiled = torch.compile(codes, fullgraph=True, backend="eager")
    assert torch.equal(compiled(X), codes(X))
