"""Checkpoints of other projects, read without running what they might carry.

`torch.load(weights_only=True)` knows pickle protocol 2 only, and the trainers of LETTER and LC-Rec
write protocol 4: it refuses each of their files. This does the same for any protocol: an unpickler
that knows tensors, plain values and argparse.Namespace, and refuses every other name.
"""

from __future__ import annotations

import argparse
import os
import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from letter_fast.paths import local_path


def load_checkpoint(path: str | os.PathLike[str]) -> dict[str, Any]:
    """What `torch.save` wrote of a dictionary; an argparse.Namespace in it becomes a dictionary.

    Raises:
        ValueError: it holds other objects, or is no such file.
    """
    path = local_path(path)
    # TorchScript's archives, which torch.load would hand to another reader, have constants.pkl.
    if not zipfile.is_zipfile(path) or _member(path, "constants.pkl"):
        raise ValueError(f"{path} is not a file that torch.save wrote (of PyTorch 1.6 or later)")
    reader = SimpleNamespace(__name__=__name__, Unpickler=_Unpickler)
    try:
        content = torch.load(path, map_location="cpu", pickle_module=reader, weights_only=False)
    except pickle.UnpicklingError as error:
        raise ValueError(
            f"{path} holds more than tensors, plain values and argparse.Namespace: {error}"
        ) from None
    if not isinstance(content, dict):
        raise ValueError(f"{path} must hold a dictionary, got {type(content).__name__}")
    return {
        name: vars(value) if isinstance(value, argparse.Namespace) else value
        for name, value in content.items()
    }


def tensors(
    content: Mapping[str, Any], key: str, path: str | os.PathLike[str]
) -> dict[str, Tensor]:
    """The state dict under `key`; ValueError if there is none."""
    state = content.get(key)
    if not isinstance(state, Mapping) or not all(isinstance(t, Tensor) for t in state.values()):
        raise ValueError(f"{path} has no tensors under {key!r}, only {sorted(content)}")
    return dict(state)


def _member(path: str | os.PathLike[str], name: str) -> bool:
    with zipfile.ZipFile(path) as archive:
        return any(member.split("/")[-1] == name for member in archive.namelist())


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        # Made anew each time: what a pickle sets on them reaches nobody else.
        if (module, name) == ("argparse", "Namespace"):
            return type("Namespace", (argparse.Namespace,), {})
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if module == "torch._utils" and name in ("_rebuild_tensor_v2", "_rebuild_parameter"):
            return lambda *arguments: getattr(torch._utils, name)(*arguments)
        raise pickle.UnpicklingError(f"{module}.{name}")
