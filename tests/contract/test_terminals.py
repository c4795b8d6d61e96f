"""A command's work is not lost to a terminal that can't show a sign."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import numpy as np
import pytest

from letter_fast.cli.app import run
from letter_fast.cli.terminal import print_anywhere
from tests.support import oracle

SMALL = "--hidden 16 --latent-dim 4 --codebook-size 8,8,16 --epochs 2 --batch-size 60"
# In order: each needs what those before it wrote.
COMMANDS = {
    "help": "train --help",
    "train": f"train text.npy --cf cf.npy --out run {SMALL}",
    "tokenize": "tokenize run text.npy --out ids.parquet",
    "evaluate": "evaluate run --embeddings text.npy --cf cf.npy",
    "diff": "diff ids.parquet ids.parquet",
    "export": "export ids.parquet --format letter --out \u2192.json",
    "error": "tokenize \u2192 text.npy --out ids.parquet",
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("terminals")
    np.save(folder / "text.npy", oracle.clustered(120, 10, 8, seed=1).numpy())
    np.save(folder / "cf.npy", oracle.clustered(120, 4, 5, seed=2).numpy())
    return folder


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp437"])
def test_commands_print_in_any_encoding(
    encoding: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    for name, line in COMMANDS.items():
        printed, errors = io.BytesIO(), io.BytesIO()
        monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(printed, encoding=encoding))
        monkeypatch.setattr(sys, "stderr", io.TextIOWrapper(errors, encoding=encoding))
        print_anywhere()
        code = run(line.split())
        sys.stdout.flush(), sys.stderr.flush()
        said = (printed if code == 0 else errors).getvalue().decode(encoding)
        assert code == (2 if name == "error" else 0), (name, said)
        assert said.strip()
        if name == "evaluate" and encoding == "ascii":
            assert "reconstruction error v" in said
        if name == "error" and encoding == "ascii":
            assert said.startswith("letter-fast: >")
