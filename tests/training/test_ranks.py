"""Processes that train together do what one would; when one is lost, all end, and may go on."""

from __future__ import annotations

import multiprocessing
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed as dist

import letter_fast as lf
from letter_fast.cli.app import run
from letter_fast.training.journal import read_log
from tests.support import oracle

TEXT = oracle.clustered(150, 12, 10, seed=1)
CF = oracle.clustered(150, 6, 6, seed=2)

# Forked from a server that has imported everything, or imports would be what takes the time.
_PROCESSES = multiprocessing.get_context("forkserver")
_PROCESSES.set_forkserver_preload(
    ["letter_fast.training", "letter_fast.tokenization", "torch._dynamo", "jinja2", "rich.progress"]
)
Process = multiprocessing.process.BaseProcess


def start(work: Callable[..., None], size: int, *arguments: Any) -> list[Process]:
    """`size` processes, as torchrun would start them, that call work(rank, *arguments)."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    processes: list[Process] = [
        _PROCESSES.Process(target=_rank, args=(rank, size, port, work, arguments))
        for rank in range(size)
    ]
    for process in processes:
        process.start()
    return processes


def _rank(
    rank: int, size: int, port: int, work: Callable[..., None], arguments: tuple[Any, ...]
) -> None:
    torch.set_num_threads(1)
    if size > 1:
        names = dict(RANK=rank, LOCAL_RANK=rank, WORLD_SIZE=size, MASTER_PORT=port)
        os.environ.update({name: str(value) for name, value in names.items()})
        os.environ.update(MASTER_ADDR="127.0.0.1", TORCHELASTIC_RUN_ID="test")
    work(rank, *arguments)


def train(rank: int, folder: Path, shape: dict[str, Any], settings: dict[str, Any]) -> None:
    """Trains a small model; leaves in `folder` what this process ends with."""
    torch.manual_seed(rank)  # the first process's weights count
    small = dict(hidden=(16,), latent_dim=4, cf_dim=6, codebook_size=(8, 8), diversity_clusters=3)
    weights = dict(cf_weight=0.1, diversity_weight=0.1)
    config = lf.LetterConfig(input_dim=12, **{**small, **weights, **shape})
    few = dict(epochs=6, batch_size=64, evaluate_every=2, checkpoint_every=2)
    few["allow_collisions"] = True
    model = lf.Letter(config)
    lf.train(model, TEXT, CF, folder / "run", lf.TrainSettings(**{**few, **settings}))
    torch.save(model.state_dict(), folder / f"{rank}.pt")


def trained(
    folder: Path, size: int, shape: dict[str, Any] | None = None, **settings: Any
) -> list[dict[str, torch.Tensor]]:
    """The weights that each of `size` processes ends with."""
    folder.mkdir(exist_ok=True)
    processes = start(train, size, folder, shape or {}, settings)
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0] * size
    return [torch.load(folder / f"{rank}.pt") for rank in range(size)]


def logged(folder: Path) -> list[dict[str, Any]]:
    return [{**record, "seconds": 0} for record in read_log(folder / "run")]


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(a[name], b[name]) for name in a)


@pytest.mark.parametrize(
    ("size", "shape", "settings"),
    [
        (2, {}, {}),
        # The last batch has one row: two processes have none of it.
        (3, dict(residual_grad="full", reduction="sum"), dict(batch_size=149, clip_norm=0.1)),
        (2, dict(sinkhorn_epsilon=(0.0, 0.0)), dict(revive_after=1, early_stop="recon")),
        (2, dict(codebook_update="ema", diversity_weight=0.0), {}),
    ],
)
def test_they_do_what_one_would(
    tmp_path: Path, size: int, shape: dict[str, Any], settings: dict[str, Any]
) -> None:
    (alone,) = trained(tmp_path / "one", 1, shape, **settings)
    together = trained(tmp_path / "many", size, shape, **settings)
    assert all(same(together[0], other) for other in together[1:])
    for name, value in alone.items():
        # The same added to every h changes no softmax: its gradient is rounding, which Adam scales.
        if name != "cf_projection.bias":
            torch.testing.assert_close(together[0][name], value, rtol=1e-4, atol=1e-5)
    ones, many = logged(tmp_path / "one"), logged(tmp_path / "many")
    assert len(ones) == len(many) == 6
    for one, other in zip(ones, many):
        for name, value in one.items():
            np.testing.assert_allclose(other[name], value, rtol=1e-5, atol=1e-9, err_msg=name)


def test_a_run_of_several_goes_on_with_the_same_bits(tmp_path: Path) -> None:
    shape = dict(dropout=0.1)
    straight = trained(tmp_path / "straight", 2, shape)
    trained(tmp_path / "pieces", 2, shape, epochs=2)
    pieces = trained(tmp_path / "pieces", 2, shape)
    assert same(straight[0], pieces[0])
    assert same(straight[1], pieces[1])
    assert logged(tmp_path / "straight") == logged(tmp_path / "pieces")


def test_an_error_of_the_first_is_everybody_s(tmp_path: Path) -> None:
    for process in (processes := start(refused, 2, tmp_path)):
        process.join()
    assert [process.exitcode for process in processes] == [0, 0]


def refused(rank: int, folder: Path) -> None:
    with pytest.raises(ValueError, match="batch_norm looks at whole batches"):
        train(rank, folder, dict(batch_norm=True), {})
    train(rank, folder, {}, dict(epochs=1))
    with pytest.raises(ValueError, match=r"other settings \(seed was 0, is 1\)"):
        train(rank, folder, {}, dict(epochs=1, seed=1))


def test_moving_averages_of_a_loop_of_one_s_own(tmp_path: Path) -> None:
    for process in (processes := start(averages, 2, tmp_path)):
        process.join()
    assert [process.exitcode for process in processes] == [0, 0]
    tables = [torch.load(tmp_path / f"{rank}.pt") for rank in range(2)]
    assert torch.equal(*tables)
    alone = averaging()
    for _ in range(5):
        alone(CF)
    torch.testing.assert_close(tables[0], alone.codebooks.detach())


def averages(rank: int, folder: Path) -> None:
    dist.init_process_group("gloo")
    quantizer = averaging()
    quantizer.all_reduce = dist.all_reduce
    for _ in range(5):
        quantizer(CF[:40] if rank == 0 else CF[40:])
    torch.save(quantizer.codebooks.detach(), folder / f"{rank}.pt")
    dist.destroy_process_group()


def averaging() -> lf.ResidualQuantizer:
    quantizer = lf.ResidualQuantizer(6, [8, 8], codebook_update="ema", ema_decay=0.9)
    return quantizer.fit(CF, method="kmeans")


def command(rank: int, folder: Path, arguments: list[str]) -> None:
    with (folder / f"{rank}.err").open("w") as file:
        os.dup2(file.fileno(), sys.stderr.fileno())
        sys.exit(run(arguments))


@pytest.fixture
def arguments(tmp_path: Path) -> list[str]:
    np.save(tmp_path / "text.npy", TEXT.numpy())
    np.save(tmp_path / "cf.npy", CF.numpy())
    return [
        "train", str(tmp_path / "text.npy"), "--cf", str(tmp_path / "cf.npy"), "--hidden", "32",
        "--latent-dim", "6", "--codebook-size", "16,16", "--epochs", "20", "--batch-size", "64",
        "--checkpoint-every", "1", "--evaluate-every", "10", "--allow-collisions",
    ]  # fmt: skip


@pytest.mark.parametrize("lost", [0, 1])
def test_when_one_is_killed_all_end_and_may_go_on(
    tmp_path: Path, arguments: list[str], lost: int
) -> None:
    whole, pieces = [*arguments, "--out", str(tmp_path / "whole")], tmp_path / "pieces"
    broken = [*arguments, "--out", str(pieces)]
    for process in (processes := start(command, 2, tmp_path, whole)):
        process.join()
    assert [process.exitcode for process in processes] == [0, 0]

    processes = start(command, 2, tmp_path, broken)
    log = pieces / "log.jsonl"
    while not log.exists() or log.read_bytes().count(b"\n") < 5:
        time.sleep(0.001)
    processes[lost].kill()
    began = time.perf_counter()
    other = processes[1 - lost]
    other.join(20)
    assert other.exitcode == 2
    assert time.perf_counter() - began < 10
    (message,) = (tmp_path / f"{1 - lost}.err").read_text().splitlines()
    assert "lost touch with another process of this run" in message
    assert not (pieces / "model.safetensors").exists()

    for process in (processes := start(command, 2, tmp_path, broken)):
        process.join()
    assert [process.exitcode for process in processes] == [0, 0]
    names = ("model.safetensors", "config.json")
    assert all(
        (tmp_path / "whole" / name).read_bytes() == (pieces / name).read_bytes() for name in names
    )


@pytest.mark.slow
def test_torchrun(tmp_path: Path, arguments: list[str]) -> None:
    out = ["--out", str(tmp_path / "run"), "--epochs", "2", "--json"]
    launch = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node",
        "2",
    ]
    done = subprocess.run(
        [*launch, "-m", "letter_fast.cli.app", *arguments, *out],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert done.stdout.count('"epochs": 2') == 1
    assert (tmp_path / "run" / "model.safetensors").exists()
