"""kill −9 at random moments: what is resumed equals what was never broken."""

from __future__ import annotations

import json
import multiprocessing
import random
import shutil
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from letter_fast.cli.app import run
from letter_fast.tokenization import SemanticIds, finished
from tests.support import oracle

KILLS = 10
TOKENIZE_KILLS = 20

# Processes are forked from a server that has imported everything and computed nothing: seconds of
# imports would otherwise be where most kills land.
_PROCESSES = multiprocessing.get_context("forkserver")
_PROCESSES.set_forkserver_preload(
    ["letter_fast.training", "letter_fast.tokenization", "torch._dynamo", "jinja2", "rich.progress"]
)


def _command(arguments: list[str]) -> None:
    torch.set_num_threads(1)  # so little work is slower on many
    sys.exit(run(arguments))


def start(arguments: list[str]) -> multiprocessing.process.BaseProcess:
    process = _PROCESSES.Process(target=_command, args=(arguments,))
    process.start()
    return process


def finish(arguments: list[str]) -> float:
    """Runs a command to its end; the seconds it took."""
    began = time.perf_counter()
    process = start(arguments)
    process.join()
    assert process.exitcode == 0
    return time.perf_counter() - began


def epochs_done(folder: Path) -> int:
    log = folder / "log.jsonl"
    return log.read_bytes().count(b"\n") if log.exists() else 0


@pytest.fixture
def text(tmp_path: Path) -> str:
    np.save(tmp_path / "text.npy", oracle.clustered(400, 24, 12, seed=1).numpy())
    np.save(tmp_path / "cf.npy", oracle.clustered(400, 4, 5, seed=2).numpy())
    return str(tmp_path / "text.npy")


def test_train(tmp_path: Path, text: str) -> None:
    arguments = [
        "train", text, "--cf", str(tmp_path / "cf.npy"), "--hidden", "32", "--latent-dim", "4",
        "--codebook-size", "16,16", "--epochs", "60", "--batch-size", "128",
        "--checkpoint-every", "1", "--evaluate-every", "10", "--allow-collisions",
    ]  # fmt: skip
    whole, pieces = tmp_path / "whole", tmp_path / "pieces"
    finish([*arguments, "--out", str(whole)])
    chance = random.Random(0)
    seen = []
    for _ in range(KILLS):
        process = start([*arguments, "--out", str(pieces)])
        # Some epochs further on (10 × 5 are fewer than 60), and somewhere within the next one.
        wanted = epochs_done(pieces) + chance.randint(0, 5)
        while epochs_done(pieces) < wanted:
            assert process.exitcode is None
            time.sleep(0.001)
        process.join(chance.uniform(0.0, 0.05))
        process.kill()
        process.join()
        assert process.exitcode == -9
        assert not (pieces / "model.safetensors").exists()
        seen.append(epochs_done(pieces))
    assert len(set(seen)) > KILLS // 2
    finish([*arguments, "--out", str(pieces)])
    name = "model.safetensors"
    assert (whole / name).read_bytes() == (pieces / name).read_bytes()
    logs = [
        [
            {**json.loads(line), "seconds": 0}
            for line in (folder / "log.jsonl").read_text().splitlines()
        ]
        for folder in (whole, pieces)
    ]
    assert logs[0] == logs[1]
    assert not list(pieces.glob(".*.part"))  # nothing a killed run left behind outlives the whole


def test_train_residual_kmeans(tmp_path: Path, text: str) -> None:
    arguments = [
        "train", text, "--model", "residual-kmeans", "--codebook-size", "32,32,32,32",
        "--restarts", "3",
    ]  # fmt: skip
    whole, pieces = tmp_path / "whole", tmp_path / "pieces"
    length = finish([*arguments, "--out", str(whole)])

    def same() -> bool:
        names = ("model.safetensors", "config.json")
        return all((pieces / name).read_bytes() == (whole / name).read_bytes() for name in names)

    chance = random.Random(2)
    for _ in range(KILLS):
        process = start([*arguments, "--out", str(pieces)])
        process.join(length * chance.uniform(0.0, 1.0))
        process.kill()
        process.join()
        if (pieces / "config.json").exists():  # the folder is whole
            assert same()
            shutil.rmtree(pieces)
    finish([*arguments, "--out", str(pieces)])
    assert same()
    assert not list(pieces.glob(".*.part"))


def _tokenize(rows_of_a_shard: int, arguments: list[str]) -> None:
    finished._ROWS = rows_of_a_shard
    _command(arguments)


def test_tokenize(tmp_path: Path, text: str) -> None:
    """Some shards further on each time: what is found finished and what is not make one table."""
    shards = tmp_path / "shards"
    shards.mkdir()
    small = ["--hidden", "32", "--latent-dim", "4", "--codebook-size", "64,64", "--epochs", "1"]
    finish(["train", text, *small, "--out", str(tmp_path / "run")])
    for number in range(4):
        np.save(shards / f"{number}.npy", oracle.clustered(1000, 24, 12, seed=number).numpy())
    whole, pieces = tmp_path / "whole.parquet", tmp_path / "out" / "pieces.parquet"
    arguments = ["tokenize", str(tmp_path / "run"), str(shards), "--batch-size", "130", "--margins"]
    finish([*arguments, "--out", str(whole)])
    arguments += ["--out", str(pieces)]
    unfinished = pieces.with_name("pieces.parquet.unfinished")

    def shards_done() -> int:
        return len(list(unfinished.glob("codes-*")))

    chance = random.Random(1)
    seen = []
    for _ in range(TOKENIZE_KILLS):
        process = _PROCESSES.Process(target=_tokenize, args=(100, arguments))
        process.start()
        wanted = shards_done() + chance.randint(0, 5)
        while shards_done() < wanted and process.exitcode is None:
            time.sleep(0.001)
        process.join(chance.uniform(0.0, 0.02))
        process.kill()
        process.join()
        seen.append(shards_done())
        if pieces.exists():  # the table is whole
            assert pieces.read_bytes() == whole.read_bytes()
            pieces.unlink()
    assert len(set(seen)) > TOKENIZE_KILLS // 3
    process = _PROCESSES.Process(target=_tokenize, args=(100, arguments))
    process.start()
    process.join()
    assert process.exitcode == 0
    assert pieces.read_bytes() == whole.read_bytes()
    assert not SemanticIds.load(pieces).duplicates()
    assert [path.name for path in pieces.parent.iterdir()] == [pieces.name]
