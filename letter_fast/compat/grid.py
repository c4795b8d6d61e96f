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

from .checkpoints import load_checkpoint, tensors

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
        self.normalize_residuals = normalize_residuals
        self.codebooks = nn.ParameterList(nn.Parameter(book) for book in books)

    @classmethod
    def from_checkpoint(
        cls, path: str | os.PathLike[str], normalize_residuals: bool | None = None
    ) -> ResidualQuantization:
        """The codebooks of a checkpoint of GRID's trainer.

        normalize_residuals: None takes what the checkpoint says, or else GRID's default, True.
        Raises:
            ValueError: it has no codebooks, or holds other objects than tensors and plain values.
                (Lightning stores modules among the hyperparameters; torch.save of `state_dict` and
                `hyper_parameters` without them makes a file that can be read.)
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
        if normalize_residuals is None:
            normalize_residuals = content.get("hyper_parameters", {}).get(
                "normalize_residuals", True
            )
        return cls([found[level] for level in sorted(found)], bool(normalize_residuals)).eval()

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
