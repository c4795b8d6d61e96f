"""Docstrings say `name: what it is` without a heading; the site's reader of them wants one."""

from __future__ import annotations

import re
from typing import Any

import griffe

_SECTION = re.compile(r"(Attributes|Raises|Returns|Yields|Examples|Warns):\s*$")


class Parameters(griffe.Extension):
    """Puts `Args:` above the lines of a function's docstring that describe its parameters."""

    def on_function(self, *, func: griffe.Function, **_: Any) -> None:
        if func.docstring is None:
            return
        names = {parameter.name.lstrip("*") for parameter in func.parameters}
        if re.search(r"^Args:", func.docstring.value, re.M):
            names = set()
        func.docstring.value = with_heading(func.docstring.value, names)


def with_heading(text: str, names: set[str]) -> str:
    """The docstring with each run of `name: …` lines below `Args:`, one parameter a line."""
    name = "|".join(map(re.escape, sorted(names))) or r"\Z"
    described = re.compile(rf"({name})(?: \[[^\]]*\])?: ")
    result: list[str] = []
    inside = False
    for line in text.splitlines():
        if described.match(line):
            if not inside:
                result += ["", "Args:"]
            inside = True
        elif inside and (
            not line.strip()
            or _SECTION.match(line)
            or (result[-1].endswith((".", ";")) and line[:1].isupper())
        ):
            inside = False
            result.append("")
        if inside:
            first, *others = re.split(rf"; (?={described.pattern})", line)[:: described.groups + 1]
            result.append(f"    {first}" if described.match(line) else f"        {first.strip()}")
            result += [f"    {other}" for other in others]
        else:
            result += ["", line] if _SECTION.match(line) else [line]
    return "\n".join(result)
