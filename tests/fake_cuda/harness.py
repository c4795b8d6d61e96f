"""The Triton backend's host code on a card that isn't there.

Tensors are fake: a device "cuda", a shape, no memory. Whatever asks for a value (`.item()`, a copy
to the host) raises. Kernels are specialised and compiled by Triton's own JIT for the card that is
asked for; their launches are recorded and checked instead of run.

Only for processes of its own, with guard.cpp preloaded (cards.py): it replaces Triton's driver
for good.
"""

from __future__ import annotations

import contextlib
import sys
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import torch
import triton
from torch._library.custom_ops import CustomOpDef
from torch._subclasses import fake_tensor
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes
from triton.backends.compiler import GPUTarget

from letter_fast import ops
from letter_fast.kernels import triton as _  # noqa: F401  (its tables are known before the first call)
from tests.fake_cuda.cards import CARDS

# Operations that launch nothing.
_VIEWS = {
    *("view", "reshape", "expand", "t", "transpose", "permute", "select", "slice", "unsqueeze"),
    *("squeeze", "split", "split_with_sizes", "detach", "alias", "_unsafe_view", "unbind"),
    *("as_strided", "_reshape_alias", "diagonal", "unfold", "lift_fresh", "sym_size"),
    *("empty", "empty_like", "new_empty", "empty_strided", "new_empty_strided", "sym_stride"),
    *("device", "layout", "dim", "size", "stride", "numel", "is_contiguous", "prim"),
    *("is_floating_point", "storage_offset"),
}


@dataclass
class Record:
    """The requests of one piece of host code to the card."""

    launches: list[str] = field(default_factory=list)
    operations: Counter[str] = field(default_factory=Counter)
    copies: int = 0
    """From the host, which may wait for them, and which no graph can hold."""
    problems: list[str] = field(default_factory=list)


class Card:
    """A card of one compute capability; `run` gives what a call would have done on it."""

    def __init__(self, capability: int) -> None:
        self.capability = capability
        self.record = Record()
        self._mode = FakeTensorMode()
        shared, multiprocessors = CARDS[capability]
        triton.runtime.driver.set_active(_driver(self, shared, multiprocessors))
        _pretend(capability, multiprocessors)

    def run(self, call: Any) -> Record:
        """call: a function of no arguments, run with fake tensors."""
        self.record = Record()
        self._keep_tables()
        with self._mode, _Count(self.record):
            try:
                call()
            except Exception as error:
                self.record.problems.append(f"{type(error).__name__}: {error}"[:300])
        return self.record

    def _keep_tables(self) -> None:
        """Tables that are made once a device come from real numbers, then become fake."""
        for name, module in list(sys.modules.items()):
            if not name.startswith("letter_fast.kernels.triton"):
                continue
            for attribute in ("layout_of", "_cells", "_division", "_alone"):
                made = vars(module).get(attribute)
                if made is not None and hasattr(made, "cache_info"):
                    setattr(module, attribute, self._faked(made))

    def _faked(self, table: Any) -> Any:
        kept: dict[Any, Any] = {}

        def fake(*arguments: Any) -> Any:
            if arguments not in kept:
                on_host = [
                    torch.device("cpu") if isinstance(each, torch.device) else each
                    for each in arguments
                ]
                with _disable_current_modes():
                    real = table.__wrapped__(*on_host)
                with _disable_current_modes(), self._mode:
                    kept[arguments] = _on_card(real)
            return kept[arguments]

        return fake


def _on_card(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        return torch.empty(value.shape, dtype=value.dtype, device="cuda")
    if not isinstance(value, tuple):
        return value
    parts = [_on_card(part) for part in value]
    return type(value)(*parts) if hasattr(value, "_fields") else tuple(parts)


_OPS = {
    each._qualname.split("::")[1]: each
    for each in vars(ops).values()
    if isinstance(each, CustomOpDef)
}


class _Count(TorchDispatchMode):
    """Counts PyTorch's own launches on the card."""

    def __init__(self, record: Record) -> None:
        super().__init__()
        self._record = record

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        namespace, name = func._schema.name.split("::")
        if namespace == "letter_fast":  # the host code itself, not what it says of shapes
            with self:
                return _OPS[name]._init_fn(*args, **(kwargs or {}))
        if namespace == "aten":  # what only puts others together launches nothing of its own
            with self:
                out = func.decompose(*args, **(kwargs or {}))
            if out is not NotImplemented:
                return out
        if name == "_to_copy" and _devices(args) == {"cpu"} and _device_of(kwargs) == "cuda":
            self._record.copies += 1
            return torch.empty(
                args[0].shape, dtype=kwargs.get("dtype") or args[0].dtype, device="cuda"
            )
        if func is torch.ops.aten._fused_adamw_.tensor_lr:  # which has no fake kernel
            self._record.operations[name] += 1
            return None
        out = func(*args, **(kwargs or {}))
        if name not in _VIEWS and "cuda" in _devices(out) | _devices(args):
            self._record.operations[name] += 1
        return out


def _device_of(options: dict[str, Any]) -> str:
    return torch.device(options.get("device") or "cpu").type


def _devices(value: Any) -> set[str]:
    if isinstance(value, torch.Tensor):
        return {value.device.type}
    if isinstance(value, list | tuple):
        return set().union(*map(_devices, value)) if value else set()
    return set()


def _driver(card: Card, shared: int, multiprocessors: int) -> Any:
    class Launcher:
        def __init__(self, src: Any, metadata: Any) -> None:
            self.names, self.metadata = src.fn.arg_names, metadata

        def __call__(self, x: int, y: int, z: int, *rest: Any) -> None:
            # stream, function, packed metadata, launch metadata, two hooks; then the arguments
            arguments = rest[6:]
            record, name = card.record, self.metadata.name
            record.launches.append(name)
            if min(x, y, z) < 1 or x >= 2**31 or max(y, z) > 65_535:
                record.problems.append(f"{name}: a grid of {x} × {y} × {z}")
            fit = 65_536 // (32 * self.metadata.num_warps * 256)  # registers, at most a thread
            if self.metadata.launch_cooperative_grid and x * y * z > fit * multiprocessors:
                record.problems.append(f"{name}: {x * y * z} programs can't run at once")
            for argument, value in zip(self.names, arguments):
                for place in _devices(value) - {"cuda"}:
                    record.problems.append(f"{name}: {argument} is on {place}")

    class Utils:
        def load_binary(self, name: str, kernel: bytes, used: int, device: int) -> tuple[Any, ...]:
            if used > shared:
                card.record.problems.append(f"{name}: {used} bytes of shared memory")
            return None, 1, 0, 0, 1024

        def get_device_properties(self, device: int) -> dict[str, int]:
            return {
                "max_shared_mem": shared,
                "multiprocessor_count": multiprocessors,
                "warpSize": 32,
            }

    class Driver:
        utils = Utils()
        launcher_cls = Launcher

        def get_current_target(self) -> GPUTarget:
            return GPUTarget("cuda", card.capability, 32)

        def get_current_device(self) -> int:
            return 0

        def get_current_stream(self, device: int = 0) -> int:
            return 0

        def get_device_interface(self) -> Any:
            return torch.cuda

        def get_active_torch_device(self) -> torch.device:
            return torch.device("cuda", 0)

        def map_python_to_cpp_type(self, kind: str) -> str:
            return "int"

    return Driver()


def _pretend(capability: int, multiprocessors: int) -> None:
    """Replace what the backend asks torch about the card."""

    # Tensors of the host have values: so few numbers that all their arithmetic is kept.
    fake_tensor.CONSTANT_NUMEL_LIMIT = 1024
    # Backward passes in this thread, where the modes are.
    torch.autograd.set_multithreading_enabled(False)

    class Properties:
        multi_processor_count = multiprocessors

    pointers: dict[int, int] = {}

    def data_ptr(tensor: FakeTensor) -> int:
        base = pointers.setdefault(id(tensor.untyped_storage()), 1 << 20)
        return base + tensor.storage_offset() * tensor.element_size()

    FakeTensor.data_ptr = data_ptr
    torch.cuda.device_of = lambda tensor: contextlib.nullcontext()
    torch.cuda.get_device_capability = lambda device=None: divmod(capability, 10)
    torch.cuda.get_device_properties = lambda device=None: Properties
