"""python -m bench.from_disk: an epoch over a file larger than memory is meant to hold.

    python -m bench.from_disk                 1 M × 384 float32 (1.5 GB, written to --folder first)

Rows a second of the loader alone (windows read, shuffled, cut into batches), of a whole epoch of
training, and of the evaluation after it; and the most memory that the process ever had resident,
PyTorch included, pages of the mapped file too. The limit is 2 GB. The file was just written, so it
comes from the system's cache as far as that holds it: `--cold` drops it from there first.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

import letter_fast as lf
from letter_fast.catalog import Embeddings
from letter_fast.training.batches import Batches
from letter_fast.training.metrics import evaluate_catalog
from letter_fast.training.ranks import Ranks
from letter_fast.training.run import Run
from letter_fast.training.start import start_codebooks
from letter_fast.training.step import train_epoch

from . import machine, memory
from .measure import limited

_LIMIT = 2_000_000_000
_BLOCK = 16_384
_CPU = torch.device("cpu")
_ALONE = Ranks(0, 1, _CPU)


def write(path: Path, rows: int, width: int) -> None:
    """Unit-norm rows around 10,000 centres, a block at a time."""
    draw = np.random.default_rng(0)
    centres = draw.standard_normal((10_000, width), dtype=np.float32)
    out = np.lib.format.open_memmap(path, "w+", np.float32, (rows, width))
    for begin in range(0, rows, _BLOCK):
        part = out[begin : begin + _BLOCK]
        noise = draw.standard_normal(part.shape, dtype=np.float32)
        block = centres[draw.integers(len(centres), size=len(part))] + 0.5 * noise
        part[:] = block / np.linalg.norm(block, axis=1, keepdims=True)
    out.flush()


def forget(path: Path) -> None:
    """Drops the file from the system's cache."""
    with path.open("rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def measure(path: Path, hidden: tuple[int, ...], batch_size: int, cold: bool) -> dict[str, Any]:
    """Rates and the peak of this process."""
    catalog = Embeddings.open(path)
    settings = lf.TrainSettings(epochs=1, batch_size=batch_size)
    config = lf.LetterConfig(input_dim=catalog.width, hidden=hidden, cf_weight=0.0)
    model = lf.Letter(config)
    run, batches = Run(model, settings), Batches(catalog, None, batch_size, 0, _ALONE)
    start_codebooks(model, catalog, settings)
    memory.start(_CPU)

    def read() -> None:
        for batch in batches.epoch(0):
            batch.s.sum()

    steps: dict[str, Callable[[], object]] = {
        "loader": read,
        "epoch": lambda: train_epoch(run, batches, _ALONE).record(_ALONE),
        "evaluation": lambda: evaluate_catalog(model, catalog, batch_size, _ALONE),
    }
    rates = {}
    for name, step in steps.items():
        if cold:
            forget(path)
        clock, processor = time.perf_counter(), time.process_time()
        step()
        seconds, spent = time.perf_counter() - clock, time.process_time() - processor
        rates[name] = {"rows_per_second": catalog.rows / seconds, "processor_seconds": spent}
        print(
            f"{name:12} {catalog.rows / seconds:12,.0f} rows/s   {spent:6.1f} s of processor time"
        )
    peak = memory.peak(_CPU)
    print(
        f"resident memory at most {peak / 1e9:.2f} GB; the file has {path.stat().st_size / 1e9:.2f}"
    )
    shape = {"rows": catalog.rows, "width": catalog.width, "hidden": hidden, "cold": cold}
    return {**shape, "batch_size": batch_size, "rates": rates, "resident_bytes": peak}


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m bench.from_disk",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--rows", type=int, default=1_000_000, help="(1,000,000)")
    parser.add_argument("--width", type=int, default=384, help="(384)")
    parser.add_argument("--hidden", default="256,128,64", help="widths of the encoder (256,128,64)")
    parser.add_argument("--batch-size", type=int, default=4096, help="(4096)")
    parser.add_argument("--threads", type=int, default=1, help="(1)")
    parser.add_argument("--cold", action="store_true", help="read from the disk, not its cache")
    parser.add_argument("--folder", type=Path, help="where the file is written for a while (/tmp)")
    parser.add_argument("--json", type=Path, help="also write all of it to this file")
    options = parser.parse_args()
    hidden = tuple(int(width) for width in options.hidden.split(","))
    with tempfile.TemporaryDirectory(dir=options.folder) as folder, limited(options.threads):
        path = Path(folder) / "text.npy"
        write(path, options.rows, options.width)
        found = measure(path, hidden, options.batch_size, options.cold)
    if options.json:
        facts = machine.facts(_CPU)
        options.json.write_text(json.dumps({"machine": facts, **found}, indent=1) + "\n")
    sys.exit(found["resident_bytes"] > _LIMIT)


if __name__ == "__main__":
    main()
