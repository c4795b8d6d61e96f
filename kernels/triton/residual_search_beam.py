"""The best of `beam` partial paths by exact ‖r‖², equal ones by lowest codes.

    d_{p,k} = ‖r_p − e_k‖²; the `keep` least by (d, path, k) survive; r ← fl32(r_p − e_k)

    split_kernel          r_p as fp16 halves                                      (screen_wide.py)
    screen_paths_kernel   fp16 scores  ->  a bit for each extension that could survive
    list_kernel           bits         ->  a list of p·S + k for each row, in order
    extend_kernel         the list     ->  the survivors: float64, exact sums where that can't tell

Paths of a row stand in the order of their codes, so that p·S + k, with S ≥ K, orders extensions as
their codes do, and a tie goes to the lowest. Only *which* extensions survive matters.

The screen compares paths with each other, so a path's own square is added to its scores. In the
units and letters of score.py, which are ½β²,

    t_{p,k} = ½(ρ‖v_p‖)² + score_{p,k}
    |t − exact| ≤ error_p = bound_p + (P + 16)·2⁻²³·(½(ρn)² + ρn‖w‖ + |bias|)

where the last term has float32's sum of P squares, its square root, and the sums of t and its
error; what underflows is less than 2⁻¹⁰⁰. A codeword among the `keep` least has

    t − error ≤ U,    U: the keep-th least of t + error

A smaller choice of extensions has a larger U, which is as true: it is taken of the least in every
BLOCK_K-th column of a program's tiles.

With v the keep-th least d in float64 and E its relative error (settle.py), the survivors are known
if the next d is beyond: d(1 − E) > v(1 + E). Otherwise, and where more could survive than a list
has room for, the survivors are found one by one, each as settle.py finds a codeword.

In memory for a slab of rows: residuals [rows, B, D] float32 before and after, their halves, and
bits [B·S/32, rows]. The host never waits. Beams of over MOST_BEAM paths are the host's.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from .. import host
from .codebook import Packed, layout_of, pack
from .exact import exact_least
from .gather import gather
from .score import NEVER, error_bound
from .screen_wide import split_rows
from .tiles import (
    BEAM_BYTES,
    MOST_BEAM,
    PAIR_ROWS,
    WIDE_STEP,
    extend_shape,
    padded_width,
    paths_tile,
)
from .within import as_bits, lowest_bit, tile_scores

_NONE = tl.constexpr(2147483647)
_ROUNDING = tl.constexpr(2.0**-23)
_LEAST = tl.constexpr(2.0**-100)


class Paths(NamedTuple):
    """B partial paths of each row."""

    residuals: Tensor  # [rows, B, D] float32
    alive: Tensor  # [rows, B] int8: there is such a path, and its residual is finite
    codes: Tensor  # [rows, B, L] int64, as far as they are chosen


@triton.jit(do_not_specialize=["rows", "B", "K", "keep", "parts"])
def screen_paths_kernel(
    rows,
    B,
    K,
    keep,
    parts,
    high,
    bias,
    limits,
    halves,
    facts,
    alive,
    bits,
    P,
    PATHS: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
    BLOCK_D: tl.constexpr,
):
    """A program has PATHS paths of BLOCK_N / PATHS rows: all of a row, or one of its `parts`."""
    lane = tl.arange(0, BLOCK_K)
    at = tl.arange(0, BLOCK_N)
    row = (tl.program_id(0) // parts).to(tl.int64) * (BLOCK_N // PATHS) + at // PATHS
    number = tl.program_id(0) % parts * PATHS + at % PATHS
    there = (row < rows) & (number < B)
    path = tl.where(there, row * B + number, 0)
    living = there & (tl.load(alive + path) != 0)
    total = tl.cast(rows, tl.int64) * B
    v = halves + path * P
    rho = tl.load(facts + path)

    least = tl.full([BLOCK_N, BLOCK_K], NEVER, tl.float32)
    for k in range(0, K, BLOCK_K):
        word = high + tl.cast(k, tl.int64) * P + lane * P
        score = tile_scores(v, word, tl.load(bias + k + lane), rho, P, BLOCK_N, BLOCK_K, BLOCK_D)
        least = tl.minimum(least, score)

    n = tl.load(facts + total + path)
    rest = tl.load(facts + 3 * total + path)
    own = 0.5 * (rho * n) * (rho * n)
    size = own + rho * (n + rest) * tl.load(limits) + tl.load(limits + 4)
    error = error_bound(rho, n, n, rest, limits, P, False) * (1 + 2.0**-7)
    error += (P + 16) * _ROUNDING * size + _LEAST
    upper = least + (own + error)[:, None]
    upper = tl.where((upper < 0.5 * NEVER) & living[:, None], upper, float("inf"))  # NaN: no
    upper = tl.reshape(upper, [BLOCK_N // PATHS, PATHS * BLOCK_K])
    ceiling = tl.zeros([BLOCK_N // PATHS], tl.float32)
    for _ in range(keep):
        ceiling = tl.min(upper, axis=1)
        upper = tl.where(upper <= ceiling[:, None], float("inf"), upper)
    spread = tl.broadcast_to(ceiling[:, None], [BLOCK_N // PATHS, PATHS])
    ceiling = tl.reshape(spread, [BLOCK_N]) - own

    group = tl.arange(0, BLOCK_K // 32)
    groups = tl.cdiv(K, BLOCK_K) * (BLOCK_K // 32)
    for k in range(0, K, BLOCK_K):
        word = high + tl.cast(k, tl.int64) * P + lane * P
        word_bias = tl.load(bias + k + lane)
        score = tile_scores(v, word, word_bias, rho, P, BLOCK_N, BLOCK_K, BLOCK_D)
        # NaN anywhere: every codeword there is.
        near = ((score > (ceiling + error)[:, None]) == 0) & (word_bias < 0.5 * NEVER)[None, :]
        near = near & living[:, None]
        place = (number * groups + k // 32).to(tl.int64)[:, None] + group[None, :]
        tl.store(bits + place * rows + row[:, None], as_bits(near), mask=there[:, None])


@triton.jit(do_not_specialize=["rows", "words", "room"])
def list_kernel(bits, listed, counts, rows, words, room, BLOCK_N: tl.constexpr):
    """A row's bits -> listed [rows, room] int32, counts [rows] int32, maybe more than room."""
    i = tl.program_id(0) * BLOCK_N + tl.arange(0, BLOCK_N)
    live = i < rows
    at = tl.zeros([BLOCK_N], tl.int32)
    for word in range(words):
        group = tl.load(bits + tl.cast(word, tl.int64) * rows + i, mask=live, other=0)
        while tl.max((group != 0).to(tl.int32), axis=0) > 0:
            found = group != 0
            lowest, place = lowest_bit(group)
            slot = listed + i.to(tl.int64) * room + at
            tl.store(slot, word * 32 + place, mask=found & (at < room))
            at += found.to(tl.int32)
            group ^= lowest
    tl.store(counts + i, at, mask=live)


@triton.jit
def _distances(r_row, e_row, inside, D, BLOCK_C: tl.constexpr, BLOCK_D: tl.constexpr):
    """‖r − e‖² of pairs of rows, [BLOCK_C] float64; inf where not inside."""
    total = tl.zeros([BLOCK_C], tl.float64)
    for d0 in range(0, D, BLOCK_D):
        d = d0 + tl.arange(0, BLOCK_D)
        mask = inside[:, None] & (d < D)[None, :]
        r = tl.load(r_row[:, None] + d[None, :], mask=mask, other=0.0).to(tl.float64)
        e = tl.load(e_row[:, None] + d[None, :], mask=mask, other=0.0).to(tl.float64)
        total += tl.sum((r - e) * (r - e), axis=1)
    return tl.where(inside, total, float("inf"))


@triton.jit(do_not_specialize=["B", "K", "slots", "level", "keep"])
def extend_kernel(
    residuals,
    alive,
    paths,
    codebook,
    allowed,
    listed,
    counts,
    next_residuals,
    next_alive,
    next_paths,
    B,
    K,
    slots,
    D,
    L,
    level,
    keep,
    BLOCK_C: tl.constexpr,
    BLOCK_D: tl.constexpr,
):
    """A program takes one row; BLOCK_C: room of its list, more than it keeps."""
    row = tl.program_id(0).to(tl.int64)
    lane = tl.arange(0, BLOCK_C)
    listed += row * BLOCK_C
    residuals += row * B * D
    E = tl.cast(D + 8, tl.float64) * 2.0**-52
    number = tl.load(counts + row)
    flat = tl.load(listed + lane, mask=lane < number, other=0)
    r_row = residuals + (flat // slots).to(tl.int64) * D
    e_row = codebook + (flat % slots).to(tl.int64) * D
    d = _distances(r_row, e_row, (lane < number) & (number <= BLOCK_C), D, BLOCK_C, BLOCK_D)

    got = 0
    v = tl.full([], 0.0, tl.float64)
    left = d
    after = tl.min(left, axis=0)
    while (got < keep) & (after < float("inf")):
        v = after
        got += tl.sum((left == v).to(tl.int32), axis=0)
        left = tl.where(left == v, float("inf"), left)
        after = tl.min(left, axis=0)
    known = (got <= keep) & ((after == float("inf")) | (after * (1 - E) > v * (1 + E)))
    known = known & (number <= BLOCK_C)
    chosen = (d <= v) & (d < float("inf"))
    taken = tl.where(known, got, 0)
    slot = tl.cumsum(chosen.to(tl.int32), axis=0) - 1
    if known == 0:
        # One by one, of the list or of all there are, in `flat`; then in order.
        number = tl.where(number <= BLOCK_C, number, -1)
        total = tl.where(number < 0, B * slots, number)
        picked = tl.full([BLOCK_C], _NONE, tl.int32)
        more = 1
        while (taken < keep) & (more == 1):
            ceiling = tl.full([], float("inf"), tl.float64)
            for at in range(0, total, BLOCK_C):
                each, inside = _extension(
                    listed, at + lane, number, total, alive + row * B, allowed, K, slots
                )
                inside = inside & (_among(each, picked, BLOCK_C) == 0)
                r = residuals + (each // slots).to(tl.int64) * D
                e = codebook + (each % slots).to(tl.int64) * D
                d = _distances(r, e, inside, D, BLOCK_C, BLOCK_D)
                ceiling = tl.minimum(ceiling, tl.min(d * (1 + E), axis=0))
            best = _NONE
            # The best so far takes lane 0.
            for at in range(0, total, BLOCK_C - 1):
                each, inside = _extension(
                    listed, at + lane - 1, number, total, alive + row * B, allowed, K, slots
                )
                inside = inside & (_among(each, picked, BLOCK_C) == 0)
                inside = tl.where(lane == 0, best != _NONE, inside & (lane > 0))
                each = tl.where(lane == 0, tl.where(best == _NONE, 0, best), each)
                r = residuals + (each // slots).to(tl.int64) * D
                e = codebook + (each % slots).to(tl.int64) * D
                d = _distances(r, e, inside, D, BLOCK_C, BLOCK_D)
                staying = (d * (1 - E) <= ceiling) & (d < float("inf"))
                if tl.sum(staying.to(tl.int32), axis=0) > 1:
                    best = exact_least(r, e, r, each, staying, D, False, BLOCK_C, BLOCK_D)
                else:
                    best = tl.min(tl.where(staying, each, best), axis=0)
            picked = tl.where(lane == taken, best, picked)
            more = (best != _NONE).to(tl.int32)
            taken += more
        chosen = picked != _NONE
        last = -1
        for place in range(taken):
            last = tl.min(tl.where(picked > last, picked, _NONE), axis=0)
            slot = tl.where(picked == last, place, slot)
        flat = tl.where(chosen, picked, 0)

    parent = (flat // slots).to(tl.int64)
    code = (flat % slots).to(tl.int64)
    to = row * keep + slot
    finite = tl.full([BLOCK_C], 1, tl.int32)
    for d0 in range(0, D, BLOCK_D):
        d_ = d0 + tl.arange(0, BLOCK_D)
        mask = chosen[:, None] & (d_ < D)[None, :]
        r = tl.load(residuals + parent[:, None] * D + d_[None, :], mask=mask, other=0.0)
        r -= tl.load(codebook + code[:, None] * D + d_[None, :], mask=mask, other=0.0)
        tl.store(next_residuals + to[:, None] * D + d_[None, :], r, mask=mask)
        finite = tl.minimum(finite, tl.min((tl.abs(r) < float("inf")).to(tl.int32), axis=1))
    tl.store(next_alive + to, finite.to(tl.int8), mask=chosen)
    none = (lane >= taken) & (lane < keep)
    tl.store(next_alive + row * keep + lane, tl.zeros([BLOCK_C], tl.int8), mask=none)
    for before in range(level):
        was = tl.load(paths + (row * B + parent) * L + before, mask=chosen, other=0)
        tl.store(next_paths + to * L + before, was, mask=chosen)
    tl.store(next_paths + to * L + level, code, mask=chosen)


@triton.jit
def _extension(listed, at, number, total, alive, allowed, K, slots):
    """Extensions at these places of the list, or, number < 0, of all; and whether they exist."""
    inside = (at >= 0) & (at < total)
    each = tl.load(listed + at, mask=inside & (number >= 0), other=0)
    each = tl.where(number >= 0, each, tl.where(inside, at, 0))
    word = each % slots
    inside = inside & (word < K)
    inside = inside & (tl.load(allowed + word, mask=inside, other=0) != 0)
    return each, inside & (tl.load(alive + each // slots, mask=inside, other=0) != 0)


@triton.jit
def _among(each, picked, BLOCK_C: tl.constexpr):
    """Whether each is one of those picked."""
    return tl.max((each[:, None] == picked[None, :]).to(tl.int32), axis=1)


def residual_search_beam(
    x: Tensor, codebooks: Tensor, sizes: list[int], beam: int
) -> tuple[Tensor, Tensor]:
    """x [N, D], codebooks [ΣK, D] float32 -> codes [N, L] int64, quantized [N, D] float32"""
    (N, D), L = x.shape, len(sizes)
    if N == 0:
        return x.new_empty((0, L), dtype=torch.int64), x.new_empty(0, D).float()
    if beam > MOST_BEAM:
        found = host().residual_search_beam(x.cpu(), codebooks.cpu(), sizes, beam)
        return tuple(each.to(x.device) for each in found)
    P = padded_width(D)
    books = codebooks.split(sizes)
    packs = [pack(book, [len(book)], None, P) for book in books]
    slots = max(len(packed.bias) for packed in packs)
    path_bytes = 8 * D + 4 * P + 20 + slots // 8 + 16 * L
    slab = max(1, BEAM_BYTES // (beam * path_bytes))
    codes = x.new_empty((N, L), dtype=torch.int64)
    with torch.cuda.device_of(x):
        for start in range(0, N, slab):
            codes[start : start + slab] = _best_paths(x[start : start + slab], books, packs, beam)
        return codes, gather(codes, codebooks, layout_of(tuple(sizes), x.device))


def _best_paths(x: Tensor, books: tuple[Tensor, ...], packs: list[Packed], beam: int) -> Tensor:
    """The codes of a slab of rows, [rows, L]; −1 where no finite path is left."""
    rows, L = len(x), len(books)
    residuals = x.float().contiguous()
    paths = Paths(
        residuals[:, None],
        residuals.isfinite().all(dim=1, keepdim=True).to(torch.int8),
        x.new_empty((rows, 1, L), dtype=torch.int64),
    )
    for level, (book, packed) in enumerate(zip(books, packs)):
        most = paths.alive.shape[1] * len(book)
        paths = _extend(paths, level, book, packed, min(beam if level + 1 < L else 1, most))
    return torch.where(paths.alive != 0, paths.codes[:, 0], -1)


def _extend(paths: Paths, level: int, book: Tensor, packed: Packed, keep: int) -> Paths:
    """The `keep` best extensions by the codewords of one level, in the order of their codes."""
    rows, B, D = paths.residuals.shape
    L, K, P, device = paths.codes.shape[2], len(book), packed.high.shape[1], book.device
    number = rows * B
    halves = torch.empty((2, number, P), dtype=torch.float16, device=device)
    facts = torch.empty((5, number), dtype=torch.float32, device=device)
    flat = paths.residuals.view(number, D)
    split_rows(flat, range(number), 0, book, packed, paths.codes, halves, facts)

    tile = paths_tile(device)
    together = min(tile.rows, triton.next_power_of_2(B))
    parts = triton.cdiv(B, together)
    slots = triton.cdiv(K, tile.words) * tile.words
    bits = torch.empty((B * slots // 32, rows), dtype=torch.int32, device=device)
    screen_paths_kernel[(triton.cdiv(rows, tile.rows // together) * parts,)](
        rows,
        B,
        K,
        keep,
        parts,
        packed.high,
        packed.bias,
        packed.limits,
        halves,
        facts,
        paths.alive,
        bits,
        P,
        PATHS=together,
        BLOCK_N=tile.rows,
        BLOCK_K=tile.words,
        BLOCK_D=min(WIDE_STEP, P),
        num_warps=tile.warps,
        num_stages=tile.stages,
    )
    shape = extend_shape(keep, parts)
    listed = torch.empty((rows, shape["BLOCK_C"]), dtype=torch.int32, device=device)
    counts = torch.empty(rows, dtype=torch.int32, device=device)
    list_kernel[(triton.cdiv(rows, PAIR_ROWS),)](
        bits, listed, counts, rows, len(bits), shape["BLOCK_C"], BLOCK_N=PAIR_ROWS, num_warps=1
    )
    found = Paths(
        flat.new_empty((rows, keep, D)),
        paths.alive.new_empty((rows, keep)),
        paths.codes.new_empty((rows, keep, L)),
    )
    extend_kernel[(rows,)](
        *paths,
        book,
        packed.allowed,
        listed,
        counts,
        *found,
        B,
        K,
        slots,
        D,
        L,
        level,
        keep,
        **shape,
    )
    return found
