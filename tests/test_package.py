"""Importing is quiet and quick, the public names are there, and the native library is real."""

from __future__ import annotations

import subprocess
import sys

import pytest

import letter_fast
from letter_fast import kernels
from letter_fast.kernels.cpp import library


def test_import_is_quiet_and_lazy() -> None:
    code = "import sys, letter_fast; assert 'torch' not in sys.modules"
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, check=True
    )
    assert done.stdout == done.stderr == b""


def test_public_names_resolve() -> None:
    for name in letter_fast.__all__:
        assert getattr(letter_fast, name) is not None
    assert set(letter_fast.__all__) <= set(dir(letter_fast))
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        letter_fast.nothing  # noqa: B018


def test_backends_are_chosen_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    cpu = torch.device("cpu")
    with kernels.use_backend("reference"):
        assert kernels.pick(cpu).__name__.endswith("reference")
    with pytest.raises(ValueError, match="no backend 'fast'"), kernels.use_backend("fast"):
        pass
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    for name, device in (("cpp", "cuda"), ("triton", "cpu")):
        monkeypatch.setenv("LETTER_FAST_BACKEND", name)
        with pytest.raises(ValueError, match=f"the {name} backend runs on"):
            kernels.pick(torch.device(device))
    monkeypatch.setenv("LETTER_FAST_BACKEND", "cuda")
    with pytest.raises(ValueError, match="no backend 'cuda'"):
        kernels.pick(cpu)


def test_native_library_is_built() -> None:
    assert library.instruction_set() in library.instruction_sets()
