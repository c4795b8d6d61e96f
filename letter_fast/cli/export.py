"""letter-fast export."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from .terminal import Json, WithRemoved, print_json

# For both ways: files of a format differ in these only.
Base = Annotated[
    int | None, typer.Option(help="Number of the first code (letter, grid: 0; minionerec: 1).")
]
Layout = Annotated[
    str | None, typer.Option(help="TN: a row a token; NT: a row an item (grid: TN).")
]
LevelOffset = Annotated[
    int | None, typer.Option(help="Token id of the first code, as your model has it (recsys: 0).")
]
Radix = Annotated[int | None, typer.Option(help="Of packed IDs (openonerec: 8192).")]


def export(
    ids: Annotated[Path, typer.Argument(help="ID table, .parquet, as tokenize wrote it.")],
    format: Annotated[
        str,
        typer.Option(
            help="letter (index.json of LETTER, LC-Rec, MiniOneRec), minionerec (its constrained "
            "RQ-KMeans), grid (tensor of GRID, recsys-examples), recsys (item catalog of "
            "recsys-examples), openonerec (parquet), faiss (bit-packed .npy) or "
            "flashrec (JSON catalog)."
        ),
    ],
    out: Annotated[Path, typer.Option(help="File to write.")],
    base: Base = None,
    layout: Layout = None,
    level_offset: LevelOffset = None,
    radix: Radix = None,
    with_removed: WithRemoved = False,
    json: Json = False,
) -> None:
    """Write an ID table as another project reads it, and beside it what the file can't say.

    Example: letter-fast export ids.parquet --format letter --out index.json
    """
    from dataclasses import asdict

    from letter_fast.atomic import check_target
    from letter_fast.tokenization import SemanticIds, export_ids
    from letter_fast.tokenization.formats import sidecar_path

    check_target(out, inputs=(ids,))
    table = SemanticIds.load(ids)
    removed = len(table) - len(table.live())
    table = table if with_removed else table.live()
    name: Any = format  # checked where all are known
    facts = export_ids(
        table, out, name, with_removed=with_removed, base=base, layout=layout,
        level_offset=level_offset, radix=radix,
    )  # fmt: skip
    if json:
        counts = {"items": len(table), "removed": removed}
        print_json({"out": str(out), "format": format, **counts, **asdict(facts)})
        return
    print(f"{len(table):,} items written to {out} as {format}")
    if removed:
        fate = "among them are" if with_removed else "left out:"
        print(f"{fate} {removed:,} items that are marked as removed")
    if facts.duplicates:
        print(f"{facts.duplicates:,} of them share their ID with an earlier one")
    print(f"what a reader must know besides: {sidecar_path(out)}")
