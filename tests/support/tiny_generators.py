"""Models of Hugging Face with random weights, small enough for a test."""

from __future__ import annotations

from typing import Any

import pytest
import torch

PAD, EOS = 0, 1


def generator_of(kind: str, rows: int) -> Any:
    """A model that knows `rows` tokens. kind: t5, llama or qwen2."""
    transformers = pytest.importorskip("transformers", reason="transformers is not installed")
    torch.manual_seed(0)
    ends = dict(vocab_size=rows, pad_token_id=PAD, eos_token_id=EOS)
    small = dict(
        hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2,
        num_key_value_heads=2, max_position_embeddings=128, bos_token_id=2, **ends,
    )  # fmt: skip
    if kind == "t5":
        config = transformers.T5Config(
            d_model=16, d_kv=8, d_ff=16, num_layers=1, num_heads=2, decoder_start_token_id=PAD,
            **ends,
        )  # fmt: skip
        return transformers.T5ForConditionalGeneration(config).eval()
    if kind == "llama":
        return transformers.LlamaForCausalLM(transformers.LlamaConfig(**small)).eval()
    return transformers.Qwen2ForCausalLM(transformers.Qwen2Config(**small)).eval()
