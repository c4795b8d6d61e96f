"""ResidualQuantizer: L codebooks; level l quantizes the residual of levels 1 … l − 1."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any, Literal, NamedTuple, get_args, overload

import torch
from numpy.typing import ArrayLike
from torch import Tensor, nn

from letter_fast import ops, validation
from letter_fast.clustering.balanced import balanced_kmeans
from letter_fast.clustering.kmeans import kmeans
from letter_fast.clustering.rows import Rows, RowsInMemory, open_rows
from letter_fast.losses import REDUCTIONS, RESIDUAL_GRADS, Reduction, ResidualGrad
from letter_fast.losses.quantization import losses_of_found
from letter_fast.moving_average import follow_rows
from letter_fast.ops.checks import MOST_SWEEPS

FitMethod = Literal["balanced_kmeans", "kmeans"]
FIT_METHODS: tuple[FitMethod, ...] = get_args(FitMethod)
CodebookUpdate = Literal["gradient", "ema"]
Nonfinite = Literal["raise", "mark"]
# Rows of a streamed source that balanced k-means sees: it needs them all at once.
_BALANCED_ROWS = 1 << 17


class QuantizerOutput(NamedTuple):
    """The result of `ResidualQuantizer.forward`.

    quantized [..., D]   sum of the chosen codewords, straight-through to the input
    codes [..., L]       int64
    loss []              level_losses reduced over levels
    level_losses [L]     codebook + commitment_weight · commitment; without the codebook term, which
                         has nothing to move, if codebook_update="ema"
    codebook_losses [L], commitment_losses [L]   the unweighted terms
    """

    quantized: Tensor
    codes: Tensor
    loss: Tensor
    level_losses: Tensor
    codebook_losses: Tensor
    commitment_losses: Tensor


class EncodeResult(NamedTuple):
    """codes [..., L] int64; margin [..., L] float32, the squared-distance gap to the runner-up."""

    codes: Tensor
    margin: Tensor


class ResidualQuantizer(nn.Module):
    """Residual quantization with learned codebooks.

    Args:
        dim: width D of what is quantized.
        codebook_size: codewords of each level; an int means one level.
        commitment_weight: μ of the commitment term.
        residual_grad: which gradient flows through the residual, see `letter_fast.losses`.
        sinkhorn_epsilon: per level (or one for all), ε of the uniform mapping used while training;
            0 takes the nearest codeword.
        sinkhorn_sweeps: sweeps of Sinkhorn–Knopp.
        reduction: "mean" over elements and levels (LETTER's code) or "sum" (its paper).
        nonfinite: "raise" on rows with NaN or Inf, or "mark" them with codes −1 and quantized 0.
        codebook_update: "gradient", or "ema": every forward pass in training mode moves codewords
            towards the mean of their rows (`letter_fast.moving_average`); they take no gradient.
        ema_decay: γ of that moving average.

    Attributes:
        all_reduce: of "ema", where each of several processes has rows of its own: what makes of a
            tensor its sum over them in place, such as `torch.distributed.all_reduce`.

    Raises:
        ValueError: an argument is out of range.
    """

    initialized: Tensor
    ema_weights: Tensor | None

    def __init__(
        self,
        dim: int,
        codebook_size: int | Sequence[int],
        commitment_weight: float = 0.25,
        residual_grad: ResidualGrad = "straight_through",
        sinkhorn_epsilon: float | Sequence[float] = 0.0,
        sinkhorn_sweeps: int = 50,
        reduction: Reduction = "mean",
        nonfinite: Nonfinite = "raise",
        codebook_update: CodebookUpdate = "gradient",
        ema_decay: float = 0.99,
    ) -> None:
        super().__init__()
        self.dim = validation.integer(dim, "dim", 1, validation.MOST)
        self.codebook_sizes = sizes = validation.sizes(codebook_size)
        validation.fits_in_memory(sum(sizes) * self.dim, "the codebooks")
        self.commitment_weight = validation.number(commitment_weight, "commitment_weight")
        self.residual_grad = validation.choice(residual_grad, RESIDUAL_GRADS, "residual_grad")
        self.sinkhorn_epsilon = _epsilons(sinkhorn_epsilon, len(sizes))
        self.sinkhorn_sweeps = validation.integer(
            sinkhorn_sweeps, "sinkhorn_sweeps", 1, MOST_SWEEPS
        )
        self.reduction = validation.choice(reduction, REDUCTIONS, "reduction")
        self.nonfinite = validation.choice(nonfinite, get_args(Nonfinite), "nonfinite")

        update = validation.choice(codebook_update, get_args(CodebookUpdate), "codebook_update")
        averaged = update == "ema"
        self.ema_decay = validation.number(ema_decay, "ema_decay", below=1.0)
        self.all_reduce: Callable[[Tensor], object] | None = None

        self.codebooks = nn.Parameter(torch.empty(sum(sizes), self.dim), requires_grad=not averaged)
        self.register_buffer("initialized", torch.tensor(False))
        self.register_buffer("ema_weights", torch.zeros(sum(sizes)) if averaged else None)
        with torch.no_grad():
            for words in self.codebooks.split(sizes):
                words.uniform_(-1.0 / len(words), 1.0 / len(words))

    @property
    def levels(self) -> int:
        """L."""
        return len(self.codebook_sizes)

    def codebook(self, level: int) -> Tensor:
        """The codewords of one level, a view [K_l, D] of the parameter."""
        level = validation.integer(level, "level", -self.levels, self.levels - 1) % self.levels
        sizes = self._checked_sizes()
        return self.codebooks.narrow(0, sum(sizes[:level]), sizes[level])

    def _checked_sizes(self) -> list[int]:
        """`codebook_sizes`; ValueError if they have been changed since."""
        sizes = self.codebook_sizes
        if not sizes or min(sizes) < 1 or sum(sizes) != len(self.codebooks):
            raise ValueError(
                f"codebook_sizes were changed to {sizes}; the codebooks have "
                f"{len(self.codebooks)} codewords: make another quantizer instead"
            )
        return sizes

    def forward(
        self,
        z: ArrayLike,
        use_sinkhorn: bool | None = None,
        nonfinite: Nonfinite | None = None,
    ) -> QuantizerOutput:
        """Quantizes `z` and says what that costs.

        z [..., D] floating point; codes are chosen and losses computed in float32 (losses of a
        float64 z in float64), quantized has z's dtype.
        use_sinkhorn: None means while training.
        nonfinite: as the quantizer takes it; None means its own.
        Raises:
            ValueError: wrong width, or rows with NaN or Inf unless nonfinite="mark".
        """
        use_sinkhorn = self.training if use_sinkhorn is None else use_sinkhorn
        validation.flags(use_sinkhorn=use_sinkhorn)
        z = validation.floats(z, self.dim, "z")
        flat = z.reshape(-1, self.dim)
        codes = self._choose(flat, use_sinkhorn)
        self._check(codes, nonfinite)
        averaged = self.ema_weights is not None
        terms, level_losses, loss = losses_of_found(
            flat,
            # The backward pass walks with the codebooks of this pass, not with those it leaves.
            self.codebooks.clone() if averaged else self.codebooks,
            self.codebook_sizes,
            codes,
            self.residual_grad,
            self.reduction,
            self.commitment_weight,
            not averaged,
        )
        if averaged and self.training:
            self._follow(flat, codes, terms.errors)
        return QuantizerOutput(
            terms.quantized.view(z.shape),
            codes.view(*z.shape[:-1], self.levels),
            loss,
            level_losses,
            terms.codebook,
            terms.commitment,
        )

    @overload
    def encode(
        self, z: ArrayLike, beam: int = 1, return_margin: Literal[False] = False
    ) -> Tensor: ...

    @overload
    def encode(
        self, z: ArrayLike, beam: int = 1, *, return_margin: Literal[True]
    ) -> EncodeResult: ...

    @overload
    def encode(
        self, z: ArrayLike, beam: int = 1, return_margin: bool = False
    ) -> Tensor | EncodeResult: ...

    def encode(
        self, z: ArrayLike, beam: int = 1, return_margin: bool = False
    ) -> Tensor | EncodeResult:
        """Codes of each row: exact, and the same on every backend, device and batch split.

        z [..., D] -> codes [..., L] int64
        beam: paths kept per level, the least distant ones (equal codewords count once); more lower
            the reconstruction error and cost time.
        return_margin: also give the gap to the runner-up per level (beam 1 only).
        Raises:
            ValueError: as `forward`; codewords with NaN or Inf; beam below 1; margins of a beam.
        """
        validation.flags(return_margin=return_margin)
        z = validation.floats(z, self.dim, "z")
        flat = validation.folded(z)
        codes: Tensor
        beam = validation.integer(beam, "beam", 1, validation.MOST)
        if return_margin and beam > 1:
            raise ValueError("margins are defined for beam=1 only")
        shape = (*z.shape[:-1], self.levels)
        sizes, table = self._checked_sizes(), self.codebooks.detach().float()
        validation.finite_codewords(table, "the codebooks")
        if beam > 1:
            codes, _ = ops.residual_search_beam(flat, table, sizes, beam)
            self._check(codes)
            return codes.view(shape)
        codes, _, margin, _ = ops.residual_search(flat, table, sizes, None, False, return_margin)
        self._check(codes)
        return (
            EncodeResult(codes.view(shape), margin.view(shape))
            if return_margin
            else codes.view(shape)
        )

    def decode(self, codes: ArrayLike) -> Tensor:
        """The sum of the named codewords, in level order; 0 for a marked row.

        codes [..., l ≤ L] integer -> [..., D]; fewer codes than levels give the partial sum.
        Raises:
            ValueError: a code is out of range for its level, or codewords hold NaN or Inf.
        """
        sizes = self._checked_sizes()
        named = validation.codes_of(codes, sizes)
        validation.together(self.codebooks, {"codes": named}, "the codebooks")
        validation.finite_codewords(self.codebooks.detach(), "the codebooks")
        flat = named.reshape(-1, named.shape[-1])
        valid = flat[:, :1] >= 0
        total = self.codebooks.new_zeros(len(flat), self.dim)
        for code, words in zip(flat.unbind(1), self.codebooks.split(sizes)):
            total = total + torch.where(valid, words[code.clamp(min=0)], 0.0)
        return total.view(*named.shape[:-1], self.dim)

    @torch.no_grad()
    def fit(
        self,
        latents: Any,
        method: FitMethod = "balanced_kmeans",
        *,
        restarts: int = 1,
        iterations: int = 25,
        tolerance: float = 1e-4,
        seed: int = 0,
        on_iteration: Callable[[int, int, float], None] | None = None,
    ) -> ResidualQuantizer:
        """Starts every codebook by k-means of what the levels before it leave over.

        latents: [N, D], or a source larger than memory, as `functional.kmeans` takes it.
        method: "kmeans", or "balanced_kmeans" with N/2K … 2N/K rows in each cluster, which sees of
            a larger source 131,072 random rows.
        on_iteration: of "kmeans", called with the level, the iterations done and the inertia.
        Raises:
            ValueError: fewer rows than codewords, wrong width, or rows with NaN or Inf.
        """
        validation.choice(method, FIT_METHODS, "method")
        sizes, seed = self._checked_sizes(), validation.integer(seed, "seed")
        rows = open_rows(latents, "latents", self.codebooks.device)
        if rows.width != self.dim:
            raise ValueError(f"latents must have a width of {self.dim}, got {rows.width}")
        if rows.count < max(sizes):
            raise ValueError(
                f"{rows.count} rows can't start a codebook of {max(sizes)} "
                "codewords: use a smaller codebook_size or more rows"
            )
        if method == "balanced_kmeans":
            rows = in_memory(rows, seed)
        fit_levels(
            self, rows, method, restarts=restarts, iterations=iterations, tolerance=tolerance,
            seed=seed, on_iteration=on_iteration,
        )  # fmt: skip
        return self

    def extra_repr(self) -> str:
        return (
            f"dim={self.dim}, codebook_size={self.codebook_sizes}, "
            f"commitment_weight={self.commitment_weight}, residual_grad={self.residual_grad!r}"
        )

    def _choose(self, z: Tensor, use_sinkhorn: bool) -> Tensor:
        sizes = self._checked_sizes()
        epsilons = self.sinkhorn_epsilon if use_sinkhorn else [0.0] * len(sizes)
        return choose_codes(
            validation.folded(z), self.codebooks, sizes, epsilons, self.sinkhorn_sweeps
        )

    def _follow(self, z: Tensor, codes: Tensor, errors: Tensor) -> None:
        """Moves codewords towards the mean of their rows."""
        assert self.ema_weights is not None
        x = z.detach() if z.dtype == torch.float64 else z.detach().float()
        follow_rows(
            self.codebooks.detach(),
            self.ema_weights,
            self.codebook_sizes,
            x.contiguous(),
            codes.contiguous(),
            errors,
            self.ema_decay,
            self.all_reduce,
        )

    def _check(self, codes: Tensor, nonfinite: Nonfinite | None = None) -> None:
        if (nonfinite or self.nonfinite) == "mark":
            return
        try:
            validation.finite_codes(codes, "z", ', or pass nonfinite="mark"')
        except ValueError:
            validation.finite_codewords(self.codebooks.detach(), "the codebooks")
            raise


def fit_levels(
    quantizer: ResidualQuantizer,
    rows: Rows,
    method: FitMethod,
    *,
    restarts: int,
    iterations: int,
    tolerance: float,
    seed: int,
    first_level: int = 0,
    on_level: Callable[[int], None] | None = None,
    on_iteration: Callable[[int, int, float], None] | None = None,
) -> None:
    """Makes every codebook from `first_level` on by k-means of what the levels before it leave.

    The caller turns gradients off.
    rows: of the quantizer's width. Of a source that isn't in memory, balanced k-means sees random
        rows, drawn anew at each level.
    on_level: called with the number of levels done. Other options: as `ResidualQuantizer.fit`.
    """
    options: dict[str, Any] = dict(restarts=restarts, iterations=iterations, tolerance=tolerance)
    for level, size in enumerate(quantizer.codebook_sizes):
        codebook = quantizer.codebook(level)
        if level >= first_level:
            if method == "balanced_kmeans":
                sample = in_memory(rows, seed + level)
                found = balanced_kmeans(sample.x, size, seed=seed + level, **options).centroids
            else:
                tell = partial(on_iteration, level) if on_iteration else None
                found = kmeans(
                    rows, size, seed=seed + level, on_iteration=tell, **options
                ).centroids
            codebook.copy_(found)
            if on_level:
                on_level(level + 1)
        if level + 1 < quantizer.levels:
            rows = rows.less(codebook.float().contiguous())
    quantizer.initialized.fill_(True)
    if quantizer.ema_weights is not None:
        quantizer.ema_weights.zero_()


def in_memory(rows: Rows, seed: int) -> RowsInMemory:
    """Rows as balanced k-means needs them: those in memory, or random ones of a larger source."""
    if isinstance(rows, RowsInMemory):
        return rows
    return RowsInMemory(rows.sample(_BALANCED_ROWS, seed)[0], rows.name)


def _epsilons(value: Any, levels: int) -> list[float]:
    """ε of each level; one number is that of all."""
    if not isinstance(value, Iterable) or isinstance(value, str):
        return [validation.number(value, "sinkhorn_epsilon")] * levels
    found = [validation.number(one, "each of sinkhorn_epsilon") for one in value]
    if len(found) != levels:
        raise ValueError(f"sinkhorn_epsilon needs {levels} values of at least 0, got {found}")
    return found


@torch.no_grad()
def choose_codes(
    z: Tensor, codebooks: Tensor, sizes: Sequence[int], epsilons: Sequence[float], sweeps: int
) -> Tensor:
    """Codes of each row: one search for each run of levels without Sinkhorn.

    z [N, D] as `validation.rows` gives it, codebooks [ΣK, D], level l being the next sizes[l] rows;
    epsilons [L], 0 taking the nearest codeword -> codes [N, L] int64, −1 for a row that is, or
    becomes, NaN or Inf
    Raises:
        ValueError: sizes and epsilons are of different lengths.
    """
    if len(sizes) != len(epsilons):
        raise ValueError(f"{len(sizes)} levels need as many epsilons, got {len(epsilons)}")
    residual, table = z, codebooks.float()
    everything = torch.tensor([0, len(z)])
    chosen: list[Tensor] = []
    first = begin = 0
    while first < len(sizes):
        end = first + 1
        while not epsilons[first] and end < len(sizes) and not epsilons[end]:
            end += 1
        part = list(sizes[first:end])
        words = table[begin : begin + sum(part)]
        if epsilons[first]:
            code = ops.sinkhorn_codes(residual, words, everything, epsilons[first], sweeps)
            found = code[:, None]
        else:
            found = ops.residual_search(residual, words, part, with_quantized=False)[0]
        chosen.append(found)
        if end < len(sizes):
            residual = ops.residuals(residual, words, part, found)
        first, begin = end, begin + sum(part)
    if len(chosen) == 1:  # which has marked whole rows
        return chosen[0]
    codes: Tensor = ops.joined_codes(chosen)
    return codes
