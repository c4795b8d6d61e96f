"""Loads the native library: plain C functions, called through ctypes."""

from __future__ import annotations

import ctypes
import os
from functools import cache
from pathlib import Path

from ..refusals import CODE_OUTSIDE, NO_GROUPS, NO_ROOM, NOT_FINITE

ABI_VERSION = 8
INSTRUCTION_SETS = ("portable", "avx2", "avx512", "avx512_vnni")
# `enum Status` of guard.h.
DONE, NO_MEMORY, FAILED = range(3)
_REFUSALS = {3: CODE_OUTSIDE, 4: NO_GROUPS, 5: NO_ROOM, 6: NOT_FINITE}


class NativeLibraryError(RuntimeError):
    """The native library is absent or was built from another version of the sources."""


class SearchRequest(ctypes.Structure):
    """The struct of this name in library.cpp."""

    _fields_ = [
        ("x", ctypes.c_void_p),
        ("rows", ctypes.c_int64),
        ("width", ctypes.c_int64),
        ("row_stride", ctypes.c_int64),
        ("column_stride", ctypes.c_int64),
        ("codebooks", ctypes.c_void_p),
        ("offset", ctypes.c_void_p),
        ("sizes", ctypes.POINTER(ctypes.c_int64)),
        ("levels", ctypes.c_int64),
        ("beam", ctypes.c_int64),
        ("codes", ctypes.c_void_p),
        ("quantized", ctypes.c_void_p),
        ("margins", ctypes.c_void_p),
        ("errors", ctypes.c_void_p),
        ("scores", ctypes.c_void_p),
        ("lower", ctypes.c_void_p),
        ("index", ctypes.c_void_p),
        ("element", ctypes.c_int32),
        ("threads", ctypes.c_int32),
        ("instruction_set", ctypes.c_int32),
    ]


@cache
def load() -> ctypes.CDLL:
    """The library beside this file, or the one LETTER_FAST_NATIVE names.

    Raises:
        NativeLibraryError: it was never built (no compiler at install time), or its ABI differs.
    """
    path = Path(os.environ.get("LETTER_FAST_NATIVE") or Path(__file__).with_name("native.so"))
    if not path.is_file():
        raise NativeLibraryError(
            f"{path} was not built; install a C++ compiler, then letter-fast once more"
        )
    try:
        library = ctypes.CDLL(str(path))
        found = int(library.lf_abi_version())
    except (OSError, AttributeError) as error:
        raise NativeLibraryError(f"{path} can't be loaded: {error}") from error
    if found != ABI_VERSION:
        raise NativeLibraryError(
            f"{path} has ABI {found}, this package needs {ABI_VERSION}: reinstall letter-fast"
        )
    return library


def instruction_set() -> str:
    """What the kernels run on: LETTER_FAST_INSTRUCTION_SET, or the widest this processor has.

    Raises:
        ValueError: the variable names no set, or one that this processor lacks.
    """
    widest = int(load().lf_instruction_set())
    name = os.environ.get("LETTER_FAST_INSTRUCTION_SET") or INSTRUCTION_SETS[widest]
    available = INSTRUCTION_SETS[: widest + 1]
    if name not in available:
        raise ValueError(
            f"LETTER_FAST_INSTRUCTION_SET is {name!r}; this processor has {', '.join(available)}"
        )
    return name


def search(request: SearchRequest) -> None:
    """Runs one search.

    Raises:
        MemoryError: the scratch of a thread, or the packed codebooks, could not be allocated.
    """
    call("lf_residual_search", request, "the packed codebooks and scratch")


def call(function: str, request: ctypes.Structure, scratch: str) -> None:
    """Runs an entry point that takes one request.

    scratch: what it needs memory for.
    Raises:
        MemoryError: there is not enough.
        ValueError: the numbers asked about can't be; see `_REFUSALS`.
        RuntimeError: the library threw another exception, which this one quotes.
    """
    if hasattr(request, "instruction_set"):
        request.instruction_set = INSTRUCTION_SETS.index(instruction_set())
    library = load()
    entry = getattr(library, function)
    entry.argtypes = [ctypes.POINTER(type(request))]
    status = int(entry(ctypes.byref(request)))
    if status == NO_MEMORY:
        raise MemoryError(f"letter-fast: not enough memory for {scratch}")
    if status in _REFUSALS:
        raise ValueError(_REFUSALS[status])
    if status != DONE:
        raise RuntimeError(f"letter-fast: {function} failed: {_last_failure(library)}")


def _last_failure(library: ctypes.CDLL) -> str:
    library.lf_last_failure.restype = ctypes.c_char_p
    return bytes(library.lf_last_failure()).decode(errors="replace")
