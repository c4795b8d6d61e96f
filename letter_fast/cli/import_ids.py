"""letter-fast import."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from .export import Base, Layout, LevelOffset, Radix
from .terminal import Json, OtherModel, numbers, print_json


def import_ids(
    file: Annotated[Path, typer.Argument(help="Semantic IDs as another project wrote them.")],
    out: Annotated[Path, typer.Option(help="ID table to write, .parquet.")],
    format: Annotated[
        str | None,
        typer.Option(
            help="letter, minionerec, grid, recsys, openonerec, faiss or flashrec, see export; "
            "table, an ID table whose metadata another tool dropped; our exports are known."
        ),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            help="Folder of the model that made the IDs: it is written down, and gives the sizes."
        ),
    ] = None,
    other_model: OtherModel = False,
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
    from letter_fast.model import load
    from letter_fast.tokenization import SemanticIds, collision_statistics
    from letter_fast.tokenization import import_ids as run
    from letter_fast.tokenization.formats import read_items, sidecar_path
    from letter_fast.tokenization.provenance import note_model

    if out.suffix != ".parquet":
        raise ValueError(f"--out must end in .parquet, got {out}")
    check_target(out, inputs=(file, item_ids))
    maker = load(model) if model is not None else None
    known_sizes = numbers(sizes)
    if known_sizes is None and maker is not None and not sidecar_path(file).exists():
        known_sizes = tuple(maker.quantizer.codebook_sizes)
    if format == "table":
        given = {"item-ids": item_ids, "base": base, "layout": layout, "radix": radix}
        for name, value in {**given, "level-offset": level_offset}.items():
            if value is not None:
                raise ValueError(f"an ID table says all but its --sizes itself: leave out --{name}")
        table = SemanticIds.load(file, known_sizes)
    else:
        kind: Any = format  # checked where all are known
        table = run(
            file,
            kind,
            sizes=known_sizes,
            item_ids=read_items(item_ids) if item_ids is not None else None,
            base=base,
            layout=layout,
            level_offset=level_offset,
            radix=radix,
        )
    if maker is not None:
        note_model(table, maker.fingerprint(), maker.quantizer.codebook_sizes, other_model)
    table.save(out)
    statistics = collision_statistics(table.codes)
    if json:
        facts = {"ids": str(out), "sizes": table.sizes, "model": table.metadata.get("model")}
        print_json({**facts, **vars(statistics)})
        return
    print(f"{len(table):,} items in {out}, codebooks {table.sizes}")
    print(
        f"{statistics.distinct:,} distinct IDs, collisions {statistics.collision_rate:.2%}, "
        f"largest group {statistics.largest_group}"
    )
    if "model" not in table.metadata:
        print("which model made them is not known; --model RUN writes it down")
