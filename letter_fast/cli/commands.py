"""All commands, under the names they are called by."""

from __future__ import annotations

from typing import Annotated

import typer

from .bench import bench
from .demo import demo
from .diff import diff
from .env import env
from .evaluate import evaluate
from .export import export
from .import_ids import import_ids
from .quickstart import quickstart
from .tokenize import tokenize
from .train import train

app = typer.Typer(
    help="Semantic IDs for generative recommenders: train a tokenizer, name a catalog's items.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)


def _show_version(wanted: bool) -> None:
    if wanted:
        from letter_fast import __version__

        print(f"letter-fast {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool,
        typer.Option("--version", help="Show the version.", callback=_show_version, is_eager=True),
    ] = False,
) -> None:
    pass


for command in (quickstart, train, tokenize, evaluate, export, diff, demo, bench, env):
    app.command()(command)
app.command("import")(import_ids)  # a word that Python keeps for itself
