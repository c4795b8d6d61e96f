"""quantized = Σ_l e_{c_l}, added in level order in float32; 0 for a marked row.

In:  codes [N, L] int64, codebooks [ΣK, D] float32.  Out: quantized [N, D] float32.
A program takes BLOCK_N rows × BLOCK_D columns. Apart from the screen because its sum would double
the registers a row needs there; what it reads again are the codes, 8L bytes a row.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from .codebook import Layout


@triton.jit(do_not_specialize=["N", "L"])
def gather_kernel(
    codes,
    codebooks,
    starts,
    quantized,
    N,
    D,
    L,
    BLOCK_N: tl.constexpr,
    BLOCK_D: tl.constexpr,
):
    row = tl.program_id(0).to(tl.int64) * BLOCK_N + tl.arange(0, BLOCK_N)
    d = tl.program_id(1) * BLOCK_D + tl.arange(0, BLOCK_D)
    live = row < N
    total = tl.zeros([BLOCK_N, BLOCK_D], tl.float32)
    for level in range(L):
        code = tl.load(codes + row * L + level, mask=live, other=-1)
        word = (tl.load(starts + level) + code)[:, None] * D + d[None, :]
        total += tl.load(codebooks + word, mask=(code >= 0)[:, None] & (d < D)[None, :], other=0.0)
    out = quantized + row[:, None] * D + d[None, :]
    tl.store(out, total, mask=live[:, None] & (d < D)[None, :])


def gather(codes: Tensor, codebooks: Tensor, layout: Layout) -> Tensor:
    """codes [N, L], codebooks [ΣK, D] -> quantized [N, D]"""
    N, L = codes.shape
    D = codebooks.shape[1]
    quantized = torch.empty((N, D), dtype=torch.float32, device=codes.device)
    width = min(128, triton.next_power_of_2(D))
    rows = 2048 // width
    gather_kernel[(triton.cdiv(N, rows), triton.cdiv(D, width))](
        codes, codebooks, layout.starts, quantized, N, D, L, BLOCK_N=rows, BLOCK_D=width
    )
    return quantized
