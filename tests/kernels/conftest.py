"""Fixtures for tests of kernels: each CPU backend, each instruction set."""

from __future__ import annotations

import pytest

from letter_fast import kernels
from tests.support.cpu_backends import CPU, SETS


@pytest.fixture(params=SETS)
def instruction_set(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """The C++ kernels on each instruction set."""
    name: str = request.param
    monkeypatch.setenv("LETTER_FAST_INSTRUCTION_SET", name)
    return name


@pytest.fixture(params=["reference", *(f"cpp-{name}" for name in SETS)])
def backend(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> kernels.Backend:
    """Every CPU backend, the C++ kernels on each instruction set."""
    name, _, instruction_set = request.param.partition("-")
    if instruction_set:
        monkeypatch.setenv("LETTER_FAST_INSTRUCTION_SET", instruction_set)
    with kernels.use_backend(name):
        return kernels.pick(CPU)
