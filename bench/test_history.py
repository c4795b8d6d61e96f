"""Our own speed from commit to commit: `pytest bench --benchmark-autosave --benchmark-compare`.

Peers are not here: pytest-benchmark finishes one test before it starts the next, and a comparison
has to alternate. `python -m bench` does.
"""

from __future__ import annotations

from functools import cache

import pytest
import torch
from pytest_benchmark.fixture import BenchmarkFixture

from letter_fast.bench.measure import limited
from letter_fast.bench.peers import letter_fast
from letter_fast.bench.workloads import W1, W2, W3, Problem, Workload, make


@cache
def _problem(workload: Workload) -> Problem:
    return make(workload, workload.cpu_rows, torch.device("cpu"))


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("workload", [W1, W2, W3], ids=lambda workload: workload.name)
def test_residual_search(benchmark: BenchmarkFixture, workload: Workload, threads: int) -> None:
    x, codebooks = _problem(workload)
    encode = letter_fast(codebooks).encode
    with limited(threads):
        codes = benchmark.pedantic(  # type: ignore[no-untyped-call]
            encode, (x,), rounds=7, warmup_rounds=1
        )
    assert codes.shape == (len(x), len(codebooks))
