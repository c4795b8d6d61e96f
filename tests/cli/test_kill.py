"""kill −9 at random moments: what is resumed equals what was never broken."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import oracle
import pytest

from letter_fast.cli.app import run
from letter_fast.tokenization import SemanticIds

COMMAND = [sys.executable, "-c", "from letter_fast.cli.app import main; main()"]


def start(arguments: list[str]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [*COMMAND, *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )


@pytest.fixture
def text(tmp_path: Path) -> str:
    np.save(tmp_path / "text.npy", oracle.clustered(400, 24, 12, seed=1).numpy())
    np.save(tmp_path / "cf.npy", oracle.clustered(400, 4, 5, seed=2).numpy())
    return str(tmp_path / "text.npy")


@pytest.mark.slow
def test_train(tmp_path: Path, text: str) -> None:
    arguments = [
        "train", text, "--cf", str(tmp_path / "cf.npy"), "--hidden", "32", "--latent-dim", "4",
        "--codebook-size", "16,16", "--epochs", "300", "--batch-size", "64",
        "--checkpoint-every", "2", "--evaluate-every", "10",
    ]  # fmt: skip
    whole, pieces = tmp_path / "whole", tmp_path / "pieces"
    assert subprocess.run([*COMMAND, *arguments, "--out", str(whole)], check=False).returncode == 0
    chance = random.Random(0)
    kills = 0
    for _ in range(15):
        if kills == 10:
            break
        process = start([*arguments, "--out", str(pieces)])
        log = pieces / "log.jsonl"
        size = log.stat().st_size if log.exists() else 0
        while process.poll() is None and (not log.exists() or log.stat().st_size <= size):
            time.sleep(0.005)
        time.sleep(chance.random() * 0.3)
        if process.poll() is None:
            process.kill()
            kills += 1
        process.wait()
        assert not list(pieces.glob("model.safetensors")) or process.returncode == 0
    assert kills == 10
    resumed = subprocess.run([*COMMAND, *arguments, "--out", str(pieces)], check=False)
    assert resumed.returncode == 0
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


@pytest.mark.slow
def test_tokenize(tmp_path: Path, text: str) -> None:
    small = ["--hidden", "32", "--latent-dim", "4", "--codebook-size", "16,32", "--epochs", "1"]
    assert run(["train", text, *small, "--out", str(tmp_path / "run")]) == 0
    whole, pieces = tmp_path / "whole.parquet", tmp_path / "out" / "pieces.parquet"
    arguments = ["tokenize", str(tmp_path / "run"), text, "--out"]
    began = time.perf_counter()
    assert subprocess.run([*COMMAND, *arguments, str(whole)], check=False).returncode == 0
    length = time.perf_counter() - began
    chance = random.Random(1)
    for _ in range(10):
        process = start([*arguments, str(pieces)])
        # Most of the time goes into imports; the last third is the work and the writing.
        time.sleep(length * chance.uniform(0.6, 1.05))
        process.kill()
        process.wait()
        if pieces.exists():
            assert pieces.read_bytes() == whole.read_bytes()
            pieces.unlink()
    assert subprocess.run([*COMMAND, *arguments, str(pieces)], check=False).returncode == 0
    assert pieces.read_bytes() == whole.read_bytes()
    assert not SemanticIds.load(pieces).duplicates()
