"""letter-fast tokenize."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from .terminal import Json, print_json, progress


def tokenize(
    model: Annotated[str, typer.Argument(help="Folder that train wrote, of either kind of model.")],
    embeddings: Annotated[
        Path, typer.Argument(help="Item text embeddings: .npy, .parquet or .safetensors.")
    ],
    out: Annotated[Path, typer.Option(help="ID table to write, .parquet.")],
    unique: Annotated[
        str, typer.Option(help="What to do with collisions: optimal, suffix, letter or none.")
    ] = "optimal",
    existing: Annotated[
        Path | None, typer.Option(help="Earlier ID table; its items keep their IDs.")
    ] = None,
    removed: Annotated[
        str,
        typer.Option(
            help="What becomes of the IDs in --existing whose items are gone: reserve or free."
        ),
    ] = "reserve",
    index_json: Annotated[
        Path | None, typer.Option(help="Also write LETTER's index.json here.")
    ] = None,
    batch_size: Annotated[int, typer.Option(help="Items per batch.")] = 4096,
    vectors: Annotated[
        str | None, typer.Option(help="Column or tensor that holds the vectors.")
    ] = None,
    ids: Annotated[str | None, typer.Option(help="Column that holds the item ids.")] = None,
    json: Json = False,
) -> None:
    """Give every item a unique semantic ID.

    Example: letter-fast tokenize run text.npy --out ids.parquet
    """
    from letter_fast.atomic import check_target
    from letter_fast.catalog import Embeddings
    from letter_fast.model import load
    from letter_fast.tokenization import SemanticIds
    from letter_fast.tokenization import tokenize as run

    if out.suffix != ".parquet":
        raise ValueError(f"--out must end in .parquet, got {out}")
    if batch_size < 1:
        raise ValueError(f"--batch-size must be at least 1, got {batch_size}")
    for target in (out, index_json):
        if target is not None:
            check_target(target)
    if not Path(model).is_dir():
        raise ValueError(f"{model} is not a folder; give the folder that train wrote")
    catalog = Embeddings.open(embeddings, vectors=vectors, ids=ids)
    tokenizer = load(model)
    earlier = SemanticIds.load(existing) if existing is not None else None
    with progress("items") as bar:
        task = bar.add_task("encoding", total=catalog.rows, note="")
        table = run(
            tokenizer,
            catalog,
            unique,
            earlier,
            removed=removed,
            batch_size=batch_size,
            on_batch=lambda done, _: bar.update(task, completed=done),
        )
    table.save(out)
    if index_json is not None:
        table.to_letter_json(index_json)
    if earlier is not None and table.metadata == earlier.metadata:
        facts: dict[str, Any] = {"new": False}
    else:
        facts = table.metadata["resolution"]
    if json:
        print_json({"ids": str(out), "items": len(table), "sizes": table.sizes, **facts})
        return
    print(f"{len(table):,} items named in {out}, codebooks {table.sizes}")
    print(_summary(facts) if "before" in facts else "nothing new: every item had its ID")


def _summary(report: dict[str, Any]) -> str:
    """What the policy did, in a line or two."""
    before, after = report["before"], report["after"]
    lines = [
        f"collisions (1 − distinct/items): {before['collision_rate']:.2%} (largest group "
        f"{before['largest_group']}) before, {after['collision_rate']:.2%} after "
        f"«{report['policy']}»"
    ]
    if report["moved"]:
        levels = ", ".join(
            f"{count:,} at level {level}"
            for level, count in enumerate(report["moved_at_level"], start=1)
            if count
        )
        lines.append(
            f"{report['moved']:,} items moved ({levels}), at {report['added_distortion']:.3g} "
            "added distortion an item"
        )
    if report["leftovers"]:
        lines.append(f"{report['leftovers']:,} items still share their ID")
    return "\n".join(lines)
