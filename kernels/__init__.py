"""The kernels, once per backend; all backends give the same codes.

`reference` is the specification: what an operation takes, returns and promises stands in the
docstring there. This file only says which backend serves a device.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType
from typing import ParamSpec, TypeVar

import torch

from .cpp.library import NativeLibraryError, instruction_set
from .cpp.library import load as load_library
from .cpp.threads import by_itself, torch_on_one, usable_threads
from .refusals import CODE_OUTSIDE, NO_GROUPS, NO_ROOM, NOT_FINITE

__all__ = [
    "BACKENDS",
    "CODE_OUTSIDE",
    "NOT_FINITE",
    "NO_GROUPS",
    "NO_ROOM",
    "Backend",
    "by_itself",
    "cpu_kernels",
    "host",
    "implementation",
    "pick",
    "quiet_torch",
    "usable_threads",
    "use_backend",
]

BACKENDS = ("reference", "cpp", "triton")

_forced: ContextVar[str | None] = ContextVar("letter_fast_backend", default=None)


# A module with the functions of `reference`, of the same names and parameters.
Backend = ModuleType

P = ParamSpec("P")
R = TypeVar("R")


def implementation(
    specification: Callable[P, R], device: torch.device, dtype: torch.dtype = torch.float32
) -> Callable[P, R]:
    """The function that does on `device` what one of `reference` says; see `pick`.

    It is the specification itself where a backend has none of its own.
    """
    backend = pick(device, dtype)
    found: Callable[P, R] = getattr(backend, specification.__name__, specification)
    return found


def pick(device: torch.device, dtype: torch.dtype = torch.float32) -> Backend:
    """The backend for `device`: that of `use_backend`, of LETTER_FAST_BACKEND, or the default.

    float64, which only losses take, is the reference's.

    Raises:
        ValueError: the backend asked for doesn't exist, or doesn't run on this device.
    """
    if dtype == torch.float64:
        return _load("reference")
    name = _forced.get() or os.environ.get("LETTER_FAST_BACKEND") or _default(device)
    if name == "cpp" and device.type != "cpu":
        raise ValueError(f"the cpp backend runs on the CPU, the tensors are on {device}")
    if name == "triton" and device.type == "cpu" and os.environ.get("TRITON_INTERPRET") != "1":
        raise ValueError(
            "the triton backend runs on a GPU; on the CPU only in Triton's interpreter, with "
            "TRITON_INTERPRET=1 from the start"
        )
    return _load(name)


def host() -> Backend:
    """The backend of the CPU, for what another device's backend leaves to it."""
    return _load(_default(torch.device("cpu")))


def cpu_kernels() -> str:
    """The kernels of the CPU, for people: "cpp, avx2", or "reference: …" and why no others."""
    try:
        load_library()
    except NativeLibraryError as error:
        return f"reference: {error}"
    return f"cpp, {instruction_set()}"


def quiet_torch(device: torch.device) -> AbstractContextManager[None]:
    """For a loop of kernels on the CPU: PyTorch's operations between them run on one thread.

    They take little there, but their threads wait for each other by spinning: on two cores beside
    busy processes ten iterations of k-means took ten times as long on two threads as on one.
    Nothing changes where the kernels are PyTorch's operations themselves, or on a GPU.
    """
    native = device.type == "cpu" and pick(device).__name__ == f"{__name__}.cpp"
    return torch_on_one() if native else nullcontext()


@contextmanager
def use_backend(name: str) -> Iterator[None]:
    """Runs every op inside the `with` block on one backend.

    Raises:
        ValueError: no backend has this name.
    """
    _load(name)
    token = _forced.set(name)
    try:
        yield
    finally:
        _forced.reset(token)


def _load(name: str) -> Backend:
    if name not in BACKENDS:
        raise ValueError(f"there is no backend {name!r}; choose one of {', '.join(BACKENDS)}")
    try:
        return import_module(f"{__name__}.{name}")
    except ModuleNotFoundError as error:
        if error.name != "triton":
            raise
        raise ValueError(
            "the triton backend needs triton, which torch for CUDA brings: pip install triton"
        ) from error


@cache
def _default(device: torch.device) -> str:
    """The fastest backend that works here; one warning where it is only the reference."""
    if device.type == "cuda":
        if torch.version.hip is None and torch.cuda.get_device_capability(device) < (8, 0):
            warnings.warn(
                f"letter-fast runs on its slow reference backend: {device} has compute capability "
                f"{'.'.join(map(str, torch.cuda.get_device_capability(device)))}, and the error "
                "bounds of its kernels hold from 8.0 on",
                stacklevel=2,
            )
            return "reference"
        if find_spec("triton") is None:
            warnings.warn(
                "letter-fast runs on its slow reference backend: a GPU's kernels need triton: "
                "pip install triton",
                stacklevel=2,
            )
            return "reference"
        return "triton"
    if device.type == "cpu":
        try:
            load_library()
        except NativeLibraryError as error:
            warnings.warn(f"letter-fast runs on its slow reference backend: {error}", stacklevel=2)
        else:
            return "cpp"
    return "reference"
