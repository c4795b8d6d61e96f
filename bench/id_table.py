"""python -m bench.id_table: time and memory of an ID table of 10⁷ items, step by step."""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from letter_fast.tokenization import IdConstraint, SemanticIds, diff, export_ids, import_ids

from .memory import peak, start

CPU = torch.device("cpu")
SIZES = [256] * 4
# Reads by Python's json, about 1 KB an item.
LARGEST_INDEX = 1_000_000


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.id_table", description=__doc__)
    parser.add_argument("--rows", type=int, default=10_000_000, help="items (10,000,000)")
    parser.add_argument(
        "--names", choices=("numbers", "strings"), default="strings", help="item ids (strings)"
    )
    options = parser.parse_args()
    torch.set_num_threads(1)
    pa.set_cpu_count(1)
    random = np.random.default_rng(0)
    codes = random.integers(0, SIZES, (options.rows, len(SIZES)))
    shuffled = random.permutation(options.rows)
    items = pa.array(
        shuffled if options.names == "numbers" else [f"B{one:09d}" for one in shuffled.tolist()]
    )
    print(f"{options.rows:,} items named by {options.names}, codebooks {SIZES}, one thread")
    table = step("construct and check", lambda: SemanticIds(codes, SIZES, items))
    lookups(table, random.integers(0, options.rows, 10_000))
    decoding(table)
    files(table)
    codes[::10, 2:] = random.integers(0, 256, codes[::10, 2:].shape)
    changed = SemanticIds(random.permutation(256)[codes], SIZES, items)
    step("diff", lambda: diff(table, changed))


def lookups(table: SemanticIds, rows: np.ndarray) -> None:
    wanted, asked = table.item_ids.take(pa.array(rows)), table.codes[rows]
    one, some = wanted[0].as_py(), asked[0].tolist()
    step("build the index of items", lambda: table.rows_of_items(wanted[:1]))
    step("10,000 items → rows", lambda: table.rows_of_items(wanted), repeat=7)
    step("one item → ID", lambda: table.codes_of(one), repeat=50)
    step("build the index of codes", lambda: table.rows_of_codes(asked[:1]))
    step("10,000 IDs → rows", lambda: table.rows_of_codes(asked), repeat=7)
    step("one ID → items", lambda: table.items_of(some), repeat=50)
    step("packed to int64", table.packed)
    step("packed to bytes", table.packed_bits)


def decoding(table: SemanticIds) -> None:
    trie, beams = table.trie(), 1024
    print(f"trie: {trie.nbytes / 1e6:.0f} MB, {len(trie):,} distinct IDs")
    for depth in range(len(SIZES)):
        prefixes = torch.from_numpy(table.codes[:beams, :depth].copy())
        name = f"allowed_tokens, {beams:,} prefixes of {depth}"
        step(name, partial(trie.allowed_tokens, prefixes), repeat=20)
    start_id = 32_100
    scores = torch.randn(beams, start_id + sum(SIZES))
    sequences = torch.from_numpy(table.token_ids(start_id)[:beams, :3].copy())
    constraint = IdConstraint(trie, start_id)
    constraint(sequences[:, :0], scores)  # where prompts end
    constraint(sequences[:, :1], scores)
    constraint(sequences[:, :2], scores)
    step(f"IdConstraint, {beams:,} beams", lambda: constraint(sequences, scores), repeat=20)
    step("  of it: one copy of the scores", scores.clone, repeat=20)


def files(table: SemanticIds) -> None:
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "ids.parquet"
        step("save", lambda: table.save(path))
        print(f"ids.parquet: {path.stat().st_size / 1e6:.0f} MB")
        step("load", lambda: SemanticIds.load(path))
        for format in ("letter", "grid", "openonerec", "faiss"):
            file = Path(name) / format
            step(f"export {format}", partial(export_ids, table, file, format))
            if format != "letter" or len(table) <= LARGEST_INDEX:
                step(f"import {format}", partial(import_ids, file))
            file.unlink()


def step(name: str, work: Callable[[], Any], repeat: int = 1) -> Any:
    """Runs `work`; prints the least CPU time of `repeat` calls and the growth of peak memory."""
    pa.default_memory_pool().release_unused()
    before = start(CPU)
    seconds = float("inf")
    for _ in range(repeat):
        begin = time.process_time()
        result = work()
        seconds = min(seconds, time.process_time() - begin)
    growth = (peak(CPU) - before) / 1e6
    print(f"{name:36} {1e3 * seconds:11,.2f} ms CPU  {growth:8,.0f} MB", flush=True)
    return result


if __name__ == "__main__":
    main()
