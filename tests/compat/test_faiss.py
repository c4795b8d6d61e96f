"""Codebooks, codes and beams beside faiss itself.

faiss measures in float32, with tables of inner products if asked, and so settles near-ties by its
rounding: codes are compared on rows that are not near a tie, beams by the error they leave.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch

import letter_fast as lf
from letter_fast.compat.faiss import from_faiss, pack_codes, to_faiss, unpack_codes
from tests.support import oracle

faiss = pytest.importorskip("faiss", reason="faiss is not installed")


def trained(sizes: list[int], width: int = 8) -> lf.ResidualQuantizer:
    quantizer = lf.ResidualQuantizer(width, sizes).eval()
    return quantizer.fit(oracle.clustered(500, width, 40, seed=1), method="kmeans")


def clear_rows(quantizer: lf.ResidualQuantizer, rows: int = 400) -> torch.Tensor:
    x = oracle.clustered(rows, quantizer.dim, 40, seed=2)
    return x[(quantizer.encode(x, return_margin=True).margin > 1e-3).all(dim=1)]


@pytest.mark.parametrize("sizes", [[16, 16, 16], [256, 8, 32], [2], [64, 128]])
def test_codes_and_codebooks_go_both_ways(sizes: list[int]) -> None:
    ours = trained(sizes)
    theirs = to_faiss(ours)
    back = from_faiss(theirs)
    assert back.codebook_sizes == sizes
    assert torch.equal(back.codebooks, ours.codebooks)
    x = clear_rows(ours)
    assert len(x) > 300
    packed = theirs.compute_codes(x.numpy())
    codes = ours.encode(x)
    assert np.array_equal(packed, pack_codes(codes, ours))
    assert torch.equal(unpack_codes(packed, ours), codes)
    decoded = torch.from_numpy(theirs.decode(packed))
    torch.testing.assert_close(decoded, ours.decode(codes).detach(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("use_table", [False, True])
def test_their_training_becomes_our_quantizer(use_table: bool) -> None:
    x = oracle.clustered(2000, 8, 40, seed=3)
    index = faiss.IndexResidualQuantizer(8, 3, 5)
    index.train(x.numpy())
    index.rq.max_beam_size = 1
    index.rq.use_beam_LUT = int(use_table)
    ours = from_faiss(index)
    clear = clear_rows(ours)
    packed = index.sa_encode(clear.numpy())
    assert torch.equal(unpack_codes(packed, ours), ours.encode(clear))


@pytest.mark.parametrize("beam", [2, 5, 16])
def test_beams_leave_the_same_error(beam: int) -> None:
    ours = trained([16, 16, 16])
    x = oracle.clustered(400, 8, 40, seed=2)
    codes = unpack_codes(to_faiss(ours, beam).compute_codes(x.numpy()), ours)
    own = ours.encode(x, beam=beam)
    errors = [(x - ours.decode(c).detach()).square().sum(1) for c in (own, codes)]
    agree = (own == codes).all(dim=1)
    assert agree.float().mean() > 0.97
    torch.testing.assert_close(errors[0][agree], errors[1][agree])
    # Where a near-tie is settled differently the error may go either way, on the whole hardly.
    torch.testing.assert_close(errors[0].sum(), errors[1].sum(), rtol=1e-3, atol=0.0)


def test_clear_errors() -> None:
    with pytest.raises(ValueError, match=r"powers of two only, these have \[16, 12\]"):
        to_faiss(trained([16, 12]))
    with pytest.raises(ValueError, match="not trained"):
        from_faiss(faiss.ResidualQuantizer(8, 2, 4))
    with pytest.raises(ValueError, match=r"pack to uint8 \[N, 1\]"):
        unpack_codes(np.zeros((3, 2), dtype=np.uint8), trained([16, 16]))
