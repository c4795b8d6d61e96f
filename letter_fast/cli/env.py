"""letter-fast env."""

from __future__ import annotations

from .terminal import Json, print_json


def env(json: Json = False) -> None:
    """Show what letter-fast runs on here: versions, backend, OpenMP runtimes. For bug reports."""
    from letter_fast.environment import describe

    found = describe()
    if json:
        print_json(found)
        return
    for name, value in found.items():
        for line in value or ["none"] if isinstance(value, list) else [value]:
            print(f"{name:>16}  {line}")
            name = ""
