"""letter-fast demo."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from .terminal import Json, print_json, progress

_SHOWN = (0, 49, 120, 171, 257)  # rows of well-known movies


def demo(
    items: Annotated[
        int | None, typer.Option(help="Make a synthetic catalog of so many items instead.")
    ] = None,
    epochs: Annotated[int | None, typer.Option(help="Passes over the catalog.")] = None,
    out: Annotated[Path, typer.Option(help="Folder for everything it makes.")] = Path(
        "demo-output"
    ),
    json: Json = False,
) -> None:
    """See a real catalog become semantic IDs: 1,682 movies, LETTER beside a plain RQ-VAE.

    Reads MovieLens-100k from the recbole wheel (pip install --no-deps recbole==1.2.1).
    """
    from rich.console import Console
    from rich.table import Table

    from letter_fast.demo.showcase import prefix_neighbours, run_showcase
    from letter_fast.evaluation import comparison_table

    if items is not None and items < 256:
        raise ValueError(f"--items must be at least 256, got {items}")
    if epochs is not None and epochs < 1:
        raise ValueError(f"--epochs must be at least 1, got {epochs}")
    with progress("epochs") as bar:
        tasks: dict[str, Any] = {}

        def show(name: str, record: dict[str, Any], total: int) -> None:
            if name not in tasks:
                tasks[name] = bar.add_task(f"training {name}", total=total, note="")
            bar.update(tasks[name], completed=record["epoch"], note=f"loss {record['loss']:.4g}")

        made = run_showcase(out, items, epochs, show)
    if json:
        runs = {name: run.to_dict() for name, run in made.runs.items()}
        print_json({"folder": str(made.folder), "items": len(made.ids), "runs": runs})
        return
    console = Console()
    console.print(comparison_table(made.runs))
    table = Table(title="Items and their semantic IDs (LETTER)", show_lines=True)
    for name in ("item", "semantic ID", "nearest by shared prefix"):
        table.add_column(name)
    names = made.titles or [f"item {row}" for row in range(len(made.ids))]
    tokens = made.ids.tokens()
    for row in (row for row in _SHOWN if row < len(names)):
        near = prefix_neighbours(made.ids, row, 3)
        close = "\n".join(f"{names[other]}  {' '.join(tokens[other])}" for other in near)
        table.add_row(names[row], " ".join(tokens[row]), close or "–")
    console.print(table)
    print(f"all {len(made.ids):,} IDs are unique: {not made.ids.duplicates()}")
    for run in ("letter", "rqvae"):
        print(f"{made.folder / run}: ids.parquet, index.json, model.safetensors, log.jsonl, *.png")
