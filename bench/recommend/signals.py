"""The knowledge that text and CF have of the next item, before any IDs are made of them.

No model: the items nearest to the last one of a history, by cosine, are the recommendation. Cosines
of text and of CF are added, CF's times `weight`. Where no weight is better on validation than
text alone, a tokenizer that follows CF more can only lose.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .data import Cases, Dataset
from .metrics import summary

WEIGHTS = (0.0, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, np.inf)


def ranks(vectors: NDArray[np.float32], cases: Cases) -> NDArray[np.int64]:
    """The place of each target among all items by inner product with the last item of its history.

    The last item itself is left out, but where it is the target. Of equals the target is the last:
    zero rows recommend nothing. vectors [N, D] -> [M] from 0
    """
    last = np.array([history[-1] for history in cases.histories])
    found = np.empty(len(last), dtype=np.int64)
    for begin in range(0, len(last), 1024):
        rows, targets = last[begin : begin + 1024], cases.targets[begin : begin + 1024]
        scores = vectors[rows] @ vectors.T
        each = np.arange(len(rows))
        wanted = scores[each, targets]
        scores[each, rows] = np.where(rows == targets, wanted, -np.inf)
        found[begin : begin + 1024] = (scores >= wanted[:, None]).sum(axis=1) - 1
    return found


def mixed(text: NDArray[np.float32], cf: NDArray[np.float32], weight: float) -> NDArray[np.float32]:
    """Vectors whose inner product is cos(text) + weight · cos(CF); ∞: of CF alone.

    text [N, S], cf [N, H] of length 1 (or 0) -> [N, S + H], [N, H]
    """
    if np.isinf(weight):
        return cf
    return np.concatenate([text, np.float32(weight**0.5) * cf], axis=1)


def table(dataset: Dataset) -> str:
    """Markdown: a row a weight, Recall@10 and NDCG@10 on validation and test.

    Raises:
        ValueError: the data set has no text or no CF.
    """
    if dataset.text is None or dataset.cf is None:
        raise ValueError(f"{dataset.name} has no text and CF to compare")
    text, cf = _unit(dataset.text), _unit(dataset.cf)
    heads = [f"{dataset.name}: cos(text) + w cos(CF)"]
    heads += [f"{part} {metric}" for part in ("valid", "test") for metric in ("R@10", "N@10")]
    lines = ["| " + " | ".join(heads) + " |", "|---" * len(heads) + "|"]
    for weight in WEIGHTS:
        vectors = mixed(text, cf, weight)
        name = {0.0: "w = 0, text alone", np.inf: "CF alone"}.get(weight, f"w = {weight:g}")
        parts = [summary(ranks(vectors, cases)) for cases in (dataset.valid, dataset.test)]
        values = [part[metric] for part in parts for metric in ("recall@10", "ndcg@10")]
        lines.append("| " + " | ".join([name, *(f"{v:.4f}"[1:] for v in values)]) + " |")
    return "\n".join(lines)


def _unit(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """Rows of length 1; zero rows stay."""
    length = np.linalg.norm(rows, axis=1, keepdims=True)
    unit: NDArray[np.float32] = (rows / np.where(length > 0, length, 1.0)).astype(np.float32)
    return unit
