"""Workloads as data, their rows, and codebooks that fit the rows.

Rows come from a tree of clusters of very unequal sizes, turned at random, so that no axis is
special. Codebooks come from residual k-means on a separate sample: deeper levels then see the
residuals that a trained tokenizer leaves, not the noise that random codewords would.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
_YELP = _DATA / "yelp" / "text_embeddings.npy"

_SEED = 0
_BRANCHES = (64, 64)  # clusters, and clusters in each
_SPREADS = (1.0, 0.5, 0.25)  # of the clusters, of those in them, and of the rows around these
_BLOCK = 1 << 16  # rows made at once
_LLOYD = 2  # iterations of k-means per level


class Rows(NamedTuple):
    """x [N, D] to be timed; sample [S, D] to make codebooks from. Both float32."""

    x: Tensor
    sample: Tensor


class Problem(NamedTuple):
    """x [N, D] float32 and codebooks L × [K, D] float32, on one device."""

    x: Tensor
    codebooks: list[Tensor]


@dataclass(frozen=True)
class Workload:
    """One row of the anchors' table of reference workloads."""

    name: str
    about: str
    dim: int
    sizes: tuple[int, ...]  # codewords of each level
    cpu_rows: int  # default N on a CPU: well above the caches, about a second for a good peer
    gpu_rows: int = 1_000_000
    source: Callable[[Workload, int, torch.device], Rows] | None = None  # None: clustered rows

    @property
    def flop(self) -> int:
        """Multiplications and additions that the distances of a row take."""
        return 2 * self.dim * sum(self.sizes)

    @property
    def bytes(self) -> int:
        """Least memory traffic of a row: float32 x read once, int64 codes written once."""
        return 4 * self.dim + 8 * len(self.sizes)

    def rows(self, device: torch.device) -> int:
        """The default N."""
        return self.gpu_rows if device.type == "cuda" else self.cpu_rows

    @property
    def sample_rows(self) -> int:
        return max(4 * max(self.sizes), 16_384)


def clustered(workload: Workload, rows: int, device: torch.device) -> Rows:
    """Rows of a two-level mixture of Gaussians, cluster weights ∝ u³ with u uniform."""
    generator = torch.Generator(device).manual_seed(_SEED)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, device=device)

    def weights(count: int) -> Tensor:
        return torch.rand(count, generator=generator, device=device) ** 3

    many, each = _BRANCHES
    # Variance falls off along the axes, as it does in embeddings; the turn hides where.
    scale = torch.arange(1, workload.dim + 1, device=device) ** -0.5
    turn = torch.linalg.qr(normal(workload.dim, workload.dim)).Q
    centres = _SPREADS[0] * normal(many, 1, workload.dim)
    centres = (centres + _SPREADS[1] * normal(many, each, workload.dim)).flatten(0, 1)
    chance = (weights(many)[:, None] * weights(many * each).view(many, each)).flatten()

    def draw(count: int) -> Tensor:
        out = torch.empty(count, workload.dim, device=device)
        for block in out.split(_BLOCK):
            leaf = torch.multinomial(chance, len(block), replacement=True, generator=generator)
            block.copy_(centres[leaf] + _SPREADS[2] * normal(*block.shape)).mul_(scale)
            block.copy_(block @ turn)
        return out

    return Rows(draw(rows), draw(workload.sample_rows))


def yelp(workload: Workload, rows: int, device: torch.device) -> Rows:
    """20,033 text embeddings in their first D principal components, repeated with 5 % noise."""
    import numpy as np

    generator = torch.Generator().manual_seed(_SEED)
    text = torch.from_numpy(np.load(_YELP)).float()
    text = text[torch.randperm(len(text), generator=generator)]
    text = text - text.mean(0)
    axes = torch.linalg.svd(text, full_matrices=False).Vh[: workload.dim]
    items = text @ axes.T
    x = items.repeat(-(-rows // len(items)), 1)[:rows]
    x = x + 0.05 * items.std(0) * torch.randn(x.shape, generator=generator)
    return Rows(x.to(device), items[: workload.sample_rows].to(device))


W1 = Workload("W1", "RQ-VAE and LETTER latents", 32, (256,) * 4, 204_800)
W2 = Workload("W2", "residual k-means on raw embeddings", 768, (1024,) * 3, 8_192)
W3 = Workload("W3", "large codebooks", 64, (8192,) * 3, 16_384)
YELP = Workload("Yelp", "real text embeddings, PCA", 32, (256,) * 4, 102_400, source=yelp)


def available() -> dict[str, Workload]:
    """The workloads that this machine has the data for, by name."""
    found = (W1, W2, W3, YELP) if _YELP.is_file() else (W1, W2, W3)
    return {workload.name: workload for workload in found}


def make(workload: Workload, rows: int, device: torch.device) -> Problem:
    """Rows, and codebooks of residual k-means on the sample; from one seed."""
    x, sample = (workload.source or clustered)(workload, rows, device)
    return Problem(x, residual_kmeans(sample, workload.sizes))


def residual_kmeans(sample: Tensor, sizes: tuple[int, ...]) -> list[Tensor]:
    """A few Lloyd iterations a level from the first rows: typical codebooks, not the best ones.

    sample [S, D] in random order -> L × [K, D]
    """
    codebooks = []
    residual = sample
    for size in sizes:
        words = residual[:size].clone()
        for _ in range(_LLOYD):
            code = _nearest(residual, words)
            sums = torch.zeros_like(words).index_add_(0, code, residual)
            count = torch.bincount(code, minlength=size)[:, None]
            words = torch.where(count > 0, sums / count.clamp(min=1), words)
        residual = residual - words[_nearest(residual, words)]
        codebooks.append(words)
    return codebooks


def _nearest(x: Tensor, words: Tensor) -> Tensor:
    half = 0.5 * words.square().sum(1)
    scores = (torch.addmm(half, part, words.T, alpha=-1.0) for part in x.split(1024))
    return torch.cat([score.argmin(1) for score in scores])
