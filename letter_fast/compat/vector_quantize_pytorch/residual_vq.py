"""The walk over levels: what one leaves over is the next one's input.

Each level's residual subtracts the codeword without its gradient (or with `quant_grad_frac` of it),
so that every level commits the encoder, and the straight-through gradient of the output is the sum
over levels: L times that of LETTER's.
"""

from __future__ import annotations

import inspect
import random
from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from letter_fast import ops, validation
from letter_fast.losses import residual_losses
from letter_fast.options import check_keys
from letter_fast.quantizer import ResidualQuantizer

from .gradient import noisy_direction
from .neural import NeuralCodebook
from .options import check_unsupported, refuse
from .rows import as_computed, blank_codes, check_chosen, check_indices, kept_rows, put_back
from .summed_beam import summed_beam
from .vector_quantize import Step, VectorQuantize

_OF_EACH_LEVEL = list(inspect.signature(VectorQuantize).parameters)[2:]
_DIVEQ_VARIANCE = 5e-3


class ResidualVQ(nn.Module):
    """Residual quantization with moving-average codebooks, or learned ones.

    options: of each level, as `VectorQuantize` takes them.
    """

    def __init__(
        self,
        *,
        dim: int,
        num_quantizers: int | None = None,
        codebook_size: int | Sequence[int],
        codebook_dim: int | None = None,
        shared_codebook: bool = False,
        diveq: bool = False,
        quantize_dropout: bool = False,
        quantize_dropout_cutoff_index: int = 0,
        quantize_dropout_multiple_of: int = 1,
        implicit_neural_codebook: bool = False,
        mlp_kwargs: Mapping[str, Any] | None = None,
        beam_size: int | None = None,
        eval_beam_size: int | None = None,
        beam_score_quantizer_weights: Sequence[float] | None = None,
        quant_grad_frac: float = 0.0,
        return_zeros_for_masked_padding: bool = True,
        **options: Any,
    ) -> None:
        super().__init__()
        of_each_level = {name: options.pop(name) for name in _OF_EACH_LEVEL if name in options}
        known = [*inspect.signature(ResidualVQ).parameters, *_OF_EACH_LEVEL]
        check_unsupported(options, known)
        if diveq:
            of_each_level |= {"route_gradients_to_input": False, "commitment_weight": 0.0}
        if diveq or implicit_neural_codebook:
            of_each_level |= {"ema_update": False, "learnable_codebook": True}
        sizes = _sizes(codebook_size, num_quantizers)
        if shared_codebook and len(set(sizes)) > 1:
            raise ValueError(f"a shared codebook has one size, got {sizes}")
        if eval_beam_size is not None and beam_size is None:
            raise ValueError("eval_beam_size needs beam_size")
        for name, size in (("beam_size", beam_size), ("eval_beam_size", eval_beam_size)):
            if size is not None:
                validation.whole(size, name)
        cutoff = validation.whole(quantize_dropout_cutoff_index, "quantize_dropout_cutoff_index", 0)
        if quantize_dropout and cutoff >= len(sizes):
            raise ValueError(
                f"quantize_dropout_cutoff_index must be below {len(sizes)}, the number of levels, "
                f"got {cutoff}"
            )
        validation.whole(quantize_dropout_multiple_of, "quantize_dropout_multiple_of")
        weights = list(beam_score_quantizer_weights or [1.0] * len(sizes))
        if len(weights) != len(sizes):
            raise ValueError(f"beam_score_quantizer_weights needs {len(sizes)} values")

        dim = validation.whole(dim, "dim")
        width = dim if codebook_dim is None else validation.whole(codebook_dim, "codebook_dim")
        self.dim, self.codebook_dim, self.has_projections = dim, width, width != dim
        self.num_quantizers, self.codebook_sizes = len(sizes), sizes
        self.uniform_codebook_size, self.shared_codebook = len(set(sizes)) == 1, shared_codebook
        self.quantize_dropout = quantize_dropout and len(sizes) > 1
        self.quantize_dropout_cutoff_index = quantize_dropout_cutoff_index
        self.quantize_dropout_multiple_of = quantize_dropout_multiple_of
        self.beam_size, self.eval_beam_size = beam_size, eval_beam_size or beam_size
        self.beam_weights = weights
        self.diveq, self.quant_grad_frac = diveq, 1.0 if diveq else quant_grad_frac
        self.implicit_neural_codebook = implicit_neural_codebook
        self.return_zeros_for_masked_padding = return_zeros_for_masked_padding

        projected = self.has_projections
        self.project_in: nn.Module = nn.Linear(dim, width) if projected else nn.Identity()
        self.project_out: nn.Module = nn.Linear(width, dim) if projected else nn.Identity()
        self.layers = nn.ModuleList(VectorQuantize(width, size, **of_each_level) for size in sizes)
        self.mlps: nn.ModuleList | None = None
        if implicit_neural_codebook:
            check_keys(mlp_kwargs or {}, ["dim_hidden", "depth"], "mlp_kwargs")
            self.mlps = nn.ModuleList(
                NeuralCodebook(width, **(mlp_kwargs or {})) for _ in sizes[1:]
            )
        if shared_codebook:
            for level in self.levels[1:]:
                level._codebook = self.levels[0]._codebook

    @property
    def levels(self) -> list[VectorQuantize]:
        """`layers`, as what they are."""
        return [layer for layer in self.layers if isinstance(layer, VectorQuantize)]

    @property
    def codebook_size(self) -> int:
        """K of the first level."""
        return self.codebook_sizes[0]

    @property
    def codebooks(self) -> Tensor | tuple[Tensor, ...]:
        """[L, K, D], or L × [K_l, D] if the sizes differ."""
        words = tuple(level.codebook for level in self.levels)
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

        mask bool [...]: rows that are padding (False) take part in nothing; their indices are −1,
        they are quantized to 0, or to themselves with return_zeros_for_masked_padding=False.
        Raises:
            NotImplementedError: indices are given, or beams where codes are drawn or depend on
                earlier ones.
            ValueError: shapes or dtypes don't fit, or a row holds NaN or Inf.
        """
        refuse({"indices": indices})
        rows = as_computed(self.project_in(kept_rows(x, mask, self.dim)))
        if beam_size is not None:
            validation.whole(beam_size, "beam_size")
        beam = beam_size or (self.beam_size if self.training else self.eval_beam_size) or 1
        levels = self.levels[: self._depth(rand_quantize_dropout_fixed_seed)]
        table, codes = self._ahead(rows.detach(), levels, beam, sample_codebook_temp)

        residual, quantized, inputs = rows, torch.zeros_like(rows), []
        steps: list[Step] = []
        for number, level in enumerate(levels):
            known = None
            if table is not None and codes is not None:
                known = (table[number], codes[:, number])
            step = level.quantize(
                residual,
                ahead=known,
                neural=self._neural(number),
                condition=quantized,
                temperature=sample_codebook_temp,
                frozen=freeze_codebook,
                settle=not self.shared_codebook,
                mask=mask,
            )
            steps.append(step)
            # With a mask the package compares lengths too, even where directions chose the code.
            inputs.append(residual if mask is not None and beam == 1 else step.z)
            quantized = quantized + step.passed
            residual = residual - _partly(step.passed, self.quant_grad_frac)
        losses = self._losses(steps, inputs, beam, freeze_codebook)
        self._settle_shared(steps, freeze_codebook)
        if self.diveq:
            quantized = noisy_direction(rows, quantized, _DIVEQ_VARIANCE, mask)

        missing = self.num_quantizers - len(levels)
        found = F.pad(torch.stack([step.code for step in steps], dim=1), (0, missing), value=-1)
        padding = torch.zeros_like(x) if self.return_zeros_for_masked_padding else x
        output = put_back(self.project_out(quantized.to(x.dtype)), mask, padding)
        blank = blank_codes(torch.Size([*x.shape[:-1], self.num_quantizers]), x)
        found = put_back(found, mask, blank)
        result = (output, found, F.pad(losses, (0, missing)))
        return (*result, self.get_codes_from_indices(found)) if return_all_codes else result

    def get_codes_from_indices(self, indices: Tensor) -> Tensor:
        """The codeword of each level, 0 where the index is −1 or missing.

        indices [..., l ≤ L] -> [L, ..., codebook_dim]
        Raises:
            ValueError: fewer levels than L without quantize_dropout, or an index outside its
                codebook.
        """
        missing = self.num_quantizers - indices.shape[-1]
        if missing < 0 or (missing > 0 and not self.quantize_dropout):
            raise ValueError(
                f"indices must be [..., {self.num_quantizers}], got {list(indices.shape)}; fewer "
                "levels need quantize_dropout"
            )
        check_indices(indices, self.codebook_sizes)
        found: list[Tensor] = []
        for number, code in enumerate(F.pad(indices, (0, missing), value=-1).unbind(-1)):
            words, neural = self.levels[number].named(code), self._neural(number)
            if neural is not None:
                words = neural(words, sum(found)) * (code >= 0)[..., None]
            found.append(words)
        return torch.stack(found)

    def get_output_from_indices(self, indices: Tensor) -> Tensor:
        """The vectors of indices. [..., l] -> [..., dim]"""
        output: Tensor = self.project_out(self.get_codes_from_indices(indices).sum(0))
        return output

    def to_quantizer(self) -> ResidualQuantizer:
        """A `ResidualQuantizer` with a copy of the codebooks; it quantizes projected rows.

        Raises:
            NotImplementedError: with use_cosine_sim, which compares directions at each level, or
                implicit_neural_codebook, whose codewords differ by row.
        """
        for name, used in (
            ("use_cosine_sim", self.levels[0].use_cosine_sim),
            ("implicit_neural_codebook", self.implicit_neural_codebook),
        ):
            if used:
                raise NotImplementedError(f"a ResidualQuantizer has no {name}")
        table = torch.cat([level.codebook.detach() for level in self.levels])
        quantizer = ResidualQuantizer(
            self.codebook_dim,
            self.codebook_sizes,
            self.levels[0].commitment_weight,
            residual_grad="detach",
        ).to(table.device)
        with torch.no_grad():
            quantizer.codebooks.copy_(table)
        quantizer.initialized.fill_(self._started())
        return quantizer

    def _neural(self, number: int) -> NeuralCodebook | None:
        """The function that makes the codewords of level `number` of its codebook."""
        if self.mlps is None or number == 0:
            return None
        neural = self.mlps[number - 1]
        assert isinstance(neural, NeuralCodebook)
        return neural

    def _started(self) -> bool:
        books = [level._codebook for level in self.levels]
        if not books[0].kmeans_init:
            return True
        return bool(torch.stack([book.initted for book in books]).all())

    def _depth(self, seed: int | None) -> int:
        """The number of levels that take part."""
        if not (self.training and self.quantize_dropout):
            return self.num_quantizers
        if seed is None:
            # On their device, from whose generator the package draws too.
            seed = int(torch.randint(0, 10_000, (), device=self.levels[0].codebook.device))
        last = random.Random(seed).randrange(
            self.quantize_dropout_cutoff_index, self.num_quantizers
        )
        multiple = self.quantize_dropout_multiple_of
        return min(-(-(last + 1) // multiple) * multiple, self.num_quantizers)

    def _ahead(
        self, rows: Tensor, levels: Sequence[VectorQuantize], beam: int, temperature: float | None
    ) -> tuple[Sequence[Tensor] | None, Tensor | None]:
        """Words of all levels, and codes [N, levels], if one search finds them; else None, None.

        rows [N, D], projected
        """
        first = levels[0]
        in_turn = (
            self.implicit_neural_codebook
            or first.samples(temperature)
            or (self.training and first.directional_reparam)
        )
        if beam > 1:
            if in_turn:
                raise NotImplementedError(
                    "beam_size above 1 goes with none of stochastic_sample_codes, "
                    "directional_reparam and implicit_neural_codebook here"
                )
            self._start(rows)
        elif in_turn or first.use_cosine_sim or rows.dtype == torch.float64 or not self._started():
            return None, None
        table = torch.cat([level._codebook.words() for level in levels])
        words = table.split([level.codebook_size for level in levels])
        codes = self._search(rows.float(), table, words, beam)
        check_chosen(codes, table)
        return words, codes

    @torch.no_grad()
    def _search(self, rows: Tensor, table: Tensor, words: Sequence[Tensor], beam: int) -> Tensor:
        """rows [N, D] float32, table [ΣK, D], which words are parts of -> codes [N, levels]"""
        if beam > 1:
            transform = self.levels[0]._codebook.transform
            return summed_beam(rows, words, self.beam_weights, beam, transform)
        sizes = [len(book) for book in words]
        codes: Tensor = ops.residual_search(rows, table, sizes, None, False)[0]
        return codes

    @torch.no_grad()
    def _start(self, rows: Tensor) -> None:
        """k-means of what the levels before leave over, for codebooks that haven't begun."""
        if self._started():
            return
        for level in self.levels:
            book = level._codebook
            z = book.transform(rows)
            book.start(z)
            rows = rows - book.words()[book.nearest(z, book.words())]

    def _losses(
        self, steps: Sequence[Step], inputs: Sequence[Tensor], beam: int, frozen: bool | None
    ) -> Tensor:
        """inputs levels × [N, D], what is compared with each level's codeword -> [levels]"""
        levels, first = self.levels, self.levels[0]
        if not self.training and beam == 1:
            return inputs[0].new_zeros(len(inputs))
        if self.training and (
            self.implicit_neural_codebook or first.directional_reparam or self.quant_grad_frac > 0
        ):
            return torch.stack(
                [level.loss(step, z, frozen) for level, step, z in zip(levels, steps, inputs)]
            )
        # Without cosine similarity each level's input is what the one before left over.
        words, codes = [step.words for step in steps], [step.code for step in steps]
        walks = (
            [(z, book, code[:, None]) for z, book, code in zip(inputs, words, codes)]
            if first.use_cosine_sim
            else [(inputs[0], torch.cat(words), torch.stack(codes, dim=1))]
        )
        sizes = [len(book) for book in words]
        terms = [
            residual_losses(
                z,
                book,
                [len(book)] if first.use_cosine_sim else sizes,
                code,
                residual_grad="detach",
            )
            for z, book, code in walks
        ]
        losses = torch.cat([term.commitment for term in terms])
        moves = first.learnable_codebook and not first.frozen(frozen)
        if moves if self.training else first.codebook.requires_grad:
            codebook = torch.cat([term.codebook for term in terms])
            losses = losses + codebook - codebook.detach()  # one term that moves both sides
        weights = [level.commitment or (0.0 if self.training else 1.0) for level in levels]
        losses = losses * losses.new_tensor(weights[: len(losses)])
        if self.training and first.orthogonal_reg_weight > 0:
            losses = losses + torch.stack([torch.as_tensor(step.penalty) for step in steps])
        return losses

    def _settle_shared(self, steps: Sequence[Step], frozen: bool | None) -> None:
        """Moves a shared codebook, once all levels are counted."""
        level = self.levels[0]
        learns = level._codebook.learns and not level.frozen(frozen)
        if self.shared_codebook and self.training and learns:
            rows = torch.stack([step.z.detach() for step in steps], dim=1)
            level._codebook.settle(rows.flatten(0, 1))


def _sizes(codebook_size: Any, levels: int | None) -> tuple[int, ...]:
    """K of each level."""
    if levels is not None:
        levels = validation.whole(levels, "num_quantizers")
    if isinstance(codebook_size, Sequence) and not isinstance(codebook_size, str):
        sizes = tuple(validation.whole(size, "each of codebook_size") for size in codebook_size)
        if levels not in (None, len(sizes)) or not sizes:
            raise ValueError(f"codebook_size {sizes} doesn't fit num_quantizers {levels}")
        return sizes
    size = validation.whole(codebook_size, "codebook_size")
    if levels is None:
        raise ValueError("num_quantizers is needed if codebook_size is one number")
    return (size,) * levels


def _partly(x: Tensor, fraction: float) -> Tensor:
    """x, with that fraction of its gradient."""
    if fraction <= 0:
        return x.detach()
    return fraction * x + (1.0 - fraction) * x.detach()
