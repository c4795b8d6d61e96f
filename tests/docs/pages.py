"""The parts of the documentation's pages, and how their code is run.

A page's Python blocks share one namespace, its shell blocks one folder, in the order of the page.
What stands before a block in an HTML comment, which no reader sees, says how:

    <!-- not run: why -->      the next block stays as it is
    <!-- setup … -->           Python that stands for what the reader has: a model, a file

Of a diff, the new side is run, as Python. Shell blocks that are run hold `letter-fast` commands
only.
"""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any, NamedTuple

from letter_fast.cli.app import run

ROOT = Path(__file__).resolve().parents[2]
NAMES = ["README.md"] + [
    path.relative_to(ROOT).as_posix() for path in sorted((ROOT / "docs").rglob("*.md"))
]
_PIECE = re.compile(
    r"^(?P<indent> *)```(?P<language>\w*)[^\n]*\n(?P<code>.*?)^(?P=indent)```$"
    r"|^ *<!--(?P<comment>.*?)-->",
    re.M | re.S,
)
RUN = {"python", "sh", "diff"}


class Block(NamedTuple):
    """A piece of code; line: of its first line in the page; kept: why it is not run."""

    language: str
    code: str
    line: int
    kept: str | None


def blocks(text: str) -> list[Block]:
    """The blocks of a page that are code, and its setups, in order."""
    found, kept = [], None
    for piece in _PIECE.finditer(text):
        line = text.count("\n", 0, piece.start()) + 1
        if piece["comment"] is not None:
            word, _, rest = (
                piece["comment"].strip().partition(":" if "not run" in piece[0] else "\n")
            )
            if word.strip() == "not run":
                kept = rest.strip()
            elif word.strip() == "setup":
                found.append(Block("python", rest, line + 1, None))
            continue
        indent = len(piece["indent"])
        code = "".join(row[indent:] for row in piece["code"].splitlines(keepends=True))
        if piece["language"] in RUN:
            found.append(Block(piece["language"], code, line + 1, kept))
        kept = None
    return found


def run_block(block: Block, page: str, namespace: dict[str, Any]) -> None:
    """Runs it in the current folder; an error's traceback names the page and the line."""
    if block.language == "sh":
        for command in commands(block.code):
            program, *arguments = command
            where = f"{page}:{block.line}: {shlex.join(command)}"
            assert program == "letter-fast", (
                f"{where} is not letter-fast: say <!-- not run: why -->"
            )
            status = run(arguments)
            assert status == 0, f"{where} ended with {status}"
        return
    code = block.code
    if block.language == "diff":
        lines = code.splitlines()
        code = "\n".join("" if line.startswith("-") else line[1:] for line in lines)
    exec(compile("\n" * (block.line - 1) + code, page, "exec"), namespace)


def commands(code: str) -> list[list[str]]:
    """The commands of a shell block, as lists of words."""
    joined = code.replace("\\\n", " ")
    return [words for line in joined.splitlines() if (words := shlex.split(line, comments=True))]
