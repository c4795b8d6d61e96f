"""Checkpoints of GRID (Snap), and outputs laid out as its ResidualQuantization has them.

Tables of IDs, `merged_predictions_tensor.pt`, are read and written by
`letter_fast.tokenization.import_ids` and `export_ids` (format "grid").
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from letter_fast import ops, validation
from letter_fast.model.residual_kmeans import unit_rows
from letter_fast.quantizer import ResidualQuantizer
from letter_fast.torch_file import StandIn

from .checkpoints import check_weights, load_checkpoint, tensors

_CENTROIDS = re.compile(r"quantization_layer_list\.(\d+)\.centroids")


class GridOutput(NamedTuple):
    """cluster_ids [B, L] int64; all_residuals [B, D, L], what each level left over;
    quantized_embeddings [B, D]; quantization_loss [], 0."""

    cluster_ids: Tensor
    all_residuals: Tensor
    quantized_embeddings: Tensor
    quantization_loss: Tensor


class ResidualQuantization(nn.Module):
    """Quantizes embeddings (of GRID's RQ-VAE: encoded ones) as theirs does in prediction.

    Args:
        codebooks: L × [K_l, D].
        normalize_residuals: whether what each level is given is scaled to length 1 first.
    """

    def __init__(self, codebooks: Sequence[Tensor], normalize_residuals: bool = True) -> None:
        super().__init__()
        books = [validation.codebook(book, "codebooks") for book in codebooks]
        if len({book.shape[1] for book in books}) != 1:
            raise ValueError(f"codebooks have widths {[book.shape[1] for book in books]}")
        self.normalize_residuals = normalize_residuals
        self.codebooks = nn.ParameterList(nn.Parameter(book) for book in books)

    @classmethod
    def from_checkpoint(
        cls, path: str | os.PathLike[str], normalize_residuals: bool | None = None
    ) -> ResidualQuantization:
        """The codebooks of a checkpoint of GRID's trainer, of rkmeans, rvq or rqvae.

        An rqvae's embeddings go through its `normalization_layer` and `encoder` first, in GRID.

        normalize_residuals: None takes what the checkpoint says.
        Raises:
            ValueError: it is damaged, has no codebooks, or some that were never started; or doesn't
                say normalize_residuals.
        """
        content = load_checkpoint(path)
        state = tensors(content, "state_dict", path)
        found = {
            int(match[1]): value
            for name, value in state.items()
            if (match := _CENTROIDS.fullmatch(name))
        }
        if sorted(found) != list(range(len(found))) or not found:
            raise ValueError(f"{path} has no quantization_layer_list.0.centroids and so on")
        check_weights({f"centroids of level {level}": found[level] for level in found}, path)
        started = content.get("layers_initialized")
        if isinstance(started, list) and not all(started):
            raise ValueError(f"{path} is of a run that ended before all codebooks had started")
        options = content.get("hyper_parameters")
        options = options.entries if isinstance(options, StandIn) else options
        said = options.get("normalize_residuals") if isinstance(options, dict) else None
        if said is not None and type(said) is not bool:
            raise ValueError(f"{path} has a normalize_residuals that is neither true nor false")
        if None not in (said, normalize_residuals) and said != normalize_residuals:
            raise ValueError(
                f"normalize_residuals is given as {normalize_residuals}, but {path} says {said}"
            )
        if said is None and normalize_residuals is None:
            raise ValueError(f"{path} doesn't say normalize_residuals: say it, True or False")
        try:
            books = [found[level] for level in sorted(found)]
            return cls(
                books, bool(said if normalize_residuals is None else normalize_residuals)
            ).eval()
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from None

    @torch.no_grad()
    def forward(self, embeddings: Tensor) -> GridOutput:
        """embeddings [B, D]

        Raises:
            ValueError: wrong width, or rows with NaN or Inf.
        """
        rows = validation.rows(embeddings, self.codebooks[0].shape[1], "embeddings").float()
        total, codes, left = torch.zeros_like(rows), [], []
        for book in self.codebooks:
            if self.normalize_residuals:
                rows = unit_rows(rows)
            code, _ = ops.nearest(rows, book, None)
            validation.finite_codes(code, "embeddings")
            rows, total = rows - book[code], total + book[code]
            codes.append(code)
            left.append(rows)
        return GridOutput(
            torch.stack(codes, dim=-1), torch.stack(left, dim=-1), total, rows.new_zeros(())
        )

    def to_quantizer(self) -> ResidualQuantizer:
        """A `ResidualQuantizer` with a copy of the codebooks.

        Raises:
            NotImplementedError: with normalize_residuals: the sum of such codewords approximates
                nothing, so there is no quantizer of them.
        """
        if self.normalize_residuals:
            raise NotImplementedError("a ResidualQuantizer has no normalize_residuals")
        books = list(self.codebooks)
        quantizer = ResidualQuantizer(books[0].shape[1], [len(book) for book in books])
        with torch.no_grad():
            quantizer.codebooks.copy_(torch.cat(books))
        quantizer.initialized.fill_(True)
        return quantizer.eval()
