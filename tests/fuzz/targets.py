"""The damaged files and their readers: every reader, importer and checkpoint, a target each."""

from __future__ import annotations

import argparse
import contextlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import safetensors.numpy
import torch

import letter_fast as lf
from letter_fast.catalog import Embeddings
from letter_fast.cli.config import build, chosen_model, read_options
from letter_fast.compat import grid, lc_rec, letter, rqvae_recommender
from letter_fast.evaluation import plots
from letter_fast.model import load
from letter_fast.tokenization import SemanticIds, export_ids, import_ids
from letter_fast.tokenization.formats import read_items
from letter_fast.training.journal import read_log

FIXTURES = Path(__file__).parent.parent / "fixtures"
ROWS, WIDTH = 24, 4
_RANDOM = np.random.default_rng(0)
TEXT = _RANDOM.standard_normal((ROWS, WIDTH), dtype=np.float32)
NAMES = [f"item {row}" for row in range(ROWS)]
CODES = np.unique(_RANDOM.integers(0, [4, 4, 6], (40, 3)), axis=0)[:ROWS]
TABLE = SemanticIds(CODES, [4, 4, 6], NAMES, {"policy": "none"})
CONFIG = lf.LetterConfig(
    input_dim=WIDTH, hidden=(6,), latent_dim=3, codebook_size=(4, 4), cf_weight=0.0,
)  # fmt: skip
SETTINGS = lf.TrainSettings(
    epochs=2, batch_size=12, evaluate_every=1, checkpoint_every=1, allow_collisions=True
)
TOML = """[model]
model_type = "letter"
hidden = [6, 5]
codebook_size = [4, 4]
sinkhorn_epsilon = [0.0, 0.003]
cf_weight = 0.0
reconstruction = "mse"
batch_norm = false

[training]
epochs = 2
learning_rate = 1e-3
schedule = "cosine"
"""


class Target(NamedTuple):
    """make writes valid input into a folder; one of `files` is damaged; read reads it.

    made: what `read` may write, beside the input, and only whole.
    """

    make: Callable[[Path], None]
    files: tuple[str, ...]
    read: Callable[[Path], None]
    made: tuple[str, ...] = ()


def read_catalog(name: str) -> Callable[[Path], None]:
    def read(folder: Path) -> None:
        catalog = Embeddings.open(folder / name)
        list(catalog.batches(7))

    return read


def parquet(rows: slice = slice(None)) -> pa.Table:
    return pa.table({"item_id": NAMES[rows], "embedding": TEXT[rows].tolist()})


def make_shards(folder: Path) -> None:
    (folder / "shards").mkdir()
    for number in range(3):
        part = parquet(slice(8 * number, 8 * number + 8))
        pq.write_table(part, folder / f"shards/part-{number}.parquet")


def read_table(folder: Path) -> None:
    table = SemanticIds.load(folder / "ids.parquet")
    table.trie(), table.tokens(slice(2)), table.duplicates(), table.items_of(table.codes[0])
    table.save(folder / "again.parquet")


def importer(format: str, file: str, with_sidecar: bool = False) -> Target:
    def make(folder: Path) -> None:
        named = with_sidecar or format in ("recsys", "openonerec")
        table = TABLE if named else SemanticIds(CODES, [4, 4, 6])
        facts = export_ids(table, folder / file, format)
        if not with_sidecar:
            (folder / f"{file}.facts.json").unlink()
        assert facts.sizes == (4, 4, 6)

    def read(folder: Path) -> None:
        sizes = [4, 4, 6] if format in ("faiss", "recsys") else None
        table = import_ids(folder / file, None if with_sidecar else format, sizes=sizes)
        table.save(folder / "again.parquet")

    sides = (f"{file}.facts.json", f"{file}.items.parquet") if with_sidecar else ()
    return Target(make, sides or (file,), read, ("again.parquet",))


def make_config(folder: Path) -> None:
    (folder / "train.toml").write_text(TOML)


def read_config(folder: Path) -> None:
    path = folder / "train.toml"
    read_options(path)
    kinds = {
        "letter": (lf.LetterConfig, lf.TrainSettings),
        "residual-kmeans": (lf.ResidualKMeansConfig, lf.TrainSettings),
    }
    build(path, {}, *kinds[chosen_model(path, None)], {"input_dim": WIDTH})


def make_letter(folder: Path) -> None:
    torch.manual_seed(0)
    model = lf.Letter(CONFIG)
    model.quantizer.fit(torch.from_numpy(TEXT[:, :3].copy()), method="kmeans")
    model.save_pretrained(folder / "model")


def make_kmeans(folder: Path) -> None:
    config = lf.ResidualKMeansConfig(input_dim=WIDTH, codebook_size=(4, 4))
    lf.ResidualKMeans(config).fit(TEXT).save_pretrained(folder / "model")


def read_model(folder: Path) -> None:
    lf.tokenize(load(folder / "model"), TEXT, "none").save(folder / "ids.parquet")


def train(folder: Path) -> None:
    torch.manual_seed(0)
    lf.train(lf.Letter(CONFIG), TEXT, out=folder / "run", settings=SETTINGS)


def make_run(folder: Path) -> None:
    """A run that was killed after its first epoch."""

    class Killed(Exception):
        pass

    def kill(record: dict[str, Any]) -> None:
        raise Killed

    torch.manual_seed(0)
    with contextlib.suppress(Killed):
        lf.train(lf.Letter(CONFIG), TEXT, out=folder / "run", settings=SETTINGS, on_epoch=kill)


def make_unfinished(folder: Path) -> None:
    make_letter(folder)
    np.save(folder / "text.npy", TEXT)
    tokenize_on(folder)


def tokenize_on(folder: Path) -> None:
    unfinished = folder / "ids.parquet.unfinished"
    model = load(folder / "model")
    table = lf.tokenize(model, folder / "text.npy", "none", unfinished=unfinished)
    np.testing.assert_array_equal(table.codes, lf.tokenize(model, TEXT, "none").codes)


def make_log(folder: Path) -> None:
    lines = []
    for epoch in (1, 2, 3):
        numbers = dict.fromkeys(("loss", "recon", "quantization", "cf", "diversity"), 0.5 * epoch)
        record = {"epoch": epoch, **numbers, "perplexity": [2.0, 3.0], "seconds": 0.1}
        record |= {"catalog_perplexity": [2.0, 3.0], "collision_rate": 0.1}
        lines.append(json.dumps(record) + "\n")
    (folder / "log.jsonl").write_text("".join(lines))


def read_run(folder: Path) -> None:
    # Drawing takes most of the time, and comes after all that can be wrong with a log.
    with mock.patch.object(plots, "_save", lambda figure, path, *_: path):
        plots.plot_run(folder, read_log(folder), CONFIG)


def rqvae(build: Any) -> Target:
    def make(folder: Path) -> None:
        torch.manual_seed(0)
        options = {"num_emb_list": [4, 4], "e_dim": 3, "layers": [6], "sk_epsilons": [0.0, 0.003]}
        state = build(WIDTH, **options).state_dict()
        args = argparse.Namespace(**options, lr=1e-3, bn=False, loss_type="mse")
        content = {"args": args, "epoch": 3, "best_loss": 0.1, "state_dict": dict(state)}
        torch.save(content, folder / "it.pth")

    def read(folder: Path) -> None:
        model = build.from_checkpoint(folder / "it.pth")
        lf.tokenize(model.to_letter(), np.zeros((2, model.in_dim), dtype=np.float32), "none")

    return Target(make, ("it.pth",), read)


def make_recommender(folder: Path) -> None:
    shapes = {"encoder.mlp.0": (6, WIDTH), "encoder.mlp.2": (3, 6)}
    shapes |= {"decoder.mlp.0": (6, 3), "decoder.mlp.2": (WIDTH, 6)}
    shapes |= {f"layers.{level}.embedding": (4, 3) for level in range(2)}
    state = {f"{name}.weight": torch.randn(shape) for name, shape in shapes.items()}
    torch.save({"iter": 7, "model": state}, folder / "it.pt")


def read_recommender(folder: Path) -> None:
    model = rqvae_recommender.RqVae.from_checkpoint(folder / "it.pt", False, "relu")
    model.get_semantic_ids(torch.from_numpy(TEXT))


def make_grid(folder: Path) -> None:
    state = {f"quantization_layer_list.{level}.centroids": torch.randn(4, 3) for level in range(2)}
    options = {"normalize_residuals": False}
    torch.save({"state_dict": state, "hyper_parameters": options}, folder / "it.ckpt")


def read_grid(folder: Path) -> None:
    model = grid.ResidualQuantization.from_checkpoint(folder / "it.ckpt")
    model(torch.zeros(2, 3))


def recorded(project: str, file: str, read: Callable[[Path], Any]) -> Target:
    """A checkpoint that the project's own trainer wrote, with all the objects it puts in."""

    def make(folder: Path) -> None:
        shutil.copy(FIXTURES / project / file, folder / file)

    return Target(make, (file,), lambda folder: read(folder / file))


def make_npy(folder: Path) -> None:
    np.save(folder / "text.npy", TEXT)


def make_parquet(folder: Path) -> None:
    pq.write_table(parquet(), folder / "text.parquet")


def make_safetensors(folder: Path) -> None:
    safetensors.numpy.save_file({"text": TEXT}, folder / "text.safetensors")


def make_items(folder: Path) -> None:
    pq.write_table(pa.table({"item_id": NAMES}), folder / "items.parquet")


TARGETS = {
    "npy": Target(make_npy, ("text.npy",), read_catalog("text.npy")),
    "parquet": Target(make_parquet, ("text.parquet",), read_catalog("text.parquet")),
    "safetensors": Target(
        make_safetensors, ("text.safetensors",), read_catalog("text.safetensors")
    ),
    "shards": Target(make_shards, ("shards/part-1.parquet",), read_catalog("shards")),
    "table": Target(
        lambda folder: TABLE.save(folder / "ids.parquet"), ("ids.parquet",), read_table,
        ("again.parquet",),
    ),
    "letter": importer("letter", "index.json"),
    "minionerec": importer("minionerec", "index.json"),
    "grid": importer("grid", "merged.pt"),
    "recsys": importer("recsys", "catalog.jsonl"),
    "openonerec": importer("openonerec", "pid2sid.parquet"),
    "faiss": importer("faiss", "codes.npy"),
    "flashrec": importer("flashrec", "sid2vid.json"),
    "sidecar": importer("letter", "index.json", with_sidecar=True),
    "items": Target(
        make_items, ("items.parquet",), lambda folder: str(read_items(folder / "items.parquet"))
    ),
    "toml": Target(make_config, ("train.toml",), read_config),
    "letter model": Target(
        make_letter, ("model/config.json", "model/model.safetensors"), read_model, ("ids.parquet",)
    ),
    "k-means model": Target(
        make_kmeans, ("model/config.json", "model/model.safetensors"), read_model, ("ids.parquet",)
    ),
    "checkpoint": Target(make_run, ("run/checkpoint.pt",), train, ("run",)),
    "unfinished": Target(
        make_unfinished,
        ("ids.parquet.unfinished/manifest.json", "ids.parquet.unfinished/codes-*.safetensors"),
        tokenize_on,
        ("ids.parquet.unfinished",),
    ),
    "LETTER's checkpoint": rqvae(letter.RQVAE),
    "LC-Rec's checkpoint": rqvae(lc_rec.RQVAE),
    "RQ-VAE-Recommender's checkpoint": Target(make_recommender, ("it.pt",), read_recommender),
    "GRID's checkpoint": Target(make_grid, ("it.ckpt",), read_grid),
    "recorded LETTER": recorded("letter", "bn.pth", letter.RQVAE.from_checkpoint),
    "recorded LC-Rec": recorded("lc_rec", "bn.pth", lc_rec.RQVAE.from_checkpoint),
    "recorded MiniOneRec": recorded("minionerec", "plus.pth", lc_rec.RQVAE.from_checkpoint),
    "recorded RQ-VAE-Recommender": recorded(
        "rqvae_recommender", "both.pt", rqvae_recommender.RqVae.from_checkpoint
    ),
    "recorded GRID": recorded("grid", "rqvae.ckpt", grid.ResidualQuantization.from_checkpoint),
    "log": Target(make_log, ("log.jsonl",), read_run),
}  # fmt: skip
