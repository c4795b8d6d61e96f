"""The kernels' threads: every part is done once, a fork does no harm, quotas are respected."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from letter_fast.clustering import kmeans
from letter_fast.kernels import use_backend
from letter_fast.kernels.cpp import threads

ROOT = Path(__file__).parents[3]
SOURCES = ROOT / "kernels/cpp"
COMPILER = shutil.which("g++") or shutil.which("clang++")


# ThreadSanitizer can't follow a fork.
@pytest.mark.skipif(COMPILER is None, reason="there is no C++ compiler")
@pytest.mark.parametrize(
    ("flags", "arguments"), [([], []), (["-g", "-fsanitize=thread"], ["without forks"])]
)
def test_the_pool(flags: list[str], arguments: list[str], tmp_path: Path) -> None:
    program = tmp_path / "threads"
    options = ["-std=c++17", "-O1", "-pthread", f"-I{SOURCES}", *flags]
    files = [str(ROOT / "tests/native/threads.cpp"), str(SOURCES / "runtime/parallel.cpp")]
    subprocess.run([str(COMPILER), *options, *files, "-o", str(program)], check=True)
    done = subprocess.run(
        [str(program), *arguments], capture_output=True, text=True, timeout=300, check=False
    )
    assert (done.returncode, done.stdout) == (0, "ok\n"), done.stderr


FORKED = """
import os, signal
import torch
import letter_fast as lf
torch.set_num_threads(2)
x = torch.linspace(-1, 1, 200_000).reshape(-1, 8)
words = [x[:64].contiguous()]
codes, _ = lf.functional.residual_search(x, words)
if os.fork() == 0:
    signal.alarm(60)
    with torch.no_grad():
        again, _ = lf.functional.residual_search(x, words)
    os._exit(0 if bytes(again.numpy()) == bytes(codes.numpy()) else 1)
print(os.waitstatus_to_exitcode(os.wait()[1]))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_a_forked_child_searches_on_two_threads() -> None:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", FORKED],
        env={**os.environ, "OMP_NUM_THREADS": "2"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.stdout == "0\n", done.stderr


def test_torch_on_one_thread_leaves_the_kernels_theirs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "_allowed", lambda: 4)
    monkeypatch.setattr(threads, "_quota", lambda: 4)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        with threads.torch_on_one():
            assert (torch.get_num_threads(), threads.usable_threads()) == (1, 3)
            with threads.torch_on_one():
                assert (torch.get_num_threads(), threads.usable_threads()) == (1, 3)
        assert torch.get_num_threads() == threads.usable_threads() == 3
        with pytest.raises(KeyError), threads.torch_on_one():
            raise KeyError
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)


def test_kmeans_is_quiet_and_puts_torch_back() -> None:
    """Also where it ends by an error, and not where the kernels are PyTorch's operations."""
    before, seen = torch.get_num_threads(), []
    x = torch.linspace(0, 1, 600).reshape(-1, 2)
    try:
        torch.set_num_threads(2)

        def stop(*_: object) -> None:
            seen.append(torch.get_num_threads())
            raise KeyboardInterrupt

        for backend in ("cpp", "reference"):
            with use_backend(backend), pytest.raises(KeyboardInterrupt):
                kmeans(x, 5, start=x[:5], on_iteration=stop)
            assert torch.get_num_threads() == 2
        assert seen == [1, 2]
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({}, None),
        ({"cpu.max": "max 100000\n"}, None),
        ({"cpu.max": "150000 100000\n"}, 2),
        ({"cpu.max": "50000 100000\n"}, 1),
        ({"cpu.max": "400000 100000\n"}, 4),
        ({"cpu.max": "what\n"}, None),
        ({"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, None),
        ({"cpu/cpu.cfs_quota_us": "250000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 3),
    ],
)
def test_quota(files: dict[str, str], expected: int | None, tmp_path: Path) -> None:
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    assert threads.quota_of(tmp_path) == expected


def test_no_more_threads_than_processors(monkeypatch: pytest.MonkeyPatch) -> None:
    before = torch.get_num_threads()
    try:
        for asked, allowed, quota, expected in [
            (8, 2, 4, 2),
            (8, 4, 3, 3),
            (1, 4, 4, 1),
            (2, 1, 1, 1),
        ]:
            torch.set_num_threads(asked)
            monkeypatch.setattr(threads, "_allowed", lambda allowed=allowed: allowed)
            monkeypatch.setattr(threads, "_quota", lambda quota=quota: quota)
            assert threads.usable_threads() == expected
    finally:
        torch.set_num_threads(before)
