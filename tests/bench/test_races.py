"""The race check finds the race that settle once had, and the one that a missing barrier makes."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from bench.races import races

ROOT = Path(__file__).resolve().parents[2]

KERNEL = """
#blocked = #ttg.blocked<{{sizePerThread = [1], warpsPerCTA = [4]}}>
module attributes {{"ttg.num-warps" = 4 : i32}} {{
  tt.func public @kernel(%x: !tt.ptr<f32> loc("x"(#loc)), %y: !tt.ptr<f32> loc("y"(#loc))) {{
    %place = tt.splat %x : !tt.ptr<f32> -> tensor<32x!tt.ptr<f32>, #blocked> loc(#loc1)
    %at = tt.addptr %place, %range : tensor<32x!tt.ptr<f32>, #blocked> loc(#loc1)
    {body}
    tt.return loc(#loc)
  }} loc(#loc)
}} loc(#loc)
"""
LOAD = "%v = tt.load %at : tensor<32x!tt.ptr<f32>, #blocked> loc(#loc1)"
COPY = "%c = ttg.async_copy_global_to_local %at, %v mask %m : tensor<32x!tt.ptr<f32>> -> <32xf32>"
STORE = "tt.store %at, %w : tensor<32x!tt.ptr<f32>, #blocked> loc(#loc1)"
BARRIER = "ttg.barrier local|global_read|global_write loc(#loc1)"
LOOP = "scf.for %i = %a to %b step %c  : i32 {{\n{}\n}} loc(#loc1)"
BRANCH = "scf.if %p {{\n{}\n}} loc(#loc1)"


@pytest.mark.parametrize(
    ("body", "number"),
    [
        ([STORE, LOAD], 1),
        ([LOAD, STORE], 1),
        ([STORE, COPY], 1),
        ([STORE, BARRIER, COPY], 0),
        ([STORE, BARRIER, LOAD], 0),
        ([LOAD, BARRIER, STORE], 0),
        ([LOAD, LOAD], 0),
        ([STORE, STORE], 0),
        ([STORE, BRANCH.format(BARRIER), LOAD], 1),  # the other branch has no barrier
        ([LOOP.format("\n".join([LOAD, BARRIER, STORE]))], 1),  # the next round loads
        ([LOOP.format("\n".join([BARRIER, LOAD, BARRIER, STORE]))], 0),
    ],
)
def test_what_races(body: list[str], number: int) -> None:
    assert len(races(KERNEL.format(body="\n".join(body)))) == number


@pytest.mark.parametrize(("part", "number"), [("%x", 1), ("%y", 0)])
def test_the_parts_of_a_tuple_are_buffers_of_their_own(part: str, number: int) -> None:
    at = f"%after = tt.addptr {part}, %range : tensor<32x!tt.ptr<f32>, #blocked> loc(#loc1)"
    body = "\n".join([STORE, at, LOAD.replace("%at", "%after")])
    assert len(races(KERNEL.replace('loc("y"', 'loc("x"').format(body=body))) == number


COMPILE = """
import sys
from bench import compile_report as report
case = next(case for case in report.cases("sm_90") if case.name == "settle")
sys.stdout.write(report.built(case, "sm_90").asm["ttgir"])
"""


@pytest.mark.slow
@pytest.mark.skipif(find_spec("triton") is None, reason="triton is not installed")
def test_settle_races_without_its_barriers() -> None:
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    done = subprocess.run(
        [sys.executable, "-c", COMPILE], cwd=ROOT, env=environment, check=True, capture_output=True
    )
    ttgir = done.stdout.decode()
    assert races(ttgir) == []
    barriers = list(re.finditer(r"^.*\b(?:gpu|ttg)\.barrier.*\n", ttgir, re.MULTILINE))
    assert len(barriers) == 5
    # The first one guards a row's residual against the row before, which only the loop shows.
    for barrier in barriers[:4]:
        assert races(ttgir[: barrier.start()] + ttgir[barrier.end() :])
