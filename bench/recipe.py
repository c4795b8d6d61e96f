"""python -m bench.recipe: which settings reach few collisions in few epochs, one change at a time.

    python -m bench.recipe --variants public balanced       trains them, adds them to the JSON
    python -m bench.recipe --plot                           the curves of all that is in the JSON

Every variant is the one before it and a change ("ema": "cosine" and one). Collisions are those of
the model's own codes (nearest codewords); at the end also those that LETTER's 20 Sinkhorn rounds
leave, which the published tables have gone through.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

import letter_fast as lf
from letter_fast.catalog import Embeddings
from letter_fast.training.journal import read_log

from . import machine
from .curves import Curve, Level, draw
from .measure import limited

_RESULTS = Path(__file__).parent / "results" / "amd-epyc-recipe.json"
_YELP = Path(__file__).parents[2] / "shared" / "data" / "yelp"

_TERMS = (
    "epoch", "loss", "recon", "quantization", "cf", "diversity", "collision_rate", "catalog_usage",
    "catalog_perplexity",
)  # fmt: skip

VARIANTS: dict[str, dict[str, Any]] = {
    "public": dict(start="kmeans"),
    "balanced": dict(),
    "revive": dict(revive_after=5),
    "cosine": dict(revive_after=5, schedule="cosine", warmup_steps=100),
    "batch": dict(
        revive_after=5, schedule="cosine", warmup_steps=100, learning_rate=3e-3, batch_size=4096
    ),
    "ema": dict(revive_after=5, schedule="cosine", warmup_steps=100),
}
# Of the model, where a variant changes that.
MODEL: dict[str, dict[str, Any]] = {"ema": dict(codebook_update="ema", diversity_weight=0.0)}
ABOUT = {
    "public": "public settings",
    "balanced": "+ balanced start",
    "revive": "+ revive_after = 5",
    "cosine": "+ warm-up and cosine",
    "batch": "+ batch 4096, rate 3e-3",
    "ema": "warm-up and cosine, EMA codebooks",
}


def follow(
    name: str, text: Path, cf: Path, hidden: tuple[int, ...], epochs: int, every: int, out: Path
) -> dict[str, Any]:
    """Trains one variant, or goes on with it, and says how its collisions fell."""
    catalog = Embeddings.open(text)
    settings = lf.TrainSettings(
        epochs=epochs, evaluate_every=every, checkpoint_every=every, **VARIANTS[name]
    )
    torch.manual_seed(settings.seed)
    shape = MODEL.get(name, {})
    model = lf.Letter(lf.LetterConfig(input_dim=catalog.width, hidden=hidden, **shape))
    begin = time.process_time()
    first = None

    def note(record: dict[str, Any]) -> None:
        nonlocal first
        first = first or record["epoch"]
        if "collision_rate" in record:
            print(f"{name} {record['epoch']}: {record['collision_rate']:.2%}", flush=True)

    lf.train(model, text, cf, out, settings, on_epoch=note)
    seconds = time.process_time() - begin
    rounds = lf.tokenize(model, text, unique="letter")
    return {
        "name": name,
        "settings": settings.to_dict(),
        "hidden": hidden,
        "curve": [
            {term: record[term] for term in _TERMS}
            for record in read_log(out)
            if "collision_rate" in record
        ],
        "first_epoch": first,
        "processor_seconds_from_there": seconds,
        "after_sinkhorn_rounds": _repeated(rounds.codes),
        "machine": machine.facts(torch.device("cpu")),
    }


def _repeated(rows: NDArray[Any]) -> float:
    """The share of rows that repeat an earlier one."""
    return 1 - len(np.unique(rows, axis=0)) / len(rows)


def plot(found: dict[str, Any], text: Path, published: Path, path: Path) -> None:
    """The curves, and what can't and what needn't be beaten."""
    lines = [
        Curve(
            ABOUT[name],
            [record["epoch"] for record in found[name]["curve"]],
            [[100 * record["collision_rate"] for record in found[name]["curve"]]],
        )
        for name in VARIANTS
        if name in found
    ]
    levels = [
        Level("published table", 100 * _repeated(np.load(published))),
        Level("equal texts", 100 * _repeated(np.load(text)), ":"),
    ]
    draw(path, {"1 − distinct IDs / items, %": lines}, "Collisions of the model's codes", levels)


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m bench.recipe",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--data", type=Path, default=_YELP, help="folder of text and CF vectors")
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=[])
    parser.add_argument("--epochs", type=int, default=150, help="(150)")
    parser.add_argument("--every", type=int, default=5, help="epochs between evaluations (5)")
    parser.add_argument("--hidden", default="512,256,128", help="(512,256,128)")
    parser.add_argument("--runs", type=Path, default=Path("recipe-runs"), help="checkpoints")
    parser.add_argument("--json", type=Path, default=_RESULTS, help="results, added to")
    parser.add_argument("--plot", action="store_true", help="also draw all of them, beside it")
    options = parser.parse_args()
    text, cf = options.data / "text_embeddings.npy", options.data / "cf_embeddings.npy"
    found = json.loads(options.json.read_text()) if options.json.exists() else {}
    hidden = tuple(int(width) for width in options.hidden.split(","))
    for name in options.variants:
        with limited(1):
            out = options.runs / name
            found[name] = follow(name, text, cf, hidden, options.epochs, options.every, out)
        options.json.write_text(json.dumps(found, indent=1) + "\n")
    if options.plot:
        published = options.data / "published_letter_ids.npy"
        plot(found, text, published, options.json.with_suffix(".png"))


if __name__ == "__main__":
    main()
