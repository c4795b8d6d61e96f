"""What prose names in this repository is there: files, tests, benches, pages."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGES = [
    path.relative_to(ROOT).as_posix()
    for path in [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), ROOT / "bench/README.md"]
]
# Folders that a path may be relative to.
HOMES = [ROOT, *(ROOT / name for name in ("kernels", "letter_fast", "tests", "tests/kernels"))]
# Sources of other projects.
THEIRS = {"generate_indices.py"}
# Folders whose names a path of ours begins with.
OURS = {"bench", "docs", "examples", "kernels", "letter_fast", "notebooks", "tests"}
SOURCES = [
    path
    for folder in ("bench", "kernels", "letter_fast", "tests", "examples")
    for pattern in ("*.py", "*.h", "*.cpp")
    for path in (ROOT / folder).rglob(pattern)
]


def files() -> set[str]:
    """The names of all sources, for prose that gives no folder."""
    return {path.name for path in SOURCES} | {"setup.py"} | THEIRS


def missing(text: str) -> list[str]:
    """Names in backticks that look like sources, tests or folders of ours, and are not there."""
    names = files()
    return [
        name
        for name in re.findall(r"`([\w./-]+(?:::\w+(?:\[[^\]]*\])?)?)`", text)
        if not is_there(name.partition("::")[0], name.partition("::")[2], names)
    ]


def is_there(path: str, test: str, names: set[str]) -> bool:
    """Whether a path, and a function in it, exist; true of what is no path of ours."""
    source = path.endswith((".py", ".h", ".cpp"))
    if not source and (path.split("/")[0] not in OURS or "/" not in path):
        return True
    found = [home / path for home in HOMES if (home / path).exists()]
    if test:
        return any(f"def {test.split('[')[0]}(" in path.read_text() for path in found)
    return bool(found) or (source and "/" not in path and path in names)


@pytest.mark.parametrize("name", PAGES)
def test_files_that_a_page_names_are_there(name: str) -> None:
    assert not missing((ROOT / name).read_text())


@pytest.mark.parametrize("name", PAGES)
def test_benches_that_a_page_names_are_there(name: str) -> None:
    for module in re.findall(r"\bbench\.([a-z]\w+)", (ROOT / name).read_text()):
        homes = (ROOT / f"bench/{module}.py", ROOT / f"bench/{module}/__init__.py")
        assert any(home.exists() for home in homes), f"{name} names bench.{module}"


def test_pages_that_sources_name_are_there() -> None:
    for path in SOURCES:
        for page in re.findall(r"\bdocs/[\w/-]+\.md\b", path.read_text()):
            assert (ROOT / page).exists(), f"{path.relative_to(ROOT)} names {page}"


def test_what_is_missing_is_found() -> None:
    assert not missing("`tests/test_package.py`, `score.py`, `kernels/cpp`, `text.npy`, `a/b.npy`")
    assert not missing("`triton/score.py::split`")
    lost = ["tests/test_nothing.py", "nothing.h", "kernels/nothing", "triton/score.py::nothing"]
    assert missing(" ".join(f"`{name}`" for name in lost)) == lost
