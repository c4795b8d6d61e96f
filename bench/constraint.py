"""python -m bench.constraint: what a step of constrained decoding costs, with sets of items."""

from __future__ import annotations

import argparse
import time
from typing import Any

import numpy as np
import torch

from letter_fast.tokenization import SemanticIds

SIZES = [256] * 4
START = 32_100  # T5's vocabulary before the codes


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.constraint", description=__doc__)
    parser.add_argument("--items", type=int, default=1_000_000, help="IDs (1,000,000)")
    parser.add_argument("--prompts", type=int, default=8, help="prompts of a batch (8)")
    parser.add_argument("--beams", type=int, default=20, help="beams a prompt (20)")
    options = parser.parse_args()
    torch.set_num_threads(1)
    draw = np.random.default_rng(0)
    ids = SemanticIds(np.unique(draw.integers(0, SIZES, (options.items, 4)), axis=0), SIZES)

    def sets(size: int) -> list[Any]:
        return [draw.integers(len(ids), size=size) for _ in range(options.prompts)]

    print(
        f"{len(ids):,} IDs, {options.prompts} prompts of {options.beams} beams; ms of processor "
        "time of one thread for each of 4 steps, the least of 5"
    )
    rows = options.prompts * options.beams
    scores = torch.randn(rows, START + sum(SIZES))
    print(f"{'a copy of the scores':36}{1e3 * least(lambda: scores.clone()):8.2f}")
    for name, given in {
        "every item": {},
        "100 items excluded of each prompt": {"excluded": sets(100)},
        "100,000 items allowed of each": {"only": [np.unique(one) for one in sets(100_000)]},
    }.items():
        print(
            f"{name:36}" + "".join(f"{1e3 * one:8.2f}" for one in steps(ids, rows, scores, given))
        )


def steps(ids: SemanticIds, rows: int, scores: torch.Tensor, sets: dict[str, Any]) -> list[float]:
    """Seconds of each step."""
    constraint = ids.constraint(START, 1, prompt_length=50, **sets)
    chosen = ids.token_ids(START)[np.random.default_rng(1).integers(len(ids), size=rows)]
    whole = torch.cat([torch.full((rows, 50), 7), torch.from_numpy(chosen)], dim=1)
    found = []
    for length in range(50, 54):
        sequences = whole[:, :length]
        found.append(least(lambda tokens=sequences: constraint(tokens, scores)))
    return found


def least(work: Any) -> float:
    """Processor seconds of the quickest of five."""
    seconds = []
    for _ in range(5):
        began = time.process_time()
        work()
        seconds.append(time.process_time() - began)
    return min(seconds)


if __name__ == "__main__":
    main()
