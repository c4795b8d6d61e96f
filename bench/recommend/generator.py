"""The generator: a small T5 that writes the next item's ID after the IDs of a history.

Token 0 is padding and the decoder's first token, token 1 is unused (T5's end; IDs have one length);
code c of level l is token 2 + (codewords of the levels before) + c. Embeddings are tied.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

FIRST = 2  # token of the first code
_SORTED = 16  # batches whose samples are sorted by length together


@dataclass(frozen=True)
class Budget:
    """Size of the generator and of its training: the same for all IDs of a comparison.

    history: items before the target, at most, the latest. samples: per epoch, drawn anew in each
    (fewer where there are no more). temperature: of the softmax in the loss, LETTER's
    ranking-guided generation loss below 1. Validation every `evaluate_every` epochs on at most
    `validated` cases, by NDCG@10; the best weights are kept. Nothing ends training early:
    validation is noisy, and a run that stopped before its learning rate had fallen lost up to a
    third of its Recall@10, more than any two kinds of IDs differ.
    """

    width: int = 64
    feed_forward: int = 192
    heads: int = 4
    layers: int = 2
    dropout: float = 0.1
    history: int = 10
    samples: int = 8192
    epochs: int = 30
    batch_size: int = 128
    learning_rate: float = 3e-3
    warmup_steps: int = 100
    weight_decay: float = 0.05
    temperature: float = 1.0
    evaluate_every: int = 5
    validated: int = 1000
    tested: int = 5000
    beams: int = 20

    def __post_init__(self) -> None:
        names = ("samples", "epochs", "validated", "tested", "temperature", "history", "beams")
        check_positive(self, *names)


def check_positive(options: Any, *names: str) -> None:
    """ValueError names the first of these fields that is not above 0."""
    for name in names:
        if not getattr(options, name) > 0:
            raise ValueError(f"{name} must be above 0, got {getattr(options, name)}")


def build(sizes: Sequence[int], budget: Budget, seed: int) -> Any:
    """A T5 with random weights, seen from transformers as any other."""
    from transformers import T5Config, T5ForConditionalGeneration

    shape: dict[str, Any] = dict(
        vocab_size=FIRST + sum(sizes),
        d_model=budget.width,
        d_kv=budget.width // budget.heads,
        d_ff=budget.feed_forward,
        num_layers=budget.layers,
        num_decoder_layers=budget.layers,
        num_heads=budget.heads,
        dropout_rate=budget.dropout,
        pad_token_id=0,
        eos_token_id=1,
        decoder_start_token_id=0,
    )
    torch.manual_seed(seed)
    return T5ForConditionalGeneration(T5Config(**shape))


def steps_of(sequences: Sequence[Sequence[int]]) -> NDArray[np.int64]:
    """Every place of every sequence that has something before it: (sequence, place). [M, 2]"""
    lengths = np.array([len(sequence) for sequence in sequences])
    each = np.maximum(lengths - 1, 0)
    sequence = np.repeat(np.arange(len(lengths)), each)
    place = np.arange(each.sum()) - np.repeat(each.cumsum() - each, each) + 1
    return np.stack([sequence, place], axis=1)


def packed(histories: Sequence[Sequence[int]], words: Tensor, most: int) -> Tensor:
    """The tokens of the last `most` items of each history, zeros after them.

    words [N, L] tokens of each item -> [B, longest · L]
    """
    kept = [history[-most:] for history in histories]
    longest = max(len(history) for history in kept)
    table = torch.zeros(len(kept), longest, words.shape[1], dtype=torch.long)
    for row, history in enumerate(kept):
        table[row, : len(history)] = words[list(history)]
    return table.flatten(1)


def epoch_batches(
    sequences: Sequence[Sequence[int]],
    steps: NDArray[np.int64],
    words: Tensor,
    budget: Budget,
    draw: np.random.Generator,
) -> Iterator[tuple[Tensor, Tensor]]:
    """Histories [b, S] and targets [b, L] of one epoch, batches of about one length each."""
    chosen = steps[draw.permutation(len(steps))[: budget.samples]]
    batches = []
    for begin in range(0, len(chosen), budget.batch_size * _SORTED):
        part = chosen[begin : begin + budget.batch_size * _SORTED]
        part = part[np.argsort(np.minimum(part[:, 1], budget.history), kind="stable")]
        batches += np.split(part, range(budget.batch_size, len(part), budget.batch_size))
    for number in draw.permutation(len(batches)):
        pairs = batches[number].tolist()
        histories = [
            sequences[user][max(0, place - budget.history) : place] for user, place in pairs
        ]
        targets = [sequences[user][place] for user, place in pairs]
        yield packed(histories, words, budget.history), words[targets]


class Training:
    """A generator on its way. `epoch` trains one; the learning rate falls along a cosine."""

    def __init__(
        self,
        network: Any,
        sequences: Sequence[Sequence[int]],
        words: Tensor,
        budget: Budget,
        seed: int,
    ) -> None:
        self.network, self._sequences, self._words = network, sequences, words
        self._budget, self._draw = budget, np.random.default_rng(seed)
        self._steps = steps_of(sequences)
        if len(self._steps) == 0:
            raise ValueError("no user has two items in training: there is nothing to learn from")
        per_epoch = -(-min(budget.samples, len(self._steps)) // budget.batch_size)
        total = budget.epochs * per_epoch
        self._optimizer = torch.optim.AdamW(
            network.parameters(), budget.learning_rate, weight_decay=budget.weight_decay
        )

        def rate(step: int) -> float:
            rise = min(1.0, (step + 1) / budget.warmup_steps)
            return rise * max(0.02, 0.5 * (1 + math.cos(math.pi * min(step / total, 1.0))))

        self._schedule = torch.optim.lr_scheduler.LambdaLR(self._optimizer, rate)

    def epoch(self) -> float:
        """The mean loss of an epoch of training."""
        self.network.train()
        summed, rows = 0.0, 0
        for history, target in epoch_batches(
            self._sequences, self._steps, self._words, self._budget, self._draw
        ):
            loss = loss_of(self.network, history, target, self._budget.temperature)
            self._optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)
            self._optimizer.step()
            self._schedule.step()
            summed, rows = summed + loss.item() * len(target), rows + len(target)
        return summed / rows


def loss_of(network: Any, history: Tensor, target: Tensor, temperature: float) -> Tensor:
    """Mean cross-entropy of the target's tokens, all codes of all levels in the softmax.

    temperature: divides the scores: LETTER's ranking-guided generation loss. history [B, S],
    target [B, L] -> []
    """
    logits = network(input_ids=history, attention_mask=history.ne(0).long(), labels=target).logits
    return F.cross_entropy(logits.flatten(0, 1) / temperature, target.flatten())
