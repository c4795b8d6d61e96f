"""The Triton backend's real host code for cards that aren't there.

Every launch compiles at its real specialisation and fits the card, no kernel gets a tensor of the
host, and the host never waits.
"""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.fake_cuda.cards import build_guard, environment

ROOT = Path(__file__).resolve().parents[3]
HARNESS = ROOT / "tests" / "fake_cuda"

# An epoch's tables.
COPYING = {"LETTER's epoch begins", "LETTER's epoch of 1 row begins", "RQ-VAE's epoch begins"}

pytestmark = [
    pytest.mark.skipif(find_spec("triton") is None, reason="triton is not installed"),
    pytest.mark.slow,
]


@pytest.fixture(scope="session")
def guard(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """guard.cpp as a library."""
    try:
        return build_guard(tmp_path_factory.mktemp("guard"))
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"guard.cpp can't be compiled here: {error}")


def launches(guard: Path, capability: int, *options: str) -> dict[str, tuple[int, int]]:
    """Launches of Triton's and of torch's kernels by case, which none must have a problem with."""
    command = [sys.executable, str(HARNESS / "run.py"), str(capability), *options]
    done = subprocess.run(
        command,
        cwd=ROOT,
        env=environment(guard),
        check=True,
        capture_output=True,
        text=True,
        timeout=900,
    )
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert {row["case"]: row["problems"] for row in rows if row["problems"]} == {}
    assert {row["case"] for row in rows if row["copies"]} <= COPYING
    return {row["case"]: (row["triton"], row["torch"]) for row in rows}


def test_every_specialisation(guard: Path) -> None:
    found = launches(guard, 90, "--all")
    expected = json.loads((HARNESS / "launches.json").read_text())
    assert found.keys() == expected.keys()
    more = {
        case: (tuple(expected[case]), counts)
        for case, counts in found.items()
        if counts[0] > expected[case][0] or counts[1] > expected[case][1]
    }
    assert not more, f"more launches than tests/fake_cuda/launches.json has: {more}"


@pytest.mark.parametrize("capability", [80, 86, 100, 120])
def test_every_card(guard: Path, capability: int) -> None:
    assert launches(guard, capability)
