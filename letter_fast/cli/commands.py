"""All commands, under the names they are called by."""

from __future__ import annotations

import typer

from .bench import bench
from .demo import demo
from .diff import diff
from .evaluate import evaluate
from .export import export
from .import_ids import import_ids
from .quickstart import quickstart
from .tokenize import tokenize
from .train import train

app = typer.Typer(
    help="Semantic IDs for generative recommenders: train a tokenizer, name a catalog's items.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
for command in (quickstart, train, tokenize, evaluate, export, diff, demo, bench):
    app.command()(command)
app.command("import")(import_ids)  # a word that Python keeps for itself
