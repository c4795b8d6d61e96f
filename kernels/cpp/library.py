"""Loads the native library: plain C functions, called through ctypes."""

from __future__ import annotations

import ctypes
from functools import cache
from pathlib import Path

ABI_VERSION = 1
INSTRUCTION_SETS = ("portable", "avx2", "avx512", "avx512_vnni")


class NativeLibraryError(RuntimeError):
    """The native library is absent or was built from another version of the sources."""


@cache
def load() -> ctypes.CDLL:
    """The library beside this file.

    Raises:
        NativeLibraryError: it was never built (no compiler at install time), or its ABI differs.
    """
    path = Path(__file__).with_name("native.so")
    try:
        library = ctypes.CDLL(str(path))
    except OSError as error:
        raise NativeLibraryError(f"{path} can't be loaded: {error}") from error
    found = int(library.lf_abi_version())
    if found != ABI_VERSION:
        raise NativeLibraryError(
            f"{path} has ABI {found}, this package needs {ABI_VERSION}: reinstall letter-fast"
        )
    return library


def instruction_set() -> str:
    """The widest instruction set of this processor that the library knows."""
    return INSTRUCTION_SETS[int(load().lf_instruction_set())]
