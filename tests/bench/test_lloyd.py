"""The k-means bench runs; its figures are for a GPU."""

from __future__ import annotations

import pytest

from letter_fast.bench import lloyd
from letter_fast.bench.workloads import Workload
from tests.support.triton_backend import DEVICE


def test_a_line_for_everyone(capsys: pytest.CaptureFixture[str]) -> None:
    tiny = Workload("tiny", "a test", 5, (16,), cpu_rows=40)
    lloyd.measure(tiny, 40, 1, DEVICE, lists=True)
    said = capsys.readouterr().out
    for name in ("letter-fast, exact", "the search", "the sums", "the sort", "torch formula"):
        assert name in said
    assert "within, 2.0" in said
    assert "flash-kmeans" in said
