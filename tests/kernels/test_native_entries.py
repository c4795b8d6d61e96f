"""Nothing that the C++ throws ends the process: each entry reports it as an exception of Python."""

from __future__ import annotations

import ctypes
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from letter_fast.kernels.cpp import library

ROOT = Path(__file__).parents[2]
SOURCES = ROOT / "kernels/cpp"
COMPILER = shutil.which("g++") or shutil.which("clang++")
needs_compiler = pytest.mark.skipif(COMPILER is None, reason="there is no C++ compiler")


def text_of(pattern: str) -> dict[str, str]:
    found = {str(p.relative_to(SOURCES)): p.read_text() for p in sorted(SOURCES.rglob(pattern))}
    assert found
    return found


def test_every_entry_is_guarded() -> None:
    """Exported functions are LF_ENTRY's, or tell one fact and call nothing that throws."""
    facts = {"lf_abi_version", "lf_instruction_set", "lf_last_failure"}
    exported = re.compile(r"^LF_EXPORT .*?(\w+)\(", re.M)
    assert {n for text in text_of("*.cpp").values() for n in exported.findall(text)} == facts
    macro = (SOURCES / "guard.h").read_text().split("#define LF_ENTRY")[1].split("\n\n")[0]
    assert "lf::guarded([&]" in macro


def test_only_one_file_starts_threads() -> None:
    """And none asks for OpenMP's, whose waiting threads spin."""
    sources = text_of("*.[ch]*")
    assert [name for name, text in sources.items() if "std::thread(" in text] == ["parallel.cpp"]
    assert not [name for name, text in sources.items() if re.search(r"omp (parallel|for)", text)]


@pytest.fixture(scope="module")
def faulty(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    """A library whose one entry throws what it is told to."""
    path = tmp_path_factory.mktemp("faults") / "faults.so"
    flags = ["-std=c++17", "-pthread", "-shared", "-fPIC", f"-I{SOURCES}"]
    sources = [str(ROOT / "tests/native/faults.cpp"), str(SOURCES / "parallel.cpp")]
    subprocess.run([str(COMPILER), *flags, *sources, "-o", str(path)], check=True)
    return ctypes.CDLL(str(path))


class FaultRequest(ctypes.Structure):
    """The struct of this name in faults.cpp."""

    _fields_ = [
        ("kind", ctypes.c_int32),
        ("at", ctypes.c_int32),
        ("threads", ctypes.c_int32),
        ("started", ctypes.c_void_p),
    ]


@needs_compiler
@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("at", [-1, 0, 57])
@pytest.mark.parametrize(
    ("kind", "expected", "says"),
    [
        (0, MemoryError, "memory"),
        (1, MemoryError, "memory"),
        (2, RuntimeError, "lf_fault failed: what went wrong"),
        (3, ValueError, "code"),
        (4, RuntimeError, "lf_fault failed: unknown exception"),
        (9, None, ""),
    ],
)
def test_what_an_entry_throws_is_reported(
    kind: int,
    expected: type[Exception] | None,
    says: str,
    at: int,
    threads: int,
    faulty: ctypes.CDLL,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(library, "load", lambda: faulty)
    started = (ctypes.c_int32 * 100)()
    request = FaultRequest(kind, at, threads, ctypes.addressof(started))
    if expected is None:
        library.call("lf_fault", request, "nothing")
        assert sum(started) == 100
        return
    with pytest.raises(expected, match=says):
        library.call("lf_fault", request, "nothing")
    if threads == 1:
        assert sum(started) == at + 1
