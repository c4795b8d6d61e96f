"""ResidualVQ of vector-quantize-pytorch (lucidrains), with the options that semantic IDs need.

    from letter_fast.compat.vector_quantize_pytorch import ResidualVQ

State dicts are theirs, in both directions; from one seed so are the weights. What differs on
purpose is in docs/migration.md; options that aren't here raise NotImplementedError by name.

Each level's residual subtracts the codeword without its gradient, so that every level commits the
encoder, and the straight-through gradient of the output is the sum over levels: L times that of
LETTER's.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from letter_fast import ops, validation
from letter_fast.losses import residual_losses
from letter_fast.options import check_keys
from letter_fast.quantizer import ResidualQuantizer

from .moving_codebook import Codebook, Layer, unit_rows
from .summed_beam import summed_beam

# Options that must keep their default.
_UNSUPPORTED = {
    "heads": 1,
    "separate_codebook_per_head": False,
    "accept_image_fmap": False,
    "accept_3d_fmap": False,
    "channel_last": True,
    "implicit_neural_codebook": False,
    "mlp_kwargs": {},
    "diveq": False,
    "quant_grad_frac": 0.0,
    "return_zeros_for_masked_padding": True,
    "layernorm_after_project_in": False,
    "commitment_use_cross_entropy_loss": False,
    "orthogonal_reg_weight": 0.0,
    "orthogonal_reg_active_codes_only": False,
    "orthogonal_reg_max_codes": None,
    "codebook_diversity_loss_weight": 0.0,
    "codebook_diversity_temperature": 100.0,
    "stochastic_sample_codes": False,
    "sample_codebook_temp": 1.0,
    "straight_through": False,
    "directional_reparam": False,
    "directional_reparam_variance": 5e-3,
    "vq_bridge": None,
    "manual_ema_update": False,
    "in_place_codebook_optimizer": None,
    "manual_in_place_optimizer_update": False,
    "affine_param": False,
    "affine_param_batch_decay": 0.99,
    "affine_param_codebook_decay": 0.9,
    "sync_affine_param": False,
    "sync_kmeans": True,
    "sync_codebook": None,
    "sync_update_v": 0.0,
    "route_gradients_to_input": True,
}


class ResidualVQ(nn.Module):
    """Residual quantization with moving-average codebooks, or learned ones."""

    def __init__(
        self,
        *,
        dim: int,
        num_quantizers: int | None = None,
        codebook_size: int | tuple[int, ...],
        codebook_dim: int | None = None,
        shared_codebook: bool = False,
        quantize_dropout: bool = False,
        quantize_dropout_cutoff_index: int = 0,
        quantize_dropout_multiple_of: int = 1,
        beam_size: int | None = None,
        eval_beam_size: int | None = None,
        beam_score_quantizer_weights: Sequence[float] | None = None,
        decay: float = 0.8,
        eps: float = 1e-5,
        freeze_codebook: bool = False,
        kmeans_init: bool = False,
        kmeans_iters: int = 10,
        use_cosine_sim: bool = False,
        threshold_ema_dead_code: float = 0,
        commitment_weight: float = 1.0,
        rotation_trick: bool | None = None,
        ema_update: bool | None = None,
        learnable_codebook: bool | None = None,
        **unsupported: Any,
    ) -> None:
        super().__init__()
        _check_unsupported(unsupported)
        if isinstance(codebook_size, int) and num_quantizers is None:
            raise ValueError("num_quantizers is needed if codebook_size is one number")
        sizes = (
            (codebook_size,) * int(num_quantizers or 0)
            if isinstance(codebook_size, int)
            else tuple(codebook_size)
        )
        if num_quantizers not in (None, len(sizes)) or not sizes:
            raise ValueError(f"codebook_size {sizes} doesn't fit num_quantizers {num_quantizers}")
        if shared_codebook and len(set(sizes)) > 1:
            raise ValueError(f"a shared codebook has one size, got {sizes}")
        if eval_beam_size is not None and beam_size is None:
            raise ValueError("eval_beam_size needs beam_size")
        weights = list(beam_score_quantizer_weights or [1.0] * len(sizes))
        if len(weights) != len(sizes):
            raise ValueError(f"beam_score_quantizer_weights needs {len(sizes)} values")
        self.learnable_codebook = bool(learnable_codebook)
        self.ema_update = ema_update is not False
        if self.learnable_codebook and (self.ema_update or use_cosine_sim):
            raise ValueError("learnable_codebook needs ema_update=False and no use_cosine_sim")

        width = codebook_dim or dim
        self.dim, self.codebook_dim, self.has_projections = dim, width, width != dim
        self.num_quantizers, self.codebook_sizes = len(sizes), sizes
        self.uniform_codebook_size, self.shared_codebook = len(set(sizes)) == 1, shared_codebook
        self.quantize_dropout = quantize_dropout and len(sizes) > 1
        self.quantize_dropout_cutoff_index = quantize_dropout_cutoff_index
        self.quantize_dropout_multiple_of = quantize_dropout_multiple_of
        self.beam_size, self.eval_beam_size = beam_size, eval_beam_size or beam_size
        self.beam_weights = weights
        self.freeze_codebook, self.use_cosine_sim = freeze_codebook, use_cosine_sim
        self.kmeans_init, self.commitment_weight = kmeans_init, commitment_weight
        self.threshold_ema_dead_code = threshold_ema_dead_code
        self.rotation_trick = width > 1 if rotation_trick is None else rotation_trick

        projected = self.has_projections
        self.project_in: nn.Module = nn.Linear(dim, width) if projected else nn.Identity()
        self.project_out: nn.Module = nn.Linear(width, dim) if projected else nn.Identity()
        codebooks = [
            Codebook(
                width,
                size,
                decay=decay,
                eps=eps,
                kmeans_init=kmeans_init,
                kmeans_iters=kmeans_iters,
                use_cosine_sim=use_cosine_sim,
                threshold_ema_dead_code=threshold_ema_dead_code,
                learnable=self.learnable_codebook,
            )
            for size in sizes
        ]
        if shared_codebook:
            codebooks = codebooks[:1] * len(sizes)
        self.layers = nn.ModuleList(map(Layer, codebooks))

    @property
    def codebook_size(self) -> int:
        """K of the first level."""
        return self.codebook_sizes[0]

    @property
    def codebooks(self) -> Tensor | tuple[Tensor, ...]:
        """[L, K, D], or L × [K_l, D] if the sizes differ."""
        words = tuple(book.embed[0] for book in self._books)
        return torch.stack(words) if self.uniform_codebook_size else words

    def forward(
        self,
        x: Tensor,
        mask: Tensor | None = None,
        indices: Tensor | None = None,
        return_all_codes: bool = False,
        sample_codebook_temp: float | None = None,
        freeze_codebook: bool | None = None,
        beam_size: int | None = None,
        rand_quantize_dropout_fixed_seed: int | None = None,
    ) -> tuple[Tensor, ...]:
        """x [..., dim] -> quantized [..., dim]; indices [..., L] int64, −1 at dropped levels;
        losses [L], 0 in evaluation without beams; with return_all_codes also
        [L, ..., codebook_dim].

        Raises:
            NotImplementedError: mask, indices or sample_codebook_temp are given.
            ValueError: wrong width, fewer rows than k-means needs, or rows with NaN or Inf.
        """
        _refuse({"mask": mask, "indices": indices, "sample_codebook_temp": sample_codebook_temp})
        if not x.is_floating_point() or x.shape[-1:] != (self.dim,):
            raise ValueError(
                f"x must be floating point with a last dimension of {self.dim}, got {x.dtype} "
                f"{list(x.shape)}"
            )
        rows = self.project_in(x).reshape(-1, self.codebook_dim).float()
        self._start(rows.detach())
        beam = beam_size or (self.beam_size if self.training else self.eval_beam_size) or 1
        depth = self._depth(rand_quantize_dropout_fixed_seed)
        # A copy: averages move the codewords before the backward pass comes by.
        table = torch.cat([book.embed[0] for book in self._books[:depth]])
        words = table.split(list(self.codebook_sizes[:depth]))
        codes = self._choose(rows.detach(), words, beam)
        validation.finite_codes(codes)

        residual, quantized, inputs = rows, torch.zeros_like(rows), []
        for code, book in zip(codes.T, words):
            inputs.append(self._books[0].transform(residual))
            word = F.embedding(code, book)
            quantized = quantized + self._passed(inputs[-1], word)
            residual = residual - word.detach()
        losses = self._losses(inputs, words, codes, beam)
        frozen = self.freeze_codebook if freeze_codebook is None else freeze_codebook
        if self.training and not frozen:
            self._update([z.detach() for z in inputs], codes)

        missing = self.num_quantizers - depth
        found = F.pad(codes, (0, missing), value=-1).view(*x.shape[:-1], self.num_quantizers)
        output = self.project_out(quantized.to(x.dtype)).view(x.shape)
        result = (output, found, F.pad(losses, (0, missing)))
        return (*result, self.get_codes_from_indices(found)) if return_all_codes else result

    def get_codes_from_indices(self, indices: Tensor) -> Tensor:
        """The codeword of each level, 0 where the index is −1 or missing.

        indices [..., l ≤ L] -> [L, ..., codebook_dim]
        Raises:
            ValueError: fewer levels than L without quantize_dropout.
        """
        missing = self.num_quantizers - indices.shape[-1]
        if missing < 0 or (missing > 0 and not self.quantize_dropout):
            raise ValueError(
                f"indices must be [..., {self.num_quantizers}], got {list(indices.shape)}; fewer "
                "levels need quantize_dropout"
            )
        levels = F.pad(indices, (0, missing), value=-1).unbind(-1)
        return torch.stack(
            [
                F.embedding(code.clamp(min=0), book.embed[0]) * (code >= 0)[..., None]
                for code, book in zip(levels, self._books)
            ]
        )

    def get_output_from_indices(self, indices: Tensor) -> Tensor:
        """What indices stand for. [..., l] -> [..., dim]"""
        output: Tensor = self.project_out(self.get_codes_from_indices(indices).sum(0))
        return output

    def to_quantizer(self) -> ResidualQuantizer:
        """A `ResidualQuantizer` with a copy of the codebooks; it quantizes projected rows.

        Raises:
            NotImplementedError: with use_cosine_sim, which compares directions at each level.
        """
        if self.use_cosine_sim:
            raise NotImplementedError("a ResidualQuantizer has no use_cosine_sim")
        table = torch.cat([book.embed[0].detach() for book in self._books])
        quantizer = ResidualQuantizer(
            self.codebook_dim,
            self.codebook_sizes,
            self.commitment_weight,
            residual_grad="detach",
        ).to(table.device)
        with torch.no_grad():
            quantizer.codebooks.copy_(table)
        quantizer.initialized.fill_(all(bool(book.initted) for book in self._books))
        return quantizer

    @property
    def _books(self) -> list[Codebook]:
        return [layer._codebook for layer in self.layers if isinstance(layer, Layer)]

    @torch.no_grad()
    def _start(self, rows: Tensor) -> None:
        """k-means of what the levels before leave over, for codebooks that haven't begun."""
        books = self._books
        if not self.kmeans_init or bool(torch.stack([book.initted for book in books]).all()):
            return
        for book in books:
            z = book.transform(rows)
            if not bool(book.initted):
                book.start(z)
            code = self._choose(z, (book.embed[0],), 1)[:, 0]
            rows = rows - book.embed[0, code]

    def _depth(self, seed: int | None) -> int:
        """How many levels take part."""
        if not (self.training and self.quantize_dropout):
            return self.num_quantizers
        if seed is None:
            # On their device, from whose generator the package draws too.
            seed = int(torch.randint(0, 10_000, (), device=self._books[0].embed.device))
        last = random.Random(seed).randrange(
            self.quantize_dropout_cutoff_index, self.num_quantizers
        )
        multiple = self.quantize_dropout_multiple_of
        return min(-(-(last + 1) // multiple) * multiple, self.num_quantizers)

    @torch.no_grad()
    def _choose(self, rows: Tensor, books: Sequence[Tensor], beam: int) -> Tensor:
        """rows [N, D] float32, not yet transformed -> codes [N, levels]"""
        if beam > 1:
            return summed_beam(rows, books, self.beam_weights, beam, self._books[0].transform)
        if not self.use_cosine_sim:
            sizes = [len(book) for book in books]
            codes: Tensor = ops.residual_search(rows, torch.cat(list(books)), sizes, None, False)[0]
            return codes
        chosen = []
        for book in books:
            # ‖z − e‖² − ‖e‖² is least where ⟨z, e⟩ is largest.
            offset = -book.double().square().sum(1)
            chosen.append(ops.nearest(unit_rows(rows), book.contiguous(), offset)[0])
            rows = rows - book[chosen[-1]]
        return torch.stack(chosen, dim=1)

    def _losses(
        self, inputs: Sequence[Tensor], books: Sequence[Tensor], codes: Tensor, beam: int
    ) -> Tensor:
        """inputs levels × [N, D], what is compared with each level's codewords -> [levels]"""
        weight = self.commitment_weight
        if not self.training:
            if beam == 1:
                return inputs[0].new_zeros(len(inputs))
            weight = weight or 1.0
        # Without cosine similarity each level's input is what the one before left over.
        walks = (
            zip(inputs, books, codes.split(1, dim=1))
            if self.use_cosine_sim
            else [(inputs[0], torch.cat(list(books)), codes)]
        )
        sizes = [len(book) for book in books]
        terms = [
            residual_losses(z, book, [len(book)] if self.use_cosine_sim else sizes, code,
                            residual_grad="detach")
            for z, book, code in walks
        ]  # fmt: skip
        losses = torch.cat([term.commitment for term in terms])
        if self.training and self.learnable_codebook:  # one term that moves both sides
            codebook = torch.cat([term.codebook for term in terms])
            losses = losses + codebook - codebook.detach()
        return losses * weight

    def _passed(self, z: Tensor, word: Tensor) -> Tensor:
        """The codeword, and a way for its gradient to z."""
        if not self.training or not z.requires_grad:
            return word
        if self.rotation_trick:
            turned: Tensor = _Rotation.apply(z, word)  # type: ignore[no-untyped-call]
            return turned
        return word.detach() + (z - z.detach())

    @torch.no_grad()
    def _update(self, inputs: Sequence[Tensor], codes: Tensor) -> None:
        """Averages, codewords and dead codewords of one batch. inputs levels × [N, D]"""
        if not self.ema_update and self.threshold_ema_dead_code <= 0:
            return
        books = self._books
        for book, rows, code in zip(books, inputs, codes.T):
            book.track(rows, code)
            if not self.shared_codebook:
                self._settle(book, rows)
        if self.shared_codebook:
            self._settle(books[0], torch.stack(list(inputs), dim=1).flatten(0, 1))

    def _settle(self, book: Codebook, rows: Tensor) -> None:
        if self.ema_update:
            book.move_to_averages()
        book.replace_dead(rows)


class _Rotation(torch.autograd.Function):
    """The codeword; its gradient goes to z as if a constant matrix had turned and scaled z onto it.

    s (I − 2ww' + 2vu') with s = ‖e‖ / ‖z‖ and unit vectors u of z, v of the codeword e, w of u + v
    (Fifty et al. 2024, arXiv 2410.06424, section 4.2). z, word [N, D]
    """

    @staticmethod
    def forward(ctx: Any, z: Tensor, word: Tensor) -> Tensor:
        ctx.save_for_backward(z, word)
        return word.clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        z, word = ctx.saved_tensors
        length = z.norm(dim=1, keepdim=True).clamp(min=1e-6)
        goal = word.norm(dim=1, keepdim=True)
        u, v = z / length, word / goal.clamp(min=1e-6)
        w = unit_rows(u + v)
        along_w, along_v = ((grad * a).sum(1, keepdim=True) for a in (w, v))
        return (goal / length) * (grad - 2 * along_w * w + 2 * along_v * u), None


def _check_unsupported(options: dict[str, Any]) -> None:
    check_keys(options, list(_UNSUPPORTED), "ResidualVQ")
    changed = {name: value for name, value in options.items() if value != _UNSUPPORTED[name]}
    # Absent synchronisation is what one process has anyway.
    for name in ("sync_kmeans", "sync_codebook"):
        if changed.get(name) is False:
            del changed[name]
    _refuse(changed)
    distributed = torch.distributed
    several = (
        distributed.is_available()
        and distributed.is_initialized()
        and distributed.get_world_size() > 1
    )
    if several and options.get("sync_codebook") is not False:
        raise NotImplementedError(
            "codebooks are not synchronised between processes: sync_codebook=False leaves each its "
            "own"
        )


def _refuse(given: dict[str, Any]) -> None:
    for name, value in given.items():
        if value is not None:
            raise NotImplementedError(f"{name}={value!r} of ResidualVQ is not supported here")
