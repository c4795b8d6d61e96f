"""A file is whole or absent."""

from __future__ import annotations

from pathlib import Path

import pytest

from letter_fast.atomic import check_target, make_folder, replacing, write_bytes


def test_failure_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "file"
    write_bytes(path, b"old")
    with pytest.raises(RuntimeError), replacing(path) as file:
        file.write(b"half")
        raise RuntimeError
    assert path.read_bytes() == b"old"
    assert list(path.parent.iterdir()) == [path]
    write_bytes(path, b"new")
    assert path.read_bytes() == b"new"
    assert path.stat().st_mode & 0o444


def test_what_a_killed_writer_left_is_removed(tmp_path: Path) -> None:
    (tmp_path / ".file.0123abcd.part").write_bytes(b"half")
    (tmp_path / ".other.0123abcd.part").write_bytes(b"half")
    write_bytes(tmp_path / "file", b"new")
    assert {path.name for path in tmp_path.iterdir()} == {"file", ".other.0123abcd.part"}


def test_targets_are_refused_before_the_work(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    check_target(tmp_path / "file")
    check_target(tmp_path / "new" / "deep" / "file")
    for bad in (tmp_path, tmp_path / "file" / "below"):
        with pytest.raises(ValueError, match=r"is a folder|can't be written"):
            check_target(bad)
    with pytest.raises(ValueError, match="there is a file"):
        make_folder(tmp_path / "file" / "below")
    assert not (tmp_path / "new").exists()
