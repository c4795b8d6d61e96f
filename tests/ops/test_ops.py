"""PyTorch's own checks of each op: schema, fake tensors, and compiling without a graph break."""

from __future__ import annotations

import pytest
import torch

import letter_fast as lf
from letter_fast import ops
from letter_fast.losses import contrastive_loss, diversity_losses

X, BOOK = torch.randn(9, 4), torch.randn(7, 4)
STARTS = torch.tensor([0, 4, 9])
NONE_TAKEN = (torch.zeros(0, dtype=torch.int64), torch.tensor([0, 0, 0]))
LEAF, TABLE = torch.randn(9, 4, requires_grad=True), torch.randn(7, 4, requires_grad=True)
CODES = torch.tensor([[i % 3, i % 4] for i in range(8)] + [[-1, -1]])
GROUPS, SEED = torch.arange(7) % 2, torch.tensor(3)
WEIGHTS = [torch.randn(5, 4, requires_grad=True), torch.randn(3, 5)]
TERMS = [torch.rand((), requires_grad=True) for _ in range(3)]
BIASES = [torch.randn(5, requires_grad=True), torch.randn(3)]
CALLS = [
    (ops.nearest, (X, BOOK, None)),
    (ops.nearest, (X, BOOK, torch.randn(7, dtype=torch.float64))),
    (ops.residual_search, (X, BOOK, [3, 4], None, True, True)),
    (ops.residual_search, (X.half(), BOOK, [3, 4], torch.randn(7, dtype=torch.float64), False)),
    (ops.residual_search, (X[:0], BOOK, [7], None, True, True)),
    (ops.residual_search_beam, (X, BOOK, [3, 4], 2)),
    (ops.distinct_codes, (X, BOOK, STARTS, torch.zeros(9).long(), torch.arange(9), *NONE_TAKEN)),
    (ops.evict_codes, (X, BOOK, STARTS, torch.zeros(9).long(), torch.arange(9), *NONE_TAKEN, 2)),
    (ops.residual_losses, (LEAF, TABLE, [3, 4], CODES, "full", "mean", 0.25, True)),
    (ops.residual_losses, (LEAF, TABLE.detach(), [3, 4], CODES, "aggregate", "sum", 0.5, True)),
    (ops.residual_losses, (X.double(), BOOK.double(), [3, 4], CODES, "detach", "mean", 1.0, False)),
    (ops.contrastive, (LEAF, torch.randn(11, 4, requires_grad=True), True)),
    (ops.contrastive, (X, X.clone().requires_grad_(), False)),
    (ops.contrastive_gradient_h, (X.double(), X.double(), torch.randn(9).double())),
    (ops.diversity, (CODES, TABLE, [3, 4], GROUPS, SEED, True)),
    (ops.diversity, (CODES, BOOK.double(), [3, 4], GROUPS, SEED, False)),
    (
        ops.kmeans_plusplus,
        (X.round()[None], torch.ones(1, 9).double(), torch.rand(1, 3, 2).double()),
    ),
    (ops.mlp, (LEAF, WEIGHTS, BIASES)),
    (ops.mlp, (X, WEIGHTS[:1], BIASES[:1])),
    (ops.weighted_total, (*TERMS, torch.rand(2), 36, [2.0, 1e-4, 0.01], True)),
    (ops.weighted_total, (*X[0, :3].double().unbind(), X[1].double(), 36, [1.0, 0.1, 0.0], False)),
    (ops.joined_codes, ([CODES, CODES[:, :1]],)),
    (ops.cluster_sums, (X, torch.arange(9) % 7, 7, 30)),
    (ops.nearest_bounded, (X, BOOK, torch.full((9,), -1), torch.zeros(9), torch.zeros(7))),
    (
        ops.balanced_lloyd,
        (X[None], BOOK[None], torch.zeros(7).long(), torch.full((7,), 2), 2, 0.0, 30),
    ),
    (ops.residuals, (X.half(), BOOK, [3, 4], CODES.clamp(min=0))),
    (ops.sinkhorn_codes, (X, BOOK, torch.tensor([0, 4, 9]), 0.003, 5)),
    (ops.sinkhorn_codes, (X[:0].half(), BOOK, torch.tensor([0]), 0.003, 5)),
]


# torch 2.14 looks at .grad of tensors of its own making.
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")
@pytest.mark.parametrize(("op", "arguments"), CALLS)
def test_opcheck(op: object, arguments: tuple[object, ...]) -> None:
    torch.library.opcheck(op, arguments)


@pytest.mark.slow
def test_compiles_whole() -> None:
    def codes(x: torch.Tensor) -> torch.Tensor:
        return ops.residual_search(x * 2, BOOK, [3, 4])[0] + 1

    compiled = torch.compile(codes, fullgraph=True, backend="eager")
    assert torch.equal(compiled(X), codes(X))


@pytest.mark.slow
def test_a_training_step_compiles_whole() -> None:
    quantizer = lf.ResidualQuantizer(4, [3, 4], residual_grad="detach", nonfinite="mark")
    groups, h = torch.arange(7) % 2, torch.randn(9, 4)

    def loss(z: torch.Tensor) -> torch.Tensor:
        out = quantizer(z * 2)
        diversity = diversity_losses(out.codes, quantizer.codebooks, [3, 4], groups, 5)
        return out.loss + contrastive_loss(out.quantized, h) + diversity.mean()

    compiled = torch.compile(loss, fullgraph=True, backend="aot_eager")
    leaves = [LEAF, quantizer.codebooks]
    assert torch.equal(compiled(LEAF), loss(LEAF))
    for a, b in zip(
        torch.autograd.grad(compiled(LEAF), leaves), torch.autograd.grad(loss(LEAF), leaves)
    ):
        assert torch.equal(a, b)
