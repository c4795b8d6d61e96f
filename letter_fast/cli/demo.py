"""letter-fast demo."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from .terminal import Json, print_json, progress

_SHOWN = (0, 49, 120, 171, 257)  # rows of well-known movies


def demo(
    items: Annotated[
        int | None, typer.Option(help="Number of items of a synthetic catalog to use instead.")
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
    from letter_fast.extras import require

    require("matplotlib", "the demo")
    if items is None:
        require("sklearn", "the demo")

    import torch
    from rich.console import Console
    from rich.table import Table

    from letter_fast.demo.showcase import prefix_neighbours, run_showcase
    from letter_fast.evaluation import comparison_table
    from letter_fast.tokenization import collision_statistics

    if items is not None and items < 256:
        raise ValueError(f"--items must be at least 256, got {items}")
    if epochs is not None and epochs < 1:
        raise ValueError(f"--epochs must be at least 1, got {epochs}")
    if items is None:
        # Steps of 256 rows are too small to share: a second thread gains little on an idle machine
        # and costs tenfold on a busy one.
        torch.set_num_threads(1)
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
    # Long titles are cut, IDs never, in a terminal of 80 columns.
    table.add_column("item", no_wrap=True, max_width=22)
    table.add_column("semantic ID", no_wrap=True)
    table.add_column("codes shared · with", no_wrap=True, max_width=26)

    def name_of(row: int) -> str:
        return made.titles[row] if made.titles else f"item {row}"

    for row in (row for row in _SHOWN if row < len(made.ids)):
        close = []
        for other in prefix_neighbours(made.ids, row, 3):
            equal = made.ids.codes[other] == made.ids.codes[row]
            close.append(f"{equal.cumprod().sum()} · {name_of(other)}")
        table.add_row(name_of(row), " ".join(made.ids.tokens([row])[0]), "\n".join(close) or "–")
    console.print(table)
    statistics = collision_statistics(made.ids.codes)
    print(f"{statistics.distinct:,} unique IDs for {statistics.items:,} items")
    for run in ("letter", "rqvae"):
        print(f"{made.folder / run}: ids.parquet, index.json, model.safetensors, log.jsonl, *.png")
