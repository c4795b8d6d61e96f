"""Items without CF: absent ones are named or masked, zero rows are masked, and the log says so."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

import letter_fast as lf
from letter_fast.catalog import CatalogError, Embeddings, align_cf
from letter_fast.cli.app import run
from letter_fast.evaluation import evaluate
from letter_fast.model import Share
from letter_fast.training.journal import read_log
from tests.support import oracle

TEXT = oracle.clustered(80, 12, 10, seed=1).numpy()
CF = oracle.clustered(80, 4, 6, seed=2).numpy()
COLD = np.arange(3, 80, 5)
WARM = np.setdiff1d(np.arange(80), COLD)
ZEROS = CF.copy()
ZEROS[COLD] = 0.0


def model(**options: Any) -> lf.Letter:
    torch.manual_seed(0)
    shape = dict(input_dim=12, hidden=(16,), latent_dim=4, codebook_size=(8, 8))
    return lf.Letter(lf.LetterConfig(**{**shape, "diversity_clusters": 3, **options}))


def settings(**options: Any) -> lf.TrainSettings:
    few = {"epochs": 3, "batch_size": 32, "allow_collisions": True}
    return lf.TrainSettings(**{**few, **options})


def table(vectors: Any, rows: Any) -> pa.Table:
    width = vectors.shape[1]
    column = pa.FixedSizeListArray.from_arrays(pa.array(vectors[rows].ravel()), width)
    return pa.table({"item": [f"item {row}" for row in rows], "embedding": column})


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    """Text of all items, and CF of the warm ones, in another order."""
    pq.write_table(table(TEXT, np.arange(80)), tmp_path / "text.parquet")
    pq.write_table(table(CF, WARM[::-1]), tmp_path / "cf.parquet")
    return tmp_path / "text.parquet", tmp_path / "cf.parquet"


@pytest.mark.parametrize("cf_dim", [None, 7])
def test_the_term_is_the_formula_over_the_rest(cf_dim: int | None) -> None:
    letter = model(cf_dim=cf_dim, cf_weight=1.0)
    s, h = torch.randn(10, 12), torch.randn(10, cf_dim or 4)
    has_cf = torch.tensor([True, False, True, True, False, True, True, True, False, True])
    found = letter.losses(s, h, has_cf=has_cf)
    q = found.output.quantized[has_cf]
    logits = q @ letter.cf_projection(h[has_cf]).T
    expected = -logits.log_softmax(dim=1).diagonal().mean()
    torch.testing.assert_close(found.cf, expected)
    weights = [weight for weight in letter.parameters() if weight.requires_grad]
    for a, b in zip(
        torch.autograd.grad(found.cf, weights, allow_unused=True, retain_graph=True),
        torch.autograd.grad(expected, weights, allow_unused=True),
    ):
        assert (a is None) == (b is None)
        if a is not None and b is not None:
            torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)


def test_rows_that_all_have_cf_change_nothing() -> None:
    letter, s, h = model(), torch.randn(10, 12), torch.randn(10, 4)
    whole = letter.losses(s, h)
    assert torch.equal(letter.losses(s, h, has_cf=torch.ones(10, dtype=torch.bool)).cf, whole.cf)


def test_a_batch_of_cold_items_has_no_term() -> None:
    letter, s = model(), torch.randn(10, 12)
    losses = letter.losses(s, torch.zeros(10, 4), has_cf=torch.zeros(10, dtype=torch.bool))
    assert losses.cf == 0
    losses.total.backward()
    assert all(
        weight.grad is None or weight.grad.isfinite().all() for weight in letter.parameters()
    )


def test_the_parts_of_processes_add_up() -> None:
    letter, s, h = model(), torch.randn(11, 12), torch.randn(11, 4)
    has_cf = torch.arange(11) % 4 > 0
    has_cf[:3] = False  # the first process has none
    whole = letter.losses(s, h, has_cf=has_cf)
    z = letter.encoder(s)
    parts = [
        letter.losses(s[own], h, share=Share(own, lambda _: z), has_cf=has_cf).cf
        for own in (slice(0, 3), slice(3, 8), slice(8, 11), slice(11, 11))
    ]
    torch.testing.assert_close(sum(parts), whole.cf)


def test_absent_items_are_named_unless_masked(files: tuple[Path, Path]) -> None:
    text, cf = (Embeddings.open(path) for path in files)
    with pytest.raises(CatalogError, match=r"lacks 16 of 80 items.*'item 3'.*--cf-missing mask"):
        align_cf(text, cf)
    aligned = align_cf(text, cf, "mask")
    np.testing.assert_array_equal(np.concatenate(list(aligned.batches(7))), ZEROS)
    np.testing.assert_array_equal(aligned.take(np.array([3, 4, 8])), ZEROS[[3, 4, 8]])


def test_a_file_of_other_items_is_refused_all_the_same(tmp_path: Path) -> None:
    other = table(CF, np.arange(80)).set_column(0, "item", pa.array(map(str, range(80))))
    pq.write_table(other, tmp_path / "cf.parquet")
    pq.write_table(table(TEXT, np.arange(80)), tmp_path / "text.parquet")
    text, cf = (Embeddings.open(tmp_path / f"{name}.parquet") for name in ("text", "cf"))
    with pytest.raises(CatalogError, match="lacks 80 of 80 items"):
        align_cf(text, cf, "mask")


def test_no_item_with_cf_is_refused() -> None:
    with pytest.raises(ValueError, match="of all 80 items are zeros"):
        lf.train(model(), TEXT, np.zeros_like(CF), settings=settings())


def test_absent_and_zero_are_one_thing(files: tuple[Path, Path]) -> None:
    by_id, by_row = model(), model()
    lf.train(by_id, *files, settings=settings(cf_missing="mask"))
    result = lf.train(by_row, TEXT, ZEROS, settings=settings())
    assert result.record["without_cf"] == 16
    for name, weight in by_row.state_dict().items():
        assert torch.equal(by_id.state_dict()[name], weight), name


def test_nothing_missing_is_not_spoken_of() -> None:
    assert "without_cf" not in lf.train(model(), TEXT, CF, settings=settings()).record


def test_a_cold_item_is_not_moved_by_cf(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every batch says which rows have CF: those whose vector isn't zero."""
    seen = []
    losses = lf.Letter.losses

    def spying(self: lf.Letter, s: Any, h: Any, *rest: Any, has_cf: Any, **options: Any) -> Any:
        assert torch.equal(has_cf, h.any(dim=1))
        seen.append(len(s) - int(has_cf.sum()))
        return losses(self, s, h, *rest, has_cf=has_cf, **options)

    monkeypatch.setattr(lf.Letter, "losses", spying)
    lf.train(model(), TEXT, ZEROS, settings=settings(epochs=1))
    assert sum(seen) == 16


@pytest.mark.parametrize("cf_dim", [None, 6])
def test_cold_items_are_not_asked_for_in_evaluation(cf_dim: int | None) -> None:
    """With a linear map, whose bias makes something of zeros, and without."""
    h = oracle.clustered(80, cf_dim or 4, 6, seed=2).numpy()
    h[COLD] = 0.0
    letter = model(cf_dim=cf_dim)
    lf.train(letter, TEXT, h, settings=settings())
    found = evaluate(letter, TEXT, h).cf_recall
    with torch.no_grad():
        q = letter.quantizer.decode(letter.encode(torch.from_numpy(TEXT)))
        mapped = letter.cf_projection(torch.from_numpy(h))
        mapped[COLD] = 0.0
        scores = q @ mapped.T
    better = (scores >= scores.diagonal()[:, None]).sum(dim=1)
    assert found == pytest.approx(float((better[WARM] <= 10).double().mean()))


COMMANDS = {
    "train": ["train", "{text}", "--cf", "{cf}", "--out", "{folder}/run"],
    "evaluate": ["evaluate", "{folder}/run", "--embeddings", "{text}", "--cf", "{cf}"],
}
SHAPE = ["--hidden", "16", "--latent-dim", "4", "--codebook-size", "8,16", "--epochs", "2"]


def test_commands(files: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    text, cf = files
    for name, words in COMMANDS.items():
        command = [word.format(text=text, cf=cf, folder=text.parent) for word in words]
        command += SHAPE if name == "train" else []
        assert run(command) == 2
        assert "--cf-missing mask" in capsys.readouterr().err
        assert run([*command, "--cf-missing", "mask"]) == 0
        if name == "train":
            assert "16 of 80 items have no CF vector" in capsys.readouterr().out
            assert read_log(text.parent / "run")[-1]["without_cf"] == 16
