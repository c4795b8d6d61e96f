"""letter-fast quickstart."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .terminal import Json, print_json, progress

_SHOWN = tuple(f"{name}, organic" for name in ("spaghetti", "basil", "nappies", "lager"))


def quickstart(
    out: Annotated[Path, typer.Option(help="Folder for everything it makes.")] = Path("quickstart"),
    epochs: Annotated[int, typer.Option(help="Passes over the catalog.")] = 60,
    json: Json = False,
) -> None:
    """From products to semantic IDs in under a minute: nothing to download, nothing to prepare.

    A grocery shop that comes with the package becomes embeddings, a LETTER model and a table of
    unique IDs; the folder holds each file, to look at and to replace by your own. With matplotlib
    there is a picture of the tree of IDs too.
    """
    import time

    import torch
    from rich.console import Console

    from letter_fast.atomic import check_folder
    from letter_fast.demo.quickstart import run_quickstart
    from letter_fast.demo.showcase import prefix_neighbours

    if epochs < 1:
        raise ValueError(f"--epochs must be at least 1, got {epochs}")
    out = check_folder(out)
    if not json:
        print("a shop of 1,122 products, about 10 seconds on one core, 1 MB of files\n", flush=True)
    began = time.perf_counter()
    torch.set_num_threads(1)  # steps of 256 rows are too small to share
    with progress("epochs", every=5.0) as bar:
        task = bar.add_task("training", total=epochs, note="")
        made = run_quickstart(
            out,
            epochs,
            lambda record: bar.update(
                task, completed=record["epoch"], note=f"loss {record['loss']:.4g}"
            ),
        )
    seconds = time.perf_counter() - began
    if json:
        print_json({"folder": str(out), "items": len(made.ids), "seconds": seconds})
        return
    console = Console(highlight=False, soft_wrap=True)
    for name in _SHOWN:
        row = made.shop.titles.index(name)
        console.print(f"[bold]{name}[/]  {' '.join(made.ids.tokens([row])[0])}")
        near = prefix_neighbours(made.ids, row, 3)
        console.print(f"    near it: {' · '.join(made.shop.titles[other] for other in near)}")
    before = made.ids.metadata["resolution"]["before"]["distinct"]
    print(
        f"\n{len(made.ids):,} products: {before:,} distinct IDs as the model gave them, "
        f"{len(made.ids):,} after collisions were resolved; {seconds:.0f} s"
    )
    for name, what in made.files.items():
        size = (out / name).stat().st_size
        print(f"{out / name}: {what}, {size / 1000:,.0f} kB")
    print(
        f"next: letter-fast evaluate {out / 'model'} --embeddings {out / 'items.parquet'} "
        f"--cf {out / 'cf.parquet'}"
    )
