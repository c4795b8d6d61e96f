"""letter-fast tokenize."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .columns import Ids, Vectors, named_items
from .interrupts import resumable
from .terminal import Json, OtherModel, print_json, progress

if TYPE_CHECKING:
    from letter_fast.tokenization.existing import Changes


def tokenize(
    model: Annotated[str, typer.Argument(help="Folder that train wrote, of either kind of model.")],
    embeddings: Annotated[
        Path,
        typer.Argument(
            help="Item text embeddings: .npy, .parquet or .safetensors, or a folder of such shards."
        ),
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
            help="What becomes of items of --existing that are not here: reserve marks them as "
            "removed and gives their IDs to no other item; keep leaves them live, for a file of "
            "new items only; free gives their IDs away."
        ),
    ] = "reserve",
    max_removed: Annotated[
        float | None,
        typer.Option(help="Largest share of --existing's live items that may be gone, as 0.05."),
    ] = None,
    refresh: Annotated[
        str,
        typer.Option(
            help="changed: items whose embedding has changed since --existing are encoded anew; "
            "none: they keep their IDs."
        ),
    ] = "none",
    other_model: OtherModel = False,
    margins: Annotated[
        bool,
        typer.Option("--margins", help="Also write how far the runner-up was at each level."),
    ] = False,
    index_json: Annotated[
        Path | None, typer.Option(help="Also write LETTER's index.json here.")
    ] = None,
    batch_size: Annotated[int, typer.Option(help="Items read together; changes no ID.")] = 4096,
    vectors: Vectors = None,
    ids: Ids = None,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Ignore what a killed run of the same --out left.")
    ] = False,
    json: Json = False,
) -> None:
    """Give every item a unique semantic ID.

    Catalogs may be larger than memory. A killed run goes on where it was: until the table is
    written, finished codes are in OUT.unfinished.

    Example: letter-fast tokenize run text.npy --out ids.parquet
    """
    from letter_fast.atomic import check_target, make_folder
    from letter_fast.catalog import Embeddings
    from letter_fast.locks import only_writer
    from letter_fast.model import load, trained_on
    from letter_fast.paths import beside, local_path
    from letter_fast.tokenization import POLICIES, SemanticIds
    from letter_fast.tokenization import tokenize as run
    from letter_fast.tokenization.existing import REFRESH, REMOVED
    from letter_fast.tokenization.finished import drop
    from letter_fast.validation import choice

    if out.suffix != ".parquet":
        raise ValueError(f"--out must end in .parquet, got {out}")
    if batch_size < 1:
        raise ValueError(f"--batch-size must be at least 1, got {batch_size}")
    target = check_target(out, inputs=(embeddings,))
    if index_json is not None and check_target(index_json, inputs=(embeddings,)) == target:
        raise ValueError(f"--out and --index-json are both {out}")
    if not local_path(model).is_dir():
        raise ValueError(f"{model} is not a folder; give the folder that train wrote")
    tokenizer = load(model)
    usual = trained_on(tokenizer).embeddings
    catalog = Embeddings.open(embeddings, vectors=vectors, ids=ids, usual=usual)
    earlier = SemanticIds.load(existing) if existing is not None else None
    unfinished = beside(out, ".unfinished")
    encoding = Stopwatch()
    found: list[Changes] = []
    make_folder(target.parent)
    with only_writer(target), resumable("the same command goes on from the finished codes"):
        with progress("items") as bar:
            task = bar.add_task("encoding", total=None, note="")

            def show(done: int, rows: int) -> None:
                encoding.lap(done)
                bar.update(task, completed=done, total=rows)
                if done == rows:
                    bar.update(task, description="resolving")

            table = run(
                tokenizer,
                catalog,
                choice(unique, POLICIES, "unique"),
                earlier,
                removed=choice(removed, REMOVED, "removed"),
                max_removed=max_removed,
                refresh=choice(refresh, REFRESH, "refresh"),
                other_model=other_model,
                margins=margins,
                batch_size=batch_size,
                unfinished=unfinished,
                fresh=fresh,
                on_batch=show,
                on_existing=found.append,
            )
        table.save(out)
        if index_json is not None:
            table.to_letter_json(index_json)
        drop(unfinished)
    if earlier is not None and table.metadata == earlier.metadata:
        facts: dict[str, Any] = {"new": False}
    else:
        facts = table.metadata["resolution"]
    times = encoding.summary()
    live = int(table.is_live.sum())
    if json:
        summary = {"ids": str(out), "items": live, "removed": len(table) - live}
        summary |= {"item_ids": catalog.named_by}
        changes = found[0]._asdict() if found else None
        print_json({**summary, "sizes": table.sizes, "existing": changes, **facts, **times})
        return
    print(f"{live:,} items named in {out}, codebooks {table.sizes}")
    print(named_items(catalog))
    if found:
        print(_changes(found[0], removed, refresh))
    print(_summary(facts) if "before" in facts else "nothing new: every item had its ID")
    print(_pace(times))


class Stopwatch:
    """The time that encoding took, and the time after it."""

    def __init__(self) -> None:
        self._laps: list[tuple[float, int]] = []

    def lap(self, done: int) -> None:
        """`done` rows are encoded; at first, those of an earlier run."""
        self._laps = [*self._laps[:1], (time.perf_counter(), done)]

    def summary(self) -> dict[str, Any]:
        """Rows and seconds by stage, as JSON has them."""
        (began, found), (ended, done) = self._laps[0], self._laps[-1]
        return {
            "encoded": done - found,
            "found_finished": found,
            "encode_seconds": round(ended - began, 3),
            "resolve_seconds": round(time.perf_counter() - ended, 3),
        }


def _changes(changes: Changes, removed: str, refresh: str) -> str:
    """The fate of an earlier table's items, in a line or two."""
    gone = {"reserve": "were marked as removed", "keep": "are not here", "free": "lost their IDs"}
    line = (
        f"{changes.kept:,} items kept their IDs, {changes.returned:,} came back to theirs, "
        f"{changes.new:,} are new, {changes.absent:,} {gone[removed]}"
    )
    both = changes.kept + changes.returned
    if changes.unknown == both:
        return f"{line}\nwhich embeddings have changed is not known: the table didn't record them"
    anew = " and were encoded anew" if refresh == "changed" else ""
    unknown = f"; of {changes.unknown:,} that is not known" if changes.unknown else ""
    return f"{line}\n{changes.changed:,} of them have another embedding now{anew}{unknown}"


def _pace(times: dict[str, Any]) -> str:
    rate = times["encoded"] / max(times["encode_seconds"], 1e-3)
    found = times["found_finished"]
    earlier = f", {found:,} were found finished" if found else ""
    return (
        f"{times['encoded']:,} items encoded in {times['encode_seconds']:.1f} s "
        f"({rate:,.0f} items/s){earlier}; IDs resolved and written in "
        f"{times['resolve_seconds']:.1f} s"
    )


def _summary(report: dict[str, Any]) -> str:
    """The changes that the policy made, in a line or two."""
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
