"""Loads the native library and calls its entry points, whose contract the library itself carries.

An entry point takes one request. What its fields are is written once, in C++ (LF_REQUEST of abi.h);
the library exports that text, and the struct is built from it here.
"""

from __future__ import annotations

import ctypes
import os
import re
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..refusals import CODE_OUTSIDE, NO_GROUPS, NO_ROOM, NOT_FINITE
from .threads import usable_threads

# `enum Status` of guard.h.
DONE, NO_MEMORY, FAILED = range(3)
_REFUSALS = {3: CODE_OUTSIDE, 4: NO_GROUPS, 5: NO_ROOM, 6: NOT_FINITE}

_NUMBERS: dict[str, Any] = {
    "std::int32_t": ctypes.c_int32,
    "std::int64_t": ctypes.c_int64,
    "double": ctypes.c_double,
    "Element": ctypes.c_int32,
}
_POINTEES = {
    "float": torch.float32,
    "double": torch.float64,
    "std::int32_t": torch.int32,
    "std::int64_t": torch.int64,
    "bool": torch.bool,
}
# `enum class Element` of abi.h.
_ELEMENTS = {torch.float32: 0, torch.float16: 1, torch.bfloat16: 2}
# `name`, `name, name` or `*name`, after its type.
_FIELD = re.compile(r"(const )?([\w:]+)(\*?) (\w+(?:, \w+)*)")

# A value of Python as the field's; what must outlive the call is added to the list. None: as it is.
Convert = Callable[[Any, list[object]], Any] | None


class NativeLibraryError(RuntimeError):
    """The native library is absent or was built from another version of the sources."""


class Entry(NamedTuple):
    """An entry point of the library."""

    function: Callable[[Any], int]
    request: type[ctypes.Structure]
    converts: dict[str, Convert]


@cache
def load() -> ctypes.CDLL:
    """The library beside this file, or the one LETTER_FAST_NATIVE names.

    Raises:
        NativeLibraryError: it was never built (no compiler at install time), or can't be loaded.
    """
    path = Path(os.environ.get("LETTER_FAST_NATIVE") or Path(__file__).with_name("native.so"))
    if not path.is_file():
        raise NativeLibraryError(
            f"{path} was not built; install a C++ compiler, then letter-fast once more"
        )
    try:
        return opened(path)
    except (OSError, AttributeError) as error:
        raise NativeLibraryError(f"{path} can't be loaded: {error}; reinstall") from error


def opened(path: Path) -> ctypes.CDLL:
    """The library of a file, with the types of what isn't a request.

    Raises:
        OSError, AttributeError: it can't be loaded, or is another library.
    """
    library = ctypes.CDLL(str(path))
    library.lf_last_failure.restype = ctypes.c_char_p
    library.lf_instruction_set.restype = ctypes.c_int32
    library.lf_instruction_sets.restype = ctypes.c_char_p
    return library


def instruction_set() -> str:
    """The kernels' instruction set: LETTER_FAST_INSTRUCTION_SET, or the widest this processor has.

    Raises:
        ValueError: the variable names no set, or one that this processor lacks.
    """
    return _instruction_set(os.environ.get("LETTER_FAST_INSTRUCTION_SET"))


def instruction_sets() -> tuple[str, ...]:
    """The library's instruction sets that this processor has, from the narrowest to the widest.

    A request names one by its place here.
    """
    return _sets(load())


@cache
def _sets(library: ctypes.CDLL) -> tuple[str, ...]:
    names: list[str] = library.lf_instruction_sets().decode().split()
    return tuple(names[: int(library.lf_instruction_set()) + 1])


@cache
def _instruction_set(asked: str | None) -> str:
    available = instruction_sets()
    name = asked or available[-1]
    if name not in available:
        raise ValueError(
            f"LETTER_FAST_INSTRUCTION_SET is {name!r}; this processor has {', '.join(available)}"
        )
    return name


def call(operation: str, **fields: Tensor | Sequence[int] | float | None) -> None:
    """Runs lf_<operation> on a request of these fields, all of them, and adds how it is to run.

    A pointer takes a contiguous tensor of its type, None, or (int64) a sequence; Matrix and
    Problems take a tensor of any layout with two and three dimensions.

    Raises:
        MemoryError: there is not enough memory for the operation's scratch.
        NativeLibraryError: the library has no such operation, or one with other fields.
        TypeError: a tensor has another dtype or layout than its field.
        ValueError: the numbers asked about can't be; see `_REFUSALS`.
        RuntimeError: the library threw another exception, which this one quotes.
    """
    function, request, converts = _entry(operation)
    given: dict[str, Any] = fields
    if "threads" in converts:
        given["threads"] = usable_threads()
    if "instruction_set" in converts:
        given["instruction_set"] = instruction_sets().index(instruction_set())
    held: list[object] = []
    try:
        values = zip(map(given.__getitem__, converts), converts.values())
        asked = request(
            *[v if v is None or convert is None else convert(v, held) for v, convert in values]
        )
        if len(given) != len(converts):
            raise KeyError
    except KeyError:
        other = ", ".join(sorted(given.keys() ^ converts.keys()))
        raise NativeLibraryError(
            f"the native library's {operation} differs in {other}: reinstall"
        ) from None
    except TypeError as error:
        raise TypeError(f"letter-fast: {operation}: {error}") from error
    status = function(ctypes.byref(asked))
    if status == NO_MEMORY:
        raise MemoryError(f"letter-fast: not enough memory for the scratch of {operation}")
    if status in _REFUSALS:
        raise ValueError(_REFUSALS[status])
    if status != DONE:
        failure = load().lf_last_failure().decode(errors="replace")
        raise RuntimeError(f"letter-fast: {operation} failed: {failure}")


@cache
def _entry(operation: str) -> Entry:
    library = load()
    try:
        function = getattr(library, f"lf_{operation}")
        size = getattr(library, f"lf_{operation}_bytes")
    except AttributeError as error:
        raise NativeLibraryError(f"the native library has no {operation}: reinstall") from error
    size.restype, function.restype = ctypes.c_int64, ctypes.c_int32
    request, converts = _record(operation)
    if size() != ctypes.sizeof(request):
        raise NativeLibraryError(f"the request of {operation} is not as its compiler lays it out")
    return Entry(function, request, converts)


@cache
def _record(name: str) -> tuple[type[ctypes.Structure], dict[str, Convert]]:
    """The struct whose fields the library exports under this name."""
    text = getattr(load(), f"lf_{name}_fields")
    text.restype = ctypes.c_char_p
    types: list[tuple[str, Any]] = []
    converts: dict[str, Convert] = {}
    for line in text().decode().strip("{ }").split(";"):
        if not line.strip():
            continue
        for field, kind, convert in _fields(line.strip()):
            types.append((field, kind))
            converts[field] = convert
    return type(name, (ctypes.Structure,), {"_fields_": types}), converts


def _fields(line: str) -> list[tuple[str, Any, Convert]]:
    """Name, ctypes type and conversion of the fields that a line of a struct declares."""
    match = _FIELD.fullmatch(line)
    _, type_, star, names = match.groups() if match else (None, "", "", "")
    fields = names.split(", ")
    if star and len(fields) == 1 and (type_ in _POINTEES or type_ == "void"):
        return [(names, ctypes.c_void_p, _pointer(names, _POINTEES.get(type_)))]
    if not star and type_ in _NUMBERS:
        return [(name, _NUMBERS[type_], None) for name in fields]
    if not star and type_ in _RECORDS:
        record = _record(type_)[0]
        return [(name, record, _RECORDS[type_](name, record)) for name in fields]
    raise NativeLibraryError(
        f"a request of the native library has a field of no known kind: {line}"
    )


def _pointer(name: str, dtype: torch.dtype | None) -> Convert:
    def convert(value: Tensor | Sequence[int], held: list[object]) -> int:
        if isinstance(value, Tensor):
            if value.dtype is not dtype or not (value.is_cpu and value.is_contiguous()):
                raise TypeError(f"{name} must be a contiguous tensor of {dtype} on the CPU")
            return value.data_ptr()
        if dtype is not torch.int64:
            raise TypeError(f"{name} must be a tensor of {dtype}")
        array = (ctypes.c_int64 * len(value))(*value)
        held.append(array)
        return ctypes.addressof(array)

    return convert


def _matrix(name: str, record: type[ctypes.Structure]) -> Convert:
    def convert(x: Tensor, _: list[object]) -> ctypes.Structure:
        if x.dtype not in _ELEMENTS or x.ndim != 2 or not x.is_cpu:
            raise TypeError(f"{name} must be floating point of two dimensions on the CPU")
        return record(x.data_ptr(), *x.shape, *x.stride(), _ELEMENTS[x.dtype])

    return convert


def _problems(name: str, record: type[ctypes.Structure]) -> Convert:
    def convert(x: Tensor, _: list[object]) -> ctypes.Structure:
        if x.dtype != torch.float32 or x.ndim != 3 or not x.is_cpu:
            raise TypeError(f"{name} must be float32 of three dimensions on the CPU")
        return record(x.data_ptr(), *x.shape, *x.stride())

    return convert


_RECORDS = {"Matrix": _matrix, "Problems": _problems}
