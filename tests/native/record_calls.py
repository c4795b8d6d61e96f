"""A pytest plugin: every call of the native library by the tests that run, for a library elsewhere.

pytest -p tests.native.record_calls --record-calls FILE TESTS

replay.cpp reads FILE on another architecture, calls the library there and compares what comes out.
A call is the request as it lies in memory, what its pointers lead to before and after, and the
status. Request and arrays are laid out alike on all 64-bit little-endian processors; pointers and
`instruction_set` are replaced on the other side.

Left out are tests of the reference and of other instruction sets than the widest, which ask nothing
new, and calls that an emulator would spend most of its time on.
"""

from __future__ import annotations

import ctypes
import hashlib
import re
import struct
import time
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pytest
import torch
from torch import Tensor

from letter_fast.kernels.cpp import library

MAGIC = b"letter-fast calls 1\n"
# How replay.cpp compares an array: numbers of so many bytes of which any NaN is one, else bits.
_KINDS = {torch.float32: 4, torch.float64: 8}
# float32 from 0 to what stands in the file. The bits of `lower`, a bound, are those of a screen.
_AT_MOST = 1
# Seconds of processor time, of this machine.
_LONGEST = 0.05


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
        self.operations: set[str] = set()
        self.entry = library._entry
        library._entry = self.recorded

    def pytest_runtest_setup(self, item: pytest.Item) -> None:
        self.test = item.nodeid

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        self.file.close()
        if unasked := _operations() - self.operations:
            print(f"\nno call was recorded of {', '.join(sorted(unasked))}")
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

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
            begun = time.process_time()
            status = int(function(reference))
            if time.process_time() - begun < _LONGEST:
                self.write(operation, type(asked), question, arrays, status, dict(given))
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
        given: dict[str, Any],
    ) -> None:
        asked, before = question
        record = bytearray()
        for name in (operation, self.test):
            record += struct.pack("<I", len(name.encode())) + name.encode()
        fields = {name: getattr(request, name).offset for name, _ in request._fields_}
        # Addresses differ from run to run.
        blank = bytearray(asked)
        for at in arrays:
            blank[at : at + 8] = bytes(8)
        set_at = fields.get("instruction_set", -1)
        record += struct.pack("<iiI", status, set_at, len(blank)) + blank
        record += struct.pack("<I", len(arrays))
        for at, array in arrays.items():
            kind, after = array.kind, array.read()
            if at == fields.get("lower"):
                kind, after = _AT_MOST, _bounds(given, after)
            record += struct.pack("<IIQ", at, kind, array.bytes) + before[at]
            changed = after != before[at]
            record += struct.pack("<I", changed) + (after if changed else b"")
        content = record[8 + len(operation.encode()) + len(self.test.encode()) :]
        digest = hashlib.sha256(operation.encode() + content).digest()
        if digest not in self.known:
            self.known.add(digest)
            self.operations.add(operation)
            self.file.write(record)


class _Array:
    """The array that a pointer of a request leads to."""

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


def _operations() -> set[str]:
    """All that the library has."""
    sources = Path(library.__file__).parent.rglob("*.cpp")
    entries = (re.findall(r"^LF_ENTRY\((\w+), ", path.read_text(), re.M) for path in sources)
    return set().union(*entries)


def _bounds(given: dict[str, Any], after: bytes) -> bytes:
    """The upper limit of `lower`: each row's distance to all codewords but its own.

    What was found here may lie above it, where a test made a bound up that is not true.
    """
    x, codebook = given["x"].double(), given.get("codebooks", given.get("codebook")).double()
    distances = torch.cdist(x, codebook, compute_mode="donot_use_mm_for_euclid_dist")
    own = given["codes"].view(-1, 1)
    distances.scatter_(1, own.clamp(min=0).long(), torch.inf)
    nearest = distances.amin(1) * (1 + 1e-12)
    limit = nearest.float().nextafter(torch.tensor(torch.inf)).numpy()
    return np.fmax(limit, np.frombuffer(after, np.float32)).tobytes()


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
