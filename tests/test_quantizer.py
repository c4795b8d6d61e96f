"""ResidualQuantizer: what it returns, refuses and keeps."""

from __future__ import annotations

import pytest
import torch

import letter_fast as lf
from letter_fast.quantizer import EncodeResult
from tests.support import oracle


def fitted(sizes: list[int], width: int = 6, **options: object) -> lf.ResidualQuantizer:
    quantizer = lf.ResidualQuantizer(width, sizes, **options)
    return quantizer.fit(oracle.clustered(300, width, 9, seed=1), method="kmeans")


@pytest.mark.parametrize("shape", [(6,), (11, 6), (2, 3, 6), (0, 6)])
def test_shapes(shape: tuple[int, ...]) -> None:
    quantizer = fitted([8, 5]).eval()
    z = torch.randn(shape)
    out = quantizer(z)
    assert out.quantized.shape == z.shape
    assert out.codes.shape == (*shape[:-1], 2)
    assert out.loss.shape == ()
    assert out.level_losses.shape == (2,)
    assert torch.equal(quantizer.encode(z), out.codes)
    assert torch.equal(quantizer.decode(out.codes), out.quantized)
    assert bool(out.loss.isfinite())


def test_codes_are_the_exact_ones() -> None:
    quantizer = fitted([8, 5, 12])
    z = oracle.clustered(50, 6, 9, seed=2)
    books = [quantizer.codebook(level).detach() for level in range(3)]
    codes, _ = oracle.residual_search(z, books)
    assert quantizer.encode(z).tolist() == codes
    assert quantizer.encode(z.half()).tolist() == oracle.residual_search(z.half().float(), books)[0]


def test_losses_follow_the_weights() -> None:
    quantizer = fitted([8, 5], commitment_weight=0.5)
    out = quantizer(oracle.clustered(40, 6, 9, seed=3))
    torch.testing.assert_close(out.level_losses, out.codebook_losses + 0.5 * out.commitment_losses)
    torch.testing.assert_close(out.loss, out.level_losses.mean())
    summed = fitted([8, 5], reduction="sum")(oracle.clustered(40, 6, 9, seed=3))
    torch.testing.assert_close(summed.loss, summed.level_losses.sum())
    torch.testing.assert_close(summed.codebook_losses, out.codebook_losses * 40 * 6)


def test_margin_and_beam() -> None:
    quantizer = fitted([8, 5])
    z = oracle.clustered(30, 6, 9, seed=5)
    result = quantizer.encode(z, return_margin=True)
    assert isinstance(result, EncodeResult)
    distance = torch.cdist(z.double(), quantizer.codebook(0).detach().double()).square()
    two = distance.topk(2, largest=False).values
    torch.testing.assert_close(result.margin[:, 0].double(), two[:, 1] - two[:, 0])
    wide = quantizer.encode(z, beam=4)
    error = [(z - quantizer.decode(codes)).square().sum() for codes in (wide, result.codes)]
    assert error[0] <= error[1] * (1 + 1e-6)
    with pytest.raises(ValueError, match="beam=1 only"):
        quantizer.encode(z, beam=2, return_margin=True)
    with pytest.raises(ValueError, match="at least 1"):
        quantizer.encode(z, beam=0)


def test_sinkhorn_levels_only_while_training() -> None:
    quantizer = fitted([4, 16], sinkhorn_epsilon=[0.0, 0.003])
    z = oracle.clustered(64, 6, 2, seed=6)
    trained, plain = quantizer(z).codes, quantizer(z, use_sinkhorn=False).codes
    assert torch.equal(trained[:, 0], plain[:, 0])
    assert len(trained[:, 1].unique()) > len(plain[:, 1].unique())
    assert torch.equal(quantizer.eval()(z).codes, plain)
    assert torch.equal(quantizer.encode(z), plain)


@pytest.mark.parametrize("epsilons", [[0.003, 0, 0, 0.01], [0, 0.003, 0.01, 0], [0, 0, 0, 0.003]])
def test_levels_with_and_without_sinkhorn_follow_each_other(epsilons: list[float]) -> None:
    quantizer = fitted([8, 7, 9, 5], sinkhorn_epsilon=epsilons, nonfinite="mark")
    z = oracle.clustered(64, 6, 9, seed=6)
    # Marked at all levels: NaN, and a residual that leaves float32 at the first level.
    bad = torch.tensor([3, 20])
    z[3, 1], z[20, 0] = torch.nan, 3e38
    with torch.no_grad():
        quantizer.codebook(0)[7, 0] = -3e38
        quantizer.codebook(0)[:7, 0] = -3.1e38
    good = torch.tensor([row for row in range(64) if row not in bad])
    residual, expected = z[good], []
    for level, epsilon in enumerate(epsilons):
        book = quantizer.codebook(level).detach()
        code = (
            lf.functional.sinkhorn_codes(residual, book, epsilon)
            if epsilon
            else lf.functional.nearest(residual, book).code
        )
        residual = residual - book[code]
        expected.append(code)
    codes = quantizer(z).codes
    assert torch.equal(codes[good], torch.stack(expected, dim=1))
    assert (codes[bad] == -1).all()


def test_nonfinite_rows() -> None:
    z = oracle.clustered(10, 6, 3, seed=7)
    z[4, 1] = torch.nan
    strict = fitted([8, 5])
    for call in (strict, strict.encode):
        with pytest.raises(ValueError, match=r"1 of 10 rows of z hold NaN or Inf.*row 4.*mark"):
            call(z)
    with pytest.raises(ValueError, match=r"drop them$"):  # nothing to pass here
        lf.functional.nearest(z, strict.codebook(0).detach())
    for epsilon in (0.0, 0.003):
        marking = fitted([8, 5], nonfinite="mark", sinkhorn_epsilon=epsilon)
        out = marking(z)
        assert out.codes[4].tolist() == [-1, -1]
        assert bool((out.quantized[4] == 0).all())
        assert bool(out.loss.isfinite())
        assert bool((marking.decode(out.codes)[4] == 0).all())


def test_decode_partial_and_bad_codes() -> None:
    quantizer = fitted([8, 5])
    codes = quantizer.encode(oracle.clustered(6, 6, 3, seed=8))
    assert torch.equal(quantizer.decode(codes[:, :1]), quantizer.codebook(0)[codes[:, 0]])
    for bad in (torch.tensor([[8, 0]]), torch.tensor([[0, -2]])):
        with pytest.raises(ValueError, match="outside its codebook"):
            quantizer.decode(bad)
    with pytest.raises(ValueError, match="last dimension of 1 to 2"):
        quantizer.decode(torch.zeros(2, 3, dtype=torch.int64))
    with pytest.raises(ValueError, match="must be integers"):
        quantizer.decode(torch.zeros(2, 2))


def test_state_keeps_initialized() -> None:
    fresh = lf.ResidualQuantizer(6, [8, 5])
    assert not fresh.initialized
    fresh.load_state_dict(fitted([8, 5]).state_dict())
    assert fresh.initialized


def test_bad_arguments() -> None:
    for arguments in (dict(dim=0, codebook_size=4), dict(dim=3, codebook_size=[]),
                      dict(dim=3, codebook_size=[4, 0])):  # fmt: skip
        with pytest.raises(ValueError, match="at least 1"):
            lf.ResidualQuantizer(**arguments)
    with pytest.raises(ValueError, match="did you mean 'detach'"):
        lf.ResidualQuantizer(3, 4, residual_grad="detached")
    with pytest.raises(ValueError, match="2 values"):
        lf.ResidualQuantizer(3, [4, 4], sinkhorn_epsilon=[0.1])
    quantizer = lf.ResidualQuantizer(3, [4, 9])
    with pytest.raises(ValueError, match="last dimension of 3"):
        quantizer(torch.randn(2, 4))
    with pytest.raises(ValueError, match="floating point"):
        quantizer.encode(torch.zeros(2, 3, dtype=torch.int64))
    with pytest.raises(ValueError, match="8 rows can't start a codebook of 9"):
        quantizer.fit(torch.randn(8, 3))


def test_functional_checks_its_input() -> None:
    x, book = torch.randn(4, 3), torch.randn(5, 3)
    assert lf.functional.nearest(x, book).code.tolist() == oracle.nearest(x, book)
    assert lf.functional.residual_search(x.view(2, 2, 3), [book, book]).codes.shape == (2, 2, 2)
    for call, message in (
        (lambda: lf.functional.nearest(x, book[:, :2]), "last dimension of 2"),
        (lambda: lf.functional.nearest(x, book[:0]), "is empty"),
        (lambda: lf.functional.nearest(x, book, torch.zeros(4)), r"shape \[5\]"),
        (lambda: lf.functional.residual_search(x, []), "at least one level"),
        (lambda: lf.functional.residual_search(x, [book, book[:, :2]]), "share one width"),
        (lambda: lf.functional.nearest(x * torch.nan, book), "4 of 4 rows"),
        (lambda: lf.functional.nearest(x, book.to("meta")), "codebook is on meta, x on cpu"),
    ):
        with pytest.raises(ValueError, match=message):
            call()
