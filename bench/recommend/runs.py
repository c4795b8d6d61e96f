"""One run: IDs, a generator trained on them, its ranks of the held-out items; kept as JSON."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable
from copy import deepcopy
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from letter_fast.tokenization import PrefixTrie

from .. import machine
from . import beam, floors, ids
from .data import Cases, Dataset
from .generator import FIRST, Budget, Training, build, packed
from .metrics import from_hits, gains, summary, to_hits

_VERSION = 1  # of what a run does; raising it makes all kept runs old
Tell = Callable[[str], None]


@dataclass(frozen=True)
class Plan:
    """All that a run's result depends on, besides the data."""

    dataset: str
    kind: str
    seed: int
    shape: ids.Shape
    budget: Budget

    def configuration(self) -> dict[str, Any]:
        """The settings that kind, shape and budget stand for, the seed left out."""
        kind = asdict(ids.KINDS[self.kind])
        del kind["about"]
        if "preset" in kind["model"]:  # what it means today, α for text of width 1
            kind["model"] |= ids.resolved(ids.KINDS[self.kind], 1)
        values = {
            "version": _VERSION,
            "dataset": self.dataset,
            "kind": {"name": self.kind, **kind},
            "shape": asdict(self.shape),
            "budget": asdict(self.budget),
        }
        plain: dict[str, Any] = json.loads(json.dumps(values))  # as a kept result has them
        return plain

    def file(self, folder: Path) -> Path:
        """The file of the result: the name holds a hash of the configuration."""
        text = json.dumps(self.configuration(), sort_keys=True)
        key = hashlib.sha256(text.encode()).hexdigest()[:10]
        dataset = self.dataset.replace("/", "_")
        return folder / f"{dataset}-{self.kind}-{key}-seed{self.seed}.json"


def kept(plan: Plan, folder: Path) -> dict[str, Any] | None:
    """The result of an earlier run of the plan."""
    file = plan.file(folder)
    return json.loads(file.read_text()) if file.exists() else None


def run(plan: Plan, dataset: Dataset, folder: Path, tell: Tell) -> dict[str, Any]:
    """Does the run and keeps its result."""
    began, processor = time.perf_counter(), time.process_time()
    made = _floor if plan.kind in ids.FLOORS else _generate
    found = made(plan, dataset, tell)
    facts = machine.facts(torch.device("cpu"))
    result = {
        **plan.configuration(),
        "seed": plan.seed,
        **found,
        "seconds": round(time.perf_counter() - began, 1),
        "processor_seconds": round(time.process_time() - processor, 1),
        "date": facts["date"],
        "commit": facts["commit"],
        "uncommitted_changes": facts["uncommitted_changes"],
        "cpu": facts["cpu"],
        "torch": facts["libraries"]["torch"],
    }
    file = plan.file(folder)
    folder.mkdir(parents=True, exist_ok=True)
    partial = file.with_suffix(".partial")
    partial.write_text(json.dumps(result) + "\n")
    partial.replace(file)
    return result


def _floor(plan: Plan, dataset: Dataset, tell: Tell) -> dict[str, Any]:
    budget = plan.budget
    valid = floors.ranks(dataset, plan.kind, dataset.valid.first(budget.validated))
    test = dataset.test.first(budget.tested)
    return {
        "valid": summary(valid),
        **_test_part(dataset, test, floors.ranks(dataset, plan.kind, test)),
    }


def _generate(plan: Plan, dataset: Dataset, tell: Tell) -> dict[str, Any]:
    budget = plan.budget
    began = time.perf_counter()
    table = ids.make(dataset, ids.KINDS[plan.kind], plan.shape, plan.seed)
    tell(f"IDs in {time.perf_counter() - began:.0f} s")
    codes = torch.from_numpy(table.codes).long()
    words = torch.from_numpy(table.token_ids(FIRST))
    trie = table.trie()
    network = build(table.sizes, budget, plan.seed)
    training = Training(network, dataset.sequences, words, budget, plan.seed)
    valid = dataset.valid.first(budget.validated)

    curve: list[dict[str, float]] = []
    best, weights = summary(np.array([10])), network.state_dict()
    for epoch in range(1, budget.epochs + 1):
        loss = training.epoch()
        if epoch % budget.evaluate_every and epoch != budget.epochs:
            continue
        measured = summary(_ranks(network, valid, words, codes, trie, budget))
        curve.append({"epoch": epoch, "loss": round(loss, 4), **measured})
        tell(f"epoch {epoch}: loss {loss:.3f}, validation NDCG@10 {measured['ndcg@10']:.4f}")
        if measured["ndcg@10"] > best["ndcg@10"]:
            best, weights = measured, deepcopy(network.state_dict())
    network.load_state_dict(weights)
    test = dataset.test.first(budget.tested)
    found = _ranks(network, test, words, codes, trie, budget)
    return {
        "ids": ids.facts(table.codes, table.sizes, dataset),
        "curve": curve,
        "valid": best,
        **_test_part(dataset, test, found),
    }


def _ranks(
    network: Any, cases: Cases, words: Tensor, codes: Tensor, trie: PrefixTrie, budget: Budget
) -> NDArray[np.int64]:
    """The rank of each case's target; cases of about one length are searched together."""
    network.eval()
    lengths = np.array([min(len(history), budget.history) for history in cases.histories])
    found = np.empty(len(lengths), dtype=np.int64)
    order = np.argsort(lengths, kind="stable")
    for rows in np.split(order, range(budget.batch_size, len(order), budget.batch_size)):
        history = packed([cases.histories[row] for row in rows], words, budget.history)
        beams = beam.search(network, history, trie, budget.beams)
        found[rows] = beam.ranks(beams, codes[cases.targets[rows]]).numpy()
    return found


def _test_part(dataset: Dataset, test: Cases, ranks: NDArray[np.int64]) -> dict[str, Any]:
    """Metrics of all test cases, and apart of those whose target somebody had in training."""
    seen = np.zeros(dataset.items, dtype=bool)
    for sequence in dataset.sequences:
        seen[sequence] = True
    known = seen[test.targets]
    hits = gains(ranks, "recall@10")
    return {
        "test": summary(ranks),
        "test_known": {
            "share": round(float(known.mean()), 4),
            "recall@10": round(float(hits[known].mean()), 5) if known.any() else None,
            "recall@10 of new": round(float(hits[~known].mean()), 5) if (~known).any() else None,
        },
        "hits": to_hits(ranks),
    }


def test_ranks(result: dict[str, Any]) -> NDArray[np.int64]:
    """The ranks of a kept result."""
    return from_hits(result["hits"])
