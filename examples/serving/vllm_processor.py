"""A vLLM logits processor, with which a served model writes only IDs that exist.

    export LETTER_FAST_IDS=ids.parquet LETTER_FAST_START=151669 LETTER_FAST_BEGIN=151668
    PYTHONPATH=examples/serving vllm serve MODEL --logits-processors vllm_processor:SemanticIds

START is the token id of the first code (`ids.vocabulary().add_to(tokenizer).start`). BEGIN is the
token before an ID: with it, IDs may stand inside of text, and vLLM's beam search works, which sends
each step as a new prompt (give it `--logprobs-mode processed_logprobs`, or it ranks by the scores
before this mask). Without BEGIN an answer is one ID, and END (LETTER_FAST_END) follows it.

A request that wants IDs says so, and what not to write:

    SamplingParams(extra_args={"semantic_ids": True, "excluded": ["B0042"]})
    {"vllm_xargs": {"semantic_ids": true}}            (over HTTP)

LETTER_FAST_EVERY=1 masks every request, for a server that does nothing else, and for beam search,
which hands no extra_args on.
"""

from __future__ import annotations

import os
from typing import Any, NamedTuple

import torch
from vllm.v1.sample.logits_processor import BatchUpdate, LogitsProcessor, MoveDirectionality

import letter_fast as lf
from letter_fast.tokenization import IdConstraint


class Request(NamedTuple):
    """One row of the batch; vLLM appends to `output` as it goes."""

    prompt: list[int]
    output: list[int]
    constraint: IdConstraint


class SemanticIds(LogitsProcessor):
    """Masks the rows of requests that ask for semantic IDs, and leaves the others alone."""

    def __init__(self, vllm_config: Any, device: torch.device, is_pin_memory: bool) -> None:
        self.ids = lf.SemanticIds.load(os.environ["LETTER_FAST_IDS"])
        self.start = int(os.environ["LETTER_FAST_START"])
        self.marks = {
            name: int(os.environ[variable])
            for name, variable in (
                ("begin_token_id", "LETTER_FAST_BEGIN"),
                ("eos_token_id", "LETTER_FAST_END"),
            )
            if variable in os.environ
        }
        self.every = os.environ.get("LETTER_FAST_EVERY") == "1"
        self.constraint = self.ids.constraint(self.start, **self.marks)
        self.requests: dict[int, Request] = {}

    @classmethod
    def validate_params(cls, sampling_params: Any) -> None:
        """ValueError, which the server answers with status 400."""
        excluded = (sampling_params.extra_args or {}).get("excluded", [])
        if not isinstance(excluded, list):
            raise ValueError(f"excluded must be a list of item ids, got {excluded!r}")

    def is_argmax_invariant(self) -> bool:
        return False

    def update_state(self, batch_update: BatchUpdate | None) -> None:
        if batch_update is None:
            return
        for row in batch_update.removed:
            self.requests.pop(row, None)
        for row, params, prompt, output in batch_update.added:
            self.requests.pop(row, None)
            wishes = params.extra_args or {}
            if self.every or wishes.get("semantic_ids"):
                constraint = self.constraint
                if wishes.get("excluded"):
                    constraint = self.ids.constraint(
                        self.start, excluded=[wishes["excluded"]], **self.marks
                    )
                self.requests[row] = Request(prompt or [], output, constraint)
        for one, other, direction in batch_update.moved:
            moved, met = self.requests.pop(one, None), self.requests.pop(other, None)
            if moved is not None:
                self.requests[other] = moved
            if met is not None and direction == MoveDirectionality.SWAP:
                self.requests[one] = met

    def apply(self, logits: torch.Tensor) -> torch.Tensor:
        rows_of: dict[int, list[int]] = {}
        for row, request in self.requests.items():
            rows_of.setdefault(id(request.constraint), []).append(row)
        for rows in rows_of.values():
            asked = [self.requests[row] for row in rows]
            constraint = asked[0].constraint
            tail = 0 if constraint.begin_token_id is None else len(self.ids.sizes) + 1
            prompts = [one.prompt[len(one.prompt) - tail :] if tail else [] for one in asked]
            sequences = [[*prompt, *one.output] for prompt, one in zip(prompts, asked)]
            logits[rows] = constraint.mask(sequences, logits[rows], [*map(len, prompts)])
        return logits
