"""The Triton backend for tests: on a CUDA device if there is one, else in the interpreter."""

from __future__ import annotations

import os
from importlib.util import find_spec
from types import ModuleType
from unittest import mock

import pytest
import torch
from torch import Tensor

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")


def load_backend() -> ModuleType:
    """The backend; interpreted without a GPU, which Triton decides when a kernel is defined."""
    if find_spec("triton") is None:
        pytest.skip("triton is not installed", allow_module_level=True)
    if DEVICE.type == "cuda":
        from letter_fast.kernels import triton as backend

        return backend
    with mock.patch.dict(os.environ, TRITON_INTERPRET="1"):
        import triton.experimental.gluon  # noqa: F401  (the first launch would import it)
        from triton.runtime import interpreter

        from letter_fast.kernels import triton as backend

    # numpy ≥ 2.4 has no int() of an array with one element, which bounds of loops are here.
    patch = interpreter._patch_lang_tensor

    def patch_with_index(tensor: type, scope: object) -> None:
        patch(tensor, scope)
        scope.set_attr(tensor, "__index__", lambda self: self.handle.data.item())  # type: ignore[attr-defined]

    interpreter._patch_lang_tensor = patch_with_index
    return backend


backend = load_backend()


def to_device(*tensors: Tensor) -> list[Tensor]:
    return [tensor.to(DEVICE) for tensor in tensors]
