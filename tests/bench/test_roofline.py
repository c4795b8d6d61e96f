"""The roofline report counts what is there, and fails where it should."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
COMMITTED = ROOT / "bench" / "results" / "roofline.json"

pytestmark = pytest.mark.skipif(find_spec("triton") is None, reason="triton is not installed")

# Two rounds of loops, one in the other, around a product.
SASS = """
        /*0000*/                   MOV R1, c[0x0][0x28] ;
        /*0010*/                   LDG.E R2, [R4] ;
        /*0020*/                   FADD R3, R2, R2 ;
        /*0030*/                   HMMA.16816.F32 R8, R4, R6, R8 ;
        /*0040*/                   BAR.SYNC.DEFER_BLOCKING 0x0 ;
        /*0050*/                   LDS R9, [R1] ;
        /*0060*/              @!P0 BRA 0x30 ;
        /*0070*/                   FMNMX R8, R8, R9, PT ;
        /*0080*/               @P1 BRA 0x10 ;
        /*0090*/                   EXIT ;
        /*00a0*/                   BRA 0xa0;
"""
TTGIR = """
    %1 = scf.for %k = %0 to %2 step %3 -> (tensor<16x32xf32, #mma>)  : i32 {
      %4 = tt.dot %a, %b, %c : tensor<16x32xf16> * tensor<32x32xf16> -> tensor<16x32xf32, #m>
      %5 = ttg.convert_layout %4 : tensor<16x32xf32, #mma> -> tensor<16x32xf32, #blocked>
    } loc(#loc1)
"""


def test_loops_from_the_inside_out() -> None:
    from bench.sass import hot_loops

    inner, outer, outside = hot_loops(SASS)
    assert inner.pipes == {"control": 2, "memory": 1, "tensor": 1}
    assert (inner.depth, inner.barriers, inner.shared) == (2, 1, 1)
    assert outer.pipes == {"alu": 1, "control": 1, "fma": 1, "memory": 1}
    assert outside.instructions == 3


AROUND = """
    %1 = scf.for %k = %0 to %2 step %3 -> (tensor<16x32xf32, #mma>)  : i32 {
      %6 = scf.for %d = %0 to %2 step %3 -> (tensor<16x32xf32, #mma>)  : i32 {
        %4 = tt.dot %a, %b, %c : tensor<16x32xf16> * tensor<32x32xf16> -> tensor<16x32xf32, #m>
      } loc(#loc1)
      %5 = ttg.convert_layout %7 : tensor<16xKEYSxi32, #linear> -> tensor<16xKEYSxi32, #blocked>
    } loc(#loc1)
"""


@pytest.mark.parametrize(("keys", "too_many"), [("4x2", False), ("8x2", True)])
def test_keys_that_change_their_layout_between_tiles(keys: str, too_many: bool) -> None:
    """A tile is two loops where the product goes along D in steps."""
    from bench.compile_report import Case
    from bench.roofline import converted

    tile = {"BLOCK_N": 16, "BLOCK_K": 32}
    steps = Case("runner-up", "", None, tile | {"BLOCK_D": 16}, 4, 2, tensor_core=True)
    assert converted(steps, AROUND.replace("KEYS", keys)) == too_many
    assert not converted(Case("screen", "", None, tile, 4, 2, tensor_core=True), AROUND)


def test_scores_that_change_their_layout_in_the_loop() -> None:
    from bench.compile_report import Case
    from bench.roofline import converted

    tile = {"BLOCK_N": 16, "BLOCK_K": 32}
    case = Case("screen", "", None, tile, 4, 2, tensor_core=True)
    assert converted(case, TTGIR)
    after = TTGIR.splitlines()
    after[3], after[4] = after[4], after[3]
    assert not converted(case, "\n".join(after))
    for shape, bad in (("16xf32", False), ("16x1xi32", False), ("16x4x2xi32", True)):
        before = "%4 : tensor<16x32xf32, #mma> -> tensor<16x32xf32"
        moved = TTGIR.replace(before, before.replace("16x32xf32", shape))
        assert moved != TTGIR
        assert converted(case, moved) == bad


@pytest.mark.parametrize(
    ("name", "shape", "bad"),
    [
        ("screen paths", "16x2xi32", False),
        ("screen paths", "16x2xf32", True),
        ("screen paths", "16x4xi32", True),
        ("screen", "16x2xi32", True),
    ],
)
def test_a_bit_a_score_may_change_its_layout(name: str, shape: str, bad: bool) -> None:
    from bench.compile_report import Case
    from bench.roofline import converted

    case = Case(name, "", None, {"BLOCK_N": 16, "BLOCK_K": 64}, 4, 2, tensor_core=True)
    before = "%4 : tensor<16x32xf32, #mma> -> tensor<16x32xf32"
    assert converted(case, TTGIR.replace(before, before.replace("16x32xf32", shape))) == bad


def test_a_loop_that_has_grown() -> None:
    from bench.compile_report import Case
    from bench.roofline import Kernel, grown
    from bench.sass import Loop

    case = Case("screen", "P=16", None, {}, 4, 2, tensor_core=True)
    kernel = Kernel(case, "sm_90", [Loop(0, {"alu": 106}, 0, 0)], [])
    assert not grown(kernel, {kernel.name: [101]})
    assert grown(kernel, {kernel.name: [100]})
    assert grown(kernel, {})


def test_a_kernel_that_is_compiled_and_the_committed_counts() -> None:
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    command = [sys.executable, "-m", "bench.roofline", "--target", "sm_90", "--only", "pack words"]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert any(name.startswith("sm_90 pack words") for name in json.loads(COMMITTED.read_text()))
