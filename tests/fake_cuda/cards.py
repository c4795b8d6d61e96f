"""The cards, and the environment of a process that believes in one."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import torch

# Compute capability -> bytes of shared memory a program may have, multiprocessors.
CARDS = {
    80: (166_912, 108),
    86: (101_376, 84),
    90: (232_448, 132),
    100: (232_448, 148),
    120: (101_376, 170),
}


def build_guard(folder: Path) -> Path:
    """guard.cpp as a library in `folder`.

    Raises:
        OSError, CalledProcessError: there is no C++ compiler, or it fails.
    """
    library, parts = folder / "guard.so", Path(torch.__file__).parent
    command = [os.environ.get("CXX", "c++"), "-std=c++20", "-shared", "-fPIC"]
    command += [f"-I{parts / 'include'}", str(Path(__file__).with_name("guard.cpp"))]
    command += [f"-L{parts / 'lib'}", "-lc10", f"-Wl,-rpath,{parts / 'lib'}"]
    subprocess.run([*command, "-o", str(library)], check=True, capture_output=True)
    return library


def environment(guard: Path) -> dict[str, str]:
    """Of a process that imports this module."""
    root = str(Path(__file__).resolve().parents[2])
    kept = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    return {**kept, "PYTHONPATH": root, "LD_PRELOAD": str(guard)}
