"""letter-fast: the commands, and how they fail: exit code 2 and one line on stderr."""

from __future__ import annotations

import sys

import typer

from .demo import demo
from .evaluate import evaluate
from .tokenize import tokenize
from .train import train

app = typer.Typer(
    help="Semantic IDs for generative recommenders: train a tokenizer, name a catalog's items.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
for command in (train, tokenize, evaluate, demo):
    app.command()(command)


def main() -> None:
    """Entry point of the `letter-fast` script."""
    sys.exit(run(sys.argv[1:]))


def run(arguments: list[str]) -> int:
    """Runs one command; 0, or 2 after one line on stderr that says what is wrong."""
    try:
        result = app(arguments, standalone_mode=False)
    except (ValueError, OSError) as error:
        return _fail(str(error))
    except KeyboardInterrupt:
        return _fail("interrupted")
    except Exception as error:
        # Usage errors: typer carries its own copy of click, whose classes have no public name.
        if hasattr(error, "format_message"):
            return _fail(error.format_message())
        raise
    return result if isinstance(result, int) else 0


def _fail(message: str) -> int:
    print("letter-fast: " + " ".join(message.split()), file=sys.stderr)
    return 2
