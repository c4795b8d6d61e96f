"""Options of model and training from a TOML file, under the flags that override it."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

if TYPE_CHECKING:
    from letter_fast.model import LetterConfig
    from letter_fast.training import TrainSettings


def read_options(path: Path | None) -> tuple[dict[str, Any], dict[str, Any]]:
    """The tables [model] and [training] of the file.

    Raises:
        ValueError: the file is absent or broken, or has an unknown key or a bad value.
    """
    if path is None:
        return {}, {}
    from letter_fast.model import LetterConfig
    from letter_fast.options import check_keys
    from letter_fast.training import TrainSettings

    if not path.is_file():
        raise ValueError(f"{path} does not exist" if not path.exists() else f"{path} is no file")
    try:
        content = tomllib.loads(path.read_text())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not TOML: {error}") from error
    try:
        check_keys(content, ("model", "training"), "top-level")
        for name, table in content.items():
            if not isinstance(table, dict):
                raise ValueError(f"{name} must be a table, [{name}], got {table!r}")
        model, training = content.get("model", {}), content.get("training", {})
        # Here, where the file can be named; the flags are checked with the whole.
        LetterConfig.from_dict({"input_dim": 1, **model})
        TrainSettings.from_dict(training)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    return model, training


def build(
    path: Path | None, flags: Mapping[str, Any], input_dim: int, cf_dim: int | None
) -> tuple[LetterConfig, TrainSettings]:
    """Model and settings: defaults, then what the inputs say, then the file, then the flags given.

    Raises:
        ValueError: the file or a flag is wrong.
    """
    from letter_fast.model import LetterConfig
    from letter_fast.training import TrainSettings

    model, training = read_options(path)
    shapes: dict[str, Any] = {"input_dim": input_dim}
    if cf_dim is not None:
        shapes["cf_dim"] = cf_dim
    else:
        shapes["cf_weight"] = 0.0
    model = {**shapes, **model}
    model_names = {field.name for field in fields(LetterConfig)}
    for name, value in flags.items():
        if value is not None:
            (model if name in model_names else training)[name] = value
    return LetterConfig.from_dict(model), TrainSettings.from_dict(training)
