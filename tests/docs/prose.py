"""The sources and pages of this repository, their prose apart from their code."""

from __future__ import annotations

import ast
import io
import re
import tokenize
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
PAGES = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), ROOT / "bench/README.md"]
# `letter_fast/kernels` and `letter_fast/bench` are links to the first two.
SOURCES = [
    path
    for folder in ("kernels", "bench", "letter_fast", "tests", "examples", ".ci")
    for pattern in ("*.py", "*.h", "*.cpp")
    for path in (ROOT / folder).rglob(pattern)
    if path.resolve() == path
] + [ROOT / "setup.py"]


class Text(NamedTuple):
    prose: str
    code: str


def text_of(path: Path) -> Text:
    """A page's prose is what stands outside of its blocks; a source's, comments and docstrings."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".md":
        return Text(re.sub(r"^( *)```.*?^\1```", "", text, flags=re.M | re.S), "")
    if path.suffix == ".py":
        return _python(text)
    lines = [line.partition("//") for line in text.splitlines()]
    return Text("\n".join(line[2] for line in lines), "\n".join(line[0] for line in lines))


def _python(text: str) -> Text:
    docstrings = {
        (node.lineno, node.col_offset)
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    }
    prose, code = [], []
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        docstring = token.type == tokenize.STRING and token.start in docstrings
        is_prose = docstring or token.type == tokenize.COMMENT
        (prose if is_prose else code).append(token.string)
    return Text("\n".join(prose), " ".join(code))
