"""A model as a folder: config.json says what it is, model.safetensors holds its tensors."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar, Protocol, TypeVar

import torch
from huggingface_hub import ModelCard, PyTorchModelHubMixin, hf_hub_download
from huggingface_hub.errors import EntryNotFoundError, HFValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save
from torch import Tensor

from letter_fast.atomic import make_folder, write_bytes
from letter_fast.catalog import TrainedOn
from letter_fast.paths import local_path

from .card import WRITTEN, card_text

CONFIG_FILE = "config.json"
WEIGHTS_FILE = "model.safetensors"
CARD_FILE = "README.md"

# What folders hold that were written before they said so.
_FIRST_TYPE = "letter"


class Saved(Protocol):
    """A module that remembers what it was trained with, and how well."""

    trained_on: TrainedOn
    training_facts: Mapping[str, Any]

    def state_dict(self) -> dict[str, Any]:
        """That of `torch.nn.Module`."""

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> Any:
        """That of `torch.nn.Module`."""

    def eval(self) -> Any:
        """That of `torch.nn.Module`."""


Model = TypeVar("Model", bound=Saved)


class ModelFolder(PyTorchModelHubMixin):
    """The Hugging Face hub's way to save, as all models share it.

    trained_on: the columns of the files it was trained with, which its folder remembers.
    training_facts: what its card says of the training: items, epochs, recon, collision_rate,
        catalog_usage, catalog_perplexity; those that are known.
    """

    trained_on: TrainedOn = TrainedOn()
    training_facts: Mapping[str, Any] = MappingProxyType({})
    method: ClassVar[str]
    """The card's name for it, in markdown."""

    def save_pretrained(self, save_directory: str | os.PathLike[str], **options: Any) -> str | None:
        """Writes config.json, model.safetensors and README.md into a folder, made if need be.

        options: of `huggingface_hub.ModelHubMixin.save_pretrained` (push_to_hub, repo_id, …);
            model_card_kwargs of it may hold license, data and measures, see `card.card_text`.
        """
        folder = make_folder(save_directory)
        card = folder / CARD_FILE
        # Here, because the hub's own way may leave half of it; and one of ours may have grown old.
        if not card.exists() or WRITTEN in card.read_text(encoding="utf-8", errors="replace"):
            content = self.generate_model_card(**(options.get("model_card_kwargs") or {}))
            write_bytes(card, str(content).encode())
        return super().save_pretrained(folder, **options)

    def generate_model_card(self, *_: Any, **said: Any) -> ModelCard:
        """The card with the model's settings and what training noted.

        said: license, data and measures, see `card.card_text`.
        """
        settings: Mapping[str, Any] = self.config.to_dict()  # type: ignore[attr-defined]
        text = card_text(type(self).__name__, self.method, settings, self.training_facts, **said)
        return ModelCard(text)


def fingerprint(config: Mapping[str, Any], state: Mapping[str, Tensor]) -> str:
    """SHA-256 of configuration and tensors: which model made an ID."""
    digest = hashlib.sha256(json.dumps(config, sort_keys=True).encode())
    for name, value in sorted(state.items()):
        digest.update(name.encode())
        raw = value.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
        digest.update(raw.numpy().data)
    return digest.hexdigest()


def write_model(
    folder: Path,
    model_type: str,
    config: Mapping[str, Any],
    state: Mapping[str, Tensor],
    trained_on: TrainedOn,
    training_facts: Mapping[str, Any],
) -> None:
    """Writes both files; config.json comes last, so that no folder looks whole before it is."""
    tensors = {name: value.detach().cpu().contiguous() for name, value in state.items()}
    noted: dict[str, Any] = {}
    if trained_on != TrainedOn():
        noted["trained_on"] = trained_on.to_dict()
    if training_facts:
        noted["training_facts"] = dict(training_facts)
    text = json.dumps({"model_type": model_type, **config, **noted}, indent=2) + "\n"
    write_bytes(folder / WEIGHTS_FILE, save(tensors, metadata={"format": "pt"}))
    write_bytes(folder / CONFIG_FILE, text.encode())


def read_model(
    build: Callable[[Mapping[str, Any]], Model],
    model_type: str,
    name: str | os.PathLike[str],
    map_location: str,
    hub: Mapping[str, Any],
) -> Model:
    """The model of a folder, or of the Hugging Face hub, in evaluation mode.

    build: makes the model from its configuration; model_type: what config.json must say it is;
    hub: options of `huggingface_hub.hf_hub_download` (revision, token, cache_dir, …).
    Raises:
        ValueError: a file is missing, broken, or of another model.
    """
    found, values = read_config(name, hub)
    config_file, weights_file = _fetch(name, CONFIG_FILE, hub), _fetch(name, WEIGHTS_FILE, hub)
    if found != model_type:
        raise ValueError(f"{config_file} says model_type {found!r}, not {model_type!r}")
    try:
        trained_on = TrainedOn.from_dict(values.pop("trained_on", {}))
        facts = _known_facts(values.pop("training_facts", {}))
        with torch.device("meta"):  # what it would be, before it takes any memory
            shapes = {name: list(value.shape) for name, value in build(values).state_dict().items()}
        _check_shapes(weights_file, shapes)
        model = build(values)
    except _OtherWeightsError as error:
        raise ValueError(f"{weights_file} does not hold this model's weights: {error}") from error
    except (ValueError, RuntimeError, MemoryError) as error:
        raise ValueError(f"{config_file}: {_first_line(error)}") from error
    try:
        model.load_state_dict(load_file(weights_file, device=map_location))
    except (SafetensorError, RuntimeError) as error:
        reason = _first_line(error)
        raise ValueError(f"{weights_file} does not hold this model's weights: {reason}") from error
    for name, value in model.state_dict().items():
        if not bool(value.isfinite().all()):
            raise ValueError(
                f"{weights_file}: {name} holds NaN or Inf; the training that wrote it diverged, or "
                "the file is damaged"
            )
    model.trained_on, model.training_facts = trained_on, facts
    model.eval()
    return model


def _known_facts(values: Any) -> dict[str, Any]:
    """The facts of the training in config.json: numbers by name, or lists of them."""
    flat = values.values() if isinstance(values, dict) else [None]
    for value in flat:
        if not all(
            type(one) in (int, float) for one in (value if type(value) is list else [value])
        ):
            raise ValueError(f"training_facts must hold numbers by name, got {values!r}")
    return dict(values)


class _OtherWeightsError(Exception):
    """A file of weights is broken, or of another model."""


def _check_shapes(file: Path, wanted: Mapping[str, list[int]]) -> None:
    """Refuses a file whose tensors aren't of these names and shapes; reads no tensor."""
    try:
        with safe_open(file, framework="pt") as weights:
            names = weights.keys()  # it is not a mapping
            found = {name: list(weights.get_slice(name).get_shape()) for name in names}
    except SafetensorError as error:
        raise _OtherWeightsError(_first_line(error)) from error
    for name, shape in wanted.items():
        if name not in found:
            raise _OtherWeightsError(f"it lacks {name}")
        if found[name] != shape:
            raise _OtherWeightsError(f"{name} is {found[name]}, {CONFIG_FILE} asks for {shape}")
    for name in found:
        if name not in wanted:
            raise _OtherWeightsError(f"it holds {name}, which {CONFIG_FILE} has no place for")


def _first_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]


def read_config(name: str | os.PathLike[str], hub: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """model_type and configuration; errors and hub as in `read_model`."""
    path = _fetch(name, CONFIG_FILE, hub)
    try:
        values = json.loads(path.read_text())
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is not JSON: {error}") from error
    if not isinstance(values, dict):
        raise ValueError(f"{path} must hold a JSON object")
    return str(values.pop("model_type", _FIRST_TYPE)), values


def hub_file(repo_id: str, file: str, **options: Any) -> Path:
    """A repository's file in the hub's cache. options: of `huggingface_hub.hf_hub_download`

    Raises:
        ValueError: there is no such repository or file, or the hub is out of reach; its own error
            is the cause.
    """
    try:
        return Path(hf_hub_download(repo_id, file, **options))
    except (OSError, EntryNotFoundError, HFValidationError) as error:
        raise ValueError(
            f"{repo_id} is not a folder here, and the Hugging Face hub gives no {file} of that "
            f"name: {_first_line(error)}"
        ) from error


def _fetch(name: str | os.PathLike[str], file: str, hub: Mapping[str, Any]) -> Path:
    folder = local_path(name)
    if not folder.is_dir():
        if folder.is_absolute() or str(name).startswith("."):  # no repository is called so
            raise ValueError(f"{name} is not a folder; give the folder that train wrote")
        return hub_file(str(name), file, **hub)
    path = folder / file
    if not path.is_file():
        raise ValueError(f"{name} is not a letter-fast model: it has no {file}")
    return path
