"""python -m bench.resolver: what making IDs unique costs, at a million rows and in the worst cases.

    python -m bench.resolver                   1 M rows, D = 32, 4 × 256 codewords, 5 % collisions
    python -m bench.resolver --rows 100000     a quick look

Each line gives CPU seconds of all threads and wall seconds, the least of --rounds: on a busy
machine look at the first. Latents are sums of codewords, drawn unevenly, and noise.
"""

from __future__ import annotations

import argparse
import time

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from letter_fast import ops
from letter_fast.tokenization import Resolution, resolve

_WIDTH, _LEVELS, _WORDS = 32, 4, 256
_ADVERSARIAL = 100_000


def catalog(
    rows: int, exponent: float = 0.85, seed: int = 0
) -> tuple[NDArray[np.int64], Tensor, list[Tensor]]:
    """Codes, latents and codebooks; the k-th codeword of a level has weight k^−exponent."""
    generator = torch.Generator().manual_seed(seed)
    books = [
        0.6**level * torch.randn(_WORDS, _WIDTH, generator=generator) for level in range(_LEVELS)
    ]
    weights = torch.arange(1, _WORDS + 1) ** -exponent
    latents = 0.05 * torch.randn(rows, _WIDTH, generator=generator)
    for book in books:
        latents += book[torch.multinomial(weights, rows, replacement=True, generator=generator)]
    codes, *_ = ops.residual_search(latents, torch.cat(books), [_WORDS] * _LEVELS, None, False)
    return codes.numpy(), latents, books


def measured(name: str, rounds: int, *arguments: object, **options: object) -> Resolution:
    """Prints the least CPU and wall seconds, and what came of it."""
    cpu, wall = [], []
    for _ in range(rounds):
        began = time.process_time(), time.perf_counter()
        result = resolve(*arguments, **options)  # type: ignore[arg-type]
        cpu.append(time.process_time() - began[0])
        wall.append(time.perf_counter() - began[1])
    report = result.report
    print(
        f"{name:34} {min(cpu):7.2f} s CPU {min(wall):7.2f} s   collisions "
        f"{report.before.collision_rate:.1%} → {report.after.collision_rate:.1%}, "
        f"moved at each level {report.moved_at_level}, "
        f"added distortion {report.added_distortion:.4g} a row",
        flush=True,
    )
    return result


def batches(rows: int, count: int) -> None:
    """New items in `count` batches on top of a catalog of `rows`."""
    size = rows // count
    codes, latents, books = catalog(rows + size * count, exponent=1.1)
    held = resolve(codes[:rows], latents[:rows], books).codes
    spent = []
    for begin in range(rows, len(codes), size):
        began = time.process_time()
        new = resolve(codes[begin : begin + size], latents[begin : begin + size], books, held=held)
        spent.append(time.process_time() - began)
        held = np.concatenate([held, new.codes])
    print(
        f"{count} batches of {size:,} on {rows:,}: {min(spent):.3f} to {max(spent):.3f} s CPU "
        f"each; {len(held):,} items, {new.report.after.distinct:,} IDs"
    )


def main() -> None:
    """Prints all lines."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=3)
    asked = parser.parse_args()
    problem = catalog(asked.rows)
    print(f"{asked.rows:,} rows, {torch.get_num_threads()} threads")
    for policy in ("none", "suffix", "letter", "optimal"):
        measured(policy, asked.rounds, *problem, policy)
    batches(100_000, 20)
    for words, levels in ((_WORDS, 4), (_WORDS, 3), (2, 17)):
        generator = torch.Generator().manual_seed(0)
        books = [0.6**level * torch.randn(words, 8, generator=generator) for level in range(levels)]
        codes = np.zeros((_ADVERSARIAL, levels), dtype=np.int64)
        for spread, kind in ((0.0, "equal"), (1e-3, "nearly equal"), (1.0, "spread")):
            latents = 1 + spread * torch.randn(_ADVERSARIAL, 8, generator=generator)
            measured(f"one prefix, {kind}, {levels} × {words}", 1, codes, latents, books)


if __name__ == "__main__":
    main()
