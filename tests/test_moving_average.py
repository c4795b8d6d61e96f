"""Codebooks as moving averages: the formula written out, and what stays as it was."""

from __future__ import annotations

from copy import deepcopy

import pytest
import torch
from torch import Tensor

import letter_fast as lf
from letter_fast import kernels
from letter_fast.losses import residual_losses
from tests.support import oracle

SIZES, DECAY = [8, 5], 0.9


def quantizer(**options: object) -> lf.ResidualQuantizer:
    chosen = dict(codebook_update="ema", ema_decay=DECAY)
    made = lf.ResidualQuantizer(6, SIZES, **{**chosen, **options})
    return made.fit(oracle.clustered(300, 6, 9, seed=1), method="kmeans")


def batches(count: int) -> list[Tensor]:
    """Of different sizes, the first of few rows, so that some codewords have none."""
    return [oracle.clustered(rows, 6, 4, seed=9 + rows) for rows in range(3, 3 + 40 * count, 40)]


@pytest.mark.parametrize("backend", ["reference", "cpp"])
@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
def test_each_codeword_is_the_weighted_mean_of_its_rows(dtype: torch.dtype, backend: str) -> None:
    rq = quantizer()
    words = [rq.codebook(level).detach().double() for level in range(2)]
    counts = [torch.zeros(size).double() for size in SIZES]
    sums = [torch.zeros_like(table) for table in words]
    for z in batches(5):
        z = z.to(dtype)
        with kernels.use_backend(backend):
            codes = rq(z).codes
        residual = z.double()
        for level, size in enumerate(SIZES):
            chosen = torch.nn.functional.one_hot(codes[:, level], size).double()
            new = counts[level] == 0
            counts[level] = torch.where(new, len(z) / size, counts[level])
            sums[level] = torch.where(new[:, None], len(z) / size * words[level], sums[level])
            counts[level] = DECAY * counts[level] + (1 - DECAY) * chosen.sum(0)
            sums[level] = DECAY * sums[level] + (1 - DECAY) * chosen.T @ residual
            residual = residual - words[level][codes[:, level]]
            words[level] = sums[level] / counts[level][:, None]
        torch.testing.assert_close(
            rq.codebooks.detach().double(), torch.cat(words), rtol=1e-5, atol=1e-6
        )
        torch.testing.assert_close(rq.ema_weights, torch.cat(counts).float())


def test_a_codeword_without_rows_keeps_its_bits() -> None:
    rq = quantizer()
    before = rq.codebooks.detach().clone()
    codes = rq(batches(1)[0]).codes
    used = torch.cat(
        [torch.isin(torch.arange(size), codes[:, at]) for at, size in enumerate(SIZES)]
    )
    moved = (rq.codebooks.detach() != before).any(1)
    assert bool(used.any())
    assert not bool(used.all())
    assert torch.equal(moved, used)


def test_the_encoder_s_gradient_is_the_commitment_s_and_codebooks_have_none() -> None:
    for mode in ("straight_through", "detach", "aggregate"):
        rq = quantizer(residual_grad=mode)
        z = batches(2)[1].requires_grad_()
        table = rq.codebooks.detach().clone()
        out = rq(z)
        assert not torch.equal(rq.codebooks, table)
        terms = residual_losses(z, table, SIZES, out.codes, residual_grad=mode)
        assert torch.equal(out.codebook_losses, terms.codebook)
        torch.testing.assert_close(out.loss, 0.25 * terms.commitment.mean())
        want = torch.autograd.grad(0.25 * terms.commitment.mean() + terms.quantized.sum(), z)
        got = torch.autograd.grad(out.loss + out.quantized.sum(), z)
        assert torch.equal(got[0], want[0])
        assert not rq.codebooks.requires_grad


def test_only_training_moves_anything_and_marked_rows_count_nowhere() -> None:
    rq = quantizer(nonfinite="mark")
    z = batches(2)[1]
    before = deepcopy(rq.state_dict())
    rq.eval()(z)
    rq.encode(z)
    rq.train()(z[:0])
    assert torch.equal(rq.codebooks, before["codebooks"])
    dirty = torch.cat([torch.full((1, 6), torch.nan), z])
    alone = deepcopy(rq)
    alone.load_state_dict(before)
    rq.load_state_dict(before)
    alone(z)
    rq(dirty)
    assert torch.equal(rq.codebooks, alone.codebooks)
    assert torch.equal(rq.ema_weights, alone.ema_weights)


def test_threads_and_runs_give_the_same_bits() -> None:
    def trained(threads: int) -> Tensor:
        torch.set_num_threads(threads)
        rq = quantizer()
        for z in batches(4):
            rq(z)
        return rq.codebooks.detach()

    before = torch.get_num_threads()
    try:
        assert torch.equal(trained(1), trained(2))
    finally:
        torch.set_num_threads(before)


def test_state_survives_saving_and_gradient_models_have_none() -> None:
    rq = quantizer()
    rq(batches(2)[1])
    other = quantizer()
    other.load_state_dict(rq.state_dict())
    for z in batches(2):
        rq(z), other(z)
    assert torch.equal(rq.codebooks, other.codebooks)
    assert bool(rq.ema_weights.any())
    rq.fit(oracle.clustered(300, 6, 9, seed=2), method="kmeans")  # new codewords have no past
    assert not bool(rq.ema_weights.any())
    assert "ema_weights" not in lf.ResidualQuantizer(6, SIZES).state_dict()


@pytest.mark.slow
def test_it_compiles_whole() -> None:
    rq = quantizer(nonfinite="mark")
    same = deepcopy(rq)
    compiled = torch.compile(lambda z: rq(z).loss, fullgraph=True, backend="aot_eager")
    for z in batches(3)[1:]:
        assert torch.equal(compiled(z), same(z).loss)
    assert torch.equal(rq.codebooks, same.codebooks)


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match=r"ema_decay must be below 1.0 and at least 0.0, got 1.0"):
        quantizer(ema_decay=1.0)
    with pytest.raises(ValueError, match="codebook_update must be one of"):
        quantizer(codebook_update="sgd")
    with pytest.raises(ValueError, match="set diversity_weight=0"):
        lf.LetterConfig(input_dim=4, codebook_update="ema")
    with pytest.raises(ValueError, match="ema_decay must be in"):
        lf.LetterConfig(input_dim=4, ema_decay=-0.1)
