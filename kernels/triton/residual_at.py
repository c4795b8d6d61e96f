"""r before a level, from x and the codes of the levels before: fl32(x − e_c0 − e_c1 − …)."""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def residual_before(x, stride_n, stride_d, row, live, d, D, L, level, codebooks, starts, codes):
    """r before `level`, rows × columns d."""
    mask = live[:, None] & (d < D)[None, :]
    r = tl.load(
        x + row[:, None] * stride_n + d.to(tl.int64)[None, :] * stride_d, mask=mask, other=0.0
    )
    r = r.to(tl.float32)
    for before in range(level):
        code = tl.load(codes + row * L + before, mask=live, other=0)
        word = codebooks + tl.load(starts + before) * D + code[:, None] * D + d[None, :]
        r -= tl.load(word, mask=mask & (code >= 0)[:, None], other=0.0)
    return r


@triton.jit
def residual_of_row(x, stride_n, stride_d, row, d, D, L, level, codebooks, starts, codes):
    """Columns d of one row's r before `level`."""
    r = tl.load(x + row * stride_n + d.to(tl.int64) * stride_d, mask=d < D, other=0.0)
    r = r.to(tl.float32)
    for before in range(level):
        at = tl.load(starts + before) + tl.load(codes + row * L + before)
        r -= tl.load(codebooks + at * D + d, mask=d < D, other=0.0)
    return r
