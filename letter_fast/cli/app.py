"""letter-fast: the commands, and how they fail: exit code 2 and one line on stderr."""

from __future__ import annotations

import sys
import warnings

import typer

from .bench import bench
from .demo import demo
from .diff import diff
from .evaluate import evaluate
from .export import export
from .import_ids import import_ids
from .tokenize import tokenize
from .train import train

app = typer.Typer(
    help="Semantic IDs for generative recommenders: train a tokenizer, name a catalog's items.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
for command in (train, tokenize, evaluate, export, diff, demo, bench):
    app.command()(command)
app.command("import")(import_ids)  # a word that Python keeps for itself


def main() -> None:
    """Entry point of the `letter-fast` script."""
    warnings.formatwarning = lambda message, *_: f"letter-fast: warning: {message}\n"
    sys.exit(run(sys.argv[1:]))


def run(arguments: list[str]) -> int:
    """Runs one command; 0, or 2 (interrupted: 130) after one line on stderr that says why."""
    try:
        result = app(arguments, standalone_mode=False)
    except OSError as error:
        return _fail(f"{error.filename}: {error.strerror}" if error.filename else str(error))
    except ValueError as error:
        return _fail(str(error))
    except KeyboardInterrupt:
        return _fail("interrupted", code=130)
    except Exception as error:
        # Usage errors: typer carries its own copy of click, whose classes have no public name.
        if hasattr(error, "format_message"):
            return _fail(error.format_message())
        raise
    return result if isinstance(result, int) else 0


def _fail(message: str, code: int = 2) -> int:
    if message:  # empty where the command's help was printed instead
        print("letter-fast: " + " ".join(message.split()), file=sys.stderr)
    return code


if __name__ == "__main__":  # torchrun -m letter_fast.cli.app train …
    main()
