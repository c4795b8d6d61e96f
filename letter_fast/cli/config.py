"""Options of model and training from a TOML file, under the flags that override it."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import Field, fields
from pathlib import Path
from typing import Any, ClassVar, Protocol, TypeVar

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


class Options(Protocol):
    """A dataclass of options that can be made from plain values."""

    __dataclass_fields__: ClassVar[dict[str, Field[Any]]]

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Any:
        """ValueError names an unknown key or a bad value."""


class ModelOptions(Options, Protocol):
    """The options of a model, with its name."""

    model_type: str


Model = TypeVar("Model", bound=ModelOptions)
Training = TypeVar("Training", bound=Options)


def read_options(path: Path | None) -> tuple[dict[str, Any], dict[str, Any]]:
    """The tables [model] and [training] of the file.

    Raises:
        ValueError: the file is absent or broken, or has another table.
    """
    if path is None:
        return {}, {}
    from letter_fast.options import check_keys
    from letter_fast.paths import local_path

    path = local_path(path)

    if not path.is_file():
        raise ValueError(f"{path} does not exist" if not path.exists() else f"{path} is not a file")
    try:
        content = tomllib.loads(path.read_text())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(f"{path} is not TOML: {error}") from error
    try:
        check_keys(content, ("model", "training"), "top-level")
        for name, table in content.items():
            if not isinstance(table, dict):
                raise ValueError(f"{name} must be a table, [{name}], got {table!r}")
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    return content.get("model", {}), content.get("training", {})


def chosen_model(path: Path | None, flag: str | None) -> str:
    """The model_type that the flag, else the file, asks for; LETTER where neither does.

    Raises:
        ValueError: there is no such model, or the file is broken.
    """
    from letter_fast.model import MODELS
    from letter_fast.validation import choice

    if flag is not None:
        return choice(flag, MODELS, "--model")
    asked = read_options(path)[0].get("model_type", "letter")
    return choice(str(asked), MODELS, f"{path}: model_type")


def build(
    path: Path | None,
    flags: Mapping[str, Any],
    model_class: type[Model],
    training_class: type[Training],
    shapes: Mapping[str, Any],
    preset: tuple[Mapping[str, Any], Mapping[str, Any]] = ({}, {}),
) -> tuple[Model, Training]:
    """Options of model and training: defaults, `preset`, `shapes`, the file, the flags given; each
    overrides those before it.

    shapes: what the inputs say of the model, input_dim at least. preset: fields of model, training.
    Raises:
        ValueError: the file or a flag is wrong, or a flag belongs to another model.
    """
    model, training = read_options(path)
    model = {key: value for key, value in model.items() if key != "model_type"}
    try:
        # Here, where the file can be named; the flags are checked with the whole.
        model_class.from_dict({"input_dim": 1, **model})
        training_class.from_dict(training)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    model, training = {**preset[0], **shapes, **model}, {**preset[1], **training}
    tables = {field.name: model for field in fields(model_class)}
    tables |= {field.name: training for field in fields(training_class)}
    for name, value in flags.items():
        if value is None:
            continue
        if name not in tables:
            flag = "--" + name.replace("_", "-")
            raise ValueError(f"{flag} is not an option of --model {model_class.model_type}")
        tables[name][name] = value
    return model_class.from_dict(model), training_class.from_dict(training)
