"""What an epoch and an evaluation report, accumulated on the device without waiting for it."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from letter_fast.catalog import Embeddings
from letter_fast.model import Letter, LetterLosses


class EpochMeans:
    """Row-weighted means of the loss terms and the use of each codeword over one epoch."""

    def __init__(self, model: Letter) -> None:
        quantizer = model.quantizer
        device = quantizer.codebooks.device
        self._sizes = quantizer.codebook_sizes
        begins = torch.tensor([0, *self._sizes[:-1]]).cumsum(0)
        self._begins = begins.to(device)
        self.counts = torch.zeros(sum(self._sizes), dtype=torch.int64, device=device)
        self._sums = torch.zeros(5 + 2 * len(self._sizes), dtype=torch.float64, device=device)
        self._rows = 0

    def add(self, losses: LetterLosses) -> None:
        """Counts one batch in."""
        output = losses.output
        terms = torch.cat(
            [
                torch.stack(losses[:5]).detach(),
                output.codebook_losses.detach(),
                output.commitment_losses.detach(),
            ]
        )
        rows = len(output.codes)
        self._sums += terms.double() * rows
        self._rows += rows
        self.counts += torch.bincount(
            (output.codes + self._begins).flatten(), minlength=len(self.counts)
        )

    def record(self) -> dict[str, Any]:
        """The means; lists are per level."""
        means = (self._sums / max(self._rows, 1)).tolist()
        levels = len(self._sizes)
        names = ("loss", "recon", "quantization", "cf", "diversity")
        usage, perplexity = use_of_levels(self.counts, self._sizes)
        return {
            **dict(zip(names, means[:5])),
            "codebook": means[5 : 5 + levels],
            "commitment": means[5 + levels :],
            "usage": usage,
            "perplexity": perplexity,
        }


@torch.no_grad()
def evaluate_catalog(model: Letter, embeddings: Embeddings, batch_size: int) -> dict[str, Any]:
    """Codes of every item as `tokenize` would choose them: collisions, and use of each level."""
    device = model.quantizer.codebooks.device
    codes = torch.cat(
        [
            model.encode(torch.from_numpy(batch).to(device)).cpu()
            for batch in embeddings.batches(batch_size)
        ]
    )
    counts = torch.cat(
        [
            torch.bincount(codes[:, level], minlength=size)
            for level, size in enumerate(model.quantizer.codebook_sizes)
        ]
    )
    usage, perplexity = use_of_levels(counts, model.quantizer.codebook_sizes)
    distinct = len(torch.unique(codes, dim=0))
    return {
        "collision_rate": 1.0 - distinct / len(codes),
        "catalog_usage": usage,
        "catalog_perplexity": perplexity,
    }


def use_of_levels(counts: Tensor, sizes: list[int]) -> tuple[list[float], list[float]]:
    """Share of codewords used, and exp of the code entropy, per level. counts [ΣK] int64"""
    usage, perplexity = [], []
    for level in counts.cpu().split(sizes):
        share = level.double() / level.sum().clamp(min=1)
        usage.append(float((level > 0).double().mean()))
        perplexity.append(float(torch.special.entr(share).sum().exp()))
    return usage, perplexity
