"""Ctrl-C and SIGTERM: one line, 128 + the signal, no half file, and a checkpoint to go on from."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

import letter_fast as lf
from letter_fast.cli.app import run
from letter_fast.training.checkpoint import CHECKPOINT_FILE
from tests.support import oracle

TEXT = oracle.clustered(400, 24, 12, seed=1).numpy()
SIGNALS = {"SIGINT": 130, "SIGTERM": 143, "SIGHUP": 129}


def command(
    script: str, tmp_path: Path, name: str = "SIGTERM", **extra: str
) -> tuple[int, list[str]]:
    """Runs a command line whose script calls stop() where the signal is to come."""
    begin = f"""
import os, signal, sys, threading, time
from letter_fast.cli import app, interrupts
def stop():
    os.kill(os.getpid(), signal.{name})
"""
    done = subprocess.run(
        [sys.executable, "-c", begin + script],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "OMP_NUM_THREADS": "1", **extra},
    )
    assert done.stdout == ""
    return done.returncode, done.stderr.splitlines()


@pytest.fixture
def parts(tmp_path: Path) -> Callable[[], list[str]]:
    np.save(tmp_path / "text.npy", TEXT)
    return lambda: [p.name for p in tmp_path.rglob("*") if "part" in p.name or "lock" in p.name]


TRAIN = (
    "train text.npy --out run --hidden 8 --latent-dim 4 --codebook-size 8,8,8 --epochs 9 "
    "--checkpoint-every 5"
)
IN_EPOCHS = f"""
from letter_fast.training import loop
epoch = loop.train_epoch
def slow(run, *rest):
    result = epoch(run, *rest)
    if run.epoch == 3:
        stop()
        time.sleep(5)
    return result
loop.train_epoch = slow
sys.argv = ["letter-fast", *"{TRAIN}".split()]
app.main()
"""


@pytest.mark.parametrize("name", ["SIGTERM"])
def test_train_leaves_its_last_finished_epoch(
    tmp_path: Path, name: str, parts: Callable[[], list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    code, said = command(IN_EPOCHS, tmp_path, name)
    assert code == SIGNALS[name]
    assert said == [
        f"letter-fast: interrupted ({name}): the same command goes on from the last finished epoch"
    ]
    assert parts() == []
    saved = torch.load(tmp_path / "run" / CHECKPOINT_FILE, weights_only=True)
    assert saved["state"]["epoch"] == 3
    monkeypatch.chdir(tmp_path)
    arguments = TRAIN.split()
    assert run(arguments) == 0
    whole = ["whole" if one == "run" else one for one in arguments]
    assert run(whole) == 0
    one, other = (tmp_path / name / "model.safetensors" for name in ("run", "whole"))
    assert one.read_bytes() == other.read_bytes()
    assert len((tmp_path / "run" / "log.jsonl").read_text().splitlines()) == 9


# Bodies of a command; what comes after the signal takes longer than the test has.
WHERE = {
    "in Python": """
    stop()
    time.sleep(60)
""",
    "in an import whose errors a library hides": """
    import importlib.abc
    class Slow(importlib.abc.MetaPathFinder):
        def find_spec(self, name, path, target=None):
            if name == "json.tool":
                stop()
                time.sleep(0.3)
    sys.meta_path.insert(0, Slow())
    try:
        import json.tool
    except BaseException:
        raise ImportError("json.tool is broken")
    time.sleep(60)
""",
    "in a destructor": """
    class Dying:
        def __del__(self):
            stop()
            time.sleep(0.1)
    Dying()
    time.sleep(60)
""",
    "in a kernel that does not end": """
    interrupts._PATIENCE = 0.3
    from letter_fast.atomic import replacing
    with replacing("out.bin") as file:
        threading.Timer(0.2, stop).start()
        main_thread_is_busy()
""",
    "twice in it": """
    interrupts._ECHO = 0.0
    threading.Timer(0.2, stop).start()
    threading.Timer(0.4, stop).start()
    main_thread_is_busy()
""",
}
COMMAND = """
from letter_fast.cli.commands import app as commands
def main_thread_is_busy():
    # One call that no signal ends: a lock taken twice. Other threads go on.
    import ctypes
    libc, mutex = ctypes.CDLL(None), ctypes.create_string_buffer(64)
    libc.pthread_mutex_lock(mutex)
    libc.pthread_mutex_lock(mutex)
@commands.command()
def work():
"""


@pytest.mark.parametrize("where", WHERE)
@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_anywhere(tmp_path: Path, where: str, name: str) -> None:
    script = COMMAND + WHERE[where] + 'sys.argv = ["letter-fast", "work"]\napp.main()\n'
    code, said = command(script, tmp_path, name)
    assert (code, said) == (SIGNALS[name], [f"letter-fast: interrupted ({name})"])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["SIGINT", "SIGHUP"])
def test_ignored_signals_stay_ignored(tmp_path: Path, name: str) -> None:
    script = (
        f"signal.signal(signal.{name}, signal.SIG_IGN)\n{COMMAND}"
        + """
    stop()
    time.sleep(0.2)
sys.argv = ["letter-fast", "work"]
app.main()
"""
    )
    assert command(script, tmp_path, name) == (0, [])


def test_ctrl_c_in_python_leaves_the_last_finished_epoch(tmp_path: Path) -> None:
    config = lf.LetterConfig(24, (8,), latent_dim=4, codebook_size=(8, 8, 8), cf_weight=0)

    def model() -> lf.Letter:
        torch.manual_seed(0)
        return lf.Letter(config)

    def stop(record: dict[str, object]) -> None:
        if record["epoch"] == 3:
            raise KeyboardInterrupt

    settings = lf.TrainSettings(epochs=5, checkpoint_every=4)
    with pytest.raises(KeyboardInterrupt):
        lf.train(model(), TEXT, out=tmp_path / "run", settings=settings, on_epoch=stop)
    epochs: list[object] = []
    pieces = lf.train(
        model(), TEXT, out=tmp_path / "run", settings=settings,
        on_epoch=lambda record: epochs.append(record["epoch"]),
    )  # fmt: skip
    assert epochs == [4, 5]
    whole = lf.train(model(), TEXT, settings=settings)
    assert pieces.model.fingerprint() == whole.model.fingerprint()


def test_an_error_leaves_no_more_than_it_did(tmp_path: Path) -> None:
    config = lf.LetterConfig(24, (8,), latent_dim=4, codebook_size=(8, 8, 8), cf_weight=0)

    def fail(_: object) -> None:
        raise RuntimeError

    with pytest.raises(RuntimeError):
        lf.train(lf.Letter(config), TEXT, out=tmp_path, on_epoch=fail)
    assert not (tmp_path / CHECKPOINT_FILE).exists()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
