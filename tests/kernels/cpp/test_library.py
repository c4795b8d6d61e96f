"""The border between Python and C++: one contract, and nothing thrown that ends the process."""

from __future__ import annotations

import ctypes
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from letter_fast.kernels.cpp import library
from tests.support.processor import runs_here

ROOT = Path(__file__).parents[3]
SOURCES = ROOT / "kernels/cpp"
COMPILER = shutil.which("g++") or shutil.which("clang++")
needs_compiler = pytest.mark.skipif(COMPILER is None, reason="there is no C++ compiler")


def text_of(pattern: str) -> dict[str, str]:
    found = {str(p.relative_to(SOURCES)): p.read_text() for p in sorted(SOURCES.rglob(pattern))}
    assert found
    return found


def test_every_entry_is_guarded() -> None:
    """Exported functions are LF_ENTRY's, or tell one fact and call nothing that throws."""
    facts = {"lf_instruction_set", "lf_instruction_sets", "lf_last_failure"}
    facts |= {"lf_Matrix_fields", "lf_Problems_fields"}
    facts.add("lf_weaken")  # of the library that tests/kernels/cpp/test_bounds.py builds
    exported = re.compile(r"^LF_EXPORT .*?(\w+)\(", re.M)
    assert {n for text in text_of("*.cpp").values() for n in exported.findall(text)} == facts
    macro = (SOURCES / "abi.h").read_text().split("#define LF_ENTRY")[1].split("\n\n")[0]
    assert "lf::guarded([&]" in macro


def test_only_one_file_starts_threads() -> None:
    """And none asks for OpenMP's, whose waiting threads spin."""
    sources = text_of("*.[ch]*")
    starting = [name for name, text in sources.items() if "std::thread(" in text]
    assert starting == ["runtime/parallel.cpp"]
    assert not [name for name, text in sources.items() if re.search(r"omp (parallel|for)", text)]


def test_every_request_is_one_that_python_reads() -> None:
    entries = {
        name
        for text in text_of("*.cpp").values()
        for name in re.findall(r"^LF_ENTRY\((\w+), ", text, re.M)
    }
    assert "residual_search" in entries
    for name in entries:
        library._entry(name)


Load = Callable[..., ctypes.CDLL]


@pytest.fixture
def loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Load:
    """Compiles tests/native/<name>, one text replaced, and makes it the loaded library."""

    def load(name: str, replace: str = "", by: str = "") -> ctypes.CDLL:
        text = (ROOT / "tests/native" / name).read_text()
        assert replace in text
        source, built = tmp_path / name, tmp_path / f"{name}.{abs(hash(by))}.so"
        source.write_text(text.replace(replace, by, 1))
        flags = ["-std=c++17", "-fvisibility=hidden", "-pthread", "-shared", "-fPIC"]
        flags.append(f"-I{SOURCES}")
        files = [str(source), str(SOURCES / "runtime/parallel.cpp")]
        subprocess.run([str(COMPILER), *flags, *files, "-o", str(built)], check=True)
        found = ctypes.CDLL(str(built))
        found.lf_last_failure.restype = ctypes.c_char_p
        monkeypatch.setattr(library, "load", lambda: found)
        return found

    for cached in (library._entry, library._record):
        monkeypatch.setattr(library, cached.__name__, cached.__wrapped__)
    return load


@needs_compiler
def test_what_an_entry_throws_is_reported(loaded: Load) -> None:
    loaded("faults.cpp")
    expected = {
        0: (MemoryError, "memory for the scratch of fault"),
        1: (MemoryError, "memory"),
        2: (RuntimeError, "fault failed: what went wrong"),
        3: (ValueError, "more rows than codes"),
        4: (RuntimeError, "fault failed: unknown exception"),
    }
    started = torch.zeros(100, dtype=torch.int32)
    for threads in (1, 3):
        torch.set_num_threads(threads)
        for at in (-1, 0, 57):
            for kind, (error, says) in expected.items():
                started.zero_()
                with pytest.raises(error, match=says):
                    library.call("fault", kind=kind, at=at, started=started)
                assert threads > 1 or int(started.sum()) == at + 1
        library.call("fault", kind=9, at=50, started=started)
        assert int(started.sum()) == 100
    torch.set_num_threads(1)


@needs_compiler
def test_a_layout_that_changes_in_cpp_changes_in_python(loaded: Load) -> None:
    """Fields that trade places or grow, which a struct written twice would get wrong in silence."""
    layouts = {
        "std::int32_t first, second;": "std::int32_t second, first;",
        "double weight;": "std::int32_t between; double weight;",
        "std::int32_t last;": "std::int64_t last;",
        "Matrix x;": "const float* nothing; Matrix x;",
    }
    x = torch.tensor([[0.5, 2.0], [4.0, 8.0]])
    given = dict(first=3, second=5, weight=0.25, x=x.T, last=7)
    for replace, by in [("", ""), *layouts.items()]:
        loaded("echo.cpp", replace, by)
        seen = torch.zeros(6, dtype=torch.float64)
        more = {"between": 0} if "between" in by else {"nothing": None} if "nothing" in by else {}
        library.call("echo", **given, **more, seen=seen)
        assert seen.tolist() == [3, 5, 0.25, 4.0, 2.0, 7], by


@needs_compiler
def test_fields_of_another_library_are_refused(loaded: Load) -> None:
    given = dict(first=3, second=5, weight=0.25, x=torch.ones(2, 2), last=7)
    seen = torch.zeros(6, dtype=torch.float64)
    loaded("echo.cpp", "double weight;", "double mass, weight;")
    with pytest.raises(library.NativeLibraryError, match="differs in mass"):
        library.call("echo", **given, seen=seen)
    with pytest.raises(library.NativeLibraryError, match="has no echoes"):
        library.call("echoes", **given, seen=seen)
    loaded("echo.cpp", "double weight;", "double weight; unsigned char odd;")
    with pytest.raises(library.NativeLibraryError, match="no known kind: unsigned char odd"):
        library.call("echo", **given, seen=seen)
    loaded("echo.cpp", "double weight;", "double weight; double *one, *two;")
    with pytest.raises(library.NativeLibraryError, match="no known kind"):
        library.call("echo", **given, seen=seen)


@needs_compiler
def test_tensors_of_another_kind_than_their_field_are_refused(loaded: Load) -> None:
    loaded("echo.cpp")
    seen = torch.zeros(6, dtype=torch.float64)
    good = dict(first=3, second=5, weight=0.25, x=torch.ones(2, 2), last=7, seen=seen)
    library.call("echo", **good)
    for name, bad in {
        "seen": torch.zeros(6),
        "x": torch.ones(2, 2).double(),
        "first": 0.5,
    }.items():
        with pytest.raises(TypeError, match="echo"):
            library.call("echo", **{**good, name: bad})
    with pytest.raises(TypeError, match="seen must be a contiguous tensor"):
        library.call("echo", **{**good, "seen": torch.zeros(12, dtype=torch.float64)[::2]})


def test_the_widest_instruction_set_is_the_processors() -> None:
    """As the operating system tells it; a library that sees less is right and very slow."""
    expected = runs_here(library.load().lf_instruction_sets().decode().split())
    if expected is None:
        pytest.skip("there is no list of what the processor has")
    assert library.instruction_sets() == tuple(expected)
