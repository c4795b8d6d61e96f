"""Tables and models belong together: kinds of mistake × ways in."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

import letter_fast as lf
from letter_fast.cli.app import run
from letter_fast.compat.letter import RQVAE
from letter_fast.evaluation import evaluate
from letter_fast.tokenization import (
    FORMATS,
    POLICIES,
    SemanticIds,
    diff,
    export_ids,
    import_ids,
    resolve,
)
from letter_fast.tokenization.digests import row_digests
from letter_fast.tokenization.existing import Changes
from letter_fast.training import FitSettings, fit_residual_kmeans
from tests.support import oracle

ROWS, WIDTH, SIZES = 120, 6, (4, 6, 12)
TEXT = oracle.clustered(ROWS, WIDTH, 8, seed=1).numpy()
NAMES = [f"item-{row:03}" for row in range(ROWS)]


def fitted(seed: int = 0) -> lf.ResidualKMeans:
    return lf.ResidualKMeans(lf.ResidualKMeansConfig(WIDTH, SIZES)).fit(TEXT, seed=seed)


MODEL, OTHER = fitted(), fitted(1)


def table_of(rows: slice | list[int], *rest: Any, text: Any = TEXT, **options: Any) -> SemanticIds:
    names = np.array(NAMES)[rows].tolist()
    return lf.tokenize(MODEL, text[rows], *rest, item_ids=names, **options)


TABLE = table_of(slice(None))
# Without its first 20 items, with them as removed ones, and one of those back.
NIGHT = table_of(slice(20, None), existing=TABLE)


def write_catalog(path: Path, rows: slice | list[int] = slice(None), text: Any = TEXT) -> Path:
    names = np.array(NAMES)[rows].tolist()
    pq.write_table(pa.table({"item_id": names, "vector": list(text[rows])}), path)
    return path


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Catalog, two models, and the table of the first."""
    write_catalog(tmp_path / "text.parquet")
    MODEL.save_pretrained(tmp_path / "model")
    OTHER.save_pretrained(tmp_path / "other")
    TABLE.save(tmp_path / "ids.parquet")
    NIGHT.save(tmp_path / "night.parquet")
    return tmp_path


def refusal(root: Path, capfd: pytest.CaptureFixture[str], command: str) -> str:
    """The one line with which a command refuses; it leaves the folder as it was."""
    before = sorted(root.rglob("*"))
    assert command_of(root, command) == 2
    out, error = capfd.readouterr()
    assert out == ""
    assert error.count("\n") == 1
    assert sorted(root.rglob("*")) == before
    return error


def command_of(root: Path, command: str) -> int:
    return run([str(root / part) if (root / part).exists() or part.startswith("new") else part
                for part in command.split()])  # fmt: skip


def codes_by_item(table: SemanticIds) -> dict[Any, tuple[int, ...]]:
    return dict(zip(table.item_ids.to_pylist(), map(tuple, table.codes.tolist())))


# Another model

WITH_A_TABLE: dict[str, Callable[..., Any]] = {
    "tokenize": lambda model, table, **how: lf.tokenize(
        model, TEXT, existing=table, item_ids=NAMES, **how
    ),
    "evaluate": lambda model, table, **how: evaluate(
        model, (pa.array(NAMES), TEXT), ids=table, **how
    ),
}
COMMANDS_WITH_A_TABLE = (
    "tokenize other text.parquet --existing ids.parquet --out new.parquet",
    "evaluate other --embeddings text.parquet --ids ids.parquet",
    "import index.json --model other --out new.parquet",
)


@pytest.mark.parametrize("way", WITH_A_TABLE)
def test_another_models_table_is_refused(way: str) -> None:
    with pytest.raises(ValueError, match=r"made by another model \(.*other_model=True"):
        WITH_A_TABLE[way](OTHER, TABLE)
    WITH_A_TABLE[way](OTHER, TABLE, other_model=True)
    unknown = SemanticIds(TABLE.codes, TABLE.sizes, TABLE.item_ids)
    with pytest.warns(UserWarning, match="doesn't say which model made its IDs"):
        WITH_A_TABLE[way](OTHER, unknown)


@pytest.mark.parametrize("command", COMMANDS_WITH_A_TABLE)
def test_commands_refuse_another_models_table(
    root: Path, capfd: pytest.CaptureFixture[str], command: str
) -> None:
    export_ids(TABLE, root / "index.json", "letter")
    assert "made by another model" in refusal(root, capfd, command)
    assert command_of(root, f"{command} --other-model") == 0
    assert command_of(root, command.replace("other ", "model ")) == 0


def test_the_models_that_made_a_table_are_listed() -> None:
    first = table_of(slice(40))
    assert "models" not in first.metadata
    first.metadata["note"] = "ours"
    mixed = lf.tokenize(OTHER, TEXT, existing=first, item_ids=NAMES, other_model=True)
    prints = [MODEL.fingerprint(), OTHER.fingerprint()]
    assert (mixed.metadata["models"], mixed.metadata["model"]) == (prints, prints[1])
    assert mixed.metadata["note"] == "ours"
    # The model of the latest items goes on unasked; nothing new leaves everything as it is.
    assert lf.tokenize(OTHER, TEXT, existing=mixed, item_ids=NAMES).metadata == mixed.metadata
    with pytest.raises(ValueError, match="another model"):
        lf.tokenize(MODEL, TEXT, existing=mixed, item_ids=NAMES)


def test_import_writes_down_the_model(root: Path, capfd: pytest.CaptureFixture[str]) -> None:
    export_ids(TABLE, root / "index.json", "letter")
    (root / "index.json.facts.json").unlink()
    (root / "index.json.items.parquet").unlink()
    plain = "import index.json --format letter --out new.parquet"
    assert command_of(root, plain) == 0
    assert "which model made them is not known" in capfd.readouterr().out
    assert command_of(root, f"{plain} --model model") == 0
    assert "not known" not in capfd.readouterr().out
    known = SemanticIds.load(root / "new.parquet")
    assert known.metadata["model"] == MODEL.fingerprint()
    assert known.sizes == list(SIZES)
    wrong = refusal(root, capfd, f"{plain} --model model --sizes 4,6,13")
    assert "codebooks of [4, 6, 13], the model of [4, 6, 12]" in wrong


# A model that was never trained

UNTRAINED: dict[str, Callable[[], Any]] = {
    "Letter": lambda: lf.Letter(
        lf.LetterConfig(WIDTH, hidden=(8,), latent_dim=4, codebook_size=SIZES)
    ),
    "ResidualKMeans": lambda: lf.ResidualKMeans(lf.ResidualKMeansConfig(WIDTH, SIZES)),
    "drop-in for LETTER": lambda: (
        RQVAE(WIDTH, list(SIZES), e_dim=4, layers=[8], kmeans_init=True).eval().to_letter()
    ),
}


@pytest.mark.parametrize("kind", UNTRAINED)
def test_an_untrained_model_names_nothing(
    kind: str, root: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    model = UNTRAINED[kind]()
    model.save_pretrained(root / "untrained")
    for way in (lf.tokenize, evaluate):
        with pytest.raises(ValueError, match="never trained or fitted"):
            way(model, TEXT)
    for command in (
        "tokenize untrained text.parquet --out new.parquet",
        "evaluate untrained --embeddings text.parquet",
    ):
        assert "never trained or fitted" in refusal(root, capfd, command)
    model.quantizer.initialized.fill_(True)
    assert len(lf.tokenize(model, TEXT)) == ROWS


# Removed items

GONE = set(NAMES[:20])


def test_an_items_life(tmp_path: Path) -> None:
    """Here, gone, gone while others come, back: one ID throughout, which nobody else gets."""
    before = codes_by_item(TABLE)
    assert NIGHT.is_live.tolist() == [True] * 100 + [False] * 20
    assert set(NIGHT.live().item_ids.to_pylist()) == set(NAMES) - GONE
    assert codes_by_item(NIGHT) == before
    twins = lf.tokenize(
        MODEL,
        np.concatenate([TEXT[20:], TEXT[:5]]),  # new items that want what the first ones had
        existing=NIGHT,
        item_ids=[*NAMES[20:], *(f"twin-{row}" for row in range(5))],
    )
    assert {name: codes_by_item(twins)[name] for name in NAMES} == before
    assert len(set(codes_by_item(twins).values())) == ROWS + 5
    NIGHT.save(tmp_path / "night.parquet")
    found: list[Changes] = []
    back = table_of(
        slice(10, None),
        existing=SemanticIds.load(tmp_path / "night.parquet"),
        on_existing=found.append,
    )
    assert codes_by_item(back) == before
    assert int(back.is_live.sum()) == 110
    assert (found[0].kept, found[0].returned, found[0].new, found[0].absent) == (100, 10, 0, 0)
    freed = table_of(slice(20, None), existing=TABLE, removed="free")
    assert set(codes_by_item(freed)) == set(NAMES) - GONE
    kept = table_of(slice(70, None), existing=TABLE, removed="keep")
    assert kept.is_live.all()
    assert len(kept) == ROWS


def reached(table: SemanticIds, **how: Any) -> set[tuple[int, ...]]:
    """The IDs that constrained decoding can write."""
    trie, prefixes = table.trie(**how), [()]
    for _ in table.sizes:
        allowed = trie.allowed(np.array(prefixes, dtype=int).reshape(len(prefixes), -1))
        prefixes = [(*old, int(code)) for old, more in zip(prefixes, allowed) for code in more]
    return set(prefixes)


def test_decoding_knows_live_items_only() -> None:
    dead = {codes for name, codes in codes_by_item(NIGHT).items() if name in GONE}
    everyone = set(codes_by_item(NIGHT).values())
    assert reached(NIGHT) == reached(NIGHT.live()) == everyone - dead
    assert reached(NIGHT, with_removed=True) == everyone


def test_an_id_that_removed_and_live_items_share_means_the_live_one() -> None:
    for dead in (0, 2):
        table = SemanticIds([[1], [0], [1]], [2], list("xyz"), is_live=np.arange(3) != dead)
        assert table.rows_of_codes(np.array([[1], [0]])).tolist() == [2 - dead, 1]
        assert table.items_of((1,)) == ["x", "z"]
        assert len(table.trie()) == 2


@pytest.mark.parametrize("format", FORMATS)
def test_exports_are_of_live_items(
    format: str, root: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    command = f"export night.parquet --format {format} --out new.{format}"
    for flag, rows, is_live in ((" --with-removed", 120, NIGHT.is_live), ("", 100, np.ones(100))):
        assert command_of(root, command + flag) == 0
        assert "20 items that are marked as removed" in capfd.readouterr().out
        back = import_ids(root / f"new.{format}")
        assert len(back) == rows
        np.testing.assert_array_equal(back.is_live, is_live)
        assert codes_by_item(back).items() <= codes_by_item(NIGHT).items()


def test_diff_counts_removed_and_returned_items(
    root: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert command_of(root, "diff ids.parquet night.parquet --json") == 0
    facts = json.loads(capfd.readouterr().out)
    counts = ("old_items", "new_items", "kept", "moved", "added", "returned", "removed")
    assert [facts[name] for name in counts] == [120, 100, 100, 0, 0, 0, 20]
    back = diff(NIGHT, TABLE)
    assert [getattr(back, name) for name in counts] == [100, 120, 100, 0, 0, 20, 0]
    everyone = diff(NIGHT, TABLE, with_removed=True)
    assert [getattr(everyone, name) for name in counts] == [120, 120, 120, 0, 0, 0, 0]
    assert (everyone.same_model, diff(TABLE, SemanticIds([[0]], [1])).same_model) == (True, None)
    nobody = SemanticIds(np.zeros((0, 3), dtype=int), SIZES, pa.array([], pa.string()))
    assert (diff(nobody, TABLE).added, diff(TABLE, nobody).removed) == (120, 120)


# Judging a table


def test_a_tables_report_is_of_its_own_codes() -> None:
    """Whatever the order of its rows; reconstruction, latents and codes alike."""
    chance = np.random.default_rng(0)
    codes = chance.integers(0, SIZES, (ROWS, 3))
    order = chance.permutation(ROWS)
    names = np.array(NAMES)[order].tolist()
    made_by = {"model": MODEL.fingerprint()}
    cf = (pa.array(NAMES), torch.randn(ROWS, 4))
    table = SemanticIds(codes[order], SIZES, names, made_by)
    result = evaluate(MODEL, (pa.array(NAMES), TEXT), cf, table, batch_size=50)
    left = torch.from_numpy(TEXT) - MODEL.decode(torch.from_numpy(codes))
    assert result.reconstruction == pytest.approx(float(left.square().mean()), rel=1e-5)
    norm = float(np.square(TEXT).sum())
    assert result.latent_error[-1] == pytest.approx(float(left.square().sum()) / norm, rel=1e-5)
    straight = SemanticIds(codes, SIZES, NAMES, made_by)
    again = evaluate(MODEL, (pa.array(NAMES), TEXT), cf, straight)
    assert again.usage == result.usage
    assert again.neighbour_overlap == result.neighbour_overlap
    assert result.missing["cf_recall"]
    assert evaluate(MODEL, TEXT).missing["neighbour_overlap"] == "needs CF"


def test_the_nightly_table_is_judged_on_the_nightly_catalog(
    root: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    write_catalog(root / "night_text.parquet", slice(20, None))
    command = "evaluate model --embeddings night_text.parquet --ids"
    assert command_of(root, f"{command} night.parquet") == 0
    assert "not measured" not in capfd.readouterr().out
    assert command_of(root, f"{command} ids.parquet") == 0
    assert "not measured: 20 live items" in capfd.readouterr().out
    whole = "evaluate model --embeddings text.parquet --ids"
    assert "has marked as removed 20 of 120 items" in refusal(root, capfd, f"{whole} night.parquet")
    assert command_of(root, f"{whole} night.parquet --with-removed") == 0
    table_of(slice(30)).save(root / "few.parquet")
    capfd.readouterr()
    error = refusal(root, capfd, f"{whole} few.parquet")
    assert "lacks 90 of 120 items" in error
    assert "the first is 'item-030'" in error
    np.save(root / "rows.npy", TEXT)
    assert "has no item ids" in refusal(
        root, capfd, "evaluate model --embeddings rows.npy --ids ids.parquet"
    )
    SemanticIds(TABLE.codes[:, :2], SIZES[:2], NAMES).save(root / "short.parquet")
    with pytest.warns(UserWarning, match="doesn't say which model"):
        assert "codebooks of [4, 6], the model" in refusal(root, capfd, f"{whole} short.parquet")


# Embeddings that changed

_ONLY = np.zeros((ROWS, WIDTH), dtype=bool)
_ONLY[7, 3] = True
_ROW_5 = np.arange(ROWS)[:, None] == 5
CHANGES: dict[str, tuple[Callable[[Any], Any], int]] = {
    "nothing": (lambda text: text, 0),
    "kept as float64": (lambda text: text.astype(np.float64), 0),
    "one bit of one number": (lambda text: np.nextafter(text, np.inf) * _ONLY + text * ~_ONLY, 1),
    "two rows exchanged": (lambda text: text[[1, 0, *range(2, ROWS)]], 2),
    "columns of a row exchanged": (lambda text: np.where(_ROW_5, text[:, ::-1], text), 1),
}


@pytest.mark.parametrize("kind", CHANGES)
def test_changed_embeddings_are_counted(kind: str) -> None:
    change, count = CHANGES[kind]
    text, found = change(TEXT), []
    same = table_of(slice(None), existing=TABLE, text=text, on_existing=found.append)
    assert (found[0].changed, found[0].unknown) == (count, 0)
    assert codes_by_item(same) == codes_by_item(TABLE)
    # What the ID was made from is what counts the next night, too.
    np.testing.assert_array_equal(same.digests, TABLE.digests)
    assert evaluate(MODEL, (pa.array(NAMES), text), ids=TABLE).changed == count
    anew = table_of(
        slice(None), existing=TABLE, text=text, refresh="changed", on_existing=found.append
    )
    np.testing.assert_array_equal(anew.digests, row_digests(np.float32(text)))
    moved = {name for name in NAMES if codes_by_item(anew)[name] != codes_by_item(TABLE)[name]}
    assert len(moved) <= count


def test_old_tables_say_that_changes_are_unknown(
    root: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    old = SemanticIds(TABLE.codes, TABLE.sizes, TABLE.item_ids, TABLE.metadata)
    old.save(root / "old.parquet")
    command = "tokenize model text.parquet --existing old.parquet --out new.parquet"
    assert command_of(root, command) == 0
    assert "which embeddings have changed is not known" in capfd.readouterr().out
    assert command_of(root, command.replace("old.", "new.")) == 0
    assert "0 of them have another embedding" in capfd.readouterr().out
    assert evaluate(MODEL, (pa.array(NAMES), TEXT), ids=old).missing["changed"] == "not recorded"


DIGESTS = {
    1: 15343850191732080640,
    2: 17739765193493184512,
    3: 426585153958051840,
    384: 7892345161992404992,
}


@pytest.mark.parametrize("width", DIGESTS)
def test_digests_never_change(width: int) -> None:
    """Files hold them: with any other value all embeddings would pass for changed."""
    rows = np.stack([np.arange(width) + 0.5, np.zeros(width)]).astype(np.float32)
    assert row_digests(rows).tolist() == [DIGESTS[width], 1]


# Loud where the catalog hardly is the table's

LOUD: dict[str, tuple[Callable[[], Any], str]] = {
    "most items are gone": (
        lambda: table_of(slice(70, None), existing=TABLE),
        "lacks 70 of 120 live items of the ID table, the first is 'item-000'.*--removed keep",
    ),
    "most lose their IDs": (
        lambda: table_of(slice(70, None), existing=TABLE, removed="free"),
        "they lose their IDs",
    ),
    "most embeddings are others": (
        lambda: table_of(slice(None), existing=TABLE, text=TEXT[::-1]),
        "120 of 120 items that have an ID have another embedding",
    ),
    "all equal": (lambda: lf.tokenize(MODEL, np.ones((40, WIDTH))), "all 40 new items have the"),
    "all zeros": (lambda: lf.tokenize(MODEL, np.zeros((40, WIDTH))), "40 are all zeros"),
    "most repeat another": (
        lambda: lf.tokenize(MODEL, TEXT[np.arange(100) % 20]),
        "100 new items have only 20 different embeddings",
    ),
    "fitted to zeros": (
        lambda: lf.train(
            UNTRAINED["Letter"](), np.zeros((50, WIDTH)), settings=lf.TrainSettings(epochs=1),
            cf=np.ones((50, 4)),
        ),
        "50 of 50 rows were looked at, and all are zeros",
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", LOUD)
def test_what_is_hardly_meant_is_said_loudly(kind: str) -> None:
    call, message = LOUD[kind]
    with pytest.warns(UserWarning, match=message):
        call()


def test_a_limit_of_removals(root: Path, capfd: pytest.CaptureFixture[str]) -> None:
    write_catalog(root / "cut.parquet", slice(10, None))
    command = "tokenize model cut.parquet --existing ids.parquet --out new.parquet"
    error = refusal(root, capfd, f"{command} --max-removed 0.05")
    assert "lacks 10 of 120 live items" in error
    assert command_of(root, f"{command} --max-removed 0.1") == 0
    assert "10 were marked as removed" in capfd.readouterr().out
    assert "from 0 to 1, got 5" in refusal(root, capfd, f"{command} --max-removed 5")


# More items than IDs

SMALL = "--codebook-size 4,4"
TRAININGS = {
    "train": f"train text.parquet --epochs 1 --hidden 8 {SMALL}",
    "residual k-means": f"train text.parquet --model residual-kmeans {SMALL}",
}


@pytest.mark.parametrize("kind", TRAININGS)
def test_more_items_than_ids_are_refused_before_training(
    kind: str, root: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    command = f"{TRAININGS[kind]} --out new"
    error = refusal(root, capfd, command)
    assert "120 items, but codebooks of [4, 4] make only 16 IDs" in error
    assert command_of(root, f"{command} --allow-collisions") == 0


def test_more_items_than_ids_in_python(tmp_path: Path) -> None:
    config = lf.LetterConfig(WIDTH, hidden=(8,), codebook_size=(4, 4), cf_weight=0)
    with pytest.raises(ValueError, match="make only 16 IDs"):
        lf.train(lf.Letter(config), TEXT)
    clusters = lf.ResidualKMeans(lf.ResidualKMeansConfig(WIDTH, (4,)))
    with pytest.raises(ValueError, match="make only 4 IDs"):
        fit_residual_kmeans(clusters, TEXT, tmp_path, FitSettings())
    clusters.fit(TEXT)  # clusters alone are another purpose


# Codebooks with NaN or Inf


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("level", [0, 1])
def test_broken_codebooks_end_in_one_line(bad: float, policy: str, level: int) -> None:
    books = [torch.zeros(2, 1), torch.ones(2, 1)]
    books[level][1] = bad
    message = rf"1 of 2 codewords of codebooks\[{level}\] hold NaN or Inf"
    with pytest.raises(ValueError, match=message):
        resolve(np.zeros((2, 2), dtype=int), torch.zeros(2, 1), books, policy)


# Asking for items

ASKED = [
    ([7, 8], ["007", "7.0", " 7", "+7", "7_0", "x", 7.5, 7.0, True, 2**63, None, 9], "7"),
    (["7", "007"], [7.0, True], 7),
]


@pytest.mark.parametrize(("ids", "strange", "same"), ASKED)
def test_items_are_asked_for_by_ids(ids: list[Any], strange: list[Any], same: Any) -> None:
    table = SemanticIds([[0], [1]], [2], ids)
    assert table.rows_of_items([same]).tolist() == [0]
    assert table.rows_of_items([]).tolist() == []
    for asked in strange:
        try:
            row = table.rows_of_items([asked]).tolist()
        except ValueError as error:
            assert "\n" not in str(error)
        else:
            assert row == [-1], asked
        with pytest.raises(KeyError):
            table.codes_of(asked)
    assert table.rows_of_items([ids[1]]).tolist() == [1]
    assert table.codes_of(ids[0]) == (0,)


# Files


def test_tables_of_the_first_format_are_all_live(tmp_path: Path) -> None:
    columns = {"item_id": NAMES, "codes": list(TABLE.codes.astype(np.int32))}
    facts = {"format": 1, "sizes": list(SIZES), "base": 0, "level_offset": None, "model": "f00"}
    table = pa.table(columns).replace_schema_metadata({"letter_fast": json.dumps(facts)})
    pq.write_table(table, tmp_path / "ids.parquet")
    read = SemanticIds.load(tmp_path / "ids.parquet")
    assert read.is_live.all()
    assert read.digests is None
    assert read.metadata == {"model": "f00"}


def test_the_same_night_again_writes_the_same_bytes(root: Path) -> None:
    write_catalog(root / "tonight.parquet", [*range(110), *range(115, 120)])
    command = "tokenize model tonight.parquet --margins --existing night.parquet --out new.parquet"
    assert command_of(root, command) == 0
    first = (root / "new.parquet").read_bytes()
    assert command_of(root, command) == 0
    assert (root / "new.parquet").read_bytes() == first
    assert command_of(root, command.replace(" night.parquet", " new.parquet")) == 0
    assert (root / "new.parquet").read_bytes() == first


def test_a_table_that_went_through_pandas(root: Path, capfd: pytest.CaptureFixture[str]) -> None:
    through = pq.read_table(root / "night.parquet")
    lists = through.column("codes").cast(pa.list_(pa.int64()))
    binary = through.column("embedding_digest").cast(pa.binary())
    place = through.column_names.index
    through = through.set_column(place("codes"), "codes", lists)
    through = through.set_column(place("embedding_digest"), "embedding_digest", binary)
    pq.write_table(through.replace_schema_metadata(None), root / "pandas.parquet")
    error = refusal(root, capfd, "evaluate model --embeddings text.parquet --ids pandas.parquet")
    assert "its metadata are gone" in error
    assert "--format table --sizes" in error
    read = SemanticIds.load(root / "pandas.parquet", sizes=SIZES)
    np.testing.assert_array_equal(read.is_live, NIGHT.is_live)
    np.testing.assert_array_equal(read.digests, NIGHT.digests)
    command = "import pandas.parquet --format table --model model --out new.parquet"
    assert command_of(root, command) == 0
    whole = SemanticIds.load(root / "new.parquet")
    assert codes_by_item(whole) == codes_by_item(NIGHT)
    assert whole.metadata["model"] == MODEL.fingerprint()
    with pytest.raises(ValueError, match=r"codebooks of \[4, 6, 12\], not of \[4, 6\]"):
        SemanticIds.load(root / "new.parquet", sizes=[4, 6])


BROKEN_COLUMNS = {
    "live": [pa.array([1] * ROWS), pa.array([None] + [True] * (ROWS - 1)), pa.array(NAMES)],
    "embedding_digest": [pa.array(NAMES), pa.array([b"123"] * ROWS), pa.array([1.0] * ROWS)],
    "item_id": [pa.nulls(ROWS), pa.array([[1]] * ROWS), pa.array(["a"] * ROWS)],
    "codes": [pa.array([1] * ROWS), pa.array([[1.0] * 3] * ROWS), pa.array([[9] * 3] * ROWS)],
    "margin": [pa.array([1.0] * ROWS), pa.array([[]] * ROWS, pa.list_(pa.float32()))],
}


@pytest.mark.parametrize("column", BROKEN_COLUMNS)
def test_columns_that_are_no_columns_of_a_table(tmp_path: Path, column: str) -> None:
    path = tmp_path / "ids.parquet"
    TABLE.save(path)
    whole = pq.read_table(path)
    place = whole.column_names.index(column) if column in whole.column_names else -1
    for values in BROKEN_COLUMNS[column]:
        broken = whole.append_column(column, values) if place < 0 else whole.set_column(
            place, column, values
        )  # fmt: skip
        pq.write_table(broken, path)
        with pytest.raises(ValueError, match="is a broken ID table"):
            SemanticIds.load(path)
    if place >= 0:
        pq.write_table(pa.concat_tables([whole], promote_options="none"), path)
        twice = whole.append_column(column, whole.column(column))
        pq.write_table(twice, path)
        try:
            SemanticIds.load(path)
        except ValueError as error:
            assert "\n" not in str(error)


FACTS = {"format": 2, "sizes": list(SIZES), "base": 0, "level_offset": None}
BROKEN_FACTS = [
    [], "x", 5, True, {}, {**FACTS, "format": None}, {**FACTS, "format": "2"},
    {**FACTS, "format": 99}, {**FACTS, "format": -1}, {**FACTS, "sizes": None},
    {**FACTS, "sizes": [4.5, 6, 12]}, {**FACTS, "sizes": ["4", 6, 12]}, {**FACTS, "sizes": [4, 6]},
    {**FACTS, "sizes": [4, 6, 2**40]}, {**FACTS, "base": 1}, {**FACTS, "sizes": {"4": 6}},
]  # fmt: skip


@pytest.mark.parametrize("facts", BROKEN_FACTS, ids=str)
def test_metadata_that_are_none_of_a_table(tmp_path: Path, facts: Any) -> None:
    path = tmp_path / "ids.parquet"
    TABLE.save(path)
    whole = pq.read_table(path).replace_schema_metadata({"letter_fast": json.dumps(facts)})
    pq.write_table(whole, path)
    with pytest.raises(ValueError, match=r"ids\.parquet"):
        SemanticIds.load(path)


@pytest.mark.parametrize("models", [5, [], {}, "x", [None], ["x", 5]])
def test_strange_fingerprints(models: Any) -> None:
    for facts in ({"model": models}, {"model": MODEL.fingerprint(), "models": models}):
        table = SemanticIds(TABLE.codes, TABLE.sizes, NAMES, facts)
        text = np.concatenate([TEXT, TEXT[:1] + 1])
        try:
            lf.tokenize(MODEL, text, existing=table, item_ids=[*NAMES, "new"])
        except ValueError as error:
            assert "made by another model" in str(error)


MANIFESTS = [
    b"[]",
    b"5",
    b'"x"',
    b"null",
    b"",
    b"\xff",
    b"{",
    b"[" * 100_000,
    b"{}",
    b'{"rows": 1}',
]


@pytest.mark.parametrize("content", MANIFESTS, ids=lambda content: str(content[:12]))
def test_damaged_manifests(root: Path, capfd: pytest.CaptureFixture[str], content: bytes) -> None:
    folder = root / "new.parquet.unfinished"
    lf.tokenize(MODEL, root / "text.parquet", unfinished=folder)
    (folder / "manifest.json").write_bytes(content)
    command = "tokenize model text.parquet --out new.parquet"
    assert "--fresh" in refusal(root, capfd, command)
    assert command_of(root, f"{command} --fresh") == 0


RECORD = dict(epoch=1, loss=2.0, recon=1.0, quantization=1.0, cf=0.0, diversity=0.5)
SEEN = {**RECORD, "catalog_perplexity": [3.0, 2.0, 1.0]}
LOGS: list[Any] = [
    [], 5, None, "x", {}, {**RECORD, "loss": "2"}, {**RECORD, "loss": None},
    {**RECORD, "epoch": []}, {**RECORD, "recon": [1.0]}, {**RECORD, "recon": 10**400},
    {**SEEN, "catalog_perplexity": []}, {**SEEN, "catalog_perplexity": 3.0},
    {**SEEN, "catalog_perplexity": ["x", 1.0, 1.0]}, {**SEEN, "catalog_perplexity": [1.0]},
    {name: value for name, value in RECORD.items() if name != "recon"},
]  # fmt: skip


@pytest.mark.parametrize("line", LOGS, ids=lambda line: str(line)[:40])
def test_damaged_logs(root: Path, capfd: pytest.CaptureFixture[str], line: Any) -> None:
    pytest.importorskip("matplotlib")
    letter = UNTRAINED["Letter"]()
    letter.quantizer.initialized.fill_(True)
    letter.save_pretrained(root / "letter")
    for text in (f"{json.dumps(line)}\n", f"{json.dumps(SEEN)}\n{json.dumps(line)}\n"):
        (root / "letter" / "log.jsonl").write_text(text)
        command = "evaluate letter --embeddings text.parquet --plots new.plots"
        assert command_of(root, command) == 2
        out, error = capfd.readouterr()
        assert out == ""
        assert error.count("\n") == 1
