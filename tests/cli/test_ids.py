"""export, import and diff: what they write and print, and how they refuse."""

from __future__ import annotations

import json
from pathlib import Path
from typing import get_type_hints

import numpy as np
import pytest

from letter_fast.cli import export as export_command
from letter_fast.cli.app import run
from letter_fast.tokenization import FORMATS, SemanticIds

CODES = np.random.default_rng(0).integers(0, [4, 4, 8], (30, 3))
UNIQUE = ("recsys", "flashrec")  # refuse items that share an ID
IDS = SemanticIds(CODES, [4, 4, 8], [f"item-{row}" for row in range(30)], {"policy": "none"})


@pytest.fixture
def table(tmp_path: Path) -> Path:
    IDS.save(tmp_path / "ids.parquet")
    return tmp_path / "ids.parquet"


@pytest.mark.parametrize("format", [name for name in FORMATS if name not in UNIQUE])
def test_out_and_in_again(
    table: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], format: str
) -> None:
    file, back = tmp_path / FORMATS[format].example, tmp_path / "back.parquet"
    assert run(["export", str(table), "--format", format, "--out", str(file)]) == 0
    assert f"30 items written to {file} as {format}" in capfd.readouterr().out
    assert run(["import", str(file), "--out", str(back)]) == 0
    assert "30 items in" in capfd.readouterr().out
    read = SemanticIds.load(back)
    np.testing.assert_array_equal(read.codes, CODES)
    assert read.item_ids.equals(IDS.item_ids)
    assert run(["diff", str(table), str(back), "--json"]) == 0
    assert json.loads(capfd.readouterr().out)["kept"] == 30


def test_files_of_others(table: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    index, back = tmp_path / "index.json", tmp_path / "back.parquet"
    index.write_text('{"0": ["<a_1>", "<b_3>"], "1": ["<a_1>", "<b_3>"], "2": ["<a_2>", "<b_1>"]}')
    arguments = ["import", str(index), "--format", "letter", "--sizes", "4,4", "--out", str(back)]
    assert run([*arguments, "--item-ids", str(table), "--base", "1", "--json"]) == 0
    result = json.loads(capfd.readouterr().out)
    assert (result["items"], result["distinct"], result["sizes"]) == (3, 2, [4, 4])
    read = SemanticIds.load(back)
    assert read.codes.tolist() == [[0, 2], [0, 2], [1, 0]]
    assert read.item_ids.to_pylist() == ["item-0", "item-1", "item-2"]


def test_export_says_what_it_wrote(
    table: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "tensor.pt"
    arguments = ["export", str(table), "--format", "grid", "--out", str(file)]
    assert run([*arguments, "--layout", "NT", "--base", "1", "--json"]) == 0
    facts = json.loads(capfd.readouterr().out)
    assert (facts["layout"], facts["base"], facts["items"]) == ("NT", 1, 30)
    assert facts["duplicates"] == 30 - len(np.unique(CODES, axis=0)) > 0
    assert run(arguments) == 0
    assert f"{facts['duplicates']} of them share their ID" in capfd.readouterr().out


def test_diff_shows_what_was_only_numbered_anew(
    table: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    later = SemanticIds(3 - CODES % 4, [4, 4, 4], IDS.item_ids)
    later.save(tmp_path / "later.parquet")
    assert run(["diff", str(table), str(tmp_path / "later.parquet")]) == 0
    out = capfd.readouterr().out
    assert "0 kept their ID, 30 moved, 0 were added, 0 came back, 0 were removed" in out
    first = next(line for line in out.splitlines() if line.startswith("│     1 "))
    assert [cell.strip() for cell in first.split("│")[2:6]] == [
        "100.00%", "0.00%", "0.00%", "100.00%",
    ]  # fmt: skip


def test_help_names_every_format() -> None:
    hint = get_type_hints(export_command.export, include_extras=True)["format"]
    for name in FORMATS:
        assert f"{name} (" in hint.__metadata__[0].help


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["export", "ids.parquet", "--format", "lettre", "--out", "OUT"], "did you mean 'letter'"),
        (["export", "ids.parquet", "--out", "OUT"], "--format"),
        (["export", "ids.parquet", "--format", "recsys", "--out", "OUT"], "share their ID"),
        (["export", "ids.parquet", "--format", "flashrec", "--out", "OUT"], "share their ID"),
        (["export", "ids.parquet", "--format", "faiss", "--base", "1", "--out", "OUT"], "no base"),
        (["export", "absent.parquet", "--format", "letter", "--out", "OUT"], "can't be read"),
        (["export", "ids.parquet", "--format", "letter", "--out", "."], "is a folder"),
        (["import", "ids.parquet", "--out", "OUT"], "no sidecar to name its format"),
        (["import", "ids.parquet", "--format", "letter", "--out", "OUT.parquet"], "can't be read"),
        (["import", "absent.json", "--format", "letter", "--out", "OUT.parquet"], "does not exist"),
        (["import", "index.json", "--out", "OUT.csv"], "must end in .parquet"),
        (["import", "index.json", "--format", "letter", "--sizes", "a", "--out", "OUT.parquet"],
         "joined by commas"),
        (["import", "index.json", "--format", "letter", "--item-ids", "index.json", "--out",
          "OUT.parquet"], "has no item ids in a column 'item_id'"),
        (["diff", "ids.parquet", "absent.parquet"], "absent.parquet can't be read"),
    ],
)  # fmt: skip
def test_bad_input(
    table: Path,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    message: str,
) -> None:
    (tmp_path / "index.json").write_text('{"0": ["<a_1>"]}')
    monkeypatch.chdir(tmp_path)
    assert run(["OUT.parquet" if one == "OUT" else one for one in arguments]) == 2
    captured = capfd.readouterr()
    assert captured.out == ""
    assert len(captured.err.splitlines()) == 1
    assert message in captured.err
    assert {path.name for path in tmp_path.iterdir()} == {"ids.parquet", "index.json"}
