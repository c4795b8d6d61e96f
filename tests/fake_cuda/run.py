"""PYTHONPATH=. python tests/fake_cuda/run.py CAPABILITY [--all | --warm]: one JSON line a case.

CAPABILITY: 80, 86, 90, 100 or 120. Without --all only the cases that depend on the card; with
--warm all of them, and those of `make gpu-check`.
"""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from torch import Tensor

import letter_fast as lf
from bench.tensor_cores import TILES, sums
from bench.workloads import W1, W2, W3
from letter_fast import validation
from letter_fast.kernels import triton as backend
from letter_fast.training import step as training
from letter_fast.training.capture import Inputs
from letter_fast.training.metrics import EpochMeans
from letter_fast.training.ranks import Ranks
from letter_fast.training.run import Run
from tests.fake_cuda.cards import build_guard, environment
from tests.fake_cuda.harness import Card

sinkhorn_codes, balanced, nearest_ = (
    sys.modules[f"letter_fast.kernels.triton.{name}"]
    for name in ("sinkhorn_codes", "balanced_lloyd", "nearest")
)

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
    yield "tokenize 4,096 × 384", tokenize
    yield "balanced, prices from nothing 1,000,000 × 32, 256", lambda: ascent(1_000_000, 32, 256)


def training_steps() -> Iterator[tuple[str, Callable[[], Any]]]:
    """LETTER by default (Sinkhorn, collaborative and diversity terms), then RQ-VAE."""
    step = Step(1024, lf.LetterConfig(input_dim=384))
    yield "LETTER's epoch begins", step.begin
    yield "LETTER's step: forward", step.forward
    yield "LETTER's step: backward", step.backward
    yield "LETTER's first step of AdamW", step.move  # makes its moments
    yield "LETTER's step: AdamW and metrics", step.move
    yield "LETTER's captured step", step.captured
    last = Step(1, lf.LetterConfig(input_dim=384))
    yield "LETTER's epoch of 1 row begins", last.begin
    yield "LETTER's step on 1 row", last
    plain = lf.LetterConfig(
        input_dim=768, cf_weight=0.0, diversity_weight=0.0, sinkhorn_epsilon=(0.0,) * 4
    )
    rq_vae = Step(1000, plain)
    yield "RQ-VAE's epoch begins", rq_vae.begin
    yield "RQ-VAE's step", rq_vae


class Step:
    """One step of the trainer, on a batch of B rows."""

    def __init__(self, B: int, config: lf.LetterConfig) -> None:
        self._model = lf.Letter(config).train()
        self._rows, self._config = B, config

    def begin(self) -> None:
        put_on_card(self._model)
        self._run = Run(self._model, lf.TrainSettings())
        self._means = EpochMeans(self._model, 1)
        self._step = training.Step(
            self._run, Ranks(0, 1, torch.device("cuda")), None, torch.Generator()
        )

    def __call__(self) -> None:
        self.forward()
        self.backward()
        self.move()

    def _inputs(self) -> Inputs:
        config = self._config
        h = groups = None
        if config.cf_weight:
            h = rows(self._rows, config.latent_dim)
        if config.diversity_weight:
            groups = torch.empty(sum(config.codebook_size), **INT64)
        return Inputs(rows(self._rows, config.input_dim), h, groups, torch.empty((), **INT64))

    def forward(self) -> None:
        self._losses = self._model.losses(*self._inputs(), nonfinite="mark")

    def backward(self) -> None:
        self._losses.total.backward(self._step.one)

    def move(self) -> None:
        self._run.optimizer.step()
        self._means.add(self._losses)

    def captured(self) -> None:
        """The step that `Capture` records: no graph can hold a wait or a copy from the host."""
        inputs = self._inputs()
        (group,) = self._run.optimizer.param_groups
        assert group["lr"].is_cuda, "a graph would hold the learning rate"
        self._step.move(inputs)


def put_on_card(model: torch.nn.Module) -> None:
    """Parameters and buffers of the same shapes on the card."""
    for module in model.modules():
        for name, value in module._parameters.items():
            if value is not None:
                there = torch.empty(value.shape, dtype=value.dtype, device="cuda")
                module._parameters[name] = torch.nn.Parameter(there, value.requires_grad)
        for name, buffer in module._buffers.items():
            if buffer is not None:
                there = torch.empty(buffer.shape, dtype=buffer.dtype, device="cuda")
                module._buffers[name] = there


def tokenize() -> None:
    """The two looks at whether numbers are finite wait by design: the caller learns of it."""
    model = lf.Letter(lf.LetterConfig(input_dim=384)).eval()
    put_on_card(model)
    with mock.patch.multiple(validation, finite_codes=mock.DEFAULT, finite_codewords=mock.DEFAULT):
        model.encode(rows(4096, 384))
        model.quantizer.encode(rows(4096, 32), return_margin=True)
        model.quantizer.encode(rows(4096, 32), beam=8)


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
    yield (
        "code sums",
        lambda: backend.cluster_sums(rows(1000, 33), torch.empty(1000, **INT64), 7, 20),
    )
    yield from clustering()


def clustering() -> Iterator[tuple[str, Callable[[], Any]]]:
    """A pass of k-means, and what balanced k-means does between two waits."""
    for N, D, K in ((1000, 32, 256), (1, 1, 1), (1000, 300, 17)):
        yield f"k-means pass {N} × {D}, {K}", lambda N=N, D=D, K=K: kmeans_pass(N, D, K)
    for N, D, K in ((1, 1, 1), (1000, 300, 17), (5000, 32, 1025)):
        name = f"{N:,} × {D}, {K}"
        yield f"balanced, prices from nothing {name}", lambda N=N, D=D, K=K: ascent(N, D, K)
    restarts = Restarts(2, 20_000, 32, 256)
    yield "balanced, 2 restarts of 20,000 × 32, 256 begin", restarts.begin
    yield "balanced, an iteration of theirs", restarts.iterate
    yield "balanced, certificate 20,000 × 32, 256", lambda: certificate(20_000, 32, 256)


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


def kmeans_pass(N: int, D: int, K: int) -> None:
    x, labels = rows(N, D), torch.empty(N, **INT64)
    bounds, movement = torch.empty(N, device="cuda"), torch.empty(K, device="cuda")
    labels, _, _ = backend.nearest_bounded(x, books([K], D), labels, bounds, movement)
    backend.cluster_sums(x, labels, K, 20)


def problem(N: int, D: int, K: int) -> Any:
    """A problem of balanced k-means, of which the sizes' bounds are on the card alone."""
    return balanced._Problem(rows(N, D), books([K], D), *torch.empty((2, K), **INT64))


def ascent(N: int, D: int, K: int) -> None:
    problem(N, D, K).climb()


class Restarts:
    """P runs of balanced k-means."""

    def __init__(self, P: int, N: int, D: int, K: int) -> None:
        self._number, self._size = P, (N, D, K)

    def begin(self) -> None:
        self._problems = [problem(*self._size) for _ in range(self._number)]
        self.iterate()

    def iterate(self) -> None:
        """Up to the wait for all costs, and after it."""
        torch.stack([each.assign(20) for each in self._problems])
        for each in self._problems:
            each.move(1.0, 0.0)
            each._before = math.inf


def certificate(N: int, D: int, K: int) -> None:
    """Up to the wait for its numbers."""
    found = problem(N, D, K)
    labels = torch.empty(N, **INT64)
    nearest_.scores(found._rows, found.centroids, None, labels)
    found._dual(backend.nearest(found._rows, found.centroids, found._prices)[1])


def beam(N: int, D: int, sizes: list[int], width: int) -> None:
    backend.residual_search_beam(rows(N, D), books(sizes, D), sizes, width)


def contrastive(B: int, D: int) -> None:
    q, h = rows(B, D), rows(B, D)
    _, log_total, _ = backend.contrastive(q, h, True)
    backend.contrastive_gradient_h(q, h, log_total)


def residual_losses(N: int, D: int, sizes: list[int]) -> None:
    x, words = rows(N, D), books(sizes, D)
    codes = torch.empty((N, len(sizes)), **INT64)
    quantized, parts = backend.residual_losses(x, words, sizes, codes)
    *_, loss, errors, scale = backend.residual_terms(parts, D, True, 0.25, True, x)
    slopes = [None, None, None, loss]
    weights = backend.residual_weights("detach", slopes, scale, len(sizes), True, 0.25, True)
    backend.residual_losses_backward(x, words, sizes, codes, errors, quantized, weights)


def diversity(B: int, D: int, sizes: list[int]) -> None:
    codes = torch.empty((B, len(sizes)), **INT64)
    groups = torch.empty(sum(sizes), **INT64)
    backend.diversity(codes, books(sizes, D), sizes, groups, torch.empty((), **INT64), True)


def sinkhorn(N: int, K: int, epsilon: float) -> None:
    """A step's whole batch as one group. Which group is how large is known to the host alone."""
    log = 2 / epsilon > sinkhorn_codes.REACH
    mapping = sinkhorn_codes.Mapping(rows(N, 32), books([K], 32), 1 << 60, 50, log)
    sinkhorn_codes._map_large(mapping, (0,), (N,), torch.empty(N, **INT64))


def _with_guard() -> int:
    """The exit status of this very command with guard.cpp preloaded."""
    with tempfile.TemporaryDirectory() as folder:
        preloaded = environment(build_guard(Path(folder)))
        return subprocess.run([sys.executable, *sys.argv], env=preloaded, check=False).returncode


def main() -> None:
    if "guard.so" not in os.environ.get("LD_PRELOAD", ""):
        sys.exit(_with_guard())
    card = Card(int(sys.argv[1]))
    cases = [*on_every_card(), *training_steps()]
    if "--all" in sys.argv or "--warm" in sys.argv:
        cases += on_one_card()
    if "--warm" in sys.argv:
        cases += as_gpu_check()
    for name, case in cases:
        record = card.run(case)
        row = {
            "case": name,
            "triton": len(record.launches),
            "torch": sum(record.operations.values()),
            "copies": record.copies,
            "problems": record.problems,
        }
        print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
