"""The harness that measures recommendations: no leak, the right beams, and runs that are kept."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

import letter_fast as lf
from letter_fast.bench.recommend import __main__ as entrance
from letter_fast.bench.recommend import (
    beam,
    data,
    floors,
    generator,
    ids,
    metrics,
    report,
    runs,
    signals,
)
from letter_fast.bench.recommend.interactions import Columns, read_interactions
from letter_fast.demo.cooccurrence import cooccurrence_vectors
from letter_fast.tokenization import IdConstraint

pytest.importorskip("transformers")

TINY = generator.Budget(
    width=16, feed_forward=16, heads=2, layers=1, dropout=0.0, history=3, samples=200, epochs=2,
    batch_size=32, evaluate_every=1, beams=10,
)  # fmt: skip


def walkers(users: int = 60, items: int = 40, length: int = 6, seed: int = 0) -> list[list[int]]:
    """Users who go from an item to the next."""
    starts = np.random.default_rng(seed).integers(items, size=users)
    return [[int((start + step) % items) for step in range(length)] for start in starts]


def catalog(seed: int = 0) -> data.Dataset:
    split = data.leave_last_out(walkers(seed=seed))
    draw = np.random.default_rng(seed)
    text = draw.standard_normal((40, 12)).astype(np.float32)
    cf = cooccurrence_vectors(split[0], 40, 8)
    return data.Dataset("walk", 40, *split, text=text, cf=cf)


def network_of(table: lf.SemanticIds) -> Any:
    network = generator.build(table.sizes, TINY, seed=3)
    with torch.no_grad():  # sharper than at the start, so that no two beams are nearly equal
        network.shared.weight.mul_(4.0)
    return network.eval()


def test_nothing_held_out_is_trained_on() -> None:
    sequences = walkers()
    training, valid, test = data.leave_last_out(sequences)
    for whole, kept, before, target, history, last in zip(
        sequences, training, valid.histories, valid.targets, test.histories, test.targets
    ):
        assert kept == before == whole[:-2]
        assert target == whole[-2]
        assert [*history, last] == whole
    changed = [[*whole[:-2], 0, 1] for whole in sequences]
    assert data.leave_last_out(changed)[0] == training


def test_a_short_sequence_is_all_training() -> None:
    training, valid, _ = data.leave_last_out([[1, 2], [3], [4, 5, 6]])
    assert training == [[4], [1, 2], [3]]
    assert valid.histories == [[4]]


def test_industrial_asks_for_nothing_it_trained_on(shared_data: Path) -> None:
    found = data.industrial(shared_data / "industrial")
    asked = {
        (tuple(history), int(target))
        for cases in (found.valid, found.test)
        for history, target in zip(cases.histories, cases.targets)
    }
    learned = {
        (tuple(sequence[max(0, end - 10) : end]), sequence[end])
        for sequence in found.sequences
        for end in range(1, len(sequence))
    }
    # Two users may have had the same few items; a user's own next item is never asked for.
    assert len(asked & learned) < 0.01 * len(asked)


def test_steps_and_packing() -> None:
    assert generator.steps_of([[7, 8, 9], [5], [6, 4]]).tolist() == [[0, 1], [0, 2], [2, 1]]
    words = torch.tensor([[2, 10], [3, 11], [4, 12], [5, 13]])
    rows = generator.packed([[0, 1, 2], [3]], words, most=2)
    assert rows.tolist() == [[3, 11, 4, 12], [5, 13, 0, 0]]


def test_an_epoch_has_every_step_once() -> None:
    sequences = walkers()
    words = torch.arange(40)[:, None] + 2
    steps = generator.steps_of(sequences)
    budget = replace(TINY, samples=1000)
    seen = []
    for history, target in generator.epoch_batches(
        sequences, steps, words, budget, np.random.default_rng(0)
    ):
        last = history[torch.arange(len(history)), history.ne(0).sum(1) - 1]
        assert ((target[:, 0] - last) % 40 == 1).all()
        seen += target[:, 0].tolist()
    assert len(seen) == len(steps)


@pytest.mark.parametrize("sizes", [(4, 5, 6), (8, 8), (3, 4, 2, 4)], ids=str)
def test_beams_are_those_of_generate(sizes: tuple[int, ...]) -> None:
    table = ids.random_ids(40, sizes, seed=1)
    network = network_of(table)
    words = torch.from_numpy(table.token_ids(generator.FIRST))
    history = generator.packed([[3, 1], [5], [39, 0]], words, most=3)
    found = beam.search(network, history, table.trie(), beams=4)
    written = network.generate(
        history,
        attention_mask=history.ne(0).long(),
        num_beams=4,
        num_return_sequences=4,
        max_new_tokens=len(sizes),
        min_new_tokens=len(sizes),
        length_penalty=0.0,
        logits_processor=[IdConstraint(table.trie(), generator.FIRST, prompt_length=1)],
        return_dict_in_generate=True,
        output_scores=True,
    )
    codes = table.vocabulary().codes(written.sequences[:, 1:].numpy(), generator.FIRST)
    assert found.codes.flatten(0, 1).tolist() == codes.tolist()
    torch.testing.assert_close(found.scores.flatten(), written.sequences_scores)


def test_as_many_beams_as_items_order_all_of_them() -> None:
    """Beam search against scores of every item's whole ID, computed without a cache."""
    table = ids.random_ids(40, (4, 5, 6), seed=2)
    network = network_of(table)
    words = torch.from_numpy(table.token_ids(generator.FIRST))
    history = generator.packed([[3, 1], [5]], words, most=3)
    codes = torch.from_numpy(table.codes).long()
    found = beam.search(network, history, table.trie(), beams=40)
    for row in range(2):
        with torch.no_grad():
            logits = network(
                input_ids=history[row : row + 1].expand(40, -1),
                attention_mask=history[row : row + 1].ne(0).long().expand(40, -1),
                labels=words,
            ).logits.log_softmax(-1)
        score = logits.gather(2, words[..., None]).sum((1, 2))
        torch.testing.assert_close(found.scores[row], score.sort(descending=True).values)
        order = score.argsort(descending=True)
        assert beam.ranks(beam.Beams(*(part[row, None] for part in found)), codes[order[7, None]])[
            0
        ].tolist() in (7,)


def test_metrics() -> None:
    ranks = np.array([0, 4, 5, 9, 10])
    assert metrics.summary(ranks)["recall@5"] == 0.4
    assert metrics.summary(ranks)["recall@10"] == 0.8
    expected = (1 + 1 / np.log2(6)) / 5
    assert metrics.summary(ranks)["ndcg@5"] == pytest.approx(expected, abs=1e-5)
    assert metrics.from_hits(metrics.to_hits(ranks)).tolist() == ranks.tolist()


def test_a_difference_is_seen_and_noise_is_not() -> None:
    draw = np.random.default_rng(0)
    better = [np.where(draw.random(800) < 0.30, 0, 10) for _ in range(3)]
    worse = [np.where(draw.random(800) < 0.15, 0, 10) for _ in range(3)]
    assert metrics.compare(better, worse, "recall@10", draws=200).low > 0
    again = [np.where(draw.random(800) < 0.30, 0, 10) for _ in range(3)]
    noise = metrics.compare(better, again, "recall@10", draws=200)
    assert noise.low < 0 < noise.high


def test_floors() -> None:
    sequences = [[0, 1], [0, 1], [0, 2], [3, 4], [3, 4], [3, 4]]
    cases = data.Cases([[2], [4], [0]], np.array([0, 3, 1]))
    found = data.Dataset("small", 6, sequences, cases, cases)
    assert floors.ranks(found, "popularity", cases).tolist() == [0, 1, 3]
    assert floors.ranks(found, "co-occurrence", cases).tolist() == [0, 0, 0]


def test_prefixes_that_pairs_share() -> None:
    """On a walk, neighbours are consecutive rows; these IDs change their first code every four."""
    found = data.Dataset("walk", 40, *data.leave_last_out(walkers()))
    codes = np.stack([np.arange(40) // 4, np.arange(40) % 4], axis=1)
    facts = ids.facts(codes, [10, 4], found)
    assert facts["perplexity"] == [10.0, 4.0]
    for first, second in facts["next_prefix"].values():
        assert 0.6 < first < 0.9
        assert second == 0


def test_the_temperature_sharpens_the_loss() -> None:
    table = ids.random_ids(40, (4, 5, 6), seed=2)
    network = network_of(table)
    words = torch.from_numpy(table.token_ids(generator.FIRST))
    history = generator.packed([[3, 1]], words, most=3)
    logits = network(input_ids=history, labels=words[:1]).logits[0]
    expected = torch.nn.functional.cross_entropy(logits / 0.7, words[0])
    assert generator.loss_of(network, history, words[:1], 0.7).isclose(expected)


@pytest.mark.parametrize(
    "kind", ["letter", "balanced-kmeans", "random", "popularity", "co-occurrence"]
)
def test_every_kind_gives_a_result_that_is_kept(kind: str, tmp_path: Path) -> None:
    found, shape = catalog(), ids.Shape(levels=2, codewords=8, hidden=(12,), epochs=3)
    plan = runs.Plan("walk", kind, 1, shape, TINY)
    result = runs.run(plan, found, tmp_path, print)
    assert runs.kept(plan, tmp_path) == result
    assert runs.kept(replace(plan, seed=2), tmp_path) is None
    assert runs.kept(replace(plan, budget=replace(TINY, epochs=3)), tmp_path) is None
    assert result["hits"]["cases"] == 60
    assert metrics.summary(runs.test_ranks(result)) == result["test"]
    if kind not in ids.FLOORS:
        assert runs.run(plan, found, tmp_path, print)["hits"] == result["hits"]


def test_the_generator_learns_a_walk(tmp_path: Path) -> None:
    found, budget = (
        catalog(),
        replace(TINY, epochs=25, learning_rate=0.02, warmup_steps=10, evaluate_every=25),
    )
    plan = runs.Plan("walk", "random", 0, ids.Shape(levels=2, codewords=8), budget)
    assert runs.run(plan, found, tmp_path, print)["test"]["recall@5"] > 0.6


def write_interactions(folder: Path) -> tuple[Path, Path]:
    rows = [(user, item, time) for user, s in enumerate(walkers()) for time, item in enumerate(s)]
    users, items, times = zip(*rows)
    table = pa.table(
        {
            "user_id": [f"u{user}" for user in users],
            "item_id": [f"i{item}" for item in items],
            "timestamp": list(times),
        }
    )
    pq.write_table(table, folder / "walk.parquet")
    vectors = np.random.default_rng(0).standard_normal((40, 12)).astype(np.float32)
    text = pa.table(
        {
            "item": [f"i{item}" for item in range(40)],
            "embedding": pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), 12),
        }
    )
    pq.write_table(text, folder / "text.parquet")
    return folder / "walk.parquet", folder / "text.parquet"


def test_one_command_from_a_users_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    interactions, text = write_interactions(tmp_path)
    monkeypatch.setattr(entrance, "QUICK", TINY)
    command = [
        "recommend", "--quick", "--data", str(interactions), "--text", str(text),
        "--ids", "kmeans", "random", "popularity", "--seeds", "0", "1", "--levels", "2",
        "--codewords", "8", "--runs", str(tmp_path / "runs"), "--chart", str(tmp_path / "c.png"),
    ]  # fmt: skip
    monkeypatch.setattr(sys, "argv", command)
    entrance.main()
    first = capsys.readouterr()
    assert "[5/5]" in first.err
    assert len(list((tmp_path / "runs").iterdir())) == 5
    assert (tmp_path / "c.png").stat().st_size > 5_000
    entrance.main()
    again = capsys.readouterr()
    assert again.err == ""
    assert again.out == first.out
    assert "| random IDs | 2 |" in first.out


def broken(folder: Path, kind: str) -> Path:
    whole: dict[str, list[Any]] = {
        "user_id": ["a", "b"],
        "item_id": ["x", "y"],
        "timestamp": [1.0, 2.0],
    }
    tables: dict[str, dict[str, list[Any]]] = {
        "column": {name: whole[name] for name in ("user_id", "item_id")},
        "value": {**whole, "item_id": ["x", None]},
        "words": {**whole, "timestamp": ["now", "then"]},
    }
    path = folder / "broken.parquet"
    pq.write_table(pa.table(tables[kind]), path)
    return path


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("column", "no column 'timestamp': name the time with --time"),
        ("value", "'item_id' lacks 1 values"),
        ("words", "'timestamp' holds string, expected numbers"),
    ],
)
def test_a_bad_file_of_interactions(kind: str, words: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=words):
        read_interactions(broken(tmp_path, kind), Columns())


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--ids", "published"], "has no text, CF or published IDs for published"),
        (["--ids", "kmeans"], "has no text, CF or published IDs for kmeans"),
        (["--ids", "random", "--levels", "1", "--codewords", "8"], "40 items need more than 8 IDs"),
        (["--epochs", "0"], "epochs must be above 0, got 0"),
        (["--temperature", "0"], "temperature must be above 0, got 0.0"),
        (["--report"], "holds no run of this comparison yet"),
        (["--user", "who"], "no column 'who': name the user with --user"),
    ],
    ids=lambda part: part[0] if isinstance(part, list) else "",
)
def test_what_cannot_be_compared_is_said_in_a_line(
    flags: list[str], words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    interactions, _ = write_interactions(tmp_path)
    command = ["recommend", "--quick", "--data", str(interactions), "--runs", str(tmp_path / "r")]
    monkeypatch.setattr(sys, "argv", [*command, *flags])
    with pytest.raises(SystemExit) as ended:
        entrance.main()
    assert words in str(ended.value)
    assert "\n" not in str(ended.value)


def test_a_file_of_recbole(tmp_path: Path) -> None:
    path = tmp_path / "small.inter"
    path.write_text("user_id:token\titem_id:token\trating:float\ttimestamp:float\n1\t9\t4\t2.5\n")
    assert [part.tolist() for part in read_interactions(path, Columns())] == [["1"], ["9"], [2.5]]


def test_text_that_lacks_an_item(tmp_path: Path) -> None:
    interactions, text = write_interactions(tmp_path)
    short = pq.read_table(text).slice(0, 39)
    pq.write_table(short, text)
    with pytest.raises(ValueError, match="the first is i39"):
        data.of_file(interactions, Columns(), text)


def test_the_table_names_the_spread() -> None:
    assert report.spread([0.12, 0.14]) == ".1300 ± .0141"
    assert report.spread([0.12]) == ".1200"


def test_what_text_and_cf_know_is_counted_without_a_model() -> None:
    """Items on a circle; the target is the nearest one but the last of the history."""
    angle = np.array([0.0, 0.1, 0.3, 2.0])
    vectors = np.stack([np.cos(angle), np.sin(angle)], axis=1).astype(np.float32)
    cases = data.Cases([[3, 0], [0], [1], [2]], np.array([1, 2, 1, 3]))
    assert signals.ranks(vectors, cases).tolist() == [0, 1, 0, 2]
    # zero rows are everybody's equals, and recommend nothing
    zeros = np.zeros((4, 2), dtype=np.float32)
    assert signals.ranks(zeros, data.Cases([[0]], np.array([1]))).tolist() == [2]
    both = signals.mixed(vectors, vectors[:, ::-1].copy(), 2.0)
    expected = vectors @ vectors.T * 3
    np.testing.assert_allclose(both @ both.T, expected, rtol=1e-5)
