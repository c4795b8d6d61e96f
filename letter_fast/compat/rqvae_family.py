"""Common parts of the RQ-VAEs of LETTER, LC-Rec and MiniOneRec.

Layer by layer the state dict is theirs, in both directions: encoder.mlp_layers.*,
rq.vq_layers.{l}.embedding.weight, decoder.mlp_layers.*. From one seed the weights are theirs too.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from letter_fast import validation
from letter_fast.losses import residual_losses
from letter_fast.model import Letter, LetterConfig
from letter_fast.model.config import RECONSTRUCTIONS
from letter_fast.quantizer import ResidualQuantizer, choose_codes


class CodebookLayer(nn.Module):
    """One level: K = n_e codewords of width D = e_dim, and how they start and are chosen.

    With `kmeans_init` the codewords are 0 until the first batch of training, or `init_emb`, makes
    them the k-means of their input. A codebook that was loaded is started if it isn't 0, so a
    resumed run goes on from it. (The originals keep that only in a Python variable, and begin
    anew.)
    """

    def __init__(
        self,
        n_e: int,
        e_dim: int,
        kmeans_init: bool,
        kmeans_iters: int,
        sk_epsilon: float | None,
        sk_iters: int,
    ) -> None:
        super().__init__()
        self.n_e, self.e_dim = n_e, e_dim
        self.kmeans_init, self.kmeans_iters = kmeans_init, kmeans_iters
        self.sk_epsilon, self.sk_iters = sk_epsilon, sk_iters
        self.embedding = nn.Embedding(n_e, e_dim)
        self.initted = not kmeans_init
        with torch.no_grad():
            if kmeans_init:
                self.embedding.weight.zero_()
            else:
                self.embedding.weight.uniform_(-1.0 / n_e, 1.0 / n_e)
        nn.Module.register_load_state_dict_post_hook(self, _see_if_started)

    def get_codebook(self) -> Tensor:
        """[K, D]"""
        return self.embedding.weight

    def get_codebook_entry(self, indices: Tensor, shape: Sequence[int] | None = None) -> Tensor:
        """The named codewords. indices [...] -> [..., D], or `shape`"""
        words: Tensor = self.embedding(indices)
        return words if shape is None else words.view(*shape)

    @torch.no_grad()
    def init_emb(self, data: Tensor) -> None:
        """Makes the codewords the k-means of data [N, D]."""
        self.embedding.weight.copy_(self._centroids(data.detach().reshape(-1, self.e_dim)))
        self.initted = True

    @abstractmethod
    def _centroids(self, data: Tensor) -> Tensor:
        """data [N, D] -> [K, D]"""


def _see_if_started(layer: nn.Module, _: Any) -> None:
    assert isinstance(layer, CodebookLayer)
    layer.initted = not layer.kmeans_init or bool(layer.embedding.weight.detach().any())


class Walk(NamedTuple):
    """quantized [..., D], straight-through; codes [..., L]; codebook and commitment terms [L];
    table [ΣK, D] and rows [N, L], the codebooks and codes that further losses need."""

    quantized: Tensor
    codes: Tensor
    codebook: Tensor
    commitment: Tensor
    table: Tensor
    rows: Tensor


def walk(x: Tensor, layers: Sequence[CodebookLayer], use_sk: bool, training: bool) -> Walk:
    """All levels at once. x [..., D]

    Raises:
        ValueError: wrong width, or rows with NaN or Inf.
    """
    width = layers[0].e_dim
    flat = validation.rows(x, width)
    if training:
        start(flat, layers, use_sk)
    sizes = [layer.n_e for layer in layers]
    table = torch.cat([layer.embedding.weight for layer in layers])
    codes = choose_codes(flat, table, sizes, _epsilons(layers, use_sk), layers[0].sk_iters)
    validation.finite_codes(codes)
    terms = residual_losses(x.reshape(-1, width), table, sizes, codes)
    return Walk(
        terms.quantized.view(x.shape),
        codes.view(*x.shape[:-1], len(layers)),
        terms.codebook,
        terms.commitment,
        table,
        codes,
    )


@torch.no_grad()
def start(x: Tensor, layers: Sequence[CodebookLayer], use_sk: bool) -> None:
    """Starts the codebooks that haven't, each on what the levels before it leave over. x [N, D]"""
    if all(layer.initted for layer in layers):
        return
    residual = x.float()
    for layer, epsilon in zip(layers, _epsilons(layers, use_sk)):
        if not layer.initted:
            layer.init_emb(residual)
        words = layer.embedding.weight
        codes = choose_codes(residual, words, [layer.n_e], [epsilon], layer.sk_iters)
        validation.finite_codes(codes)
        residual = residual - words[codes[:, 0]]


def _epsilons(layers: Sequence[CodebookLayer], use_sk: bool) -> list[float]:
    return [max(layer.sk_epsilon or 0.0, 0.0) if use_sk else 0.0 for layer in layers]


class ResidualCodebooks(nn.Module):
    """`vq_layers`, and what can be done with them whatever the losses."""

    vq_layers: nn.ModuleList

    @property
    def layers(self) -> list[CodebookLayer]:
        """The levels, in order."""
        return [layer for layer in self.vq_layers if isinstance(layer, CodebookLayer)]

    def get_codebook(self) -> Tensor:
        """[L, K, D]

        Raises:
            ValueError: the levels have different sizes.
        """
        sizes = {layer.n_e for layer in self.layers}
        if len(sizes) > 1:
            raise ValueError(
                f"codebooks of {sorted(sizes)} codewords don't fit one tensor: take each from "
                "vq_layers[level].get_codebook()"
            )
        return torch.stack([layer.embedding.weight for layer in self.layers])

    @torch.no_grad()
    def vq_ini(self, x: Tensor) -> None:
        """Starts the codebooks that haven't on the latents of a whole catalog. x [..., D]"""
        layers = self.layers
        start(validation.rows(x, layers[0].e_dim), layers, use_sk=True)

    def to_quantizer(self, commitment_weight: float = 0.25) -> ResidualQuantizer:
        """A `ResidualQuantizer` with a copy of the codebooks."""
        layers = self.layers
        table = torch.cat([layer.embedding.weight.detach() for layer in layers])
        quantizer = ResidualQuantizer(
            layers[0].e_dim,
            [layer.n_e for layer in layers],
            commitment_weight,
            sinkhorn_epsilon=_epsilons(layers, use_sk=True),
            sinkhorn_sweeps=layers[0].sk_iters,
        ).to(table.device)
        with torch.no_grad():
            quantizer.codebooks.copy_(table)
        quantizer.initialized.fill_(all(layer.initted for layer in layers))
        return quantizer


class MLPLayers(nn.Module):
    """Dropout, linear, batch norm if asked for, ReLU except at the end.

    bn_last: batch norm after the last linear layer too, as LETTER has it and LC-Rec does not.
    """

    def __init__(
        self,
        layers: Sequence[int],
        dropout: float = 0.0,
        bn: bool = False,
        bn_last: bool = True,
    ) -> None:
        super().__init__()
        modules: list[nn.Module] = []
        for index, (wide, narrow) in enumerate(pairwise(layers)):
            last = index == len(layers) - 2
            modules += [nn.Dropout(dropout), nn.Linear(wide, narrow)]
            if bn and (bn_last or not last):
                modules.append(nn.BatchNorm1d(narrow))
            if not last:
                modules.append(nn.ReLU())
        self.bn_last = bn and bn_last
        self.mlp_layers = nn.Sequential(*modules)
        # After all are made: the order in which random numbers are drawn.
        for linear in self.linears:
            nn.init.xavier_normal_(linear.weight)
            nn.init.zeros_(linear.bias)

    @property
    def linears(self) -> list[nn.Linear]:
        return [module for module in self.mlp_layers if isinstance(module, nn.Linear)]

    @property
    def norms(self) -> list[nn.BatchNorm1d]:
        return [module for module in self.mlp_layers if isinstance(module, nn.BatchNorm1d)]

    def forward(self, input_feature: Tensor) -> Tensor:
        """[B, first width] -> [B, last width]"""
        output: Tensor = self.mlp_layers(input_feature)
        return output

    @torch.no_grad()
    def copy_to(self, target: nn.Sequential) -> None:
        """Makes `letter_fast.model.encoder.mlp` of the same widths compute the same in evaluation.

        That has no batch norm after its last layer; here it becomes part of the linear one.
        """
        inner = self.norms[:-1] if self.bn_last else self.norms
        for kind, modules in ((nn.Linear, self.linears), (nn.BatchNorm1d, inner)):
            own = [module for module in target if isinstance(module, kind)]
            for module, other in zip(own, modules, strict=True):
                module.load_state_dict(other.state_dict())
        if self.bn_last:
            last = self.norms[-1]
            assert last.running_mean is not None
            assert last.running_var is not None
            scale = last.weight / (last.running_var + last.eps).sqrt()
            linear = [module for module in target if isinstance(module, nn.Linear)][-1]
            linear.weight.mul_(scale[:, None])
            linear.bias.copy_((linear.bias - last.running_mean) * scale + last.bias)


class Autoencoder(nn.Module):
    """Encoder and decoder around a residual quantizer, which `make_rq` makes."""

    rq: ResidualCodebooks

    def __init__(
        self,
        in_dim: int,
        e_dim: int,
        layers: Sequence[int],
        dropout_prob: float,
        bn: bool,
        loss_type: str,
        quant_loss_weight: float,
        make_rq: Callable[[], ResidualCodebooks],
        bn_last: bool,
    ) -> None:
        super().__init__()
        self.in_dim, self.e_dim, self.layers = in_dim, e_dim, list(layers)
        self.dropout_prob, self.bn = dropout_prob, bn
        self.loss_type = validation.choice(loss_type, RECONSTRUCTIONS, "loss_type")
        self.quant_loss_weight = quant_loss_weight
        self.encode_layer_dims = [in_dim, *layers, e_dim]
        self.decode_layer_dims = self.encode_layer_dims[::-1]
        self.encoder: nn.Module = MLPLayers(self.encode_layer_dims, dropout_prob, bn, bn_last)
        # In this order, which is that of the random numbers.
        self.rq = make_rq()
        self.decoder = MLPLayers(self.decode_layer_dims, dropout_prob, bn, bn_last)

    def reconstruction_loss(self, out: Tensor, xs: Tensor) -> Tensor:
        """Mean squared, or absolute, error. [B, S], [B, S] -> []"""
        return F.mse_loss(out, xs) if self.loss_type == "mse" else F.l1_loss(out, xs)

    def _to_letter(
        self, commitment_weight: float, cf_weight: float, diversity_weight: float
    ) -> Letter:
        """A `Letter` that encodes and decodes as this does in evaluation."""
        if not isinstance(self.encoder, MLPLayers):
            kind = type(self.encoder).__name__
            raise ValueError(f"a Letter has no encoder like {kind}: only layers one after another")
        layers = self.rq.layers
        config = LetterConfig(
            input_dim=self.in_dim,
            hidden=tuple(self.layers),
            latent_dim=self.e_dim,
            codebook_size=tuple(layer.n_e for layer in layers),
            quantization_weight=self.quant_loss_weight,
            commitment_weight=commitment_weight,
            cf_weight=cf_weight,
            diversity_weight=diversity_weight,
            sinkhorn_epsilon=tuple(_epsilons(layers, use_sk=True)),
            sinkhorn_sweeps=layers[0].sk_iters,
            reconstruction=self.loss_type,
            dropout=self.dropout_prob,
            batch_norm=self.bn,
        )
        model = Letter(config).to(layers[0].embedding.weight.device)
        self.encoder.copy_to(model.encoder)
        self.decoder.copy_to(model.decoder)
        model.quantizer.load_state_dict(self.rq.to_quantizer().state_dict())
        return model.eval()
