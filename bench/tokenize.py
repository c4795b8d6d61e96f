"""python -m bench.tokenize: from a file of embeddings to unique IDs, stage by stage.

    python -m bench.tokenize                             1 M × 384, the default encoder
    python -m bench.tokenize --rows 10000000 --width 64 --hidden 256,128
    python -m bench.tokenize --incremental               20 batches on a catalog of 100,000
    python -m bench.tokenize --incremental --catalog 1000000

Rows are sums of codewords, unevenly drawn, and noise; a temporary file holds them. CPU seconds are
those of all threads: on a busy machine look at these. The products of the encoder alone, its limit,
are timed on one thread, as each batch is worked on by one, before and after the run. Memory is that
of the process beyond the model, mapped pages included.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np
import torch
from torch import nn

from letter_fast.catalog import Embeddings
from letter_fast.model import Letter, LetterConfig
from letter_fast.tokenization import POLICIES, SemanticIds, tokenize
from letter_fast.tokenization.encode import codes_of, latents_of
from letter_fast.tokenization.policies import Policy

from . import machine
from .measure import Clock, limited
from .memory import peak, start

CPU = torch.device("cpu")
SIZES = (256,) * 4
_BATCH = 4096
_CATALOG, _BATCHES = 100_000, (250, 1_000, 10_000)  # incremental
_SAMPLE = 32_768  # rows that codebooks are fitted on
_BASIS = 256  # directions that rows are made of, at each of two levels


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m bench.tokenize",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--rows", type=int, default=1_000_000, help="(1,000,000)")
    parser.add_argument("--width", type=int, default=384, help="(384)")
    parser.add_argument(
        "--hidden", default="2048,1024,512,256,128,64", help="of the encoder (LETTER's)"
    )
    parser.add_argument("--unique", choices=POLICIES, default="optimal", help="(optimal)")
    parser.add_argument(
        "--noise", type=float, default=0.5, help="of the rows; less makes more collisions (0.5)"
    )
    parser.add_argument("--folder", type=Path, help="where the temporary file goes (see tempfile)")
    parser.add_argument("--incremental", action="store_true", help="batches of new items instead")
    parser.add_argument("--catalog", type=int, default=_CATALOG, help="they come on top of")
    options = parser.parse_args()
    torch.manual_seed(0)
    hidden = tuple(int(width) for width in options.hidden.split(","))
    print(machine.sentence(machine.facts(CPU)), f"; {torch.get_num_threads()} threads")
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        path = Path(folder) / "text.npy"
        rows = options.catalog + 20 * max(_BATCHES) if options.incremental else options.rows
        write_rows(path, rows, options.width, options.noise)
        model = fitted(path, options.width, hidden)
        if options.incremental:
            incremental(model, path, options.unique, options.catalog)
        else:
            whole(model, path, options.unique, Path(folder))


def write_rows(path: Path, rows: int, width: int, noise: float) -> None:
    """A .npy file of float32 rows, written block by block."""
    generator = torch.Generator().manual_seed(0)
    bases = [0.7**level * torch.randn(_BASIS, width, generator=generator) for level in range(2)]
    weights = torch.arange(1, _BASIS + 1) ** -0.7
    matrix = np.lib.format.open_memmap(path, "w+", np.float32, (rows, width))
    for begin in range(0, rows, 1 << 16):
        count = min(1 << 16, rows - begin)
        block = noise * torch.randn(count, width, generator=generator)
        for base in bases:
            block += base[torch.multinomial(weights, count, replacement=True, generator=generator)]
        matrix[begin : begin + count] = block.numpy()
    matrix.flush()


def fitted(path: Path, width: int, hidden: tuple[int, ...]) -> Letter:
    """An encoder as it is made, and codebooks that are k-means of what it gives."""
    model = Letter(LetterConfig(input_dim=width, hidden=hidden, codebook_size=SIZES)).eval()
    sample = torch.from_numpy(next(Embeddings.open(path).batches(_SAMPLE)))
    model.quantizer.fit(model.encode_latents(sample), method="kmeans", iterations=5)
    return model


def whole(model: Letter, path: Path, unique: Policy, folder: Path) -> None:
    """All stages of one run, and each of the first ones alone."""
    limit = products(model)
    stages(model, path)
    before = start(CPU)
    laps: list[tuple[Clock, int]] = []
    table = tokenize(
        model,
        path,
        unique,
        unfinished=folder / "unfinished",
        on_batch=lambda done, _: laps.append((Clock.now(), done)),
    )
    resolved = Clock.now()
    table.save(folder / "ids.parquet")
    saved = Clock.now()
    beyond = peak(CPU) - before
    (began, _), (encoded, rows) = laps[0], laps[-1]
    show("encode", began, encoded, rows)
    show(f"resolve: {unique}", encoded, resolved, rows)
    show("save", resolved, saved, rows)
    show("all", began, saved, rows)
    limit = limit.least(products(model))
    report = table.metadata["resolution"]
    print(
        f"the encoder's products alone take {rows * limit.cpu / (encoded.cpu - began.cpu):.0%} of "
        "encode's CPU time; resolve is "
        f"{(resolved.cpu - encoded.cpu) / (saved.cpu - began.cpu):.1%} of all"
    )
    print(
        f"collisions {report['before']['collision_rate']:.2%} → "
        f"{report['after']['collision_rate']:.2%}, {report['moved']:,} moved; peak memory "
        f"{beyond / 2**20:,.0f} MB beyond the model"
    )


def products(model: Letter, rows: int = 1024) -> Clock:
    """A row's share of the encoder's matrix products on one thread, in the fastest of 30 turns."""
    layers = [layer for layer in model.encoder if isinstance(layer, nn.Linear)]
    inputs = [torch.randn(rows, layer.in_features) for layer in layers]
    outputs = [torch.empty(rows, layer.out_features) for layer in layers]
    best = Clock(float("inf"), float("inf"))
    with torch.no_grad(), limited(1):
        for _ in range(30):
            began = Clock.now()
            for x, layer, out in zip(inputs, layers, outputs):
                torch.mm(x, layer.weight.T, out=out)
            best = best.least(Clock.now().since(began))
    return Clock(best.wall / rows, best.cpu / rows)


def stages(model: Letter, path: Path, rows: int = 262_144) -> None:
    """Rates of reading, encoder and search, each alone."""
    catalog = Embeddings.open(path)
    index = np.arange(min(rows, catalog.rows))
    began = Clock.now()
    for _ in catalog.batches_of(index, _BATCH):
        pass
    show("read alone", began, Clock.now(), len(index))
    with limited(1):
        _alone(model, catalog)


def _alone(model: Letter, catalog: Embeddings) -> None:
    """Encoder and search, as one of the threads does them."""
    few = [batch for batch, _ in zip(catalog.batches(_BATCH), range(16))]
    count = sum(map(len, few))
    began = Clock.now()
    latents = [latents_of(model, batch) for batch in few]
    between = Clock.now()
    for z in latents:
        codes_of(model, z, np.zeros(len(z), dtype=np.uint64))
    show("encoder alone", began, between, count)
    show("search alone", between, Clock.now(), count)


def incremental(model: Letter, path: Path, unique: Policy, catalog: int) -> None:
    """20 batches of new items on a catalog: no ID changes, and what a batch costs."""
    matrix = np.load(path, mmap_mode="r")
    names = np.arange(len(matrix))
    began = Clock.now()
    table = tokenize(model, matrix[:catalog], unique, item_ids=names[:catalog])
    show("catalog", began, Clock.now(), catalog)
    table.save(path.with_suffix(".parquet"))
    for size in _BATCHES:
        began = Clock.now()
        grown, spent = SemanticIds.load(path.with_suffix(".parquet")), []
        show("load", began, Clock.now(), catalog)
        for start_row in range(catalog, catalog + 20 * size, size):
            new = slice(start_row, start_row + size)
            began = Clock.now()
            later = tokenize(model, matrix[new], unique, grown, item_ids=names[new], removed="keep")
            spent.append(Clock.now().since(began).cpu)
            if not _kept(grown, later):
                raise SystemExit("an ID changed")
            grown = later
        distinct = len(np.unique(grown.codes, axis=0))
        print(
            f"20 batches of {size:,}: the first {spent[0]:.3f}, then {min(spent[1:]):.3f} to "
            f"{max(spent[1:]):.3f} s CPU each, the median {np.median(spent[1:]):.3f}; "
            f"{len(grown):,} items, {distinct:,} IDs, none changed"
        )


def _kept(before: SemanticIds, after: SemanticIds) -> bool:
    rows = after.rows_of_items(before.item_ids)
    return bool((rows >= 0).all()) and np.array_equal(after.codes[rows], before.codes)


def show(name: str, began: Clock, ended: Clock, rows: int) -> None:
    """Prints what a stage took, and its rates."""
    spent = ended.since(began)
    print(
        f"{name:18} {spent.wall:8.2f} s, {rows / spent.wall:12,.0f} rows/s; {spent.cpu:8.2f} s CPU,"
        f" {rows / max(spent.cpu, 1e-9):12,.0f} rows/s",
        flush=True,
    )


if __name__ == "__main__":
    main()
