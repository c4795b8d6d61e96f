"""Checkpoints of other projects: their parts, and their tensors by the names a model has them."""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterable, Mapping
from typing import Any

from torch import Tensor

from letter_fast.torch_file import read_torch_file

_Path = str | os.PathLike[str]


def load_checkpoint(path: _Path) -> dict[str, Any]:
    """A dictionary that `torch.save` wrote; an argparse.Namespace in it becomes a dictionary.

    Raises:
        ValueError: it is another kind of file, is damaged, or names what no checkpoint needs.
    """
    content = read_torch_file(path)
    if not isinstance(content, dict):
        raise ValueError(f"{path} must hold a dictionary, got {type(content).__name__}")
    return {
        name: vars(value) if isinstance(value, argparse.Namespace) else value
        for name, value in content.items()
    }


def tensors(content: Mapping[Any, Any], key: str, path: _Path) -> dict[str, Tensor]:
    """The state dict under `key`, without the prefixes that DataParallel and compile give it.

    Raises:
        ValueError: there is none, or it names more numbers than the file has.
    """
    state = content.get(key)
    if not isinstance(state, Mapping) or not all(isinstance(t, Tensor) for t in state.values()):
        raise ValueError(f"{path} has no tensors under {key!r}, only {_some(content)}")
    stored = {t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in state.values()}
    if sum(tensor.nbytes for tensor in state.values()) > sum(stored.values()):
        raise ValueError(f"{path} is damaged: tensors under {key!r} share their numbers")
    names = {name: str(name).replace("_orig_mod.", "") for name in state}
    while names and all(name.startswith("module.") for name in names.values()):
        names = {name: short.removeprefix("module.") for name, short in names.items()}
    if len(set(names.values())) < len(names):
        raise ValueError(f"{path} has tensors of one name under {key!r}")
    return {names[name]: tensor for name, tensor in state.items()}


def check_weights(state: Mapping[str, Tensor], path: _Path) -> None:
    """Refuses weights that are none, or no finite floating-point numbers: names the first."""
    for name, tensor in state.items():
        if name.endswith("num_batches_tracked"):
            continue
        if not tensor.is_floating_point():
            raise ValueError(f"{path}: {name} must be floating point, got {tensor.dtype}")
        if 0 in tensor.shape:
            raise ValueError(f"{path}: {name} is empty: shape {list(tensor.shape)}")
        if not bool(tensor.isfinite().all()):
            raise ValueError(f"{path}: {name} holds NaN or Inf")


def _some(names: Iterable[Any]) -> list[str]:
    return sorted(str(name)[:40] for name in names if isinstance(name, str))[:10]
