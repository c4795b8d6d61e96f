"""The kernels compile for every GPU without one: no spills, and tensor cores where they should."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]

pytestmark = pytest.mark.skipif(find_spec("triton") is None, reason="triton is not installed")


def report(file: Path, *arguments: str) -> list[dict[str, object]]:
    """In a process of its own: in this one the kernels may be interpreted."""
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    command = [sys.executable, "-m", "bench.compile_report", "--json", str(file), *arguments]
    subprocess.run(command, check=True, cwd=ROOT, env=environment, capture_output=True, timeout=900)
    return list(json.loads(file.read_text()))


def test_one_kernel_on_one_target(tmp_path: Path) -> None:
    rows = report(tmp_path / "report.json", "--target", "sm_80", "--only", "split")
    assert {row["kernel"] for row in rows} == {"split", "split low"}
    for row in rows:
        assert row["spills"] == 0
        assert int(str(row["registers"])) > 0


@pytest.mark.slow
def test_everything(tmp_path: Path) -> None:
    # sm_86 has sm_80's instructions and nearly its tiles; what it may lack is shared memory.
    targets = ["sm_80", "sm_90", "sm_100", "sm_120", "gfx942"]
    options = [part for target in targets for part in ("--target", target)]
    rows = report(tmp_path / "report.json", *options)
    assert {row["target"] for row in rows} == set(targets)
    assert not any(row["bad"] for row in rows)
    assert all(int(str(row["shared"])) <= 101_376 for row in rows if row["target"] == "sm_80")
