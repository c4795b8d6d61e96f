"""LETTER's RQ-VAE (HonghuiBao2000/LETTER, RQ-VAE/models) under its own names, and its checkpoints.

    from letter_fast.compat.letter import RQVAE        # was: from models.rqvae import RQVAE

Values, gradients and weights are those of the public code; docs/migration/letter.md lists what
differs.
There `beta` weighs the diversity loss and `mu` the commitment.
"""

from __future__ import annotations

import os
import random
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from letter_fast.clustering import balanced_kmeans
from letter_fast.losses import contrastive_loss, diversity_losses
from letter_fast.model import Letter

from .rqvae_checkpoint import read_checkpoint
from .rqvae_family import Autoencoder, CodebookLayer, ResidualCodebooks, walk

Labels = Mapping[str, Sequence[int]] | Sequence[Tensor] | Tensor


class VectorQuantizer(CodebookLayer):
    """One level; K-means starts are balanced, with N/2K … 2N/K rows a codeword."""

    def __init__(
        self,
        n_e: int,
        e_dim: int,
        mu: float = 0.25,
        beta: float = 1.0,
        kmeans_init: bool = False,
        kmeans_iters: int = 10,
        sk_epsilon: float | None = 0.01,
        sk_iters: int = 100,
    ) -> None:
        super().__init__(n_e, e_dim, kmeans_init, kmeans_iters, sk_epsilon, sk_iters)
        self.mu, self.beta = mu, beta

    def forward(
        self, x: Tensor, label: Sequence[int] | Tensor | None, idx: int = 0, use_sk: bool = True
    ) -> tuple[Tensor, Tensor, Tensor]:
        """x [..., D], label: the group of each codeword [K], None for no diversity term
        -> x_q [..., D], loss [], indices [...]

        Raises:
            NotImplementedError: idx = −1, which draws random codes.
            ValueError: shapes don't fit, or rows with NaN or Inf.
        """
        if idx == -1:
            raise NotImplementedError("idx=-1, codes drawn at random, is not supported")
        labels = None if label is None else [torch.as_tensor(label)]
        x_q, losses, indices = _forward(x, [self], labels, use_sk, self.training)
        return x_q, losses[0], indices[..., 0]

    def vq_init(self, x: Tensor, use_sk: bool = True) -> Tensor:
        """Starts the codebook on x [..., D] if it hasn't. -> the chosen codewords [..., D]"""
        words: Tensor = walk(x.detach(), [self], use_sk, training=True).quantized
        return words

    def _centroids(self, data: Tensor) -> Tensor:
        return balanced_kmeans(data, self.n_e, iterations=self.kmeans_iters).centroids


class ResidualVectorQuantizer(ResidualCodebooks):
    """All levels."""

    def __init__(
        self,
        n_e_list: Sequence[int],
        e_dim: int,
        sk_epsilons: Sequence[float | None],
        beta: float = 1.0,
        kmeans_init: bool = False,
        kmeans_iters: int = 100,
        sk_iters: int = 100,
    ) -> None:
        super().__init__()
        self.n_e_list, self.e_dim, self.num_quantizers = list(n_e_list), e_dim, len(n_e_list)
        self.kmeans_init, self.kmeans_iters = kmeans_init, kmeans_iters
        self.sk_epsilons, self.sk_iters = list(sk_epsilons), sk_iters
        self.vq_layers = nn.ModuleList(
            VectorQuantizer(
                n_e,
                e_dim,
                beta=beta,
                kmeans_init=kmeans_init,
                kmeans_iters=kmeans_iters,
                sk_epsilon=sk_epsilon,
                sk_iters=sk_iters,
            )
            for n_e, sk_epsilon in zip(n_e_list, sk_epsilons, strict=True)
        )

    def forward(
        self, x: Tensor, labels: Labels | None, use_sk: bool = True
    ) -> tuple[Tensor, Tensor, Tensor]:
        """x [..., D]; labels: the group of each codeword, {"0": [K_0 integers], …} as LETTER's
        trainer has it, or L × [K_l]; None for no diversity term
        -> x_q [..., D], loss [], the mean over levels, indices [..., L] int64

        Raises:
            ValueError: shapes don't fit, or rows with NaN or Inf.
        """
        layers = [layer for layer in self.vq_layers if isinstance(layer, VectorQuantizer)]
        groups = None if labels is None else _groups(labels, layers)
        x_q, losses, indices = _forward(x, layers, groups, use_sk, self.training)
        return x_q, losses.mean(), indices

    def cluster_codewords(self, n_clusters: int = 10, seed: int = 0) -> dict[str, list[int]]:
        """`labels` for `forward`: each codebook in groups of half to twice the mean size.

        What LETTER's trainer has k-means-constrained do each epoch.
        """
        return {
            str(level): balanced_kmeans(
                layer.embedding.weight.detach(),
                min(n_clusters, layer.n_e),
                iterations=10,
                seed=seed + level,
            ).labels.tolist()
            for level, layer in enumerate(self.layers)
        }


class RQVAE(Autoencoder):
    """The whole model.

    cf_embedding: [N, H = e_dim], NumPy array or tensor, row i of item i; 0: no collaborative term.
    bn_last: with `bn`, batch norm after the last layer of each part too, as theirs has it.
    """

    cf_embedding: Tensor | None

    def __init__(
        self,
        in_dim: int = 768,
        num_emb_list: Sequence[int] = (256, 256, 256, 256),
        e_dim: int = 64,
        layers: Sequence[int] = (512, 256, 128),
        dropout_prob: float = 0.0,
        bn: bool = False,
        loss_type: str = "mse",
        quant_loss_weight: float = 1.0,
        kmeans_init: bool = False,
        kmeans_iters: int = 100,
        sk_epsilons: Sequence[float | None] | None = None,
        sk_iters: int = 100,
        alpha: float = 1.0,
        beta: float = 0.001,
        n_clusters: int = 10,
        sample_strategy: str = "all",
        cf_embedding: Any = 0,
        *,
        bn_last: bool = True,
    ) -> None:
        if sk_epsilons is None:
            sk_epsilons = [0.0] * len(num_emb_list)

        def make_rq() -> ResidualVectorQuantizer:
            return ResidualVectorQuantizer(
                num_emb_list, e_dim, sk_epsilons, beta, kmeans_init, kmeans_iters, sk_iters
            )

        super().__init__(
            in_dim, e_dim, layers, dropout_prob, bn, loss_type, quant_loss_weight, make_rq, bn_last
        )
        self.num_emb_list = list(num_emb_list)
        self.alpha, self.beta, self.n_clusters = alpha, beta, n_clusters
        self.sample_strategy = sample_strategy
        targets = None if isinstance(cf_embedding, int) else torch.as_tensor(cf_embedding)
        self.register_buffer("cf_embedding", targets, persistent=False)

    def forward(
        self, x: Tensor, labels: Labels | None, use_sk: bool = True
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """x [B, S] -> reconstruction [B, S], rq_loss [], indices [B, L], x_q [B, D]"""
        x_q, rq_loss, indices = self.rq(self.encoder(x), labels, use_sk=use_sk)
        return self.decoder(x_q), rq_loss, indices, x_q

    def CF_loss(self, quantized_rep: Tensor, encoded_rep: Tensor) -> Tensor:  # noqa: N802
        """In-batch InfoNCE. [B, D], [B, D] -> []"""
        return contrastive_loss(quantized_rep, encoded_rep)

    def compute_loss(
        self,
        out: Tensor,
        quant_loss: Tensor,
        emb_idx: Tensor,
        dense_out: Tensor,
        xs: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """out, xs [B, S]; emb_idx [B], the items; dense_out [B, D] -> total, cf, recon, quant"""
        recon = self.reconstruction_loss(out, xs)
        cf = recon.new_zeros(())
        if self.cf_embedding is not None:
            targets = self.cf_embedding[torch.as_tensor(emb_idx).to(self.cf_embedding.device)]
            cf = self.CF_loss(dense_out, targets.to(dense_out.device))
        return recon + self.quant_loss_weight * quant_loss + self.alpha * cf, cf, recon, quant_loss

    def vq_initialization(self, x: Tensor, use_sk: bool = True) -> None:
        """Starts the codebooks on the embeddings of a whole catalog. x [N, S]"""
        self.rq.vq_ini(self.encoder(x))

    @torch.no_grad()
    def get_indices(self, xs: Tensor, labels: Any = None, use_sk: bool = False) -> Tensor:
        """Codes of embeddings; labels don't matter. xs [B, S] -> [B, L]"""
        indices: Tensor = self.rq(self.encoder(xs), None, use_sk=use_sk)[2]
        return indices

    @classmethod
    def from_checkpoint(cls, path: str | os.PathLike[str], cf_embedding: Any = 0) -> RQVAE:
        """The model of a checkpoint of LETTER's trainer, in evaluation mode.

        Raises:
            ValueError: it is damaged, or holds another model.
        """
        found = read_checkpoint(path)
        if found.plus:
            raise ValueError(f"{path} is of MiniOneRec's RQ-KMeans+: read it with compat.lc_rec")
        return found.fill(cls, _OPTIONS, cf_embedding=cf_embedding)

    def to_letter(self) -> Letter:
        """The `letter_fast.Letter` that gives the same codes and reconstructions."""
        mu = [layer.mu for layer in self.rq.layers if isinstance(layer, VectorQuantizer)]
        return self._to_letter(mu[0], cf_weight=self.alpha, diversity_weight=self.beta)


# What LETTER's main.py calls the constructor's arguments; `in_dim` comes from the data.
_OPTIONS = (
    "num_emb_list", "e_dim", "layers", "dropout_prob", "bn", "loss_type", "quant_loss_weight",
    "kmeans_init", "kmeans_iters", "sk_epsilons", "sk_iters", "alpha", "beta", "n_clusters",
    "sample_strategy",
)  # fmt: skip


def _forward(
    x: Tensor,
    layers: Sequence[VectorQuantizer],
    groups: Sequence[Tensor] | None,
    use_sk: bool,
    training: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """-> x_q [..., D], losses [L], indices [..., L]"""
    found = walk(x, layers, use_sk, training)
    mu = found.commitment.new_tensor([layer.mu for layer in layers])
    losses = found.codebook + mu * found.commitment
    if groups is not None:
        sizes = [layer.n_e for layer in layers]
        together = torch.cat([group.to(x.device) for group in groups])
        beta = mu.new_tensor([layer.beta for layer in layers])
        # Python's generator, as theirs: torch's goes on to the decoder's dropout untouched.
        seed = random.getrandbits(63)
        losses = losses + beta * diversity_losses(found.rows, found.table, sizes, together, seed)
    return found.quantized, losses, found.codes


def _groups(labels: Labels, layers: Sequence[VectorQuantizer]) -> list[Tensor]:
    """labels as L × [K_l] int64."""
    if isinstance(labels, Mapping):
        missing = [str(level) for level in range(len(layers)) if str(level) not in labels]
        if missing:
            raise ValueError(f"labels has no entry for level {missing[0]}: {list(labels)}")
        groups = [torch.as_tensor(labels[str(level)]) for level in range(len(layers))]
    else:
        groups = list(labels)
    if [len(group) for group in groups] != [layer.n_e for layer in layers]:
        raise ValueError(
            f"labels must name a group for each of {[layer.n_e for layer in layers]} codewords, "
            f"got {[len(group) for group in groups]}"
        )
    return groups
