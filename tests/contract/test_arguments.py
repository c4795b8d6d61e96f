"""Arguments that are no data: models, tables, settings, counts, token ids, yes or no.

Whatever else they are given, public functions refuse it in one line that names the argument.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch

import letter_fast as lf
from letter_fast.tokenization import PrefixTrie, Vocabulary, collision_statistics
from letter_fast.tokenization.diff import diff
from letter_fast.training import FitSettings, fit_residual_kmeans
from tests.support import oracle

X = oracle.clustered(64, 4, 6, seed=1).numpy()
SIZES = (8, 8)

NOTHING = (None, "yes", 3, 2.5, {}, [], object(), lf.Letter)
FLAGS = ("no", "", 0, 1, None, [], {})
COUNTS = (0, -1, 2.5, math.nan, "4", None, True, [4])
TOKENS = (-1, 2.5, math.nan, "4", True, [[4]], {})
TABLES = (None, "ids.parquet", 3, X, {})
WRONG_SIZES = ([], [0, 8], [8, -1], [8.0, 8], ["8", 8], None, "88")


class Call(NamedTuple):
    """A call that works, and wrong values of one of its arguments."""

    name: str
    call: Callable[..., Any]
    good: dict[str, Any]
    argument: str
    wrong: tuple[Any, ...]


def letter() -> lf.Letter:
    torch.manual_seed(0)
    return lf.Letter(lf.LetterConfig(4, hidden=(5,), latent_dim=3, codebook_size=SIZES))


def calls() -> Iterator[Call]:
    fitted = lf.ResidualKMeans(lf.ResidualKMeansConfig(4, SIZES)).fit(X)
    table = lf.tokenize(fitted, X)
    once = lf.TrainSettings(epochs=1)
    no_model = (*NOTHING, lf.ResidualQuantizer(4, SIZES), table)
    no_settings = ({"epochs": 1}, 3, "fast", lf.TrainSettings)

    def add(name: str, call: Callable[..., Any], good: dict[str, Any], **wrong: Any) -> None:
        found.extend(Call(name, call, good, argument, wrong[argument]) for argument in wrong)

    found: list[Call] = []
    add(
        "tokenize", lf.tokenize, dict(model=fitted, embeddings=X, existing=table),
        model=no_model, existing=TABLES[1:], batch_size=COUNTS,
        margins=FLAGS, fresh=FLAGS, other_model=FLAGS,
    )  # fmt: skip
    add(
        "evaluate", lf.evaluate, dict(model=fitted, embeddings=X, ids=table),
        model=no_model, ids=TABLES[1:], batch_size=COUNTS, seed=("a", 1.5, None, True),
        cf_by_row=FLAGS, with_removed=FLAGS, other_model=FLAGS, cf_missing=("x", None, 3),
    )  # fmt: skip
    add(
        "train", lf.train, dict(model=letter(), embeddings=X, settings=once),
        model=(*no_model, fitted), settings=(*no_settings, FitSettings()),
        cf_by_row=FLAGS, resume=FLAGS,
    )  # fmt: skip
    add(
        "fit_residual_kmeans",
        lambda **given: fit_residual_kmeans(out=given.pop("out"), **given),
        dict(model=fitted, embeddings=X, settings=FitSettings(), out="never"),
        model=(*no_model, letter()), settings=(*no_settings, None, once), resume=FLAGS,
    )  # fmt: skip
    add("Letter", lf.Letter, {}, config=(*NOTHING, lf.LetterConfig, fitted.config))
    add(
        "ResidualKMeans", lf.ResidualKMeans, {},
        config=(*NOTHING, lf.ResidualKMeansConfig, letter().config),
    )  # fmt: skip
    quantizer = fitted.quantizer
    add("forward", quantizer, dict(z=X), use_sinkhorn=FLAGS[:4])
    add("encode", quantizer.encode, dict(z=X), return_margin=FLAGS)
    add("contrastive_loss", lf.functional.contrastive_loss, dict(q=X, h=X), normalize=FLAGS)
    add("diff", diff, dict(old=table, new=table), old=TABLES, new=TABLES, with_removed=FLAGS)

    add("ids.trie", table.trie, {}, with_removed=FLAGS)
    add("ids.export", table.export, dict(path="never", format="letter"), with_removed=FLAGS)
    add("ids.tokens", table.tokens, {}, rows=("a", [64], [0.5], -65))
    add("ids.token_ids", table.token_ids, {}, start=TOKENS)
    sequences = table.token_ids(5)
    no_sequences = (sequences + 0.5, [["a", "b"]], [[1], [1, 2]], None, "ab")
    add(
        "ids.decode", table.decode, dict(sequences=sequences, start=5, prompt_length=0),
        sequences=no_sequences, start=TOKENS, prompt_length=TOKENS, beams=COUNTS,
    )  # fmt: skip
    add(
        "ids.items_in", table.items_in, dict(sequences=sequences, start=5),
        sequences=(sequences + 0.5, [["a", "b"]], None), start=TOKENS, prompt_length=TOKENS,
    )  # fmt: skip
    add(
        "IdConstraint", lf.IdConstraint, dict(trie=table.trie(), start=5),
        trie=(*NOTHING, table), start=TOKENS, prompt_length=TOKENS, count=COUNTS,
        eos_token_id=TOKENS[:-1], begin_token_id=TOKENS[:-1],
    )  # fmt: skip
    wrong_codes = (table.codes + 0.5, table.codes[:, :1], table.codes + 8, table.codes - 9, [1, 2])
    add("PrefixTrie", PrefixTrie, dict(codes=table.codes, sizes=SIZES), codes=wrong_codes)
    add("PrefixTrie", PrefixTrie, dict(codes=table.codes, sizes=SIZES), sizes=WRONG_SIZES)
    add("Vocabulary", Vocabulary, dict(sizes=SIZES), sizes=WRONG_SIZES, template=(3, None, b"x"))
    no_codes = ("x", [[0.5]], [1, 2], None, 3)
    add("collision_statistics", collision_statistics, {}, codes=no_codes)
    vocabulary = table.vocabulary()
    add("Vocabulary.words", vocabulary.words, {}, codes=wrong_codes)
    add(
        "Vocabulary.token_ids", vocabulary.token_ids, dict(codes=table.codes),
        codes=wrong_codes, start=TOKENS,
    )  # fmt: skip
    add(
        "Vocabulary.codes", vocabulary.codes, dict(token_ids=vocabulary.token_ids(table.codes)),
        token_ids=(table.codes + 0.5, [1, 2], table.codes[:, :1]), start=TOKENS,
    )  # fmt: skip
    yield from found


def fault(one: Call, value: Any) -> str:
    """The fault of a call with this wrong value; "" where one line names the argument."""
    try:
        one.call(**{**one.good, one.argument: value})
    except ValueError as error:
        said = str(error)
        named = one.argument in said or "ID table" in said or "codes" in said
        return "" if named and len(said.splitlines()) == 1 else said
    except Exception as error:
        return repr(error)
    return "taken"


def test_a_wrong_argument_is_named_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    tried = [(one, value) for one in calls() for value in one.wrong]
    assert len(tried) > 300
    faults = [
        f"{one.name}({one.argument}={value!r:.40}): {said}"
        for one, value in tried
        if (said := fault(one, value))
    ]
    assert not faults, "\n".join(faults)
    assert not list(tmp_path.iterdir())


def test_numpys_truth_values_and_integers_are_taken() -> None:
    fitted = lf.ResidualKMeans(lf.ResidualKMeansConfig(4, SIZES)).fit(X)
    table = lf.tokenize(fitted, X, margins=np.bool_(True), batch_size=np.int64(7))
    assert table.margins is not None
    constraint = lf.IdConstraint(table.trie(), np.int64(5), eos_token_id=np.array([1, 2]))
    assert constraint.eos_token_ids == [1, 2]
