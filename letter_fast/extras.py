"""Packages that only some uses need: where one is absent, one line names it and its extra."""

from __future__ import annotations

from importlib import import_module

# Module -> its name on PyPI, the extra of letter-fast that brings it.
_PACKAGES = {
    "faiss": ("faiss-cpu", "bench"),
    "matplotlib": ("matplotlib", "plots"),
    "ray": ("ray[data]", "ray"),
    "sklearn": ("scikit-learn", "demo"),
    "tensorboard": ("tensorboard", "tensorboard"),
}


class MissingPackage(ImportError, ValueError):
    """A use needs a package that is not installed, or can't be imported."""


def missing(module: str, use: str, error: ImportError) -> MissingPackage:
    """The error for a `module` that `use` could not import."""
    package, extra = _PACKAGES[module]
    return MissingPackage(
        f"{use} needs {package} ({error}): pip install '{package}', or letter-fast with its extra "
        f"[{extra}]"
    )


def require(module: str, use: str) -> None:
    """Called before the work that ends with a use of `module`.

    Raises:
        MissingPackage: it can't be imported.
    """
    try:
        import_module(module)
    except ImportError as error:
        raise missing(module, use, error) from error
