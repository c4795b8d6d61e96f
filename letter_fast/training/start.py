"""Around the epochs: codebooks start on data, codewords are grouped, dead ones revived."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from letter_fast.catalog import Embeddings
from letter_fast.clustering.balanced import balanced_kmeans_of_each
from letter_fast.model import Letter
from letter_fast.quantizer import ResidualQuantizer

from .randomness import generator, permutation, stream
from .settings import TrainSettings


def start_codebooks(model: Letter, embeddings: Embeddings, settings: TrainSettings) -> None:
    """k-means of at most `start_rows` latents, level by level; nothing if already started."""
    quantizer = model.quantizer
    if bool(quantizer.initialized):
        return
    if settings.start != "random":
        latents = sample_latents(model, embeddings, settings.start_rows, settings.seed, 0)
        quantizer.fit(
            latents,
            method=settings.start,
            restarts=settings.start_restarts,
            seed=stream(settings.seed, "start"),
        )
    quantizer.initialized.fill_(True)


def sample_latents(
    model: Letter, embeddings: Embeddings, most: int, seed: int, epoch: int
) -> Tensor:
    """Latents of at most `most` random items. -> [n, D]"""
    device = model.quantizer.codebooks.device
    chosen = np.sort(permutation(embeddings.rows, seed, "sample", epoch)[:most])
    blocks = [
        model.encode_latents(torch.from_numpy(embeddings.take(part)).to(device))
        for part in np.array_split(chosen, math.ceil(len(chosen) / 4096))
    ]
    return torch.cat(blocks)


def diversity_groups(
    quantizer: ResidualQuantizer, clusters: int, seed: int, epoch: int
) -> list[Tensor]:
    """Each level's codewords split by size-constrained k-means. -> L × [K_l] int64 on the CPU

    Sizes lie between half and twice the mean (the public code: min(K // 20, 10) to 60).
    """
    groups: dict[int, Tensor] = {}
    sizes = quantizer.codebook_sizes
    for size in set(sizes):
        levels = [level for level, other in enumerate(sizes) if other == size]
        count = min(clusters, size)
        results = balanced_kmeans_of_each(
            torch.stack([quantizer.codebook(level).detach().float() for level in levels]),
            count,
            restarts=1,
            iterations=10,
            tolerance=1e-4,
            seeds=[stream(seed, "groups", epoch, level) for level in levels],
        )
        groups |= dict(zip(levels, (result.labels.cpu() for result in results)))
    return [groups[level] for level in range(len(sizes))]


@torch.no_grad()
def revive(
    quantizer: ResidualQuantizer,
    optimizer: torch.optim.Optimizer,
    dead: Tensor,
    latents: Tensor,
    seed: int,
    epoch: int,
) -> None:
    """Moves dead codewords onto random residuals of their level and forgets what they have been:
    their momentum, or their weight in the moving average.

    dead [ΣK] bool, latents [n, D]
    """
    state = optimizer.state.get(quantizer.codebooks, {})
    draw = generator(torch.device("cpu"), seed, "revive", epoch)
    residual = latents
    begin = 0
    codes = quantizer.encode(latents)
    for level, size in enumerate(quantizer.codebook_sizes):
        table = quantizer.codebook(level)
        code = codes[:, level]
        following = residual - table[code]
        gone = dead[begin : begin + size].nonzero().squeeze(1)
        if len(gone):
            rows = torch.randint(len(residual), (len(gone),), generator=draw).to(residual.device)
            table[gone] = residual[rows]
            for name in ("exp_avg", "exp_avg_sq"):
                if name in state:
                    state[name][begin + gone] = 0.0
            if quantizer.ema_weights is not None:
                quantizer.ema_weights[begin + gone] = 0.0
        residual = following
        begin += size
