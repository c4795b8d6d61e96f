"""Errors of sources of embeddings."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class CatalogError(ValueError):
    """A source can't be read; one line says which, where, what was expected and what to do."""


class EmptySource(CatalogError):
    """A source without rows. As a shard it adds nothing, as a catalog it is refused."""


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turns whatever a broken file makes its reader raise into one CatalogError."""
    try:
        yield
    except CatalogError:
        raise
    except Exception as error:
        raise CatalogError(
            f"{path} can't be read as {path.suffix[1:].lower()} (truncated or corrupt?): "
            f"{first_line(error)}"
        ) from error


def first_line(error: BaseException) -> str:
    """The first line of an error's message."""
    return str(error).splitlines()[0] if str(error) else type(error).__name__
