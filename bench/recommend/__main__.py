"""python -m bench.recommend: Recall and NDCG of IDs, on validation and test.

    python -m bench.recommend --quick                       minutes, to see that it works
    python -m bench.recommend --data industrial movielens   the comparison of docs/results.md
    python -m bench.recommend --data mine.inter --text items.parquet
    python -m bench.recommend --data industrial movielens --report    only table and chart
    python -m bench.recommend --data industrial movielens --signals   what text and CF know

A finished run is kept in --runs by its configuration and not done again, so a killed comparison
goes on where it was. What was chosen, and why nothing leaks: `bench/recommend/__init__.py`.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import defaultdict
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..measure import limited
from . import data, ids, report, runs, signals
from .generator import Budget
from .interactions import Columns

_RESULTS = Path(__file__).resolve().parents[1] / "results"
_MAIN = [
    "published", "letter", "rq-vae", "kmeans", "balanced-kmeans", "random", "popularity",
    "co-occurrence",
]  # fmt: skip
QUICK = Budget(
    width=32, feed_forward=64, samples=2000, epochs=4, evaluate_every=2, validated=200, tested=500
)


def main() -> None:
    options = _options()
    try:
        _compare(options)
    except ValueError as error:
        sys.exit(f"bench.recommend: {error}")


def _compare(options: argparse.Namespace) -> None:
    columns = Columns(options.user, options.item, options.time)
    datasets = {
        name: data.load(name, columns, options.text, options.shared) for name in options.data
    }
    if options.signals:
        for dataset in datasets.values():
            print(signals.table(dataset), end="\n\n")
        return
    plans = _plans(options, datasets)
    waiting = [plan for plan in plans if runs.kept(plan, options.runs) is None]
    began = time.perf_counter()
    with limited(1):
        for number, plan in enumerate([] if options.report else waiting, start=1):
            title = f"[{number}/{len(waiting)}] {plan.dataset} {plan.kind} seed {plan.seed}"

            def tell(message: str, title: str = title) -> None:
                now = time.strftime("%H:%M:%S")
                print(f"{now} {title}: {message}", file=sys.stderr, flush=True)

            result = runs.run(plan, datasets[plan.dataset], options.runs, tell)
            left = (time.perf_counter() - began) / number * (len(waiting) - number)
            test = ", ".join(f"{name} {value:.4f}" for name, value in result["test"].items())
            tell(f"test {test}; {result['seconds']:.0f} s, {left / 60:.0f} minutes to go")
    _show(options, plans)


def _plans(options: argparse.Namespace, datasets: dict[str, data.Dataset]) -> list[runs.Plan]:
    """The runs to be done, seed by seed: an unfinished comparison is a whole one of fewer seeds."""
    shape, budget = _size(options)
    seeds = options.seeds or ([0] if options.quick else [0, 1, 2])
    plans = []
    for seed in seeds:
        for name, dataset in datasets.items():
            able = ids.possible(dataset)
            chosen = options.ids or [kind for kind in _MAIN if kind in able]
            if missing := [kind for kind in chosen if kind not in able]:
                raise ValueError(f"{name} has no text, CF or published IDs for {missing[0]}")
            for kind in chosen:
                if kind not in ids.FLOORS or seed == seeds[0]:  # floors have no seed
                    plans.append(runs.Plan(name, kind, seed, shape, budget))
    return plans


def _show(options: argparse.Namespace, plans: list[runs.Plan]) -> None:
    found: dict[str, dict[str, list[dict[str, Any]]]] = defaultdict(lambda: defaultdict(list))
    for plan in plans:
        result = runs.kept(plan, options.runs)
        if result is not None:
            found[plan.dataset][plan.kind].append(result)
    if not found:
        raise ValueError(f"{options.runs} holds no run of this comparison yet")
    for name, results in found.items():
        usual = [options.less] if options.less else ["rq-vae", "random"]
        reference = next((kind for kind in usual if kind in results), None)
        print(report.table(name, results, reference), end="\n\n")
    if options.chart:
        report.chart(found, options.chart)


def _size(options: argparse.Namespace) -> tuple[ids.Shape, Budget]:
    shape, budget = ids.Shape(), Budget()
    if options.quick:
        shape, budget = replace(shape, epochs=20), QUICK
    changed = {
        name: getattr(options, name)
        for name in ("epochs", "samples", "temperature", "tested", "validated")
        if getattr(options, name) is not None
    }
    of_shape = {
        name: getattr(options, name)
        for name in ("levels", "codewords")
        if getattr(options, name) is not None
    }
    return replace(shape, **of_shape), replace(budget, **changed)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m bench.recommend",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--data", nargs="+", default=["movielens"], metavar="NAME",
        help=f"{', '.join(data.NAMES)}, or a file of interactions: .inter or .parquet (movielens)",
    )  # fmt: skip
    parser.add_argument(
        "--ids",
        nargs="+",
        choices=ids.KINDS,
        help=f"(of {' '.join(_MAIN)} those the data have what they need for)",
    )
    parser.add_argument(
        "--less",
        choices=ids.KINDS,
        help="what the last column is the difference from (rq-vae, else random)",
    )
    parser.add_argument("--seeds", nargs="+", type=int, help="(0 1 2; 0 with --quick)")
    parser.add_argument("--quick", action="store_true", help="tiny generator, few samples")
    parser.add_argument("--report", action="store_true", help="train nothing")
    parser.add_argument(
        "--signals", action="store_true", help="no generator: do text and CF know the next item?"
    )
    parser.add_argument("--runs", type=Path, default=_RESULTS / "recommend", help="kept runs")
    parser.add_argument("--chart", type=Path, help="PNG to draw")
    parser.add_argument("--shared", type=Path, default=data.SHARED, help="folder of real catalogs")
    own = parser.add_argument_group("a file of interactions")
    own.add_argument("--text", type=Path, help="item embeddings with ids: parquet")
    for role, name in Columns()._asdict().items():
        own.add_argument(f"--{role}", default=name, help=f"its column ({name})")
    size = parser.add_argument_group("size, of all kinds alike")
    size.add_argument("--levels", type=int, help="(3)")
    size.add_argument("--codewords", type=int, help="of each level (64)")
    size.add_argument("--epochs", type=int, help="of the generator, at most (30)")
    size.add_argument("--samples", type=int, help="per epoch (8192)")
    size.add_argument("--validated", type=int, help="cases of validation, at most (1000)")
    size.add_argument("--tested", type=int, help="cases of test, at most (5000)")
    size.add_argument(
        "--temperature", type=float, help="of the loss's softmax; below 1 ranks matter more (1)"
    )
    return parser.parse_args()


if __name__ == "__main__":
    main()
