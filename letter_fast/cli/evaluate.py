"""letter-fast evaluate."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .columns import (
    CfByRow,
    CfIds,
    CfVectors,
    IdColumn,
    Vectors,
    named_items,
    open_cf,
    usual_columns,
)
from .terminal import Json, OtherModel, WithRemoved, print_json


def evaluate(
    models: Annotated[list[str], typer.Argument(help="Folders that train wrote, to compare.")],
    embeddings: Annotated[
        Path, typer.Option(help="Item text embeddings: .npy, .parquet or .safetensors.")
    ],
    cf: Annotated[
        Path | None, typer.Option(help="Collaborative embeddings, for CF alignment.")
    ] = None,
    cf_missing: Annotated[
        str, typer.Option(help="Items that --cf lacks: error, or mask (not measured with it).")
    ] = "error",
    ids: Annotated[
        Path | None,
        typer.Option(
            help="ID table to judge instead of the model's own codes (one model only); its items "
            "are found by their ids."
        ),
    ] = None,
    with_removed: WithRemoved = False,
    other_model: OtherModel = False,
    plots: Annotated[
        Path | None, typer.Option(help="Folder for PNGs: code usage, losses, perplexity.")
    ] = None,
    vectors: Vectors = None,
    id_column: IdColumn = None,
    cf_vectors: CfVectors = None,
    cf_ids: CfIds = None,
    cf_by_row: CfByRow = False,
    json: Json = False,
) -> None:
    """Measure tokenizers: reconstruction, code usage, collisions, agreement with CF.

    Example: letter-fast evaluate run --embeddings text.npy --cf cf.npy --plots plots
    """
    from letter_fast.extras import require

    if plots is not None:
        require("matplotlib", "--plots")

    from rich.console import Console

    from letter_fast.atomic import check_folder
    from letter_fast.catalog import Embeddings, Flags
    from letter_fast.catalog.alignment import CF_MISSING
    from letter_fast.evaluation import comparison_table
    from letter_fast.evaluation import evaluate as measure
    from letter_fast.evaluation.plots import plot_run, plot_usage
    from letter_fast.model import Letter, load
    from letter_fast.paths import local_path
    from letter_fast.tokenization import SemanticIds, tokenize
    from letter_fast.training.journal import LOG_FILE, read_log
    from letter_fast.validation import choice

    if ids is not None and len(models) > 1:
        raise ValueError("--ids belongs to one model; evaluate the models one by one")
    if plots is not None:
        check_folder(plots, inputs=(embeddings,))
        _check_names(models)
    for name in models:
        if not local_path(name).is_dir():
            raise ValueError(f"{name} is not a folder; give the folder that train wrote")
    tokenizers = {name: load(name) for name in models}
    usual = usual_columns(tokenizers)
    flags = Flags(ids="--id-column")
    catalog = Embeddings.open(
        embeddings, vectors=vectors, ids=id_column, usual=usual.embeddings, flags=flags
    )
    targets = open_cf(cf, cf_vectors, cf_ids, cf_by_row, usual.cf)
    table = SemanticIds.load(ids) if ids is not None else None
    runs = {}
    written: list[Path] = []
    for name, model in tokenizers.items():
        has_log = plots is not None and (Path(name) / LOG_FILE).is_file()
        log = read_log(Path(name)) if has_log else []
        result = measure(
            model,
            catalog,
            targets,
            table,
            cf_by_row=cf_by_row,
            with_removed=with_removed,
            other_model=other_model,
            cf_missing=choice(cf_missing, CF_MISSING, "cf_missing"),
        )
        runs[name] = result
        if plots is not None:
            folder = plots if len(models) == 1 else plots / Path(name).name
            shown = tokenize(model, catalog, "none") if table is None else table
            shown = shown if with_removed else shown.live()
            written.append(plot_usage(folder, shown.codes, shown.sizes))
            if log and isinstance(model, Letter):
                written += plot_run(folder, log, model.config)
    if json:
        named = {"item_ids": catalog.named_by}
        print_json({name: {**named, **run.to_dict()} for name, run in runs.items()})
        return
    headings = {name if ids is None else f"{ids} of {name}": run for name, run in runs.items()}
    Console().print(comparison_table(headings))
    print(named_items(catalog))
    if result.beyond:
        print(
            f"not measured: {result.beyond:,} live items of {ids} that {embeddings} lacks, the "
            f"first is {result.first_beyond!r}"
        )
    for path in written:
        print(path)


def _check_names(models: list[str]) -> None:
    """Refuses models whose plots would have the same names."""
    names = [Path(model).name for model in models]
    for place, name in enumerate(names):
        if name in names[:place]:
            raise ValueError(
                f"{models[names.index(name)]} and {models[place]} are both called {name}, as their "
                "folders of plots would be: evaluate them one by one, each with its own --plots"
            )
