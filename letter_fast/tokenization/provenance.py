"""The models that made the IDs of a table: a code means something in its own model only.

`model` of a table's metadata is the fingerprint of the model that named its latest items. Where
others named earlier ones, `models` lists them all, in order; null is one that is not known, as of
tables that other projects made.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

from .semantic_ids import SemanticIds

MODEL, MODELS = "model", "models"


def check_table(table: SemanticIds, name: str = "an ID table") -> None:
    """Refuses anything else, as a path: ValueError."""
    if not isinstance(table, SemanticIds):
        raise ValueError(
            f"{name} must be SemanticIds, got {type(table).__name__}: SemanticIds.load(path) "
            "reads a file"
        )


def check_model(table: SemanticIds, fingerprint: str, other_model: bool) -> None:
    """Refuses a table that another model made; warns where the table doesn't say which did.

    other_model: the caller knows that it is another one.
    Raises:
        ValueError: it is, and the caller doesn't.
    """
    check_table(table)
    made_by = table.metadata.get(MODEL)
    if other_model or made_by == fingerprint:
        return
    if made_by is None:
        warnings.warn(
            f"{table.name} doesn't say which model made its IDs; they are taken for this model's "
            "(letter-fast import --model RUN writes down which it was)",
            stacklevel=3,
        )
        return
    raise ValueError(
        f"{table.name} was made by another model ({_short(made_by)}; this one is "
        f"{_short(fingerprint)}), in which its codes mean something else: use that model, tokenize "
        "anew, or insist (--other-model, other_model=True)"
    )


def note_model(
    table: SemanticIds, fingerprint: str, sizes: list[int], other_model: bool = False
) -> None:
    """Writes into the metadata that this model made the IDs; its codebooks have `sizes`.

    other_model: it already says another one, which stays in the list.
    Raises:
        ValueError: it says another one, or its codes are of other codebooks.
    """
    levels = len(sizes)
    if table.sizes[:levels] != sizes or len(table.sizes) > levels + 1:
        raise ValueError(
            f"the IDs have codebooks of {table.sizes}, the model of {sizes}: it didn't make them"
        )
    if table.metadata.get(MODEL) is None:
        facts: dict[str, Any] = {MODEL: fingerprint}
    else:
        check_model(table, fingerprint, other_model)
        facts = also_made_by(table.metadata, fingerprint)
    table.metadata.update(facts)


def also_made_by(metadata: Mapping[str, Any], fingerprint: str) -> dict[str, Any]:
    """The facts about its models of a table with `metadata` that this model has added items to."""
    models = metadata.get(MODELS)
    models = list(models) if isinstance(models, list) else [metadata.get(MODEL)]
    if fingerprint not in models:
        models.append(fingerprint)
    return {MODEL: fingerprint, **({MODELS: models} if len(models) > 1 else {})}


def same_model(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool | None:
    """Whether the same model made both tables; None if one doesn't say. one, other: metadata"""
    models = [metadata.get(MODELS, metadata.get(MODEL)) for metadata in (one, other)]
    return None if None in models else models[0] == models[1]


def _short(fingerprint: Any) -> str:
    text = str(fingerprint)
    return f"{text[:12]}…" if len(text) > 13 else text
