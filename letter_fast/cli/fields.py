"""Fields of a dataclass of options as flags; type, default and help are read from its source.

They are read, not imported: the dataclasses live beside torch, for which `--help` doesn't wait.
"""

from __future__ import annotations

import ast
import inspect
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import typer

_PACKAGE = Path(__file__).parents[1]
# Types of flags; choices and tuples are text, which the dataclass checks.
_TYPES: dict[str, type] = {"int": int, "float": float, "bool": bool}
Command = TypeVar("Command", bound=Callable[..., Any])


class Source(NamedTuple):
    """A dataclass, by the package's file it is in and its name; and the panel of its flags."""

    file: str
    name: str
    panel: str
    when: str = ""
    """The case its default is for; said where an earlier class has the field with another one."""


class Field(NamedTuple):
    """A field of a dataclass: its type, default and docstring."""

    name: str
    type: type
    default: Any
    text: str

    @property
    def shown(self) -> str:
        """The default as a flag takes it; empty where the text says it all."""
        if self.type is bool or self.default == ():
            return ""
        several = isinstance(self.default, tuple)
        return ",".join(map(str, self.default)) if several else str(self.default)


def fields_of(source: Source) -> Iterator[Field]:
    """The fields that have a default."""
    for line, below in pairwise(_classes(source.file)[source.name].body):
        if not isinstance(line, ast.AnnAssign) or line.value is None:
            continue
        kind = ast.unparse(line.annotation).removesuffix(" | None")
        text = below.value.value if isinstance(below, ast.Expr) else ""  # type: ignore[attr-defined]
        yield Field(
            ast.unparse(line.target),
            _TYPES.get(kind, str),
            ast.literal_eval(line.value),
            " ".join(str(text).split()),
        )


@cache
def _classes(file: str) -> dict[str, ast.ClassDef]:
    """The classes of a file of the package, by name."""
    tree = ast.parse((_PACKAGE / file).read_text(encoding="utf-8"))
    return {node.name: node for node in tree.body if isinstance(node, ast.ClassDef)}


def with_fields(classes: Sequence[Source], without: Sequence[str]) -> Callable[[Command], Command]:
    """Gives a command, which takes them as **keywords, a flag for each field of these classes.

    A flag that isn't given is None, or False. A field that several classes have is one flag.
    without: fields that don't become flags.
    """

    def give(command: Command) -> Command:
        own = inspect.signature(command, eval_str=True).parameters.values()
        found = [(source, field) for source in classes for field in fields_of(source)]
        flags: dict[str, inspect.Parameter] = {}
        for source, field in found:
            if field.name not in (*without, *flags):
                others = [
                    f"; {other.shown} {elsewhere.when}."
                    for elsewhere, other in found
                    if elsewhere.when
                    and other.name == field.name
                    and other.default != field.default
                ]
                flags[field.name] = _flag(field, source.panel, *others)
        named = [one for one in own if one.kind is not inspect.Parameter.VAR_KEYWORD]
        signature = inspect.Signature([*named, *flags.values()])
        command.__signature__ = signature  # type: ignore[attr-defined]
        return command

    return give


def _flag(field: Field, panel: str, elsewhere: str = "") -> inspect.Parameter:
    """elsewhere: another default that the field has, and where."""
    text = field.text.removesuffix(".") + elsewhere if elsewhere else field.text
    text = f"{text} ({field.shown})" if field.shown else text
    if field.type is bool:
        name = "--" + field.name.replace("_", "-")
        option = typer.Option(False, name, help=text, rich_help_panel=panel)
        kind: Any = bool
    else:
        option, kind = typer.Option(None, help=text, rich_help_panel=panel), field.type | None
    return inspect.Parameter(
        field.name, inspect.Parameter.POSITIONAL_OR_KEYWORD, default=option, annotation=kind
    )
