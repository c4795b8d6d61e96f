"""Each promise of docs/promises.md names tests that exist."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
ROWS = re.findall(
    r"^\|(?! promise \||---)(.+)\|(.+)\|$", (ROOT / "docs/promises.md").read_text(), re.M
)


def functions_in(file: Path) -> set[str]:
    """The names of a file's tests, of those in classes too."""
    nodes = ast.walk(ast.parse(file.read_text()))
    return {node.name for node in nodes if isinstance(node, ast.FunctionDef)}


@pytest.mark.parametrize(("promise", "held_by"), ROWS)
def test_a_promise_names_tests_that_exist(promise: str, held_by: str) -> None:
    named = re.findall(r"`(tests/[\w/]+\.py)(?:::(\w+))?`", held_by)
    assert named, f"no test stands beside {promise!r}: write `tests/….py` or `tests/….py::test_…`"
    for file, test in named:
        assert (ROOT / file).is_file(), f"{promise!r} names {file}, which doesn't exist"
        assert not test or test in functions_in(ROOT / file), f"{file} has no {test}"


def test_every_area_has_promises() -> None:
    sections = re.split(r"^## ", (ROOT / "docs/promises.md").read_text(), flags=re.M)[1:]
    assert len(sections) >= 9
