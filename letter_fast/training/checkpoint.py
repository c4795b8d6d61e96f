"""A run's whole state in one file, replaced at once: a killed run goes on as if unbroken."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from letter_fast.atomic import replacing

CHECKPOINT_FILE = "checkpoint.pt"
_FORMAT = 2


def save_checkpoint(folder: Path, state: dict[str, Any], identity: dict[str, Any]) -> None:
    """Writes `state` (tensors and plain values) atomically.

    identity: what must not change between a run and its resumption: model, settings, inputs.
    """
    with replacing(folder / CHECKPOINT_FILE) as file:
        torch.save({"format": _FORMAT, "identity": identity, "state": state}, file)


def load_checkpoint(folder: Path, identity: dict[str, Any]) -> dict[str, Any] | None:
    """The state to go on from, or None where there is no checkpoint.

    Raises:
        ValueError: the file is broken, or belongs to another model, input or settings.
    """
    path = folder / CHECKPOINT_FILE
    if not path.exists():
        return None
    try:
        saved = torch.load(path, map_location="cpu", weights_only=True)
        found, state = saved["identity"], saved["state"]
        version = saved["format"]
    except Exception as error:  # a broken pickle can raise anything
        raise ValueError(f"{path} is not a readable checkpoint; delete it to start anew") from error
    if version != _FORMAT:
        raise ValueError(f"{path} has checkpoint format {version}, this version reads {_FORMAT}")
    for part, wanted in identity.items():
        if _fixed(found.get(part)) != _fixed(wanted):
            raise ValueError(
                f"{path} belongs to a run with other {part}{_difference(found.get(part), wanted)}; "
                "choose another output folder, or delete the checkpoint to start anew"
            )
    assert isinstance(state, dict)
    return state


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
