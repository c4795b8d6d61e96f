"""An operation is written down once, in kernels/reference; backends and ops are as it says."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from letter_fast import kernels, ops
from letter_fast.kernels import cpp, reference
from tests.support import triton_backend

ROOT = Path(__file__).parents[2]
# No operations of their own: arcs for balanced_lloyd, which GPUs collect apart, and what there is
# before and after the walks of residual_losses.
PARTS = {"within", "residual_terms", "residual_weights"}
OPERATIONS = {
    name: found
    for name, found in vars(reference).items()
    if inspect.isfunction(found) and name not in PARTS
}
# A GPU leaves these to the reference: groups are few and small.
HOST_ONLY = {"distinct_codes", "evict_codes"}
# A CPU leaves these to the reference: they are PyTorch's own operations, and no launch counts.
GPU_ONLY = {
    *("residuals", "joined_codes", "mlp", "mlp_backward"),
    *("weighted_total", "weighted_total_backward"),
}


def parameters(function: Callable[..., object]) -> list[tuple[str, object, object]]:
    found = inspect.signature(function).parameters.values()
    return [(each.name, each.annotation, each.default) for each in found]


def test_every_file_of_the_reference_is_an_operation_that_its_contents_list() -> None:
    assert len(OPERATIONS) > 10
    files = {path.stem for path in (ROOT / "kernels/reference").glob("*.py")}
    shared = {"__init__", "groups", *PARTS}
    assert {found.__module__.rsplit(".", 1)[-1] for found in OPERATIONS.values()} == files - shared


def test_cpp_has_a_file_for_each_operation_and_no_other() -> None:
    files = {path.stem for path in (ROOT / "kernels/cpp").glob("*.cpp")}
    wanted = {found.__module__.rsplit(".", 1)[-1] for found in OPERATIONS.values()}
    # `nearest` is a residual search of one level.
    assert files == wanted - GPU_ONLY - {"nearest"}


@pytest.mark.parametrize("name", OPERATIONS)
def test_backends_take_what_the_reference_takes(name: str) -> None:
    expected = parameters(OPERATIONS[name])
    assert hasattr(cpp, name) == (name not in GPU_ONLY)
    if name not in GPU_ONLY:
        assert parameters(getattr(cpp, name)) == expected
    assert hasattr(triton_backend.backend, name) == (name not in HOST_ONLY)
    if name not in HOST_ONLY:
        assert parameters(getattr(triton_backend.backend, name)) == expected


@pytest.mark.parametrize("name", OPERATIONS)
def test_an_operation_has_its_contract_and_its_op(name: str) -> None:
    assert "->" in (OPERATIONS[name].__doc__ or ""), "no word of what comes out"
    assert hasattr(ops, name), f"letter_fast/ops/__init__.py does not list {name}"
    assert hasattr(torch.ops.letter_fast, name)


def test_the_reference_serves_what_a_backend_lacks(monkeypatch: pytest.MonkeyPatch) -> None:
    cpu = torch.device("cpu")
    assert kernels.implementation(reference.nearest, cpu) is cpp.nearest
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    with kernels.use_backend("triton"):
        assert kernels.implementation(reference.evict_codes, cpu) is reference.evict_codes
