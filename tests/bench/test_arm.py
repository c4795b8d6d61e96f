"""The ARM screen's instructions are counted loop by loop, and a row's share of them follows."""

from __future__ import annotations

from bench.arm import of_row_level, panel_loop
from bench.workloads import W2

# Two blocks' worth of a loop within a loop, and code around both that doesn't count.
DISASSEMBLY = """
    1000:\tmovi\tv0.4s, #0x0
    1004:\tldr\tx9, [x0, #8]
    1008:\tldp\tq1, q2, [x2]
    100c:\tld1r\t{v3.4s}, [x4]
    1010:\tsmmla\tv0.4s, v1.16b, v2.16b
    1014:\tcmp\tx5, x9
    1018:\tb.lt\t1008 <score_tile+0x8>  // b.tstop
    101c:\tstp\tq0, q1, [x10, #32]
    1020:\tadd\tx2, x2, #0x20
    1024:\tb.ne\t1004 <score_tile+0x4>  // b.any
    1028:\tstr\tq0, [x10]
    102c:\tret
"""


def test_a_loop_is_counted_without_what_surrounds_it() -> None:
    outside, inside = panel_loop(DISASSEMBLY)
    assert inside == {"all": 5, "loads": 3, "vector": 2}
    assert outside == {"all": 4, "loads": 1, "stores": 2, "vector": 2}


def test_a_row_shares_its_panels_with_others() -> None:
    takes = of_row_level(panel_loop(DISASSEMBLY), W2, "neon_i8mm")
    # 1,024 codewords in panels of 16, four rows together, 768 elements in blocks of 32.
    assert takes["all"] == 64 * (4 + 24 * 5) / 4
    assert takes["stores"] == 64 * 2 / 4
