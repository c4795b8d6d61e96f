"""The house style of prose: a docstring says what a thing is or does, and lines are short."""

from __future__ import annotations

import ast
import re

import pytest

from tests.docs.prose import PAGES, ROOT, SOURCES, text_of

LONGEST = 120
NAMED = {path.relative_to(ROOT).as_posix(): path for path in SOURCES}
DOCS = {
    path.relative_to(ROOT).as_posix(): path for path in PAGES if path.is_relative_to(ROOT / "docs")
}


def openings(source: str, suffix: str) -> list[str]:
    """First lines of a Python source's docstrings, or of a C++ source's head comment."""
    if suffix != ".py":
        return re.findall(r"\A// *(.*)", source)
    kinds = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    nodes = [node for node in ast.walk(ast.parse(source)) if isinstance(node, kinds)]
    return [text.splitlines()[0] for text in map(ast.get_docstring, nodes) if text]


def questions(source: str, suffix: str) -> list[str]:
    """Openings that leave the thing unnamed: "What codes leave of rows"."""
    word = re.compile(r"(What|How|Where|Which|Who|Why)\b")
    return [line for line in openings(source, suffix) if word.match(line)]


def long_lines(prose: str) -> list[str]:
    """Lines beyond the limit, addresses of links not counted; rows of tables and tags may be."""
    lines = [re.sub(r"\]\([^)\s]+\)", "]()", line) for line in prose.splitlines()]
    free = ("|", "<")
    return [line for line in lines if len(line) > LONGEST and not line.lstrip().startswith(free)]


def lost_nesting(prose: str) -> list[str]:
    """Items of lists within lists that the site shows as items of the outer list: not by fours."""
    return re.findall(r"^(?: {1,3}|(?:    )+ {1,3})[-*] .*$", prose, re.M)


@pytest.mark.parametrize("name", NAMED)
def test_a_source_opens_with_a_name_and_has_short_lines(name: str) -> None:
    source = NAMED[name].read_text(encoding="utf-8")
    assert not questions(source, NAMED[name].suffix)
    assert not [line for line in source.splitlines() if len(line) > LONGEST]


@pytest.mark.parametrize("name", DOCS)
def test_a_page_has_short_lines_and_lists_nest(name: str) -> None:
    assert not long_lines(text_of(DOCS[name]).prose)
    assert not lost_nesting(text_of(DOCS[name]).prose)


def test_what_breaks_the_style_is_found() -> None:
    python = '"""Rows."""\ndef f():\n    """How rows are read."""\nclass C:\n    """Which row."""\n'
    assert questions(python, ".py") == ["How rows are read.", "Which row."]
    assert questions("// What all share.\n#pragma once\n", ".h") == ["What all share."]
    assert not questions('"""However, rows."""\n', ".py")
    line = "word " * 25
    assert long_lines(f"short\n{line}\n| {line} |\n") == [line]
    assert not long_lines("[a](" + "b" * 150 + ") c")
    assert lost_nesting("- a\n  - b\n    - c\n") == ["  - b"]
