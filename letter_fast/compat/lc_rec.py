"""LC-Rec's RQ-VAE, which is MiniOneRec's too, under its own names, and its checkpoints.

    from letter_fast.compat.lc_rec import RQVAE        # was: from models.rqvae import RQVAE

It is LETTER's without labels, diversity and collaborative loss. `beta` weighs the commitment here.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from letter_fast.clustering import kmeans
from letter_fast.model import Letter

from .rqvae_checkpoint import read_checkpoint
from .rqvae_family import Autoencoder, CodebookLayer, ResidualCodebooks, walk


class VectorQuantizer(CodebookLayer):
    """One level; k-means starts are plain."""

    def __init__(
        self,
        n_e: int,
        e_dim: int,
        beta: float = 0.25,
        kmeans_init: bool = False,
        kmeans_iters: int = 10,
        sk_epsilon: float | None = 0.003,
        sk_iters: int = 100,
    ) -> None:
        super().__init__(n_e, e_dim, kmeans_init, kmeans_iters, sk_epsilon, sk_iters)
        self.beta = beta

    def forward(self, x: Tensor, use_sk: bool = True) -> tuple[Tensor, Tensor, Tensor]:
        """x [..., D] -> x_q [..., D], loss [], indices [...]

        Raises:
            ValueError: wrong width, or rows with NaN or Inf.
        """
        x_q, losses, indices = _forward(x, [self], use_sk, self.training)
        return x_q, losses[0], indices[..., 0]

    def _centroids(self, data: Tensor) -> Tensor:
        return kmeans(data, self.n_e, iterations=self.kmeans_iters).centroids


class ResidualVectorQuantizer(ResidualCodebooks):
    """All levels."""

    def __init__(
        self,
        n_e_list: Sequence[int],
        e_dim: int,
        sk_epsilons: Sequence[float | None],
        beta: float = 0.25,
        kmeans_init: bool = False,
        kmeans_iters: int = 100,
        sk_iters: int = 100,
    ) -> None:
        super().__init__()
        self.n_e_list, self.e_dim, self.num_quantizers = list(n_e_list), e_dim, len(n_e_list)
        self.vq_layers = nn.ModuleList(
            VectorQuantizer(n_e, e_dim, beta, kmeans_init, kmeans_iters, sk_epsilon, sk_iters)
            for n_e, sk_epsilon in zip(n_e_list, sk_epsilons, strict=True)
        )

    def forward(self, x: Tensor, use_sk: bool = True) -> tuple[Tensor, Tensor, Tensor]:
        """x [..., D] -> x_q [..., D], loss [], the mean over levels, indices [..., L] int64

        Raises:
            ValueError: wrong width, or rows with NaN or Inf.
        """
        layers = [layer for layer in self.vq_layers if isinstance(layer, VectorQuantizer)]
        x_q, losses, indices = _forward(x, layers, use_sk, self.training)
        return x_q, losses.mean(), indices


class ResidualEncoder(nn.Module):
    """x + mlp(x), which MiniOneRec's RQ-KMeans+ has around the encoder."""

    def __init__(self, mlp: nn.Module) -> None:
        super().__init__()
        self.mlp = mlp

    def forward(self, x: Tensor) -> Tensor:
        """[B, S] -> [B, S]"""
        added: Tensor = self.mlp(x)
        return x + added


class RQVAE(Autoencoder):
    """The whole model.

    bn_last: with `bn`, batch norm after the last layer of each part too, as LC-Rec had it before
    4dde5da (12 April 2024). `from_checkpoint` sees it.
    """

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
        beta: float = 0.25,
        kmeans_init: bool = False,
        kmeans_iters: int = 100,
        sk_epsilons: Sequence[float | None] | None = None,
        sk_iters: int = 100,
        *,
        bn_last: bool = False,
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
        self.num_emb_list, self.beta = list(num_emb_list), beta

    def forward(self, x: Tensor, use_sk: bool = True) -> tuple[Tensor, Tensor, Tensor]:
        """x [B, S] -> reconstruction [B, S], rq_loss [], indices [B, L]"""
        x_q, rq_loss, indices = self.rq(self.encoder(x), use_sk=use_sk)
        return self.decoder(x_q), rq_loss, indices

    def compute_loss(self, out: Tensor, quant_loss: Tensor, xs: Tensor) -> tuple[Tensor, Tensor]:
        """out, xs [B, S] -> total, recon"""
        recon = self.reconstruction_loss(out, xs)
        return recon + self.quant_loss_weight * quant_loss, recon

    @torch.no_grad()
    def get_indices(self, xs: Tensor, use_sk: bool = False) -> Tensor:
        """Codes of embeddings. xs [B, S] -> [B, L]"""
        indices: Tensor = self.rq(self.encoder(xs), use_sk=use_sk)[2]
        return indices

    @classmethod
    def from_checkpoint(cls, path: str | os.PathLike[str]) -> RQVAE:
        """The model of a checkpoint of LC-Rec's or MiniOneRec's trainer, in evaluation mode.

        Raises:
            ValueError: it is damaged, or holds another model.
        """
        found = read_checkpoint(path)
        model = found.fill(cls, _OPTIONS)
        if found.plus:
            if model.e_dim != model.in_dim:
                raise ValueError(f"{path} adds vectors of {model.in_dim} and {model.e_dim} numbers")
            model.encoder = ResidualEncoder(model.encoder)
        return model

    def to_letter(self) -> Letter:
        """The `letter_fast.Letter` that gives the same codes and reconstructions.

        Raises:
            ValueError: the encoder is RQ-KMeans+'s, which a Letter has none of.
        """
        return self._to_letter(self.beta, cf_weight=0.0, diversity_weight=0.0)


# What their main.py calls the constructor's arguments; `in_dim` comes from the data.
_OPTIONS = (
    "num_emb_list", "e_dim", "layers", "dropout_prob", "bn", "loss_type", "quant_loss_weight",
    "beta", "kmeans_init", "kmeans_iters", "sk_epsilons", "sk_iters",
)  # fmt: skip


def _forward(
    x: Tensor, layers: Sequence[VectorQuantizer], use_sk: bool, training: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """-> x_q [..., D], losses [L], indices [..., L]"""
    found = walk(x, layers, use_sk, training)
    beta = found.commitment.new_tensor([layer.beta for layer in layers])
    return found.quantized, found.codebook + beta * found.commitment, found.codes
