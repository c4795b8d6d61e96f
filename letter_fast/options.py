"""Option dataclasses, filled by people: every key is known, every value of its declared type."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

_NAMES = {
    bool: "true or false",
    int: "an integer",
    float: "a finite number",
    str: "a string",
    type(None): "absent",
}


def check_keys(values: Mapping[str, Any], known: Sequence[str], what: str) -> None:
    """Refuses keys that are not `known`: ValueError names the key and the nearest right one."""
    for key in values:
        if key not in known:
            raise ValueError(f"unknown {what} option {shown(key)}{hint(key, known)}")


def check_types(options: Any) -> None:
    """Refuses a field of the dataclass `options` whose value is not of its declared type.

    ValueError names the field, and of choices (`Literal`) the nearest right one.
    """
    for name, kind in get_type_hints(type(options)).items():
        value = getattr(options, name)
        if not _fits(value, kind):
            near = hint(value, _choices(kind))
            raise ValueError(f"{name} must be {_describe(kind)}, got {shown(value)}{near}")


def hint(value: object, known: Sequence[str]) -> str:
    """The end of a message: which of the `known` words was meant, if one is near."""
    near = get_close_matches(value, known, n=1) if isinstance(value, str) else []
    return f"; did you mean {near[0]!r}?" if near else ""


def shown(value: object) -> str:
    """A value for a message of one line, cut where it is long."""
    text = repr(value)
    return text if len(text) <= 200 else f"{text[:199]}…"


def _fits(value: Any, kind: Any) -> bool:
    if get_origin(kind) in (Union, UnionType):
        return any(_fits(value, one) for one in get_args(kind))
    if get_origin(kind) is tuple:  # tuple[int, ...]
        return isinstance(value, tuple) and all(_fits(one, get_args(kind)[0]) for one in value)
    if get_origin(kind) is Literal:
        return isinstance(value, str) and value in get_args(kind)
    if isinstance(value, bool):  # which Python counts among the integers
        return kind is bool
    if kind is float:
        return isinstance(value, int | float) and abs(value) <= sys.float_info.max
    return isinstance(value, kind)


def _describe(kind: Any) -> str:
    if get_origin(kind) in (Union, UnionType):
        return " or ".join(_describe(one) for one in get_args(kind))
    if get_origin(kind) is tuple:
        return f"a list, each item {_describe(get_args(kind)[0])}"
    if get_origin(kind) is Literal:
        return f"one of {', '.join(get_args(kind))}"
    return _NAMES[kind]


def _choices(kind: Any) -> list[str]:
    """All choices in a declared type."""
    if get_origin(kind) is Literal:
        return list(get_args(kind))
    return [choice for one in get_args(kind) for choice in _choices(one)]
