"""The places of outputs: what can't be a file is refused, files keep their nature, none collide."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import resource
import socket
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

import letter_fast as lf
from letter_fast import locks
from letter_fast.atomic import check_folder, check_target, make_folder, replacing, write_bytes
from letter_fast.cli.app import run
from letter_fast.cli.terminal import Lines
from letter_fast.locks import only_writer
from letter_fast.tokenization import SemanticIds
from tests.support import oracle

TEXT = oracle.clustered(120, 6, 6, seed=1).numpy()
KMEANS = ["--model", "residual-kmeans", "--codebook-size", "16,16"]
LETTER = ["--hidden", "8", "--latent-dim", "4", "--codebook-size", "8,8,8", "--epochs", "2"]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A catalog, a model, its ID table and an index.json."""
    root = tmp_path_factory.mktemp("outputs")
    np.save(root / "text.npy", TEXT)
    assert run(["train", str(root / "text.npy"), "--out", str(root / "run"), *LETTER]) == 0
    table = ["--out", str(root / "ids.parquet"), "--index-json", str(root / "index.json")]
    assert run(["tokenize", str(root / "run"), str(root / "text.npy"), *table]) == 0
    return root


# Commands that write one file, {} being the folder of `files`, and its suffix.
FILES = {
    "tokenize": (["tokenize", "{}/run", "{}/text.npy", "--out"], ".parquet"),
    "export": (["export", "{}/ids.parquet", "--format", "grid", "--out"], ""),
    "import": (["import", "{}/index.json", "--format", "letter", "--out"], ".parquet"),
}
FOLDERS = {
    "train": ["train", "{}/text.npy", *LETTER, "--out"],
    "kmeans": ["train", "{}/text.npy", *KMEANS, "--out"],
    "evaluate": ["evaluate", "{}/run", "--embeddings", "{}/text.npy", "--plots"],
}


def arguments(command: list[str], files: Path, out: Path) -> list[str]:
    return [*(part.format(files) for part in command), str(out)]


def refused(command: list[str], capfd: pytest.CaptureFixture[str]) -> str:
    capfd.readouterr()
    assert run(command) == 2
    out, error = capfd.readouterr()
    assert out == ""
    assert error.count("\n") == 1
    return error


def leftovers(folder: Path) -> list[str]:
    return [path.name for path in folder.rglob(".*")]


# What can't be a file


def special(folder: Path, suffix: str) -> dict[str, Path]:
    """Paths that name no file that could be replaced, as people would give them."""
    paths = {name: folder / f"{name}{suffix}" for name in ("pipe", "socket", "full", "out", "fd")}
    os.mkfifo(paths["pipe"])
    with socket.socket(socket.AF_UNIX) as one:
        one.bind(str(paths["socket"]))
    paths["full"].symlink_to("/dev/full")
    paths["out"].symlink_to("/dev/stdout")
    paths["fd"].symlink_to("/dev/fd/1")
    return paths


@pytest.mark.parametrize("command", FILES)
def test_devices_pipes_and_streams_are_refused(
    tmp_path: Path, files: Path, command: str, capfd: pytest.CaptureFixture[str]
) -> None:
    words, suffix = FILES[command]
    for name, path in special(tmp_path, suffix).items():
        before = os.lstat(path)
        said = refused(arguments(words, files, path), capfd)
        assert "can't be replaced" in said, name
        assert os.path.samestat(os.lstat(path), before)
    assert leftovers(tmp_path) == []


@pytest.mark.parametrize("name", ["/dev/full", "/dev/null", "/dev/stdout", "/proc/self/fd/1"])
def test_the_systems_own(name: str) -> None:
    before = os.stat(name)
    for write in (check_target, lambda path: write_bytes(path, b"")):
        with pytest.raises(ValueError, match="can't be replaced"):
            write(name)
    assert os.stat(name).st_ino == before.st_ino


@pytest.mark.parametrize("command", FOLDERS)
def test_folders_that_are_files(
    tmp_path: Path, files: Path, command: str, capfd: pytest.CaptureFixture[str]
) -> None:
    paths = [*special(tmp_path, "").values(), tmp_path / "file", tmp_path / "file" / "below"]
    (tmp_path / "file").write_bytes(b"mine")
    for path in paths:
        assert "there is a file" in refused(arguments(FOLDERS[command], files, path), capfd)
    assert (tmp_path / "file").read_bytes() == b"mine"


def test_an_input_is_no_output(files: Path, capfd: pytest.CaptureFixture[str]) -> None:
    before = {path: path.read_bytes() for path in files.iterdir() if path.is_file()}
    model, text = str(files / "run"), str(files / "text.npy")
    ids, index = str(files / "ids.parquet"), str(files / "index.json")
    for command in (
        ["export", ids, "--format", "grid", "--out", ids],
        ["tokenize", model, text, "--out", ids, "--index-json", text],
    ):
        assert "is an input of this command" in refused(command, capfd)
    same = ["tokenize", model, text, "--out", ids, "--index-json", ids]
    assert "--out and --index-json" in refused(same, capfd)
    (files / "shards").mkdir()
    shards = ["train", str(files / "shards"), "--out", str(files / "shards")]
    assert "is an input of this command" in refused(shards, capfd)
    twice = ["evaluate", model, f"{model}/../run", "--embeddings", text, "--plots", "never"]
    assert "are both called run" in refused(twice, capfd)
    assert {path: path.read_bytes() for path in before} == before
    assert Path(index).is_file()


# What is there keeps its nature


@pytest.mark.parametrize("command", FILES)
def test_links_stay(tmp_path: Path, files: Path, command: str) -> None:
    words, suffix = FILES[command]
    live, dangling = tmp_path / f"live{suffix}", tmp_path / f"dangling{suffix}"
    end, new = tmp_path / "elsewhere" / "end", tmp_path / "new" / "end"
    end.parent.mkdir()
    end.write_bytes(b"old")
    live.symlink_to(end)
    dangling.symlink_to(new)
    for link, target in ((live, end), (dangling, new)):
        assert run(arguments(words, files, link)) == 0
        assert link.is_symlink()
        assert not target.is_symlink()
        assert target.stat().st_size > 10


@pytest.mark.parametrize("command", FOLDERS)
def test_links_to_folders_stay(tmp_path: Path, files: Path, command: str) -> None:
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "new" / "end")
    assert run(arguments(FOLDERS[command], files, link)) == 0
    assert link.is_symlink()
    assert len(list((tmp_path / "new" / "end").iterdir())) >= 1
    assert leftovers(tmp_path) == []


def test_a_loop_of_links_is_one_line(
    tmp_path: Path, files: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    loop = tmp_path / "loop"
    loop.symlink_to(loop)
    for words in (FILES["export"][0], FOLDERS["evaluate"]):
        assert str(loop) in refused(arguments(words, files, loop), capfd)


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o444, 0o755])
def test_permissions_and_owner_stay(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")
    root = os.geteuid() == 0
    if root:
        os.chown(path, 12345, 54321)
    path.chmod(mode)
    if not os.access(path, os.W_OK):
        with pytest.raises(ValueError, match="is read-only"):
            write_bytes(path, b"new")
        return
    write_bytes(path, b"new")
    found = path.stat()
    assert path.read_bytes() == b"new"
    assert stat.S_IMODE(found.st_mode) == mode
    assert not root or (found.st_uid, found.st_gid) == (12345, 54321)


def test_new_files_get_what_open_would_give_and_the_mask_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = os.umask(0o027)
    try:
        monkeypatch.setattr(os, "umask", lambda _: pytest.fail("the mask is the whole process's"))
        write_bytes(tmp_path / "file", b"")
    finally:
        monkeypatch.undo()
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o640


LONG = ["x" * 255, "é" * 127, "漢" * 85, "." + "y" * 254]


@pytest.mark.parametrize("name", LONG, ids=["ascii", "two bytes", "three bytes", "hidden"])
def test_the_longest_names(tmp_path: Path, files: Path, name: str) -> None:
    for words, suffix in FILES.values():
        cut = name[: -len(suffix.encode())] if suffix else name
        out = tmp_path / words[0] / (cut + suffix)
        assert len(os.fsencode(out.name)) <= 255
        assert run(arguments(words, files, out)) == 0
        assert out.is_file()
        if words[0] == "export":
            back = ["import", str(out), "--out", str(tmp_path / "back.parquet")]
            assert run(back) == 0
            assert SemanticIds.load(tmp_path / "back.parquet").codes.tolist() == (
                SemanticIds.load(files / "ids.parquet").codes.tolist()
            )
    for kind, words in FOLDERS.items():
        out = tmp_path / kind / name
        assert run(arguments(words, files, out)) == 0
    table = SemanticIds.load(files / "ids.parquet")
    table.save(tmp_path / name)
    model = lf.Letter.from_pretrained(files / "run")
    lf.tokenize(model, TEXT, unfinished=tmp_path / "unfinished" / name)
    assert not [path for path in tmp_path.rglob("*") if path.name.endswith((".part", ".lock"))]


def test_long_names_that_begin_alike_do_not_meet(tmp_path: Path) -> None:
    one, other = tmp_path / ("x" * 254 + "1"), tmp_path / ("x" * 254 + "2")
    with replacing(one) as first:
        write_bytes(other, b"other")
        first.write(b"one")
        with only_writer(one), only_writer(other):
            pass
    assert (one.read_bytes(), other.read_bytes()) == (b"one", b"other")


# Nobody collides


def test_a_live_writers_file_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "file"
    (tmp_path / ".file.0123abcd.part").write_bytes(b"of a killed writer")
    with replacing(path) as slow:
        slow.write(b"slow")
        slow.flush()
        write_bytes(path, b"quick")
        assert path.read_bytes() == b"quick"
        assert not (tmp_path / ".file.0123abcd.part").exists()
        assert len(leftovers(tmp_path)) == 1
    assert path.read_bytes() == b"slow"
    assert leftovers(tmp_path) == []


def test_many_writers_of_one_file(tmp_path: Path) -> None:
    path, failures = tmp_path / "file", []

    def write(number: int) -> None:
        try:
            for _ in range(30):
                write_bytes(path, bytes([number]) * 1000)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=write, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    content = path.read_bytes()
    assert content == content[:1] * 1000
    assert [one.name for one in tmp_path.iterdir()] == ["file"]


BUSY = [*FOLDERS.items(), ("tokenize", FILES["tokenize"][0])]


@pytest.mark.parametrize("command", ["train", "kmeans", "tokenize"])
def test_the_second_run_is_refused(
    tmp_path: Path, files: Path, command: str, capfd: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / ("ids.parquet" if command == "tokenize" else "run")
    if command != "tokenize":
        out.mkdir()
    words = arguments(dict(BUSY)[command], files, out)
    with only_writer(out):
        said = refused(words, capfd)
        assert f"{out} is being written by another run (process {os.getpid()} on" in said
    assert run(words) == 0
    assert leftovers(tmp_path) == []


def test_unfinished_codes_are_one_runs(tmp_path: Path, files: Path) -> None:
    model = lf.Letter.from_pretrained(files / "run")
    folder = tmp_path / "unfinished"
    with only_writer(make_folder(folder)), pytest.raises(ValueError, match="by another run"):
        lf.tokenize(model, TEXT, unfinished=folder)
    lf.tokenize(model, TEXT, unfinished=folder)


def test_a_killed_owner_locks_nobody_out(tmp_path: Path) -> None:
    code = (
        "import sys, time; from pathlib import Path; from letter_fast.locks import only_writer\n"
        f"with only_writer(Path({str(tmp_path)!r})):\n print('has it', flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as owner:
        assert owner.stdout is not None
        assert owner.stdout.readline() == b"has it\n"
        with pytest.raises(ValueError, match=f"process {owner.pid} "), only_writer(tmp_path):
            pass
        owner.kill()
    assert leftovers(tmp_path) == [".lock"]
    with only_writer(tmp_path):
        pass
    assert leftovers(tmp_path) == []


def test_a_lock_that_was_removed_while_it_was_opened(tmp_path: Path) -> None:
    """The owner removes the file it has locked; who opened it before has a lock on nothing."""
    first = True
    real = fcntl.flock

    def flock(handle: int, how: int) -> None:
        nonlocal first
        if first:
            first = False
            (tmp_path / ".lock").unlink()
        real(handle, how)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fcntl, "flock", flock)
        with only_writer(tmp_path):
            assert (tmp_path / ".lock").exists()
            with pytest.raises(ValueError, match="another run"), only_writer(tmp_path):
                pass


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS])
def test_without_locks_runs_go_on_after_a_warning(
    tmp_path: Path, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def flock(handle: int, how: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", flock)
    (tmp_path / ".file.0123abcd.part").write_bytes(b"whose?")
    with pytest.warns(RuntimeWarning, match="can't be locked"), only_writer(tmp_path):
        write_bytes(tmp_path / "file", b"new")
    assert (tmp_path / "file").read_bytes() == b"new"
    assert leftovers(tmp_path) == [".file.0123abcd.part"]  # nobody can tell
    assert locks.try_lock(0) is None


# A full disk


@pytest.fixture
def small_disk() -> Iterator[Callable[[int], None]]:
    """Sets the largest size of a file, as a full disk would."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield lambda size: resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("command", [*FOLDERS, *FILES])
@pytest.mark.parametrize("size", [0, 700])
def test_no_room(
    tmp_path: Path,
    files: Path,
    command: str,
    size: int,
    small_disk: Callable[[int], None],
    capfd: pytest.CaptureFixture[str],
) -> None:
    words, suffix = FILES[command] if command in FILES else (FOLDERS[command], "")
    out = tmp_path / f"out{suffix}"
    capfd.readouterr()
    with pytest.MonkeyPatch.context() as patch:
        said: list[str] = []
        patch.setattr("letter_fast.cli.app._fail", lambda text, code=2: said.append(text) or code)
        small_disk(size)
        code = run(arguments(words, files, out))
        small_disk(resource.RLIM_INFINITY)
    if code == 2:
        assert len(said) == 1
        assert said[0].endswith("File too large")
        assert str(out) in said[0]
    else:
        assert code == 0
        assert size == 700
    assert leftovers(tmp_path) == []
    for log in tmp_path.rglob("log.jsonl"):
        assert all(json.loads(line) for line in log.read_text().splitlines())
    assert run(arguments(words, files, out)) == 0


def test_a_library_that_hides_a_full_disk(
    tmp_path: Path, small_disk: Callable[[int], None]
) -> None:
    small_disk(1 << 16)
    with pytest.raises(OSError, match="File too large") as told, replacing(tmp_path / "x") as file:
        torch.save(torch.zeros(1 << 18), file)
    assert told.value.filename == str(tmp_path / "x")
    assert list(tmp_path.iterdir()) == []


# Folders that are not to be written to


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_read_only_folders(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    for check in (check_folder, check_target):
        for path in (tmp_path / "x", tmp_path / "deep" / "x"):
            with pytest.raises(ValueError, match="not a writable folder"):
                check(path)


# One process


@pytest.mark.parametrize("command", ["kmeans", "evaluate", "tokenize", "export", "import"])
@pytest.mark.parametrize("rank", [0, 1])
def test_several_processes_do_not_do_the_same(
    tmp_path: Path,
    files: Path,
    command: str,
    rank: int,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    words, suffix = FILES[command] if command in FILES else (FOLDERS[command], "")
    values = dict(RANK=rank, LOCAL_RANK=rank, WORLD_SIZE=2, MASTER_ADDR="localhost", MASTER_PORT=1)
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "none")
    for name, value in values.items():
        monkeypatch.setenv(name, str(value))
    capfd.readouterr()
    assert run(arguments(words, files, tmp_path / f"out{suffix}")) == 2
    said = capfd.readouterr().err
    assert ("runs in one process: start it without torchrun\n" in said) == (rank == 0)
    assert said.count("\n") == (rank == 0)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("command", ["train", "tokenize"])
def test_half_of_what_torchrun_says(
    tmp_path: Path,
    files: Path,
    command: str,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    words, suffix = FILES[command] if command in FILES else (FOLDERS[command], "")
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "none")
    said = refused(arguments(words, files, tmp_path / f"out{suffix}"), capfd)
    assert "RANK, LOCAL_RANK, WORLD_SIZE, MASTER_ADDR, MASTER_PORT not" in said
    for name in ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.setenv(name, "x")
    said = refused(arguments(words, files, tmp_path / f"out{suffix}"), capfd)
    assert "must be numbers" in said


# A log instead of a terminal


def test_a_line_a_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    lines = Lines("epochs")
    task = lines.add_task("training", total=200, note="")
    now = 60.0
    assert lines.line() == "training: 0 of 200 epochs, 1 min so far"
    now = 120.0
    lines.update(task, completed=1, note="loss 0.5")
    assert lines.line() == "training: 1 of 200 epochs, 0.00833 epochs/s, 398 min left, loss 0.5"
    goes_on = Lines("epochs")
    goes_on.add_task("training", total=200, note="")
    now = 180.0
    goes_on.update(None, completed=101)
    now = 190.0
    goes_on.update(None, completed=111)
    assert goes_on.line() == "training: 111 of 200 epochs, 1 epochs/s, 2 min left"


def test_lines_are_written_while_there_is_no_update(capfd: pytest.CaptureFixture[str]) -> None:
    with Lines("items", every=0.01) as lines:
        lines.add_task("encoding", total=None, note="")
        for _ in range(500):
            if (said := capfd.readouterr().err).count("\n") > 1:
                break
            threading.Event().wait(0.01)
    assert "encoding: 0 items, 0 min so far\n" in said
