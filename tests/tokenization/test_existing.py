"""An earlier table keeps its IDs: new items, removed items, the same run again."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch

from letter_fast.model import Letter, LetterConfig
from letter_fast.tokenization import SemanticIds, tokenize

TEXT = np.random.default_rng(0).standard_normal((300, 6)).astype(np.float32)
NAMES = np.array([f"item-{row}" for row in range(300)])


@pytest.fixture(scope="module")
def model() -> Letter:
    torch.manual_seed(0)
    config = LetterConfig(input_dim=6, hidden=(8,), latent_dim=4, codebook_size=(6, 6, 40))
    made = Letter(config)
    with torch.no_grad():
        made.quantizer.codebooks.normal_()
        made.quantizer.initialized.fill_(True)
    return made


def table_of(model: Letter, rows: np.ndarray, *rest: object, **options: object) -> SemanticIds:
    names = pa.array(NAMES[rows].tolist())
    return tokenize(model, TEXT[rows], *rest, item_ids=names, **options)


def ids_of(table: SemanticIds) -> dict[str, tuple[int, ...]]:
    return dict(zip(table.item_ids.to_pylist(), map(tuple, table.codes.tolist())))


@pytest.mark.parametrize("policy", ["none", "letter", "suffix", "optimal"])
@pytest.mark.parametrize("only_new", [True, False])
def test_batches_that_never_move_an_id(model: Letter, policy: str, only_new: bool) -> None:
    table = None
    removed = "keep" if only_new else "reserve"
    seen: dict[str, tuple[int, ...]] = {}
    for end in range(100, 301, 10):  # 20 batches on a catalog
        begin = end - 10 if only_new and table is not None else 0
        table = table_of(model, np.arange(begin, end), policy, table, removed=removed)
        now = ids_of(table)
        assert len(now) == end
        assert {name: now[name] for name in seen} == seen
        seen = now
        if policy in ("suffix", "optimal"):
            assert len(set(now.values())) == end
    assert table is not None
    again = table_of(model, np.arange(begin, end), policy, table, removed=removed)
    assert ids_of(again) == seen
    assert again.is_live.all()


@pytest.mark.parametrize("policy", ["none", "letter", "suffix", "optimal"])
def test_the_same_run_again_writes_the_same_file(
    model: Letter, tmp_path: Path, policy: str
) -> None:
    first = table_of(model, np.arange(120), policy)
    first.save(tmp_path / "first.parquet")
    again = table_of(model, np.arange(120), policy, SemanticIds.load(tmp_path / "first.parquet"))
    again.save(tmp_path / "again.parquet")
    assert (tmp_path / "first.parquet").read_bytes() == (tmp_path / "again.parquet").read_bytes()


def test_only_new_items_are_encoded(model: Letter, monkeypatch: pytest.MonkeyPatch) -> None:
    first = table_of(model, np.arange(20, 120))
    encoded = []
    plain = Letter.encode_latents

    def spy(self: Letter, s: torch.Tensor) -> torch.Tensor:
        encoded.append(s)
        return plain(self, s)

    monkeypatch.setattr(Letter, "encode_latents", spy)
    table_of(model, np.arange(130), existing=first, batch_size=16)
    new = np.concatenate([TEXT[:20], TEXT[120:130]])
    rows = torch.cat(encoded).numpy()
    # What collides is encoded once more, for its latents.
    assert {row.tobytes() for row in rows} == {row.tobytes() for row in new}


def test_ids_of_removed_items(model: Letter) -> None:
    first = table_of(model, np.arange(120))
    twin = TEXT[[5]]  # a new item that wants what item 5 had
    rest = np.arange(120) != 5
    text = np.concatenate([TEXT[:120][rest], twin])
    names = pa.array([*NAMES[:120][rest].tolist(), "twin"])
    reserved = tokenize(model, text, existing=first, item_ids=names)
    assert ids_of(reserved)["item-5"] == ids_of(first)["item-5"]
    assert len(reserved) == 121
    assert len(set(ids_of(reserved).values())) == 121
    freed = tokenize(model, text, existing=first, removed="free", item_ids=names)
    assert "item-5" not in ids_of(freed)
    assert ids_of(freed)["twin"] == ids_of(first)["item-5"]
    with pytest.raises(ValueError, match="did you mean 'free'"):
        tokenize(model, text, existing=first, removed="fre", item_ids=names)


def test_suffixes_go_on_where_they_were(model: Letter) -> None:
    rows = np.array([7, 7, 7])
    names = [pa.array(["a", "b"]), pa.array(["c"])]
    first = tokenize(model, TEXT[rows[:2]], "suffix", item_ids=names[0])
    both = tokenize(model, TEXT[rows[2:]], "suffix", first, removed="keep", item_ids=names[1])
    assert both.item_ids.to_pylist() == ["c", "a", "b"]
    assert both.codes[:, -1].tolist() == [2, 0, 1]
    assert both.sizes == [6, 6, 40, 3]
    # The vocabulary stays, though only one item is left.
    with pytest.warns(UserWarning, match="lacks 2 of 3 live items.*'a'.* they lose their IDs"):
        freed = tokenize(model, TEXT[rows[2:]], "suffix", both, removed="free", item_ids=names[1])
    assert freed.sizes == both.sizes


def test_tables_that_do_not_fit(model: Letter) -> None:
    first = table_of(model, np.arange(50))
    with pytest.raises(ValueError, match=r"unique='suffix' needs \[6, 6, 40\] and a suffix"):
        table_of(model, np.arange(60), "suffix", first)
    other = SemanticIds(first.codes, [6, 6, 41], first.item_ids, first.metadata)
    with pytest.raises(ValueError, match=r"codebooks of \[6, 6, 41\]"):
        table_of(model, np.arange(60), "optimal", other)
    with pytest.raises(ValueError, match=r"named by text \(string\), these by integers \(int64\)"):
        tokenize(model, TEXT[:60], existing=first)
