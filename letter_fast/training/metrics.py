"""Measures of an epoch and of an evaluation, summed on the device without waiting for it."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from letter_fast.catalog import Embeddings
from letter_fast.model import Letter, LetterLosses

from .ranks import Ranks


def diverged(epoch: int) -> ValueError:
    """The error for losses or weights that have become NaN or Inf."""
    return ValueError(f"training diverged in epoch {epoch}: lower learning_rate, or set clip_norm")


class EpochMeans:
    """Row-weighted means of the loss terms and the use of each codeword over one epoch."""

    def __init__(self, model: Letter, epoch: int) -> None:
        self._config, quantizer, self._epoch = model.config, model.quantizer, epoch
        device = quantizer.codebooks.device
        self._sizes = quantizer.codebook_sizes
        # A level's first place, before its codewords', counts code −1: rows with NaN or Inf.
        places = [size + 1 for size in self._sizes]
        self._begins = (torch.tensor([1, *places[:-1]]).cumsum(0)).to(device)
        self._counts = torch.zeros(sum(places), dtype=torch.int64, device=device)
        self._one = torch.ones(1, dtype=torch.int64, device=device)
        self._sums = torch.zeros(4 + 2 * len(self._sizes), dtype=torch.float64, device=device)
        self._rows = 0

    @property
    def counts(self) -> Tensor:
        """Rows of each codeword, [ΣK] int64."""
        places = self._counts.split([size + 1 for size in self._sizes])
        return torch.cat([level[1:] for level in places])

    def add(self, losses: LetterLosses) -> None:
        """Counts one batch in."""
        output = losses.output
        terms = [losses.recon, losses.cf, losses.quantization, losses.diversity]
        terms += [output.codebook_losses, output.commitment_losses]
        rows = len(output.codes)
        self._sums.add_(torch.cat([term.detach().view(-1) for term in terms]), alpha=rows)
        self._rows += rows
        # Not bincount, which asks the device for the largest code.
        place = (output.codes + self._begins).flatten()
        self._counts.index_add_(0, place, self._one.expand(len(place)))

    def check(self) -> None:
        """Waits for the device; ValueError if a loss or a latent has become NaN or Inf."""
        if not bool(self._sums.isfinite().all() & (self._counts[0] == 0)):
            raise diverged(self._epoch)

    def record(self, ranks: Ranks) -> dict[str, Any]:
        """The means; lists are per level."""
        ranks.add(self._sums[:2])  # of recon and cf each process has its own rows' part
        self.check()
        means = (self._sums / max(self._rows, 1)).tolist()
        recon, cf, quantization, diversity = means[:4]
        levels = len(self._sizes)
        usage, perplexity = use_of_levels(self.counts, self._sizes)
        return {
            "loss": self._config.total(recon, quantization, cf, diversity),
            "recon": recon,
            "quantization": quantization,
            "cf": cf,
            "diversity": diversity,
            "codebook": means[4 : 4 + levels],
            "commitment": means[4 + levels :],
            "usage": usage,
            "perplexity": perplexity,
        }


@torch.no_grad()
def evaluate_catalog(
    model: Letter, embeddings: Embeddings, batch_size: int, ranks: Ranks
) -> dict[str, Any]:
    """Codes of every item as `tokenize` would choose them: collisions, and use of each level.

    Processes take turns with the batches.
    """
    codes = torch.zeros(embeddings.rows, model.quantizer.levels, dtype=torch.int64)
    for number, batch in enumerate(embeddings.batches(batch_size)):
        if number % ranks.size == ranks.rank:
            start = number * batch_size
            s = torch.from_numpy(batch).to(ranks.device)
            codes[start : start + len(batch)] = model.encode(s)
    ranks.add(codes)
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
