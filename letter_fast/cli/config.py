"""Options of model and training from a TOML file, under the flags that override it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from letter_fast.model import LetterConfig
    from letter_fast.training import TrainSettings


def read_options(path: Path | None) -> tuple[dict[str, Any], dict[str, Any]]:
    """The tables [model] and [training] of the file.

    Raises:
        ValueError: the file is absent or broken, or has other keys at its top level.
    """
    if path is None:
        return {}, {}
    import sys

    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib

    from letter_fast.model.config import check_keys

    if not path.is_file():
        raise ValueError(f"{path} does not exist")
    try:
        content = tomllib.loads(path.read_text())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not TOML: {error}") from error
    check_keys(content, ["model", "training"], "configuration")
    tables = [content.get(name, {}) for name in ("model", "training")]
    if not all(isinstance(table, dict) for table in tables):
        raise ValueError(f"{path}: model and training must be tables")
    return tables[0], tables[1]


def build(
    path: Path | None, flags: Mapping[str, Any], input_dim: int, cf_dim: int | None
) -> tuple[LetterConfig, TrainSettings]:
    """Model and settings: defaults, then what the inputs say, then the file, then the flags given.

    Raises:
        ValueError: an unknown key, or a value of the wrong type or out of range.
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
    try:
        return LetterConfig.from_dict(model), TrainSettings.from_dict(training)
    except TypeError as error:
        raise ValueError(f"an option has a value of the wrong type: {error}") from error
