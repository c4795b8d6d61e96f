"""The operations in C++: each function fills a request; `<operation>.cpp` does the rest.

The contract of an operation is the docstring in `reference/`.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from .library import call

_INT64, _FLOAT64 = torch.int64, torch.float64


def _search(
    x: Tensor,
    codebooks: Tensor,
    sizes: list[int],
    codes: Tensor,
    *,
    operation: str = "residual_search",
    offset: Tensor | None = None,
    beam: int = 1,
    index: Tensor | None = None,
    quantized: Tensor | None = None,
    margins: Tensor | None = None,
    errors: Tensor | None = None,
    scores: Tensor | None = None,
    lower: Tensor | None = None,
) -> None:
    """Codes, and those of the other outputs that are given, of all rows or those of `index`."""
    call(
        operation,
        x=x,
        codebooks=codebooks,
        offset=offset,
        sizes=sizes,
        levels=len(sizes),
        beam=beam,
        index=index,
        indexed=0 if index is None else len(index),
        codes=codes,
        quantized=quantized,
        margins=margins,
        errors=errors,
        scores=scores,
        lower=lower,
    )


def nearest(x: Tensor, codebook: Tensor, offset: Tensor | None) -> tuple[Tensor, Tensor]:
    """A residual search of one level that keeps the score."""
    code, score = x.new_empty(len(x), dtype=_INT64), x.new_empty(len(x), dtype=_FLOAT64)
    _search(x, codebook, [len(codebook)], code, offset=offset, scores=score)
    return code, score


def nearest_bounded(
    x: Tensor, codebook: Tensor, codes: Tensor, bounds: Tensor, movement: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Keeps the rows whose codeword is proven to be the nearest still, and searches the others."""
    code = codes.clone(memory_format=torch.contiguous_format)
    score = x.new_empty(len(x), dtype=_FLOAT64)
    lower = x.new_zeros(len(x), dtype=torch.float32)
    kept = x.new_empty(len(x), dtype=torch.bool)
    call(
        "keep_nearest",
        x=x,
        codebook=codebook,
        count=len(codebook),
        codes=code,
        bounds=bounds.contiguous(),
        movement=movement.contiguous(),
        kept=kept,
        scores=score,
        lower=lower,
    )
    rest = (~kept).nonzero().squeeze(1)
    if len(rest):  # an index of nothing would mean all rows
        _search(x, codebook, [len(codebook)], code, index=rest, scores=score, lower=lower)
    return code, score, lower


def residual_search(
    x: Tensor,
    codebooks: Tensor,
    sizes: list[int],
    offset: Tensor | None = None,
    with_quantized: bool = True,
    with_margins: bool = False,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """All levels of a block of rows while it is in the cache."""
    rows, levels = x.shape[0], len(sizes)
    codes = x.new_empty((rows, levels), dtype=_INT64)
    quantized = x.new_empty((rows if with_quantized else 0, x.shape[1]), dtype=torch.float32)
    margins = x.new_empty((rows if with_margins else 0, levels), dtype=torch.float32)
    errors = torch.empty_like(margins)
    _search(
        x,
        codebooks,
        sizes,
        codes,
        offset=offset,
        quantized=quantized if with_quantized else None,
        margins=margins if with_margins else None,
        errors=errors if with_margins else None,
    )
    return codes, quantized, margins, errors


def residual_search_beam(
    x: Tensor, codebooks: Tensor, sizes: list[int], beam: int
) -> tuple[Tensor, Tensor]:
    """The best paths of a row at a time."""
    if beam == 1:
        return residual_search(x, codebooks, sizes)[:2]
    codes = x.new_empty((len(x), len(sizes)), dtype=_INT64)
    _search(x, codebooks, sizes, codes, operation="residual_search_beam", beam=beam)
    quantized = codebooks.new_zeros((len(codes), codebooks.shape[1]))
    for table, code in zip(codebooks.split(sizes), codes.unbind(1)):
        quantized += torch.where(code[:, None] < 0, 0.0, table[code.clamp(min=0)])
    return codes, quantized


def cluster_sums(x: Tensor, codes: Tensor, count: int, exponent: int) -> tuple[Tensor, Tensor]:
    """Threads share columns, then rows."""
    sums = x.new_zeros((count, x.shape[1]), dtype=_INT64)
    counts = x.new_zeros(count, dtype=_INT64)
    call(
        "cluster_sums",
        x=x,
        codes=codes.contiguous(),
        count=count,
        scale=2.0**exponent,
        sums=sums,
        counts=counts,
    )
    return sums, counts


def kmeans_plusplus(points: Tensor, weights: Tensor, draws: Tensor) -> Tensor:
    """Problems side by side, or threads within one."""
    picked = torch.empty(draws.shape[:2], dtype=_INT64)
    call(
        "kmeans_plusplus",
        points=points,
        weights=weights.contiguous(),
        picks=draws.shape[1],
        tries=draws.shape[2],
        draws=draws.contiguous(),
        picked=picked,
    )
    return picked


def balanced_lloyd(
    x: Tensor,
    centroids: Tensor,
    low: Tensor,
    high: Tensor,
    iterations: int,
    tolerance: float,
    exponent: int,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Problems side by side, or threads within one."""
    problems, clusters = centroids.shape[:2]
    centroids = centroids.clone(memory_format=torch.contiguous_format)
    labels = torch.empty(x.shape[:2], dtype=_INT64)
    cost, bound = (torch.empty(problems, dtype=_FLOAT64) for _ in range(2))
    prices = torch.empty(problems, clusters, dtype=_FLOAT64)
    call(
        "balanced_lloyd",
        x=x,
        clusters=clusters,
        low=low,
        high=high,
        iterations=iterations,
        tolerance=tolerance,
        centroids=centroids,
        labels=labels,
        prices=prices,
        cost=cost,
        bound=bound,
        exponent=exponent,
    )
    return centroids, labels, cost, bound


class Transport(NamedTuple):
    """labels [N] int64, prices [K] float64; done: optimal along these arcs, else collect anew."""

    labels: Tensor
    prices: Tensor
    done: bool


def transport(
    starts: Tensor,
    clusters: Tensor,
    costs: Tensor,
    low: Tensor,
    high: Tensor,
    slack: float,
    prices: Tensor,
) -> Transport:
    """The cheapest assignment along arcs that were collected at `prices` with `slack`.

    starts [N + 1] int64, clusters [A] int32, costs [A] float64: row i's arcs, clusters ascending;
    low and high [K] int64, prices [K] float64; all contiguous and on the CPU. Rows with one arc may
    be left out, if low and high are less by how many of them each cluster has.
    """
    rows = len(starts) - 1
    prices = prices.clone()
    labels = torch.empty(rows, dtype=_INT64)
    done = torch.empty((), dtype=torch.bool)
    call(
        "transport",
        rows=rows,
        clusters=len(low),
        starts=starts,
        cluster=clusters,
        arc_cost=costs,
        low=low,
        high=high,
        slack=slack,
        prices=prices,
        labels=labels,
        done=done,
    )
    return Transport(labels, prices, bool(done))


def distinct_codes(
    x: Tensor,
    codebook: Tensor,
    starts: Tensor,
    home: Tensor,
    rank: Tensor,
    taken: Tensor,
    taken_starts: Tensor,
) -> Tensor:
    """Groups side by side."""
    return _solve_groups(
        "distinct_codes", x, codebook, starts, home, rank, taken, taken_starts, capacity=1
    )


def evict_codes(
    x: Tensor,
    codebook: Tensor,
    starts: Tensor,
    home: Tensor,
    rank: Tensor,
    taken: Tensor,
    taken_starts: Tensor,
    capacity: int,
) -> Tensor:
    """Groups side by side."""
    return _solve_groups(
        "evict_codes", x, codebook, starts, home, rank, taken, taken_starts, capacity
    )


def _solve_groups(
    operation: str,
    x: Tensor,
    codebook: Tensor,
    starts: Tensor,
    home: Tensor,
    rank: Tensor,
    taken: Tensor,
    taken_starts: Tensor,
    capacity: int,
) -> Tensor:
    codes = torch.empty_like(home)
    call(
        operation,
        x=x,
        codebook=codebook,
        starts=starts,
        home=home,
        rank=rank,
        taken=taken,
        taken_starts=taken_starts,
        codes=codes,
        groups=len(starts) - 1,
        rows=len(x),
        taken_count=len(taken),
        words=codebook.shape[0],
        width=codebook.shape[1],
        capacity=capacity,
    )
    return codes


def sinkhorn_codes(
    x: Tensor, codebook: Tensor, starts: Tensor, epsilon: float, sweeps: int
) -> Tensor:
    """Scratch: n·K float64 for the largest group of n rows, and 2 MB a thread at K = 1024 for those
    of at most 256 rows.
    """
    codes = x.new_empty(len(x), dtype=_INT64)
    call(
        "sinkhorn_codes",
        x=x.float().contiguous(),  # nothing beside the K·sweeps operations that follow
        rows=len(x),
        width=x.shape[1],
        codebook=codebook,
        words=len(codebook),
        starts=starts,
        groups=len(starts) - 1,
        epsilon=epsilon,
        sweeps=sweeps,
        codes=codes,
    )
    return codes


def contrastive(q: Tensor, h: Tensor, with_gradient: bool) -> tuple[Tensor, Tensor, Tensor]:
    """Loss and gradient of q in one pass."""
    loss = torch.empty((), dtype=_FLOAT64)
    log_total = torch.empty(len(q), dtype=_FLOAT64)
    gradient = torch.empty_like(q if with_gradient else q[:0])
    _contrastive(q, h, log_total, gradient if with_gradient else None, loss)
    return loss.float(), log_total, gradient


def contrastive_gradient_h(q: Tensor, h: Tensor, log_total: Tensor) -> Tensor:
    """A pass of its own, of the rows of h over those of q."""
    gradient = torch.empty_like(h)
    _contrastive(q, h, log_total, gradient, None)
    return gradient


def _contrastive(
    q: Tensor, h: Tensor, log_total: Tensor, gradient: Tensor | None, loss: Tensor | None
) -> None:
    call(
        "contrastive",
        q=q,
        h=h,
        rows=len(q),
        columns=len(h),
        width=q.shape[1],
        log_total=log_total,
        loss=loss,
        gradient=gradient,
    )


def diversity(
    codes: Tensor,
    codebooks: Tensor,
    sizes: list[int],
    groups: Tensor,
    seed: Tensor,
    with_gradient: bool,
) -> tuple[Tensor, Tensor]:
    """Losses and the gradient of their sum in one pass."""
    losses = torch.empty(len(sizes), dtype=_FLOAT64)
    gradient = torch.empty_like(codebooks if with_gradient else codebooks[:0])
    call(
        "diversity",
        codes=codes,
        rows=codes.shape[0],
        levels=len(sizes),
        width=codebooks.shape[1],
        codebooks=codebooks,
        sizes=sizes,
        groups=groups,
        seed=int(seed),
        losses=losses,
        gradient=gradient if with_gradient else None,
    )
    return losses.float(), gradient


def residual_losses(
    x: Tensor, codebooks: Tensor, sizes: list[int], codes: Tensor
) -> tuple[Tensor, Tensor]:
    """Threads share blocks of rows."""
    quantized = torch.empty_like(x)
    parts = torch.empty((1, len(sizes) + 1), dtype=_FLOAT64)
    counted = torch.empty((), dtype=_INT64)
    _residual_losses(
        x, codebooks, sizes, codes, quantized=quantized, errors=parts[0, :-1], counted=counted
    )
    parts[0, -1] = counted
    return quantized, parts


def residual_losses_backward(
    x: Tensor,
    codebooks: Tensor,
    sizes: list[int],
    codes: Tensor,
    errors: Tensor,
    grad_quantized: Tensor,
    weights: Tensor,
) -> tuple[Tensor, Tensor]:
    """Threads share slices of columns, which need no `errors`."""
    grad_x, grad_codebooks = torch.empty_like(x), torch.empty_like(codebooks)
    _residual_losses(
        x,
        codebooks,
        sizes,
        codes,
        grad_quantized=grad_quantized,
        weights=weights,
        grad_x=grad_x,
        grad_codebooks=grad_codebooks,
    )
    return grad_x, grad_codebooks


def _residual_losses(
    x: Tensor, codebooks: Tensor, sizes: list[int], codes: Tensor, **given: Tensor
) -> None:
    forward = ("quantized", "errors", "counted")
    backward = ("grad_quantized", "weights", "grad_x", "grad_codebooks")
    call(
        "residual_losses",
        x=x,
        rows=x.shape[0],
        width=x.shape[1],
        codebooks=codebooks,
        sizes=sizes,
        levels=len(sizes),
        codes=codes,
        **{name: given.get(name) for name in (*forward, *backward)},
    )
