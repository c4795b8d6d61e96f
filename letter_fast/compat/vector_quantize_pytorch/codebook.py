"""Codebooks of vector-quantize-pytorch: moving averages of the rows that chose each codeword."""

from __future__ import annotations

import warnings

import torch
from torch import Tensor, nn

from letter_fast import ops
from letter_fast.clustering import kmeans
from letter_fast.clustering.fixed_point import exponent_for

from .gradient import unit_rows

_BLOCK = 1 << 22  # distances at once


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
        ema_update: bool,
        has_gradient: bool,
    ) -> None:
        super().__init__()
        self.codebook_size, self.decay, self.eps = size, decay, eps
        self.kmeans_init, self.kmeans_iters = kmeans_init, kmeans_iters
        self.use_cosine_sim, self.ema_update = use_cosine_sim, ema_update
        self.threshold_ema_dead_code = threshold_ema_dead_code
        words = torch.zeros(1, size, dim)
        if not kmeans_init:
            nn.init.kaiming_uniform_(words)
            words = unit_rows(words) if use_cosine_sim else words
        self.register_buffer("initted", torch.tensor(not kmeans_init))
        self.register_buffer("cluster_size", torch.ones(1, size))
        self.register_buffer("embed_avg", words.clone())
        if has_gradient:
            self.embed = nn.Parameter(words)
        else:
            self.register_buffer("embed", words)

    def words(self) -> Tensor:
        """A copy as the search takes it: averages move the codewords before the backward pass
        comes by. [K, D] float32"""
        return self.embed[0].float().clone()

    def transform(self, rows: Tensor) -> Tensor:
        """The rows as they are compared with codewords: themselves, or their directions."""
        return unit_rows(rows) if self.use_cosine_sim else rows

    @torch.no_grad()
    def nearest(self, z: Tensor, words: Tensor) -> Tensor:
        """z [N, D] transformed, words [K, D] -> code [N], −1 for a row that holds NaN or Inf"""
        rows, table = z.float().contiguous(), words.contiguous()
        if not self.use_cosine_sim:
            code: Tensor = ops.nearest(rows, table, None)[0]
            return code
        # ‖z − e‖² − ‖e‖² is least where ⟨z, e⟩ is largest. All codewords tie for a row of zeros,
        # which the rounding of ‖e‖² must not settle.
        code, _ = ops.nearest(rows, table, -table.double().square().sum(1))
        return code.masked_fill(~rows.any(dim=1), 0)

    @torch.no_grad()
    def similarity(self, z: Tensor, words: Tensor) -> Tensor:
        """⟨z, e⟩ of directions, otherwise −‖z − e‖. z [N, D], words [K, D] -> [N, K] float32"""
        found = z.new_empty((len(z), len(words)), dtype=torch.float32)
        table, size = words.double(), max(1, _BLOCK // len(words))
        for part, out in zip(z.split(size), found.split(size)):
            rows = part.double()
            inner = rows @ table.T
            if self.use_cosine_sim:
                out.copy_(inner)
            else:
                squares = rows.square().sum(1, keepdim=True) + table.square().sum(1) - 2 * inner
                out.copy_(-squares.clamp(min=1e-8).sqrt())
        return found

    @torch.no_grad()
    def start(self, z: Tensor) -> None:
        """Codewords become the k-means of transformed rows [N, D], if they haven't begun."""
        if not self.kmeans_init or len(z) == 0 or bool(self.initted):
            return
        rows = z.float()
        if len(rows) >= self.codebook_size:
            found = kmeans(rows, self.codebook_size, iterations=self.kmeans_iters)
            means, counts = found.centroids, torch.bincount(found.labels, minlength=len(self))
        else:
            means, counts = self._of_few(rows)
        self.cluster_size.copy_(counts[None])
        self.embed_avg.copy_(means * counts[:, None])
        self.update_ema()
        self.initted.fill_(True)

    def _of_few(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Lloyd's iterations from rows drawn with replacement, as the package's: a codeword that
        wins no row becomes 0, until it is replaced as dead. -> means [K, D], counts [K]"""
        warnings.warn(
            f"kmeans_init: a first batch of {len(rows)} rows for {len(self)} codewords; rows are "
            "drawn more than once",
            stacklevel=2,
        )
        means = rows[torch.randint(0, len(rows), (len(self),), device=rows.device)]
        counts = rows.new_zeros(len(self), dtype=torch.int64)
        for _ in range(self.kmeans_iters):
            codes = self.nearest(rows, means)
            counts = torch.bincount(codes, minlength=len(self))
            sums = torch.zeros_like(means).index_add_(0, codes, rows)
            moved = self.transform(sums / counts.clamp(min=1)[:, None])
            means = torch.where(counts[:, None] > 0, moved, means)
        return means, counts

    @torch.no_grad()
    def track(self, z: Tensor, codes: Tensor) -> None:
        """Moving averages of counts and sums. z [N, D] transformed, codes [N]"""
        rows = z.float()
        unit = exponent_for(rows)
        sums, counts = ops.cluster_sums(rows, codes.contiguous(), len(self), unit)
        self.cluster_size.lerp_(counts[None].to(self.cluster_size), 1.0 - self.decay)
        total = (sums.double() * 2.0**-unit)[None].to(self.embed_avg)
        self.embed_avg.lerp_(total, 1.0 - self.decay)

    @torch.no_grad()
    def settle(self, z: Tensor) -> None:
        """Codewords move to their averages, dead ones to random rows of z [N, D], transformed."""
        if self.ema_update:
            self.update_ema()
        self._replace_dead(z)

    @torch.no_grad()
    def update_ema(self) -> None:
        """Codewords become sums over counts, the counts smoothed by `eps`."""
        total = self.cluster_size.sum()
        smoothed = (self.cluster_size + self.eps) / (total + len(self) * self.eps) * total
        self.embed.copy_(self.transform(self.embed_avg / smoothed[..., None]))

    @property
    def learns(self) -> bool:
        """Whether a batch changes anything here."""
        return self.ema_update or self.threshold_ema_dead_code > 0

    def __len__(self) -> int:
        return self.codebook_size

    def _replace_dead(self, z: Tensor) -> None:
        threshold = self.threshold_ema_dead_code
        dead = (self.cluster_size[0] < threshold).nonzero().squeeze(1)
        if len(dead) == 0 or len(z) == 0:
            return
        if len(dead) > len(z):  # the rest waits for later batches
            chosen = torch.randperm(len(dead), device=z.device)[: len(z)]
            dead = dead[chosen].sort().values
        words = z[torch.randperm(len(z), device=z.device)[: len(dead)]].to(self.embed.dtype)
        self.embed[0, dead] = words
        self.cluster_size[0, dead] = float(threshold)
        self.embed_avg[0, dead] = words * threshold
