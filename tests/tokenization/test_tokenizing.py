"""tokenize gives the same table however the rows come, and goes on where it was killed."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from letter_fast.catalog import Embeddings
from letter_fast.model import Letter, LetterConfig
from letter_fast.tokenization import POLICIES, SemanticIds, encode, finished, tokenize
from letter_fast.tokenization.encode import LatentsOnDemand, encode_rows
from tests.support import oracle

ROWS = 500
TEXT = oracle.clustered(ROWS, 10, 8, seed=1).numpy()
TEXT[17] = TEXT[3]  # equal items are told apart by their names
NAMES = [f"item-{row * 7919 % ROWS:03}" for row in range(ROWS)]


@pytest.fixture(scope="module")
def model() -> Letter:
    torch.manual_seed(0)
    config = LetterConfig(input_dim=10, hidden=(48, 20), latent_dim=6, codebook_size=(6, 8, 40))
    made = Letter(config)
    made.quantizer.fit(made.encode_latents(torch.from_numpy(TEXT)), method="kmeans")
    return made


@pytest.fixture
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(finished, "_ROWS", 64)


def ids_of(table: SemanticIds) -> dict[object, tuple[int, ...]]:
    return dict(zip(table.item_ids.to_pylist(), map(tuple, table.codes.tolist())))


def same(left: SemanticIds, right: SemanticIds) -> bool:
    return (
        np.array_equal(left.codes, right.codes)
        and left.item_ids.equals(right.item_ids)
        and left.sizes == right.sizes
        and left.metadata == right.metadata
        and (left.margins is None) == (right.margins is None)
        and (left.margins is None or np.array_equal(left.margins, right.margins, equal_nan=True))
    )


# The same IDs


@pytest.fixture(params=[1, 2])
def threads(request: pytest.FixtureRequest) -> Iterator[int]:
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


@pytest.mark.usefixtures("threads")
@pytest.mark.parametrize("size", [1, 7, 1024, 65_536])
def test_codes_do_not_depend_on_batches_or_threads(model: Letter, size: int) -> None:
    rows = np.arange(40 if size < 7 else 200 if size < 1024 else ROWS)
    found = encode_rows(model, Embeddings.open(TEXT), rows, margins=True, batch_size=size)
    z = model.encode_latents(torch.from_numpy(TEXT))
    whole = model.quantizer.encode(z, return_margin=True)
    np.testing.assert_array_equal(found.codes, whole.codes[rows])
    np.testing.assert_array_equal(found.margins, whole.margin[rows])


@pytest.mark.usefixtures("threads")
@pytest.mark.parametrize("policy", POLICIES)
def test_ids_do_not_depend_on_order(model: Letter, policy: str) -> None:
    whole = tokenize(model, TEXT, policy, item_ids=NAMES)
    assert whole.metadata["resolution"]["before"]["collision_rate"] > 0.02
    order = np.random.default_rng(0).permutation(ROWS)
    names = [NAMES[row] for row in order]
    shuffled = tokenize(model, TEXT[order], policy, item_ids=names, batch_size=99)
    assert ids_of(shuffled) == ids_of(whole)


def one_parquet(folder: Path) -> Path:
    table = pa.table({"item_id": NAMES, "vector": list(TEXT)})
    pq.write_table(table, folder / "text.parquet", row_group_size=70)
    return folder / "text.parquet"


def shards(folder: Path) -> Path:
    (folder / "shards").mkdir()
    for number, begin in enumerate(range(0, ROWS, 130)):
        part = slice(begin, begin + 130)
        table = pa.table({"item_id": NAMES[part], "vector": list(TEXT[part])})
        pq.write_table(table, folder / "shards" / f"{number}.parquet", row_group_size=50)
    return folder / "shards"


def stream(_: Path) -> Iterator[tuple[list[str], np.ndarray]]:
    for begin in range(0, ROWS, 99):
        yield NAMES[begin : begin + 99], TEXT[begin : begin + 99]


@pytest.mark.parametrize("write", [one_parquet, shards, stream])
@pytest.mark.parametrize("policy", POLICIES)
def test_ids_do_not_depend_on_the_source(
    model: Letter, tmp_path: Path, write: Callable[[Path], object], policy: str
) -> None:
    whole = tokenize(model, TEXT, policy, item_ids=NAMES)
    assert same(tokenize(model, write(tmp_path), policy, batch_size=33), whole)


def test_latents_are_encoded_again_to_the_same_bits(model: Letter) -> None:
    rows = np.arange(3, ROWS, 2)
    latents = LatentsOnDemand(model, Embeddings.open(TEXT), rows, batch_size=16)
    whole = model.encode_latents(torch.from_numpy(TEXT))
    assert latents.shape == (len(rows), 6)
    places = np.array([40, 3, 3, 0, 100])
    assert torch.equal(latents[places], whole[torch.from_numpy(rows[places])])
    assert latents[places[:0]].shape == (0, 6)


def test_few_latents_are_kept_once_they_are_all_there(
    model: Letter, monkeypatch: pytest.MonkeyPatch
) -> None:
    catalog, rows = Embeddings.open(TEXT), np.arange(3, ROWS, 2)
    whole = model.encode_latents(torch.from_numpy(TEXT))[torch.from_numpy(rows)]
    latents = LatentsOnDemand(model, catalog, rows, batch_size=16)
    latents.keep(np.arange(40), whole[:40])
    assert torch.equal(latents[np.array([50, 2])], whole[[50, 2]])  # encoded again: not all there
    latents = LatentsOnDemand(model, catalog, rows, batch_size=16)
    encode_rows(model, catalog, rows, batch_size=16, latents=latents)
    monkeypatch.setattr(type(model), "encode_latents", None)
    assert torch.equal(latents[np.array([50, 2])], whole[[50, 2]])


def test_many_latents_are_not_kept(model: Letter, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encode, "_KEPT", 6 * 10 - 1)
    assert LatentsOnDemand(model, Embeddings.open(TEXT), np.arange(9)).are_few
    assert not LatentsOnDemand(model, Embeddings.open(TEXT), np.arange(10)).are_few


# Margins


def test_margins_stay_with_their_items(model: Letter, tmp_path: Path) -> None:
    z = model.encode_latents(torch.from_numpy(TEXT))
    margin = model.quantizer.encode(z, return_margin=True).margin.numpy()
    whole = tokenize(model, TEXT, item_ids=NAMES, margins=True)
    np.testing.assert_array_equal(whole.margins, margin)
    first = tokenize(model, TEXT[:300], item_ids=NAMES[:300], margins=True)
    first.save(tmp_path / "first.parquet")
    earlier = SemanticIds.load(tmp_path / "first.parquet")
    with pytest.warns(UserWarning, match="lacks 200 of 300 live items"):
        new = tokenize(model, TEXT[200:], existing=earlier, item_ids=NAMES[200:])
    np.testing.assert_array_equal(new.margins, np.concatenate([margin[200:], margin[:200]]))
    plain = tokenize(model, TEXT[:300], item_ids=NAMES[:300])
    assert plain.margins is None
    mixed = tokenize(model, TEXT, existing=plain, item_ids=NAMES, margins=True)
    assert np.isnan(mixed.margins[:300]).all()
    np.testing.assert_array_equal(mixed.margins[300:], margin[300:])


# Unfinished runs


class Killed(Exception):
    """The error that stops a run here; tests/cli/test_kill.py does it with a signal."""


def stop_after(rows: int) -> Callable[[int, int], None]:
    def stop(done: int, _: int) -> None:
        if done >= rows:
            raise Killed

    return stop


@pytest.mark.usefixtures("small_shards")
@pytest.mark.parametrize("margins", [False, True])
def test_a_stopped_run_goes_on(model: Letter, tmp_path: Path, margins: bool) -> None:
    options = dict(item_ids=NAMES, margins=margins, batch_size=50)
    whole = tokenize(model, TEXT, **options)
    seen: list[int] = []
    for rows in (0, 120, 300, 450):
        with pytest.raises(Killed):
            tokenize(model, TEXT, **options, unfinished=tmp_path / "u", on_batch=stop_after(rows))
    again = tokenize(
        model,
        TEXT,
        **options,
        unfinished=tmp_path / "u",
        on_batch=lambda done, _: seen.append(done),
    )
    assert seen == [448, 498, 500]  # seven shards of 64 were whole
    assert same(again, whole)
    # Another policy takes the same codes.
    suffix = tokenize(model, TEXT, "suffix", **options, unfinished=tmp_path / "u")
    assert same(suffix, tokenize(model, TEXT, "suffix", **options))
    finished.drop(tmp_path / "u")
    assert not (tmp_path / "u").exists()


@pytest.mark.usefixtures("small_shards")
def test_damaged_shards_are_computed_again(model: Letter, tmp_path: Path) -> None:
    whole = tokenize(model, TEXT, unfinished=tmp_path)
    files = sorted(tmp_path.glob("codes-*"))
    assert len(files) == 8
    broken = bytearray(files[2].read_bytes())
    broken[-5] ^= 1
    files[2].write_bytes(broken)
    files[4].write_bytes(files[4].read_bytes()[:30])
    files[7].unlink()
    seen: list[int] = []
    again = tokenize(model, TEXT, unfinished=tmp_path, on_batch=lambda done, _: seen.append(done))
    assert seen[0] == 5 * 64
    assert same(again, whole)
    assert sorted(tmp_path.glob("codes-*")) == files


@pytest.mark.usefixtures("small_shards")
def test_codes_of_another_run_are_refused(model: Letter, tmp_path: Path) -> None:
    whole = tokenize(model, TEXT, unfinished=tmp_path)
    other = Letter(model.config)
    other.quantizer.initialized.fill_(True)
    changed = TEXT.copy()
    changed[400] += 1
    existing = tokenize(model, TEXT[:5])
    for differs, arguments, options in (
        ("model", (other, TEXT), {}),
        ("input", (model, changed), {}),
        ("margins", (model, TEXT), dict(margins=True)),
        ("rows", (model, TEXT), dict(existing=existing)),
    ):
        with pytest.raises(ValueError, match=rf"what differs: {differs}\).*--fresh"):
            tokenize(*arguments, unfinished=tmp_path, **options)
    assert same(tokenize(model, TEXT, unfinished=tmp_path), whole)
    (tmp_path / "manifest.json").write_text("{")
    with pytest.raises(ValueError, match=r"manifest.json can't be read: start anew"):
        tokenize(model, TEXT, unfinished=tmp_path)
    fresh = tokenize(model, changed, unfinished=tmp_path, fresh=True)
    assert same(fresh, tokenize(model, changed))


@pytest.mark.usefixtures("small_shards")
def test_a_full_disk_loses_nothing(
    model: Letter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    syncs = 0

    def full(_: int) -> None:
        nonlocal syncs
        syncs += 1
        if syncs > 4:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="No space left on device") as caught:
            tokenize(model, TEXT, unfinished=tmp_path)
    assert "codes-000003-" in caught.value.filename  # the manifest and three shards went before
    seen: list[int] = []
    again = tokenize(model, TEXT, unfinished=tmp_path, on_batch=lambda done, _: seen.append(done))
    assert seen[0] == 3 * 64
    assert same(again, tokenize(model, TEXT))
    assert not list(tmp_path.glob(".*"))


@pytest.mark.usefixtures("small_shards")
def test_a_bad_row_loses_no_finished_shard(model: Letter, tmp_path: Path) -> None:
    broken = TEXT.copy()
    broken[333, 2] = np.nan
    np.save(tmp_path / "text.npy", broken)
    for _ in range(2):
        with pytest.raises(ValueError, match=r"text.npy: row 333 holds NaN or Inf"):
            tokenize(model, tmp_path / "text.npy", unfinished=tmp_path / "u", batch_size=10)
    assert len(list((tmp_path / "u").glob("codes-*"))) == 5
    np.save(tmp_path / "text.npy", TEXT)
    with pytest.raises(ValueError, match="what differs: input"):
        tokenize(model, tmp_path / "text.npy", unfinished=tmp_path / "u")
