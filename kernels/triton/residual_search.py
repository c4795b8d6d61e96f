"""c_l = argmin_k ‖r_{l−1} − e_k‖², r_l = fl32(r_{l−1} − e_{c_l}), r_0 = x: the stages in order.

    screen, one fp16 product    ->  rows it can't certify  ->
    screen, three fp16 products ->  rows it can't certify  ->
    settle, float64 and exact

Rows pass from stage to stage through a list and its length on the device: every stage is launched,
reads the length there, and the host never waits.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .codebook import Packed, pack
from .gather import gather
from .margins import measure
from .queue import queues
from .screen import screen
from .screen_wide import screen_wide, slab_of, split_low, split_rows
from .settle import settle, settle_named
from .tiles import NARROW_LIMIT, QUEUE_ROWS, narrow, padded_width, wide


def residual_search(
    x: Tensor,
    codebooks: Tensor,
    sizes: list[int],
    offset: Tensor | None = None,
    with_quantized: bool = True,
    with_margins: bool = False,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """x [N, D], codebooks [ΣK, D] float32, offset [ΣK] float64
    -> codes [N, L] int64, quantized [N, D] or [0, D] float32, margins and errors [N, L] or [0, L]
    """
    N, L = len(x), len(sizes)
    codes, packed = search(x, codebooks, sizes, offset)
    measured = x.new_empty((2, N if with_margins else 0, L), dtype=torch.float32)
    margins, errors = measured.unbind(0)
    if with_margins and N > 0:
        with torch.cuda.device_of(x):
            measure(x, codebooks, offset, packed, codes, margins, errors)
    if with_quantized and N > 0:
        with torch.cuda.device_of(x):
            quantized = gather(codes, codebooks, packed.layout)
    else:
        quantized = x.new_empty((0, x.shape[1]), dtype=torch.float32)
    return codes, quantized, margins, errors


def search(
    x: Tensor, codebooks: Tensor, sizes: list[int], offset: Tensor | None, mark: bool = True
) -> tuple[Tensor, Packed]:
    """The codes, [N, L] int64, by all stages; and the codebooks as packed for them.

    mark: a row whose residual leaves float32 gets −1, also at the last level.
    """
    N, D = x.shape
    packed = pack(codebooks, sizes, offset, padded_width(D))
    codes = x.new_empty((N, len(sizes)), dtype=torch.int64)
    if N == 0:
        return codes, packed
    # Beyond, the narrow screens' 32-bit offsets don't reach.
    fits = D <= NARROW_LIMIT and packed.high.numel() < 2**31
    with torch.cuda.device_of(x):
        run = _search_narrow if fits else _search_wide
        run(x, codebooks, offset, packed, codes, mark)
    return codes, packed


def _search_narrow(
    x: Tensor,
    codebooks: Tensor,
    offset: Tensor | None,
    packed: Packed,
    codes: Tensor,
    mark: bool,
) -> None:
    """Slab by slab, so that the queues stay small; each stage takes a row through all levels."""
    N, D = x.shape
    slab = min(N, QUEUE_ROWS)
    first, second, lengths = queues(slab, x.device)
    one, three = narrow(D, x.device)
    for rows, found in zip(x.split(slab), codes.split(slab)):
        lengths.zero_()
        screen(rows, codebooks, packed, found, None, first, one, mark)
        screen(rows, codebooks, packed, found, first, second, three, mark)
        settle(rows, codebooks, offset, packed, found, second, mark)


def _search_wide(
    x: Tensor,
    codebooks: Tensor,
    offset: Tensor | None,
    packed: Packed,
    codes: Tensor,
    mark: bool,
) -> None:
    """Slab by slab and level by level, each through all stages."""
    N, L = codes.shape
    P = packed.high.shape[1]
    slab, halves, facts = slab_of(N, P, x.device)
    first, second, third, lengths = queues(slab, x.device, 3)
    one, three = wide(packed.layout.counts, x.device)
    words = torch.empty((slab, three.lanes), dtype=torch.int32, device=x.device)
    for start in range(0, N, slab):
        rows = range(start, min(N, start + slab))
        for level in range(L):
            lengths.zero_()
            split_rows(x, rows, level, codebooks, packed, codes, halves, facts)
            at = (rows, level, packed, codes, halves, facts)
            screen_wide(*at, None, first, one)
            split_low(x, rows, level, codebooks, packed, codes, halves, facts, first)
            screen_wide(*at, first, second, three, words=words)
            settle_named(
                x, rows, level, codebooks, offset, packed, codes, facts, words, second, third
            )
            settle(x, codebooks, offset, packed, codes, third, mark, until=level + 1)
