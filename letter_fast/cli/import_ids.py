"""letter-fast import."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .export import Base, Layout, LevelOffset, Radix
from .terminal import Json, numbers, print_json


def import_ids(
    file: Annotated[Path, typer.Argument(help="Semantic IDs as another project wrote them.")],
    out: Annotated[Path, typer.Option(help="ID table to write, .parquet.")],
    format: Annotated[
        str | None,
        typer.Option(
            help="letter, minionerec, grid, recsys, openonerec or faiss, see export; what "
            "letter-fast exported is known."
        ),
    ] = None,
    sizes: Annotated[
        str | None,
        typer.Option(
            help="Codewords of each token, like 256,256,256. Without: what a sidecar says, or the "
            "largest code + 1."
        ),
    ] = None,
    item_ids: Annotated[
        Path | None,
        typer.Option(
            help="Parquet file whose column item_id names the rows, where they are only numbered."
        ),
    ] = None,
    base: Base = None,
    layout: Layout = None,
    level_offset: LevelOffset = None,
    radix: Radix = None,
    json: Json = False,
) -> None:
    """Read semantic IDs of another project into an ID table, and say how many collide.

    Example: letter-fast import Instruments.index.json --format letter --sizes 256,256,256,256
    --out ids.parquet
    """
    from letter_fast.atomic import check_target
    from letter_fast.tokenization import collision_statistics
    from letter_fast.tokenization import import_ids as run
    from letter_fast.tokenization.formats import read_items

    if out.suffix != ".parquet":
        raise ValueError(f"--out must end in .parquet, got {out}")
    check_target(out, inputs=(file, item_ids))
    table = run(
        file,
        format,
        sizes=numbers(sizes),
        item_ids=read_items(item_ids) if item_ids is not None else None,
        base=base,
        layout=layout,
        level_offset=level_offset,
        radix=radix,
    )
    table.save(out)
    statistics = collision_statistics(table.codes)
    if json:
        print_json({"ids": str(out), "sizes": table.sizes, **vars(statistics)})
        return
    print(f"{len(table):,} items in {out}, codebooks {table.sizes}")
    print(
        f"{statistics.distinct:,} distinct IDs, collisions {statistics.collision_rate:.2%}, "
        f"largest group {statistics.largest_group}"
    )
