"""The encoder gives a row the same bits, whatever rows come with it and on however many threads."""

from __future__ import annotations

import pytest
import torch

from letter_fast.model.encoder import encode_rows, mlp


# With the first two, MKL would treat rows by their place.
@pytest.mark.parametrize("widths", [(6, 8, 4), (10, 33, 50, 7), (1, 1), (384, 256, 128, 64, 32)])
@pytest.mark.parametrize("batch_norm", [False, True])
def test_bits_do_not_depend_on_batch_order_or_threads(
    widths: tuple[int, ...], batch_norm: bool
) -> None:
    encoder = mlp(widths, batch_norm=batch_norm).eval()
    rows = 1500
    s = torch.randn(rows, widths[0])
    threads = torch.get_num_threads()
    with torch.no_grad():
        whole = encode_rows(encoder, s)
        torch.testing.assert_close(whole, encoder(s), rtol=1e-4, atol=1e-5)
        try:
            for count in (1, 2):
                torch.set_num_threads(count)
                for size in (1, 7, 1024):
                    parts = [encode_rows(encoder, part) for part in s[:15].split(size)]
                    assert torch.equal(torch.cat(parts), whole[:15])
                order = torch.randperm(rows)
                assert torch.equal(encode_rows(encoder, s[order]), whole[order])
        finally:
            torch.set_num_threads(threads)


def test_no_rows() -> None:
    assert encode_rows(mlp((5, 3)), torch.zeros(0, 5)).shape == (0, 3)
