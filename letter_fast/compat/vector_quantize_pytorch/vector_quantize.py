"""One level: the package's VectorQuantize, as ResidualVQ has it in `layers`."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from letter_fast import validation

from .codebook import Codebook
from .gradient import noisy_direction, of_all_rows, rotated, straight_through, unit_rows
from .neural import NeuralCodebook
from .rows import as_computed, blank_codes, check_chosen, check_indices, kept_rows, put_back


class Step(NamedTuple):
    """The outputs of one level for rows [N, D].

    z [N, D], what was compared with words [K, D]; code [N]; word [N, D], its gradient the
    codebook's; passed [N, D], the same value (but for noise) with its gradient the row's too;
    penalty [], of the codebook itself.
    """

    z: Tensor
    words: Tensor
    code: Tensor
    word: Tensor
    passed: Tensor
    penalty: Tensor | float


class VectorQuantize(nn.Module):
    """Rows to their nearest codewords, or to codewords drawn by distance."""

    def __init__(
        self,
        dim: int,
        codebook_size: int,
        *,
        decay: float = 0.8,
        eps: float = 1e-5,
        freeze_codebook: bool = False,
        kmeans_init: bool = False,
        kmeans_iters: int = 10,
        use_cosine_sim: bool = False,
        threshold_ema_dead_code: float = 0,
        commitment_weight: float = 1.0,
        orthogonal_reg_weight: float = 0.0,
        orthogonal_reg_active_codes_only: bool = False,
        orthogonal_reg_max_codes: int | None = None,
        stochastic_sample_codes: bool = False,
        sample_codebook_temp: float = 1.0,
        rotation_trick: bool | None = None,
        directional_reparam: bool = False,
        directional_reparam_variance: float = 5e-3,
        route_gradients_to_input: bool = True,
        ema_update: bool | None = None,
        learnable_codebook: bool | None = None,
    ) -> None:
        super().__init__()
        averaged = not directional_reparam if ema_update is None else ema_update
        learned = directional_reparam if learnable_codebook is None else learnable_codebook
        rotation = not directional_reparam and dim > 1 if rotation_trick is None else rotation_trick
        if learned and (averaged or use_cosine_sim):
            raise ValueError("learnable_codebook needs ema_update=False and no use_cosine_sim")
        for name, value, most in (
            ("decay", decay, 1.0),
            ("eps", eps, math.inf),
            ("threshold_ema_dead_code", threshold_ema_dead_code, math.inf),
            ("commitment_weight", commitment_weight, math.inf),
            ("orthogonal_reg_weight", orthogonal_reg_weight, math.inf),
            ("directional_reparam_variance", directional_reparam_variance, math.inf),
        ):
            if not isinstance(value, int | float) or not 0 <= value <= most:
                raise ValueError(f"{name} must be a number from 0 to {most}, got {value!r}")
        if directional_reparam and rotation:
            raise ValueError("directional_reparam and rotation_trick exclude each other")
        if directional_reparam and threshold_ema_dead_code == 0:
            raise ValueError("directional_reparam needs threshold_ema_dead_code above 0")
        self.dim, self.codebook_size = dim, codebook_size
        self.freeze_codebook, self.use_cosine_sim = freeze_codebook, use_cosine_sim
        self.commitment_weight, self.learnable_codebook = commitment_weight, learned
        self.orthogonal_reg_weight = orthogonal_reg_weight
        self.orthogonal_reg_active_codes_only = orthogonal_reg_active_codes_only
        self.orthogonal_reg_max_codes = orthogonal_reg_max_codes
        self.stochastic_sample_codes = stochastic_sample_codes
        self.sample_codebook_temp, self.rotation_trick = sample_codebook_temp, rotation
        self.directional_reparam = directional_reparam
        self.directional_reparam_variance = directional_reparam_variance
        self.route_gradients_to_input = route_gradients_to_input
        self._codebook = Codebook(
            dim,
            codebook_size,
            decay=decay,
            eps=eps,
            kmeans_init=kmeans_init,
            kmeans_iters=validation.whole(kmeans_iters, "kmeans_iters"),
            use_cosine_sim=use_cosine_sim,
            threshold_ema_dead_code=threshold_ema_dead_code,
            ema_update=averaged,
            has_gradient=learned or orthogonal_reg_weight > 0,
        )

    @property
    def codebook(self) -> Tensor:
        """[K, D]"""
        return self._codebook.embed[0]

    @codebook.setter
    def codebook(self, words: Tensor) -> None:
        with torch.no_grad():
            self._codebook.embed.copy_(words[None])

    @property
    def ema_update(self) -> bool:
        """Whether codewords follow averages of their rows."""
        return self._codebook.ema_update

    @property
    def commitment(self) -> float:
        """The weight of a level's commitment term."""
        return 0.0 if self.directional_reparam else self.commitment_weight

    def forward(
        self,
        x: Tensor,
        mask: Tensor | None = None,
        sample_codebook_temp: float | None = None,
        freeze_codebook: bool | None = None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """x [..., D] -> quantized [..., D]; indices [...] int64; loss []

        mask bool [...]: rows that are padding (False) take part in nothing, are quantized to 0 and
        have index −1.
        Raises:
            ValueError: shapes or dtypes don't fit, or a row holds NaN or Inf.
        """
        rows = as_computed(kept_rows(x, mask, self.dim))
        step = self.quantize(
            rows, temperature=sample_codebook_temp, frozen=freeze_codebook, mask=mask
        )
        loss = self.loss(step, rows if mask is not None else step.z, freeze_codebook)
        quantized = put_back(step.passed.to(x.dtype), mask, x.new_zeros(x.shape))
        return quantized, put_back(step.code, mask, blank_codes(x.shape[:-1], x)), loss

    def quantize(
        self,
        rows: Tensor,
        *,
        ahead: tuple[Tensor, Tensor] | None = None,
        neural: NeuralCodebook | None = None,
        condition: Tensor | None = None,
        temperature: float | None = None,
        frozen: bool | None = None,
        settle: bool = True,
        mask: Tensor | None = None,
    ) -> Step:
        """One level's step, codebook included while training.

        rows [N, D]; ahead: words [K, D] and codes [N] that are known already; neural: makes each
        row's codewords of words and condition [N, D]; settle: whether codewords move at once;
        mask: that chose the rows
        """
        book = self._codebook
        z = book.transform(rows)
        book.start(z.detach())
        if ahead is None:
            words = book.words()
            code = self._choose(z.detach(), words, neural, condition, temperature, mask)
        else:
            words, code = ahead
        word = F.embedding(code, words)
        if neural is not None and condition is not None:
            word = neural(word, condition)
        word = word.to(rows.dtype)
        if self.training and book.learns and not self.frozen(frozen):
            book.track(z.detach(), code)
            if settle:
                book.settle(z.detach())
        passed = self._passed(z, word, mask)
        return Step(z, words, code, word, passed, self._penalty(code))

    def loss(self, step: Step, compared: Tensor, frozen: bool | None = None) -> Tensor:
        """Commitment and penalty while training. compared [N, D], rows or their directions"""
        if not self.training:
            return compared.new_zeros(())
        moves = self.learnable_codebook and not self.frozen(frozen)
        word = step.word if moves else step.word.detach()
        error = (word - compared).square().sum() / max(compared.numel(), 1)
        return self.commitment * error + step.penalty

    def samples(self, temperature: float | None) -> bool:
        """Whether codes are drawn rather than nearest."""
        if temperature is None:
            temperature = self.sample_codebook_temp
        return self.training and self.stochastic_sample_codes and temperature > 0

    def get_codes_from_indices(self, indices: Tensor) -> Tensor:
        """The codewords, 0 where the index is −1. [...] -> [..., D]

        Raises:
            ValueError: indices aren't integers, or one is outside the codebook.
        """
        check_indices(indices[..., None], [self.codebook_size])
        return self.named(indices)

    def get_output_from_indices(self, indices: Tensor) -> Tensor:
        """The vectors of indices. [...] -> [..., D]"""
        return self.get_codes_from_indices(indices)

    def named(self, indices: Tensor) -> Tensor:
        """The codewords, 0 where the index is −1; indices are trusted. [...] -> [..., D]"""
        return F.embedding(indices.long().clamp(min=0), self.codebook) * (indices >= 0)[..., None]

    def frozen(self, given: bool | None) -> bool:
        """Whether codewords stay, as said for one call or for all."""
        return self.freeze_codebook if given is None else given

    @torch.no_grad()
    def _choose(
        self,
        z: Tensor,
        words: Tensor,
        neural: NeuralCodebook | None,
        condition: Tensor | None,
        temperature: float | None,
        mask: Tensor | None,
    ) -> Tensor:
        """argmax_k similarity / temperature + Gumbel noise if drawn, else the nearest. -> [N]"""
        if neural is None and not self.samples(temperature):
            code = self._codebook.nearest(z, words)
            check_chosen(code, words)
            return code
        check_chosen(z.isfinite().all(dim=1).long() - 1, words)
        if neural is not None and condition is not None:
            similarity = -neural.distances(z.float(), words, condition)
        else:
            similarity = self._codebook.similarity(z, words)
        if self.samples(temperature):
            noise = of_all_rows(_gumbel, similarity, mask)
            scale = self.sample_codebook_temp if temperature is None else temperature
            similarity = similarity / scale + noise
        return similarity.argmax(dim=1)

    def _passed(self, z: Tensor, word: Tensor, mask: Tensor | None) -> Tensor:
        """The codeword, and a way for its gradient to z."""
        if not (self.training and z.requires_grad and self.route_gradients_to_input):
            return word
        if self.rotation_trick:
            return rotated(z, word)
        if self.directional_reparam:
            return noisy_direction(z, word, self.directional_reparam_variance, mask)
        return straight_through(z, word)

    def _penalty(self, code: Tensor) -> Tensor | float:
        """Weighted mean square of the cosines between codewords (arXiv 2112.00384, equation 2)."""
        if not self.training or self.orthogonal_reg_weight <= 0:
            return 0.0
        words = self.codebook.clone()
        if self.orthogonal_reg_active_codes_only:
            words = words[code.unique()]
        most = self.orthogonal_reg_max_codes
        if most is not None and len(words) > most:
            words = words[torch.randperm(len(words), device=words.device)[:most]]
        if len(words) == 0:
            return 0.0
        directions = unit_rows(words)
        squares = (directions @ directions.T).square().sum()
        return self.orthogonal_reg_weight * (squares / len(words) ** 2 - 1 / len(words))


def _gumbel(like: Tensor) -> Tensor:
    uniform = torch.zeros_like(like).uniform_()
    return -(-uniform.clamp(min=1e-20).log()).clamp(min=1e-20).log()
