"""An address (s3://…) is refused wherever a path can be given, and nothing is made in its name."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, get_args, get_type_hints

import numpy as np
import pytest
import typer
from typer.models import ArgumentInfo

import letter_fast as lf
from letter_fast.atomic import check_target, make_folder, write_bytes
from letter_fast.catalog import Embeddings
from letter_fast.cli.app import run
from letter_fast.cli.commands import app
from letter_fast.compat.checkpoints import load_checkpoint
from letter_fast.demo.showcase import run_showcase
from letter_fast.model import ResidualKMeans, ResidualKMeansConfig, load
from letter_fast.paths import local_path
from letter_fast.tokenization import SemanticIds, export_ids, import_ids
from letter_fast.tokenization.finished import FinishedShards, drop
from letter_fast.tokenization.formats import read_items
from letter_fast.training import FitSettings, fit_residual_kmeans
from letter_fast.training.journal import read_log
from tests.support import oracle

TEXT = oracle.clustered(60, 4, 6, seed=1).numpy()
ADDRESSES = (
    "s3://bucket/x.parquet", "S3://bucket/x.npy", "gs://bucket/x", "s3a://b/x", "abfss://c@a/x",
    "hf://datasets/a/b/x.parquet", "hf://a/b", "http://host/x.npy", "https://host/x?y=z", "ftp://h/x",
    "hdfs:///x", "dbfs:/x", "file:///tmp/x", "file:/tmp/x", "s3:/bucket/x", "s3://", "s3:",
    "simplecache::s3://b/x", "hdfs://namenode:8020/x\ny",
)  # fmt: skip


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A catalog, a model and its ID table."""
    root = tmp_path_factory.mktemp("paths")
    np.save(root / "text.npy", TEXT)
    model = ResidualKMeans(ResidualKMeansConfig(input_dim=4, codebook_size=(4, 4)))
    model.fit(TEXT)
    model.save_pretrained(root / "run")
    lf.tokenize(model, TEXT, "none").save(root / "ids.parquet")
    export_ids(SemanticIds.load(root / "ids.parquet"), root / "index.json", "letter")
    return root


@pytest.fixture(autouse=True)
def nothing_is_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.chdir(tmp_path)
    yield
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("address", ADDRESSES)
def test_addresses_are_no_paths(address: str) -> None:
    for given in (address, Path(address)):
        with pytest.raises(ValueError, match=r"not on this machine|give the path alone"):
            local_path(given)


@pytest.mark.parametrize("bad", ["", "a\0b", b"x", None, 3, ["x"]])
def test_what_is_no_path_at_all(bad: Any) -> None:
    with pytest.raises(ValueError, match="path"):
        local_path(bad)


@pytest.mark.parametrize(
    "path", ["x.npy", "/a/b", "./s3", "a:b", "C:/x", r"C:\x", "12:30/x", "run-12:30", "é:x", "~/x"]
)
def test_paths_stay(path: str) -> None:
    assert local_path(path) == Path(path)


# What each command needs, with {} for the folder of `files`; paths under test come on top.
COMMANDS = {
    "train": ["{}/text.npy", "--out", "never"],
    "tokenize": ["{}/run", "{}/text.npy", "--out", "never.parquet"],
    "evaluate": ["{}/run", "--embeddings", "{}/text.npy"],
    "export": ["{}/ids.parquet", "--format", "letter", "--out", "never"],
    "import": ["{}/index.json", "--format", "letter", "--out", "never.parquet"],
    "diff": ["{}/ids.parquet", "{}/ids.parquet"],
    "demo": ["--items", "300"],
    "quickstart": ["--epochs", "1"],
    "bench": [],
}
# Arguments that hold a path and are typed str.
TYPED_STR = {"model", "models"}


def path_parameters() -> list[tuple[str, int | str]]:
    """(command, name of an option or place of an argument) of all that take a path."""
    found: list[tuple[str, int | str]] = []
    for command in app.registered_commands:
        assert command.callback is not None
        name = command.name or command.callback.__name__
        place = -1
        for parameter, hint in get_type_hints(command.callback, include_extras=True).items():
            # `**fields: Any` are options of a dataclass, none of them a path.
            if parameter in ("return", "fields") or hint is typer.Context:
                continue
            kind, info = get_args(hint)[:2]
            is_argument = isinstance(info, ArgumentInfo)
            place += is_argument
            if kind == Path or Path in get_args(kind) or (is_argument and parameter in TYPED_STR):
                found.append((name, place if is_argument else "--" + parameter.replace("_", "-")))
    return found


def test_all_paths_of_the_commands_are_found() -> None:
    found = path_parameters()
    assert {name for name, _ in found} == {*COMMANDS} - {"bench"}
    assert {("tokenize", 0), ("tokenize", "--index-json"), ("train", "--config")} <= {*found}


@pytest.mark.parametrize("address", ["s3://bucket/x.parquet", "file:///tmp/x.parquet"])
@pytest.mark.parametrize(("command", "parameter"), path_parameters())
def test_commands(
    command: str,
    parameter: int | str,
    address: str,
    files: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    arguments = [part.format(files) for part in COMMANDS[command]]
    if isinstance(parameter, int):
        arguments[parameter] = address
    else:
        arguments += [parameter, address]
    assert run([command, *arguments]) == 2
    out, error = capfd.readouterr()
    assert out == ""
    assert error.count("\n") == 1
    assert "address" in error or "s3://bucket/x.parquet is not on this machine" in error


def _fit(out: Any) -> None:
    model = ResidualKMeans(ResidualKMeansConfig(input_dim=4, codebook_size=(4, 4)))
    fit_residual_kmeans(model, TEXT, out, FitSettings())


def _letter() -> lf.Letter:
    return lf.Letter(lf.LetterConfig(4, hidden=(4,), latent_dim=4, codebook_size=(4,), cf_weight=0))


def _table() -> SemanticIds:
    return SemanticIds(np.zeros((1, 2), dtype=int), [1, 1])


def _tokenize(**given: Any) -> None:
    lf.tokenize(ResidualKMeans(ResidualKMeansConfig(4, (4, 4))).fit(TEXT), **given)


ENTRIES: dict[str, Callable[[Any], Any]] = {
    "Embeddings.open": Embeddings.open,
    "ResidualKMeans.fit": lambda path: ResidualKMeans(ResidualKMeansConfig(4, (4,))).fit(path),
    "ResidualQuantizer.fit": lambda path: lf.ResidualQuantizer(4, [4]).fit(path),
    "functional.kmeans": lambda path: lf.functional.kmeans(path, 4),
    "train": lambda path: lf.train(_letter(), path),
    "train out": lambda path: lf.train(_letter(), TEXT, out=path),
    "fit_residual_kmeans": _fit,
    "tokenize": lambda path: _tokenize(embeddings=path),
    "tokenize unfinished": lambda path: _tokenize(embeddings=TEXT, unfinished=path),
    "SemanticIds.load": SemanticIds.load,
    "SemanticIds.save": lambda path: _table().save(path),
    "to_letter_json": lambda path: _table().to_letter_json(path),
    "from_letter_json": SemanticIds.from_letter_json,
    "export_ids": lambda path: export_ids(_table(), path, "grid"),
    "import_ids": lambda path: import_ids(path, "grid"),
    "read_items": read_items,
    "save_pretrained": lambda path: _letter().save_pretrained(path),
    "Letter.from_pretrained": lf.Letter.from_pretrained,
    "ResidualKMeans.from_pretrained": ResidualKMeans.from_pretrained,
    "load": load,
    "FinishedShards": lambda path: FinishedShards(path, {}),
    "drop": drop,
    "read_log": read_log,
    "run_showcase": lambda path: run_showcase(path, 300),
    "compat checkpoints": load_checkpoint,
    "make_folder": make_folder,
    "check_target": check_target,
    "write_bytes": lambda path: write_bytes(path, b""),
}


@pytest.mark.parametrize("entry", ENTRIES)
@pytest.mark.parametrize("address", ["s3://bucket/x.parquet", Path("gs://bucket/x.parquet"), ""])
def test_python(entry: str, address: Any) -> None:
    with pytest.raises(ValueError, match=r"not on this machine|is empty"):
        ENTRIES[entry](address)
