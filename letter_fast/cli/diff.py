"""letter-fast diff."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .terminal import Json, WithRemoved, print_json


def diff(
    old: Annotated[Path, typer.Argument(help="ID table, .parquet.")],
    new: Annotated[Path, typer.Argument(help="A later one, of about the same items.")],
    with_removed: WithRemoved = False,
    json: Json = False,
) -> None:
    """Compare two ID tables: what moved, at which level, and what was only numbered anew.

    "matched" is after the best permutation of each level's codes: a model trained anew numbers its
    codewords anew, which moves every ID but regroups nothing.

    Example: letter-fast diff monday.parquet tuesday.parquet
    """
    from rich.console import Console
    from rich.table import Table

    from letter_fast.tokenization import SemanticIds
    from letter_fast.tokenization import diff as compare

    result = compare(SemanticIds.load(old), SemanticIds.load(new), with_removed)
    if json:
        print_json(result.to_dict())
        return
    print(f"{result.old_items:,} items in {old}, {result.new_items:,} in {new}")
    print(
        f"{result.kept:,} kept their ID, {result.moved:,} moved, {result.added:,} were added, "
        f"{result.returned:,} came back, {result.removed:,} were removed"
    )
    if result.same_model is False:
        print("another model made them")
    table = Table(title=f"Of the {result.kept + result.moved:,} items in both")
    for heading in ("level", "code changed", "matched", "same prefix so far", "matched"):
        table.add_column(heading, justify="right")
    rows = zip(result.churn, result.churn_matched, result.same_prefix, result.same_prefix_matched)
    for level, shares in enumerate(rows, start=1):
        table.add_row(str(level), *(f"{share:.2%}" for share in shares))
    Console().print(table)
