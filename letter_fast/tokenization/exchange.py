"""ID tables as files of other projects, as functions: `SemanticIds.export` and `.read`."""

from __future__ import annotations

import os
from typing import Any

from .formats import Facts, FormatName
from .semantic_ids import SemanticIds


def export_ids(
    table: SemanticIds, path: str | os.PathLike[str], format: FormatName, **options: Any
) -> Facts:
    """`table.export(path, format, **options)`."""
    return table.export(path, format, **options)


def import_ids(
    path: str | os.PathLike[str], format: FormatName | None = None, **options: Any
) -> SemanticIds:
    """`SemanticIds.read(path, format, **options)`."""
    return SemanticIds.read(path, format, **options)
