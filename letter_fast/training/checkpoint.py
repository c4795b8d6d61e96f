"""A run's whole state in one file, replaced at once: a killed run goes on as if unbroken."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from letter_fast.atomic import replacing

CHECKPOINT_FILE = "checkpoint.pt"
_FORMAT = 2


class Checkpoints:
    """The checkpoint of a run into `folder`: written now and then, and when the run is interrupted.

    identity: what must not change between a run and its resumption: model, settings, inputs.
    """

    def __init__(self, folder: Path, identity: dict[str, Any]) -> None:
        self._folder, self._identity = folder, identity
        self._unsaved: dict[str, Any] | None = None

    def save(self, state: dict[str, Any]) -> None:
        """Writes `state` (tensors and plain values)."""
        save_checkpoint(self._folder, state, self._identity)
        self._unsaved = None

    def keep(self, state: dict[str, Any]) -> None:
        """Remembers a copy of `state`, to be written if the run is interrupted."""
        self._unsaved = _copy(state)

    def save_kept(self) -> None:
        """Writes what was kept since the last `save`, if anything was."""
        if self._unsaved is not None:
            self.save(self._unsaved)


def save_checkpoint(folder: Path, state: dict[str, Any], identity: dict[str, Any]) -> None:
    """Writes a checkpoint; identity as of `Checkpoints`."""
    with replacing(folder / CHECKPOINT_FILE) as file:
        torch.save({"format": _FORMAT, "identity": identity, "state": state}, file)


def load_checkpoint(
    folder: Path, identity: dict[str, Any], fits: Callable[[dict[str, Any]], bool]
) -> dict[str, Any] | None:
    """The state to go on from, or None where there is no checkpoint.

    fits: whether a state is one that the run could have saved.
    Raises:
        ValueError: the file is damaged, or belongs to another model, input or settings.
    """
    path = folder / CHECKPOINT_FILE
    if not path.exists():
        return None
    damaged = f"{path} is not a readable checkpoint; delete it to start anew"
    try:
        with zipfile.ZipFile(path) as archive:
            whole = archive.testzip() is None  # which torch does not look at
        saved = torch.load(path, map_location="cpu", weights_only=True) if whole else {}
        found, state, version = saved["identity"], saved["state"], saved["format"]
        whole = _plain(found) and isinstance(found, dict) and isinstance(version, int)
    except Exception as error:  # a broken pickle can raise anything
        raise ValueError(damaged) from error
    if not whole:
        raise ValueError(damaged)
    if version != _FORMAT:
        raise ValueError(f"{path} has checkpoint format {version}, this version reads {_FORMAT}")
    for part, wanted in identity.items():
        if _fixed(found.get(part)) != _fixed(wanted):
            raise ValueError(
                f"{path} belongs to a run with other {part}{_difference(found.get(part), wanted)}; "
                "choose another output folder, or delete the checkpoint to start anew"
            )
    if not isinstance(state, dict) or not fits(state):
        raise ValueError(damaged)
    return state


def alike(found: Any, wanted: Any) -> bool:
    """Whether `found` has the keys, shapes, dtypes and types of `wanted`, and finite numbers."""
    if isinstance(wanted, Tensor):
        return (
            isinstance(found, Tensor)
            and found.shape == wanted.shape
            and found.dtype == wanted.dtype
            and (not found.is_floating_point() or bool(found.isfinite().all()))
        )
    if isinstance(wanted, dict):
        return (
            isinstance(found, dict)
            and found.keys() == wanted.keys()
            and all(alike(found[name], value) for name, value in wanted.items())
        )
    return type(found) is type(wanted)


def _copy(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.detach().to("cpu", copy=True)
    if isinstance(value, dict):
        return {name: _copy(one) for name, one in value.items()}
    return [_copy(one) for one in value] if isinstance(value, list) else value


def _plain(value: Any) -> bool:
    """Whether it consists of what JSON can say, and tuples."""
    if isinstance(value, dict):
        return all(isinstance(name, str) and _plain(one) for name, one in value.items())
    if isinstance(value, list | tuple):
        return all(map(_plain, value))
    return value is None or isinstance(value, str | int | float)


def _fixed(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    return {key: list(item) if isinstance(item, tuple) else item for key, item in value.items()}


def _difference(found: Any, wanted: Any) -> str:
    a, b = _fixed(found), _fixed(wanted)
    if not (isinstance(a, dict) and isinstance(b, dict)):
        return ""
    keys = [key for key in sorted(a.keys() | b.keys()) if a.get(key) != b.get(key)]
    return f" ({keys[0]} was {a.get(keys[0])!r}, is {b.get(keys[0])!r})" if keys else ""
