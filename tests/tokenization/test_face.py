"""`SemanticIds` as people use it: by item id, in a loop, as a table of another library."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import letter_fast as lf

CODES = np.array([[0, 2], [1, 0], [1, 1]])
IDS = lf.SemanticIds(CODES, [2, 3], ["x", "y", "z"], is_live=np.array([True, False, True]))


def test_a_table_is_a_mapping_of_item_ids() -> None:
    assert IDS["y"] == (1, 0)
    assert list(IDS) == ["x", "y", "z"]
    assert len(IDS) == 3
    assert "y" in IDS
    assert "w" not in IDS
    assert 1 not in IDS
    assert dict(zip(IDS, map(IDS.__getitem__, IDS))) == {"x": (0, 2), "y": (1, 0), "z": (1, 1)}
    for unknown in ("w", 1, None, True, ["x"]):
        with pytest.raises(KeyError):
            IDS[unknown]


def test_row_numbers_are_ids_too() -> None:
    numbered = lf.SemanticIds(CODES, [2, 3])
    assert numbered[np.int32(2)] == numbered[2] == (1, 1)
    assert 3 not in numbered
    assert True not in numbered
    assert 10**30 not in numbered
    assert "2" not in numbered


def test_bytes_are_named_by_their_text() -> None:
    named = lf.SemanticIds(CODES, [2, 3], pa.array([b"x", b"y", b"z"]))
    assert named["y"] == named[b"y"] == (1, 0)


def test_arrow_holds_what_the_file_holds(tmp_path: Path) -> None:
    IDS.save(tmp_path / "ids.parquet")
    stored, table = pq.read_table(tmp_path / "ids.parquet"), IDS.to_arrow()
    assert table.schema.metadata == stored.schema.metadata
    assert table.to_pydict() == stored.to_pydict()


def test_pandas() -> None:
    pytest.importorskip("pandas")
    frame = IDS.to_pandas()
    assert frame["item_id"].tolist() == ["x", "y", "z"]
    assert frame[["code_1", "code_2"]].to_numpy().tolist() == CODES.tolist()
    assert frame["live"].tolist() == [True, False, True]


def test_files_of_other_projects_by_name(tmp_path: Path) -> None:
    facts = IDS.export(tmp_path / "index.json", "letter")
    assert facts.sizes == (2, 3)
    assert list(lf.SemanticIds.read(tmp_path / "index.json")) == ["x", "z"]
    IDS.export(tmp_path / "all.json", "letter", with_removed=True)
    back = lf.SemanticIds.read(tmp_path / "all.json", "letter", sizes=[2, 3])
    assert list(back) == ["x", "y", "z"]
    assert back.is_live.tolist() == [True, False, True]
    with pytest.raises(ValueError, match="did you mean 'letter'"):
        IDS.export(tmp_path / "index.json", "leter")
