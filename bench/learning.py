"""python -m bench.learning: what ours and the plain loop learn from the same starts, seed by seed.

    python -m bench.learning --epochs 60 --seeds 0 1 2

Both trainers are `bench.training`'s. Each finished run is added to the JSON, and is not run again.
"""

from __future__ import annotations

import argparse
import json
from copy import deepcopy
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import torch

import letter_fast as lf
from letter_fast.catalog import Embeddings
from letter_fast.training.metrics import evaluate_catalog

from . import machine
from .curves import Curve, draw
from .measure import limited
from .training import ALONE, Catalog, Epoch, Ours, Plain, Vectorised, add_catalog, opened, started

_JSON = Path(__file__).parent / "results" / "amd-epyc-learning.json"
KINDS: tuple[type[Ours] | type[Plain], ...] = (Ours, Vectorised)


def follow(
    kind: type[Ours] | type[Plain], start: lf.Letter, catalog: Catalog, seed: int, epochs: int
) -> list[dict[str, float]]:
    """The means of each epoch; of the first, every quarter and the last also what codes do."""
    trainer = kind(deepcopy(start), catalog, lf.TrainSettings(seed=seed))
    records = []
    for epoch in range(1, epochs + 1):
        terms = trainer.epoch()._asdict()
        if epoch in shown(epochs):
            embeddings = Embeddings.open(catalog.text)
            measured = evaluate_catalog(trainer.model, embeddings, 4096, ALONE)
            terms["collisions"] = measured["collision_rate"]
            for level, value in enumerate(measured["catalog_perplexity"], start=1):
                terms[f"perplexity {level}"] = value
        records.append(terms)
    return records


def shown(epochs: int) -> list[int]:
    return sorted({1, epochs // 4, epochs // 2, epochs} - {0})


def tell(runs: list[dict[str, Any]], epochs: int) -> None:
    """A table of means and standard deviations over seeds."""
    for epoch in shown(epochs):
        ours, plain = (
            [run["epochs"][epoch - 1] for run in runs if run["name"] == kind.name] for kind in KINDS
        )
        print(f"epoch {epoch}: mean ± standard deviation of {len(ours)} and {len(plain)} seeds")
        print(f"  {'':16} {Ours.name:>24} {Vectorised.name:>28}")
        for name in ours[0]:
            print(f"  {name:16} {_spread(ours, name):>24} {_spread(plain, name):>28}")


def plot(runs: list[dict[str, Any]], epochs: int, path: Path) -> None:
    """Every term of the loss, ours over the plain loop's."""
    panels = {
        term: [
            Curve(
                kind.name,
                range(1, epochs + 1),
                [
                    [record[term] for record in run["epochs"]]
                    for run in runs
                    if run["name"] == kind.name
                ],
                style,
            )
            for kind, style in zip(KINDS, ("-", "--"))
        ]
        for term in Epoch._fields
    }
    draw(path, panels, "Loss and its terms: mean of the seeds, and their range")


def _spread(records: list[dict[str, float]], name: str) -> str:
    values = [record[name] for record in records]
    return f"{mean(values):.5g} ± {stdev(values) if len(values) > 1 else 0:.2g}"


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m bench.learning",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_catalog(parser)
    parser.add_argument("--epochs", type=int, default=30, help="(30)")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="(0 1 2)")
    parser.add_argument("--json", type=Path, default=_JSON, help="results, added to")
    options = parser.parse_args()
    catalog, config = opened(options)
    runs = json.loads(options.json.read_text())["runs"] if options.json.exists() else []
    done = {(run["name"], run["seed"]) for run in runs}
    with limited(options.threads):
        for seed in options.seeds:
            if all((kind.name, seed) in done for kind in KINDS):
                continue
            start = started(catalog, config, lf.TrainSettings(seed=seed))
            for kind in KINDS:
                if (kind.name, seed) in done:
                    continue
                records = follow(kind, start, catalog, seed, options.epochs)
                runs.append({"name": kind.name, "seed": seed, "epochs": records})
                shape = {"rows": len(catalog.text), "hidden": config.hidden}
                facts = machine.facts(torch.device("cpu"))
                found = {"machine": facts, **shape, "runs": runs}
                options.json.write_text(json.dumps(found, indent=1) + "\n")
    tell(runs, options.epochs)
    plot(runs, options.epochs, options.json.with_suffix(".png"))


if __name__ == "__main__":
    main()
