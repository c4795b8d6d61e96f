"""Letter: item embedding → latent → codes → reconstruction, and the loss that ties them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from numpy.typing import ArrayLike
from torch import Tensor, nn

from letter_fast import ops, validation
from letter_fast.losses import contrastive_loss
from letter_fast.losses.contrastive import compared
from letter_fast.losses.diversity import diversity_of_found
from letter_fast.quantizer import Nonfinite, QuantizerOutput, ResidualQuantizer

from .config import LetterConfig
from .encoder import encode_rows, evaluated, mlp, output_of
from .pretrained import ModelFolder, fingerprint, read_model, write_model


class LetterLosses(NamedTuple):
    """total = recon + w_rq (quantization + β diversity) + α cf, and its unweighted terms.

    total, recon, quantization, cf, diversity: []; output: the quantizer's own terms and codes.
    """

    total: Tensor
    recon: Tensor
    quantization: Tensor
    cf: Tensor
    diversity: Tensor
    output: QuantizerOutput


class Share(NamedTuple):
    """The rows of a batch that one of several processes computes.

    own: which of the batch's B rows; join: all-gathers this process's rows into those of the batch;
    gradient flows to its own rows only.
    """

    own: slice
    join: Callable[[Tensor], Tensor]

    @classmethod
    def whole(cls, rows: int) -> Share:
        """All rows of a batch: there is one process."""
        return cls(slice(0, rows), lambda part: part)

    def cut(self, batch: Tensor) -> Tensor:
        """This process's rows of a tensor of the batch."""
        alone = len(batch) == self.own.stop - self.own.start
        return batch if alone else batch[self.own]  # a view costs a kernel on the way back


class Letter(nn.Module, ModelFolder):
    """The tokenizer of Wang et al. 2024 (arXiv 2405.07314)."""

    method = "[LETTER](https://arxiv.org/abs/2405.07314), or RQ-VAE where cf_weight is 0"

    def __init__(self, config: LetterConfig) -> None:
        validation.instance(config, LetterConfig, "config")
        super().__init__()
        self.config = config
        # The mixin would write its own config.json; `_save_pretrained` writes ours.
        self._hub_mixin_config = None
        widths = [config.input_dim, *config.hidden, config.latent_dim]
        weights = sum(wide * narrow for wide, narrow in pairwise(widths))
        validation.fits_in_memory(2 * weights, "encoder and decoder")
        self.encoder = mlp(widths, config.dropout, config.batch_norm)
        self.decoder = mlp(widths[::-1], config.dropout, config.batch_norm)
        self.quantizer = ResidualQuantizer(
            dim=config.latent_dim,
            codebook_size=config.codebook_size,
            commitment_weight=config.commitment_weight,
            residual_grad=config.residual_grad,
            sinkhorn_epsilon=config.sinkhorn_epsilon,
            sinkhorn_sweeps=config.sinkhorn_sweeps,
            reduction=config.reduction,
            codebook_update=config.codebook_update,
            ema_decay=config.ema_decay,
        )
        self.cf_projection: nn.Module = (
            nn.Identity()
            if config.cf_dim in (None, config.latent_dim)
            else nn.Linear(int(config.cf_dim or 0), config.latent_dim)
        )

    def forward(self, s: ArrayLike) -> Tensor:
        """The reconstruction of the item embedding through its codes. s [B, S] -> [B, S]"""
        z = self.encoder(self._embeddings(s))
        reconstruction: Tensor = self.decoder(self.quantizer(z).quantized)
        return reconstruction

    def losses(
        self,
        s: ArrayLike,
        h: ArrayLike | None = None,
        groups: Sequence[ArrayLike] | Tensor | None = None,
        generator: torch.Generator | int | Tensor | None = None,
        autocast: torch.dtype | None = None,
        share: Share | None = None,
        has_cf: Tensor | None = None,
        nonfinite: Nonfinite | None = None,
    ) -> LetterLosses:
        """LETTER's loss of one batch.

        s [B, S] item embeddings; h [B, H] collaborative embeddings (None: no cf term);
        groups: per level the group of each codeword, [K_l] int64, or those of all levels, [ΣK]
            (None: no diversity term);
        generator: draws the seed of the diversity term's partners; an integer, or an int64 tensor
        [], is that seed itself, and gives the same ones on every device;
        autocast: dtype for encoder and decoder; the quantizer and all losses stay in float32.
        share: s holds only these rows of the batch. recon and cf are then their part of the batch's
            mean, to be added up; the other terms, and output, are the whole batch's. None: all.
        has_cf [B] bool: which rows of h hold something. The others have no cf term and are no
            row's negatives, and cf is the mean of the rest. None: all do.
        nonfinite: rows with NaN or Inf, as `ResidualQuantizer.forward` takes it.
        Raises:
            ValueError: widths or numbers of rows don't fit, or rows hold NaN or Inf.
        """
        config, s = self.config, self._embeddings(s)
        share = share or Share.whole(len(s))
        with torch.autocast(s.device.type, autocast, enabled=autocast is not None):
            z = output_of(self.encoder, s).float()
        output = self.quantizer(share.join(z), nonfinite=nonfinite)
        quantized = share.cut(output.quantized)
        with torch.autocast(s.device.type, autocast, enabled=autocast is not None):
            reconstruction = output_of(self.decoder, quantized).float()

        rows = len(output.codes)
        distance = F.mse_loss if config.reconstruction == "mse" else F.l1_loss
        error = distance(reconstruction, s, reduction="sum")
        cf = diversity = None
        if h is not None:
            cf = self._cf(quantized, h, rows, share.own, has_cf)
        if groups is not None:
            diversity = self._diversity(output.codes, groups, generator)
        cf = error.new_zeros(()) if cf is None else cf
        diversity = error.new_zeros(1) if diversity is None else diversity
        weights = [config.quantization_weight, config.diversity_weight, config.cf_weight]
        total, recon, diversity = ops.weighted_total(
            error,
            *(term.to(error.dtype) for term in (output.loss, cf, diversity)),
            rows * s.shape[1],
            weights,
            config.reduction == "mean",
        )
        return LetterLosses(total, recon, output.loss, cf, diversity, output)

    def _cf(self, q: Tensor, h: ArrayLike, rows: int, own: slice, has_cf: Tensor | None) -> Tensor:
        """The cf term of a batch of `rows`, or the part of its rows `own`, which q [b, D] are."""
        h = validation.floats(h, self.config.cf_dim or self.config.latent_dim, "h")
        q, h = self._compared(q, h.to(self.quantizer.codebooks.dtype))
        if len(q) == rows and has_cf is None:
            return contrastive_loss(q, h)
        return _contrastive_part(q, h, own, has_cf)

    def _diversity(
        self,
        codes: Tensor,
        groups: Sequence[ArrayLike] | Tensor,
        generator: torch.Generator | int | Tensor | None,
    ) -> Tensor:
        """The diversity term of each level, of a whole batch. codes [B, L] -> [L]"""
        quantizer = self.quantizer
        return diversity_of_found(
            codes, quantizer.codebooks, quantizer.codebook_sizes, self._groups(groups), generator
        )

    def _compared(self, q: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        """Both sides of the cf term, such that their inner products are its logits.

        q [b, D], h [B, H] -> [b, D], [B, D]
        """
        cosine = self.config.cf_similarity == "cosine"
        return compared(q, self.cf_projection(h), self.config.cf_temperature, cosine)

    def _embeddings(self, s: ArrayLike) -> Tensor:
        """s [..., S] of the dtype that the encoder computes in; ValueError for another width."""
        return validation.floats(s, self.config.input_dim, "s").to(self.quantizer.codebooks.dtype)

    def _groups(self, groups: Sequence[ArrayLike] | Tensor) -> Tensor:
        """The groups of all levels, [ΣK]."""
        if isinstance(groups, Tensor) and groups.dim() == 1:
            return groups  # already so; `diversity_of_found` looks at how many
        if not isinstance(groups, Iterable):
            raise ValueError(f"groups must be one vector a level, got {type(groups).__name__}")
        levels = [validation.integers(level, f"groups[{i}]") for i, level in enumerate(groups)]
        if [list(level.shape) for level in levels] != [[k] for k in self.quantizer.codebook_sizes]:
            raise ValueError(
                f"groups must have the shapes {[[k] for k in self.quantizer.codebook_sizes]}, got "
                f"{[list(level.shape) for level in levels]}"
            )
        return torch.cat(levels)

    @torch.no_grad()
    def encode_latents(self, s: ArrayLike) -> Tensor:
        """Latents in evaluation mode; of a row the same bits whatever the batch.

        s [B, S] floating point -> z [B, D] float32
        Raises:
            ValueError: another width.
        """
        rows = self._embeddings(s)
        if rows.dim() != 2:
            raise ValueError(f"s must be [B, {self.config.input_dim}], got {list(rows.shape)}")
        return encode_rows(self.encoder, rows).float()

    @torch.no_grad()
    def encode(self, s: ArrayLike) -> Tensor:
        """Codes of item embeddings. s [B, S] -> [B, L] int64"""
        return self.quantizer.encode(self.encode_latents(s))

    @torch.no_grad()
    def reconstruct(self, codes: ArrayLike) -> Tensor:
        """Item embeddings that codes stand for. codes [B, L] -> [B, S]"""
        reconstruction: Tensor = evaluated(self.decoder)(self.quantizer.decode(codes))
        return reconstruction

    def fingerprint(self) -> str:
        """SHA-256 of configuration and weights: which model made an ID."""
        return fingerprint(self.config.to_dict(), self.state_dict())

    def _save_pretrained(self, save_directory: Path) -> None:
        config = self.config
        write_model(
            save_directory, config.model_type, config.to_dict(), self.state_dict(), self.trained_on,
            self.training_facts,
        )  # fmt: skip

    @classmethod
    def from_pretrained(  # type: ignore[override]
        cls, name: str | os.PathLike[str], *, map_location: str = "cpu", **hub: Any
    ) -> Letter:
        """Reads a folder, or a model of the Hugging Face hub, in evaluation mode.

        hub: options of `huggingface_hub.hf_hub_download` (revision, token, cache_dir, …).
        Raises:
            ValueError: a file is missing, broken, or of another model.
        """
        return read_model(
            lambda values: cls(LetterConfig.from_dict(values)),
            LetterConfig.model_type,
            name,
            map_location,
            hub,
        )


def _contrastive_part(q: Tensor, h: Tensor, own: slice, has_cf: Tensor | None) -> Tensor:
    """Rows `own` of `contrastive_loss` of a whole batch, over its B; of rows that have CF only.

    Choosing rows waits for the device, once a step. q [b, D], h [B, D], has_cf [B] -> []
    """
    mine, before, after = h[own], h[: own.start], h[own.stop :]
    if has_cf is not None:
        q, mine = q[has_cf[own]], mine[has_cf[own]]
        before, after = before[has_cf[: own.start]], after[has_cf[own.stop :]]
    if len(q) == 0:
        return q.sum() + 0.0 * h.sum()  # so that every process has the same graph
    own_first = torch.cat([mine, before, after])
    with_gradient = torch.is_grad_enabled() and q.requires_grad
    loss: Tensor = ops.contrastive(q.contiguous(), own_first, with_gradient)[0]
    return loss * (len(q) / len(own_first))
