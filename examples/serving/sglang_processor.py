"""An SGLang logits processor, with which a served model writes only IDs that exist.

    PYTHONPATH=examples/serving python -m sglang.launch_server --model-path MODEL \\
        --enable-custom-logit-processor

A request names the processor and says where the table is, which token is the first code
(`ids.vocabulary().add_to(tokenizer).start`), which one comes before an ID or after it, and which
items not to write:

    engine.generate(
        prompt,
        {"custom_params": {"ids": "ids.parquet", "start": 151669, "begin": 151668,
                           "excluded": ["B0042"]}},
        custom_logit_processor=SemanticIds.to_str(),
    )
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import torch
from sglang.srt.sampling.custom_logit_processor import CustomLogitProcessor

import letter_fast as lf
from letter_fast.tokenization import IdConstraint


class SemanticIds(CustomLogitProcessor):
    """Masks each row as its request's parameters say; requests without a table are left alone."""

    def __call__(
        self, logits: torch.Tensor, custom_param_list: list[dict[str, Any]] | None = None
    ) -> torch.Tensor:
        rows_of: dict[IdConstraint, list[int]] = {}
        for row, wishes in enumerate(custom_param_list or []):
            if wishes and "ids" in wishes:
                rows_of.setdefault(constraint_of(wishes), []).append(row)
        for constraint, rows in rows_of.items():
            requests = [custom_param_list[row]["__req__"] for row in rows]
            tail = 0
            if constraint.begin_token_id is not None:
                tail = len(constraint.trie.sizes) + 1
            prompts = [list(one.origin_input_ids)[-tail:] if tail else [] for one in requests]
            sequences = [[*prompt, *one.output_ids] for prompt, one in zip(prompts, requests)]
            logits[rows] = constraint.mask(sequences, logits[rows], [*map(len, prompts)])
        return logits


def constraint_of(wishes: dict[str, Any]) -> IdConstraint:
    """The constraint of a request; requests that wish for the same share it."""
    return _constraint(
        wishes["ids"],
        wishes["start"],
        wishes.get("begin"),
        wishes.get("end"),
        tuple(wishes.get("excluded", ())),
    )


@lru_cache(maxsize=1024)
def _constraint(
    path: str, start: int, begin: int | None, end: int | None, excluded: tuple[Any, ...]
) -> IdConstraint:
    return _table(path).constraint(
        start, end, begin_token_id=begin, excluded=[list(excluded)] if excluded else None
    )


@lru_cache(maxsize=4)
def _table(path: str) -> lf.SemanticIds:
    return lf.SemanticIds.load(path)
