"""Codebooks of vector-quantize-pytorch: moving averages of the rows that chose each codeword."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from letter_fast import ops
from letter_fast.clustering import kmeans
from letter_fast.clustering.fixed_point import exponent_for


class Codebook(nn.Module):
    """Codewords and, for moving averages, how many rows each had and what they added up to.

    initted [], cluster_size [1, K], embed_avg and embed [1, K, D]
    """

    initted: Tensor
    cluster_size: Tensor
    embed_avg: Tensor
    embed: Tensor

    def __init__(
        self,
        dim: int,
        size: int,
        *,
        decay: float,
        eps: float,
        kmeans_init: bool,
        kmeans_iters: int,
        use_cosine_sim: bool,
        threshold_ema_dead_code: float,
        learnable: bool,
    ) -> None:
        super().__init__()
        self.size, self.decay, self.eps = size, decay, eps
        self.kmeans_iters, self.use_cosine_sim = kmeans_iters, use_cosine_sim
        self.threshold = threshold_ema_dead_code
        words = torch.zeros(1, size, dim)
        if not kmeans_init:
            nn.init.kaiming_uniform_(words)
            words = unit_rows(words) if use_cosine_sim else words
        self.register_buffer("initted", torch.tensor(not kmeans_init))
        self.register_buffer("cluster_size", torch.ones(1, size))
        self.register_buffer("embed_avg", words.clone())
        if learnable:
            self.embed = nn.Parameter(words)
        else:
            self.register_buffer("embed", words)

    def transform(self, rows: Tensor) -> Tensor:
        """What is compared with codewords: the rows, or their directions."""
        return unit_rows(rows) if self.use_cosine_sim else rows

    @torch.no_grad()
    def start(self, rows: Tensor) -> None:
        """Codewords become the k-means of transformed rows [N, D]."""
        found = kmeans(rows, self.size, iterations=self.kmeans_iters)
        counts = torch.bincount(found.labels, minlength=self.size).float()
        self.cluster_size.copy_(counts[None])
        self.embed_avg.copy_(found.centroids * counts[:, None])
        self.move_to_averages()
        self.initted.fill_(True)

    @torch.no_grad()
    def track(self, rows: Tensor, codes: Tensor) -> None:
        """Moving averages of counts and sums. rows [N, D] transformed, codes [N]"""
        unit = exponent_for(rows)
        sums, counts = ops.code_sums(rows, codes.contiguous(), self.size, unit)
        self.cluster_size.lerp_(counts[None].to(self.cluster_size), 1.0 - self.decay)
        total = (sums.double() * 2.0**-unit)[None].to(self.embed_avg)
        self.embed_avg.lerp_(total, 1.0 - self.decay)

    @torch.no_grad()
    def move_to_averages(self) -> None:
        """Codewords become sums over counts, the counts smoothed by `eps`."""
        total = self.cluster_size.sum()
        smoothed = (self.cluster_size + self.eps) / (total + self.size * self.eps) * total
        self.embed.copy_(self.transform(self.embed_avg / smoothed[..., None]))

    @torch.no_grad()
    def replace_dead(self, rows: Tensor) -> None:
        """Codewords with fewer rows than the threshold move to random rows [N, D], transformed."""
        dead = (self.cluster_size[0] < self.threshold).nonzero().squeeze(1)
        if len(dead) == 0 or len(rows) == 0:
            return
        if len(dead) > len(rows):  # the rest waits for later batches
            chosen = torch.randperm(len(dead), device=rows.device)[: len(rows)]
            dead = dead[chosen].sort().values
        words = rows[torch.randperm(len(rows), device=rows.device)[: len(dead)]]
        self.embed[0, dead] = words
        self.cluster_size[0, dead] = float(self.threshold)
        self.embed_avg[0, dead] = words * self.threshold


class Layer(nn.Module):
    """Where their state dict has a level's codebook."""

    def __init__(self, codebook: Codebook) -> None:
        super().__init__()
        self._codebook = codebook

    @property
    def codebook(self) -> Tensor:
        """[K, D]"""
        return self._codebook.embed[0]


def unit_rows(x: Tensor) -> Tensor:
    """x / ‖x‖, by rows. [..., D]"""
    return F.normalize(x, dim=-1, eps=1e-6)
