"""The options that say which column is which, and the hint that repeats them."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from letter_fast.catalog import Columns, Embeddings, TrainedOn
    from letter_fast.model import Tokenizer

Vectors = Annotated[
    str | None, typer.Option(help="Column or tensor that holds the vectors.", show_default=False)
]
_IDS = "Column that holds the item ids, or row: items are row numbers."
Ids = Annotated[str | None, typer.Option("--ids", "--id-column", help=_IDS, show_default=False)]
IdColumn = Annotated[str | None, typer.Option("--id-column", help=_IDS, show_default=False)]
CfVectors = Annotated[
    str | None, typer.Option(help="--vectors of the CF file.", show_default=False)
]
CfIds = Annotated[str | None, typer.Option(help="--ids of the CF file.", show_default=False)]
CfByRow = Annotated[
    bool,
    typer.Option(
        "--cf-by-row", help="Row i of both files is one item, whatever ids they have or lack."
    ),
]


def open_cf(
    path: Path | None,
    vectors: str | None,
    ids: str | None,
    by_row: bool,
    usual: Columns | None = None,
) -> Embeddings | None:
    """The CF file, if there is one; ValueError for options of a CF file without one."""
    from letter_fast.catalog import Embeddings, Flags
    from letter_fast.catalog.columns import ROW

    if path is None:
        for flag, value in (
            ("--cf-vectors", vectors), ("--cf-ids", ids), ("--cf-by-row", by_row or None)
        ):  # fmt: skip
            if value is not None:
                raise ValueError(f"{flag} is about the file of --cf, which is not given")
        return None
    if by_row and ids not in (None, ROW):
        raise ValueError(f"--cf-by-row leaves no use for the ids of --cf-ids {ids}")
    flags = Flags("--cf-vectors", "--cf-ids")
    return Embeddings.open(
        path, vectors=vectors, ids=ROW if by_row else ids, usual=usual, flags=flags
    )


def usual_columns(models: Mapping[str, Tokenizer]) -> TrainedOn:
    """The columns the models were trained with; ValueError where these contradict each other."""
    from letter_fast.catalog import TrainedOn
    from letter_fast.model import trained_on

    merged: dict[str, dict[str, str]] = {}
    for name, model in models.items():
        for side, columns in trained_on(model).to_dict().items():
            for role, column in columns.items():
                known = merged.setdefault(side, {}).setdefault(role, column)
                if known != column:
                    raise ValueError(
                        f"{name} was trained with {column!r} as {role} of the {side}, a model "
                        f"before it with {known!r}: evaluate them one by one"
                    )
    return TrainedOn.from_dict(merged)


def named_items(catalog: Embeddings) -> str:
    """The source of the item ids, in plain words."""
    return f"item ids: {catalog.named_by} of {catalog.name}"


def tokenize_hint(model: Path, embeddings: Path, vectors: str | None, ids: str | None) -> str:
    """The next command, with the same choice of columns."""
    words = ["letter-fast", "tokenize", str(model), str(embeddings)]
    words += ["--vectors", vectors] if vectors is not None else []
    words += ["--ids", ids] if ids is not None else []
    return "next: " + shlex.join([*words, "--out", "ids.parquet"])
