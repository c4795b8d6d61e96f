"""Features of the processor as the operating system tells them, to judge the native library by."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import takewhile
from pathlib import Path

# What Linux calls what an instruction set needs beyond the one before.
_NEEDS = {
    "avx2": {"avx2", "fma", "f16c"},
    "avx512": {"avx512f", "avx512bw", "avx512dq", "avx512vl"},
    "avx512_vnni": {"avx512_vnni"},
    "neon": {"asimd"},
    "neon_dotprod": {"asimddp"},
    "neon_i8mm": {"i8mm"},
}


def runs_here(sets: Iterable[str]) -> list[str] | None:
    """Of these instruction sets, narrowest first, those that run here; None where nothing tells."""
    told = Path("/proc/cpuinfo")
    if not told.is_file():
        return None
    flags = set(told.read_text().split())
    return list(takewhile(lambda name: _NEEDS.get(name, set()) <= flags, sets))
