"""Checkpoints of RQ-VAE-Recommender (EdoardoBotta), and semantic IDs laid out as it has them.

It is a converter: the model encodes, quantizes and decodes as theirs does in evaluation. To train,
use `letter_fast.Letter` or `ResidualQuantizer(residual_grad="detach", reduction="sum")`.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from letter_fast.quantizer import ResidualQuantizer

from .checkpoints import load_checkpoint, tensors


class RqVaeOutput(NamedTuple):
    """embeddings [B, D, L], the chosen codewords; residuals [B, D, L], what each level was given;
    sem_ids [B, L] int64."""

    embeddings: Tensor
    residuals: Tensor
    sem_ids: Tensor


class RqVae(nn.Module):
    """Encoder and decoder (linear layers without bias, SiLU between them) around a quantizer.

    Args:
        state: their state dict.
        codebook_normalize: as they were trained; no tensor tells.

    Raises:
        ValueError: tensors are missing.
    """

    def __init__(self, state: Mapping[str, Tensor], codebook_normalize: bool = False) -> None:
        super().__init__()
        self.codebook_normalize = codebook_normalize
        self.encoder = _mlp(state, "encoder")
        self.decoder = _mlp(state, "decoder")
        books = _codebooks(state, codebook_normalize)
        self.quantizer = ResidualQuantizer(
            books[0].shape[1],
            [len(book) for book in books],
            residual_grad="detach",
            reduction="sum",
        )
        with torch.no_grad():
            self.quantizer.codebooks.copy_(torch.cat(books))
        self.quantizer.initialized.fill_(True)

    @classmethod
    def from_checkpoint(
        cls, path: str | os.PathLike[str], codebook_normalize: bool = False
    ) -> RqVae:
        """The model of a checkpoint of their trainer, in evaluation mode.

        Raises:
            ValueError: it holds other objects than tensors and plain values, or another model.
        """
        state = tensors(load_checkpoint(path), "model", path)
        return cls(state, codebook_normalize).eval()

    def encode(self, x: Tensor) -> Tensor:
        """Latents. [B, S] -> [B, D]"""
        z: Tensor = self.encoder(x)
        return F.normalize(z, dim=-1) if self.codebook_normalize else z

    def decode(self, z: Tensor) -> Tensor:
        """Reconstructions, of length 1. [B, D] -> [B, S]"""
        return F.normalize(self.decoder(z), dim=-1)

    @torch.no_grad()
    def get_semantic_ids(self, x: Tensor) -> RqVaeOutput:
        """x [B, S]"""
        residual = self.encode(x)
        codes = self.quantizer.encode(residual)
        assert isinstance(codes, Tensor)
        residuals, words = [], []
        for level, code in enumerate(codes.T):
            residuals.append(residual)
            words.append(self.quantizer.codebook(level)[code])
            residual = residual - words[-1]
        return RqVaeOutput(torch.stack(words, dim=-1), torch.stack(residuals, dim=-1), codes)


def _mlp(state: Mapping[str, Tensor], name: str) -> nn.Sequential:
    """{name}.mlp.0, .2, … with SiLU between them."""
    weights = _numbered(state, f"{name}.mlp.{{}}.weight", step=2)
    layers: list[nn.Module] = []
    for weight in weights:
        linear = nn.Linear(weight.shape[1], weight.shape[0], bias=False)
        linear.load_state_dict({"weight": weight})
        layers += [linear, nn.SiLU()]
    return nn.Sequential(*layers[:-1])


def _codebooks(state: Mapping[str, Tensor], normalize: bool) -> list[Tensor]:
    """Embeddings through each level's output projection, as they are compared with residuals."""
    books = []
    for level, words in enumerate(_numbered(state, "layers.{}.embedding.weight")):
        projection = state.get(f"layers.{level}.out_proj.0.weight")
        book = words if projection is None else words @ projection.T
        books.append(F.normalize(book, dim=-1) if normalize and level == 0 else book)
    return books


def _numbered(state: Mapping[str, Tensor], name: str, step: int = 1) -> Sequence[Tensor]:
    found: list[Tensor] = []
    while (key := name.format(step * len(found))) in state:
        found.append(state[key])
    if not found:
        raise ValueError(f"this is no state dict of an RqVae: it has no {name.format(0)}")
    return found
