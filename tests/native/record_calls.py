"""A pytest plugin: every call of the native library by the tests that run, for a library elsewhere.

python -m pytest -p tests.native.record_calls --record-calls FILE TESTS

replay.cpp reads FILE on another architecture, calls the library there and compares what comes out.
A call is the request as it lies in memory, what its pointers lead to before and after, and the
status. Request and arrays are laid out alike on all 64-bit little-endian processors; pointers are
replaced on the other side, as are `threads` and `instruction_set` by the place of the field.

Tests of other instruction sets than the widest, and of the reference, would record nothing new.
"""

from __future__ import annotations

import ctypes
import hashlib
import re
import struct
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

import pytest
import torch
from torch import Tensor

from letter_fast.kernels.cpp import library

MAGIC = b"letter-fast calls 1\n"
# How replay.cpp compares an array that has changed: bits, or numbers of which any NaN is one.
_KINDS = {torch.float32: 4, torch.float64: 8}


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--record-calls", type=Path, required=True, help="file to write")


def pytest_configure(config: pytest.Config) -> None:
    # Memory that nobody has written holds NaN: the same call is the same bytes.
    torch.use_deterministic_algorithms(True)
    config.pluginmanager.register(Recorder(config.getoption("--record-calls")), "recorder")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    narrower = "|".join(map(re.escape, library.instruction_sets()[:-1]))
    other = re.compile(rf"(?<![\w])({narrower}|reference)(?![\w])")
    left_out = [item for item in items if other.search(item.name.partition("[")[2])]
    config.hook.pytest_deselected(items=left_out)
    items[:] = [item for item in items if item not in set(left_out)]


class Recorder:
    """Stands in for the library's entries and writes down what they are asked and answer."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.file: BinaryIO = path.open("wb")
        self.file.write(MAGIC)
        self.test = ""
        self.known: set[bytes] = set()
        self.entry = library._entry
        library._entry = self.recorded  # type: ignore[assignment]

    def pytest_runtest_setup(self, item: pytest.Item) -> None:
        self.test = item.nodeid

    def pytest_sessionfinish(self) -> None:
        self.file.close()

    def recorded(self, operation: str) -> library.Entry:
        function, request, converts = self.entry(operation)
        given: dict[str, Any] = {}

        def note(name: str, convert: Any, value: Any, held: list[object]) -> Any:
            given[name] = value
            return convert(value, held)

        def call(reference: Any) -> int:
            asked = reference._obj
            arrays = dict(_arrays(asked, given))
            question = bytes(asked), {at: array.read() for at, array in arrays.items()}
            status = int(function(reference))
            self.write(operation, type(asked), question, arrays, status)
            given.clear()
            return status

        noting = {
            name: convert and partial(note, name, convert) for name, convert in converts.items()
        }
        return library.Entry(call, request, noting)

    def write(
        self,
        operation: str,
        request: Any,
        question: tuple[bytes, dict[int, bytes]],
        arrays: dict[int, _Array],
        status: int,
    ) -> None:
        asked, before = question
        record = bytearray()
        for name in (operation, self.test):
            record += struct.pack("<I", len(name.encode())) + name.encode()
        fields = {name: getattr(request, name).offset for name, _ in request._fields_}
        offsets = (fields.get(name, -1) for name in ("threads", "instruction_set"))
        # Addresses differ from run to run.
        blank = bytearray(asked)
        for at in arrays:
            blank[at : at + 8] = bytes(8)
        record += struct.pack("<iiiI", status, *offsets, len(blank)) + blank
        record += struct.pack("<I", len(arrays))
        for at, array in arrays.items():
            record += struct.pack("<IIQ", at, array.kind, array.bytes) + before[at]
            after = array.read()
            changed = after != before[at]
            record += struct.pack("<I", changed) + (after if changed else b"")
        content = record[8 + len(operation.encode()) + len(self.test.encode()) :]
        digest = hashlib.sha256(operation.encode() + content).digest()
        if digest not in self.known:
            self.known.add(digest)
            self.file.write(record)


class _Array:
    """What a pointer of a request leads to."""

    def __init__(self, address: int, value: Any) -> None:
        self.address = address
        self.kind = 0
        if isinstance(value, Tensor):
            self.kind = _KINDS.get(value.dtype, 0)
            steps = zip(value.shape, value.stride())
            span = 1 + sum((size - 1) * step for size, step in steps) if value.numel() else 0
            self.bytes = span * value.element_size()
        else:
            self.bytes = 8 * len(value)

    def read(self) -> bytes:
        return ctypes.string_at(self.address, self.bytes) if self.bytes else b""


def _arrays(asked: Any, given: dict[str, Any]) -> list[tuple[int, _Array]]:
    """The pointers of a request, by their place in it."""
    found = []
    for name, kind in asked._fields_:
        if name not in given:
            continue
        at, value = getattr(type(asked), name).offset, getattr(asked, name)
        if issubclass(kind, ctypes.Structure):  # Matrix, Problems: the pointer comes first
            value = value.x
        if value is not None:
            found.append((at, _Array(value, given[name])))
    return found
