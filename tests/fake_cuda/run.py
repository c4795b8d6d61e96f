"""python tests/fake_cuda/run.py CAPABILITY GUARD [--all]: one JSON line a case.

CAPABILITY: 80, 86, 90, 100 or 120; GUARD: guard.cpp, compiled. Without --all only the cases that
depend on the card.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from harness import Card
from torch import Tensor

from bench.tensor_cores import TILES, sums
from bench.workloads import W1, W2, W3
from letter_fast.kernels import triton as backend

sinkhorn_codes = sys.modules["letter_fast.kernels.triton.sinkhorn_codes"]

FLOAT64 = {"dtype": torch.float64, "device": "cuda"}
INT64 = {"dtype": torch.int64, "device": "cuda"}


def rows(N: int, D: int, dtype: torch.dtype = torch.float32, strides: str = "") -> Tensor:
    """x [N, D] in one of the layouts that callers have."""
    if strides == "transposed":
        return torch.empty((D, N), dtype=dtype, device="cuda").T
    if strides == "every other column":
        return torch.empty((N, 2 * D), dtype=dtype, device="cuda")[:, ::2]
    if strides == "expanded":
        return torch.empty((1, D), dtype=dtype, device="cuda").expand(N, D)
    if strides == "misaligned":
        return torch.empty(N * D + 1, dtype=dtype, device="cuda")[1:].view(N, D)
    return torch.empty((N, D), dtype=dtype, device="cuda")


def books(sizes: list[int], D: int) -> Tensor:
    return torch.empty((sum(sizes), D), device="cuda")


def search(x: Callable[[], Tensor], sizes: list[int], offset: bool = False, **options: Any) -> None:
    r = x()
    shift = torch.empty(sum(sizes), **FLOAT64) if offset else None
    backend.residual_search(r, books(sizes, r.shape[1]), sizes, shift, **options)


def on_every_card() -> Iterator[tuple[str, Callable[[], Any]]]:
    """Cases whose tiles differ from card to card."""
    for D in (16, 32, 64, 128, 768):
        yield f"search 1,000 × {D}", lambda D=D: search(lambda: rows(1000, D), [256] * 3)
    yield "margins 1,000 × 32", lambda: search(lambda: rows(1000, 32), [256] * 3, with_margins=True)
    for D in (16, 32, 64, 128):
        yield f"contrastive 1,024 × {D}", lambda D=D: contrastive(1024, D)
    yield "sinkhorn 1,024", lambda: sinkhorn(1024, 256, 0.003)
    yield "beam 8, 100 × 32", lambda: beam(100, 32, [256] * 3, 8)


def on_one_card() -> Iterator[tuple[str, Callable[[], Any]]]:
    """Sizes of 1, sizes that 16 divides or not, half precision, every layout, beyond 2³¹."""
    shapes = [
        (1, 1, [1]),
        (1, 32, [256]),
        (16, 16, [16]),
        (1000, 1, [1, 1]),
        (17, 33, [3, 1, 2]),
        (1, 129, [1]),
        (1000, 200, [16] * 4),
    ]
    for N, D, sizes in shapes:
        name = f"{N} × {D}, {sizes}"
        yield f"search {name}", lambda N=N, D=D, s=sizes: search(lambda: rows(N, D), s)
        yield (
            f"search {name} with offsets and margins",
            lambda N=N, D=D, s=sizes: search(lambda: rows(N, D), s, True, with_margins=True),
        )
    for strides in ("transposed", "every other column", "expanded", "misaligned"):
        for D in (32, 300):
            yield (
                f"search float16 {strides} {D}",
                lambda D=D, s=strides: search(lambda: rows(1000, D, torch.float16, s), [256]),
            )
    yield "search bfloat16", lambda: search(lambda: rows(1000, 32, torch.bfloat16), [256])
    yield (
        "search 3·10⁹ × 32",
        lambda: search(lambda: rows(3 * 10**9, 32), [256], with_quantized=False),
    )
    yield "nearest 1,000 × 32", lambda: nearest(1000, 32, 256)
    yield "nearest 1 × 1", lambda: nearest(1, 1, 1)
    for N in (0, 1, 1000, 1024):
        yield f"residual losses {N}", lambda N=N: residual_losses(N, 32, [256] * 4)
    yield "residual losses 1 × 1", lambda: residual_losses(1, 1, [1])
    yield "diversity 1,024", lambda: diversity(1024, 32, [256] * 4)
    yield "diversity 1", lambda: diversity(1, 5, [3, 2])
    yield "contrastive 1 × 1", lambda: contrastive(1, 1)
    yield "sinkhorn in products", lambda: sinkhorn(1000, 256, 0.1)
    yield "sinkhorn 16,384", lambda: sinkhorn(16_384, 256, 0.003)
    yield "code sums", lambda: backend.code_sums(rows(1000, 33), torch.empty(1000, **INT64), 7, 20)


def as_gpu_check() -> Iterator[tuple[str, Callable[[], Any]]]:
    """The shapes of `make gpu-check` that no other case has."""
    for workload in (W1, W2, W3):
        D, sizes = workload.dim, list(workload.sizes)
        yield f"{workload.name}", lambda D=D, s=sizes: search(lambda: rows(100_000, D), s)
    for D, sizes in ((16, [100, 300]), (4, [256]), (100, [256]), (300, [256])):
        yield f"search {D}, {sizes}", lambda D=D, s=sizes: search(lambda: rows(20_000, D), s)
        yield f"nearest {D}", lambda D=D: nearest(20_000, D, 256)
    for tile in TILES:
        yield f"sums of {tile}", lambda t=tile: sums(torch.empty((4, 32), **FLOAT64), *t)


def nearest(N: int, D: int, K: int) -> None:
    for offset in (None, torch.empty(K, **FLOAT64)):
        backend.nearest(rows(N, D), books([K], D), offset)


def beam(N: int, D: int, sizes: list[int], width: int) -> None:
    backend.residual_search_beam(rows(N, D), books(sizes, D), sizes, width)


def contrastive(B: int, D: int) -> None:
    q, h = rows(B, D), rows(B, D)
    _, log_total, _ = backend.contrastive(q, h, True)
    backend.contrastive_gradient_h(q, h, log_total)


def residual_losses(N: int, D: int, sizes: list[int]) -> None:
    x, words = rows(N, D), books(sizes, D)
    codes = torch.empty((N, len(sizes)), **INT64)
    quantized, errors, _ = backend.residual_losses(x, words, sizes, codes)
    weights = torch.empty((3, len(sizes)), **FLOAT64)
    backend.residual_losses_backward(x, words, sizes, codes, errors, quantized, weights)


def diversity(B: int, D: int, sizes: list[int]) -> None:
    codes = torch.empty((B, len(sizes)), **INT64)
    groups = torch.empty(sum(sizes), **INT64)
    backend.diversity(codes, books(sizes, D), sizes, groups, torch.empty((), **INT64), True)


def sinkhorn(N: int, K: int, epsilon: float) -> None:
    """A step's whole batch as one group. Which group is how large is known to the host alone."""
    log = 2 / epsilon > sinkhorn_codes.REACH
    words, allowed = books([32], K), torch.empty(K, dtype=torch.int8, device="cuda")
    mapping = sinkhorn_codes.Mapping(rows(N, 32), words, allowed, epsilon, 50, log)
    sinkhorn_codes._map_large(mapping, (0,), (N,), torch.empty(N, **INT64))


def main() -> None:
    card = Card(int(sys.argv[1]), Path(sys.argv[2]))
    cases = list(on_every_card())
    if "--all" in sys.argv:
        cases += on_one_card()
    for name, case in cases:
        record = card.run(case)
        row = {
            "case": name,
            "triton": len(record.launches),
            "torch": sum(record.operations.values()),
            "problems": record.problems,
        }
        print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
