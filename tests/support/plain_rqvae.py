"""The RQ-VAE of LETTER and LC-Rec written from its formulas, for the tests to judge by.

Distances are [B, K] matrices in float64, Sinkhorn sweeps probabilities, partners of the diversity
term are handed in, gradients are autograd's.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.support import oracle


def codes_of(x: Tensor, words: Tensor, epsilon: float, sweeps: int) -> Tensor:
    """Nearest codewords of the float32 values, or Sinkhorn's. x [B, D], words [K, D] -> [B]"""
    x, words = x.detach().float(), words.detach().float()
    if epsilon > 0:
        return oracle.public_sinkhorn(x, words, epsilon, sweeps).argmax(1)
    return torch.cdist(x.double(), words.double()).argmin(1)


def diversity(words: Tensor, code: Tensor, partner: Tensor) -> Tensor:
    """−log softmax over the other codewords at the partner, [B, D] by [K, D]."""
    logits = words[code] @ words.T
    own = F.one_hot(code, len(words)).bool()
    return F.cross_entropy(logits.masked_fill(own, -1e12), partner)


class PlainQuantizer(nn.Module):
    """partners[l]: the partner of each codeword [K_l], or None."""

    def __init__(
        self, books: list[Tensor], mu: float, beta: float, epsilons: list[float], sweeps: int
    ) -> None:
        super().__init__()
        self.books = nn.ParameterList(nn.Parameter(book.clone()) for book in books)
        self.mu, self.beta, self.epsilons, self.sweeps = mu, beta, epsilons, sweeps

    def forward(
        self, x: Tensor, partners: list[Tensor] | None, use_sk: bool
    ) -> tuple[Tensor, Tensor, Tensor]:
        residual, total, losses, codes = x, torch.zeros_like(x), [], []
        for level, words in enumerate(self.books):
            epsilon = self.epsilons[level] if use_sk else 0.0
            code = codes_of(residual, words, epsilon, self.sweeps)
            word = words[code]
            loss = F.mse_loss(word, residual.detach())
            loss = loss + self.mu * F.mse_loss(word.detach(), residual)
            if partners is not None:
                loss = loss + self.beta * diversity(words, code, partners[level][code])
            passed = residual + (word - residual).detach()
            residual, total = residual - passed, total + passed
            losses.append(loss)
            codes.append(code)
        return total, torch.stack(losses).mean(), torch.stack(codes, dim=-1)


class PlainModel(nn.Module):
    """Encoder, quantizer and decoder; the first and last are handed in."""

    def __init__(self, encoder: nn.Module, quantizer: PlainQuantizer, decoder: nn.Module) -> None:
        super().__init__()
        self.encoder, self.quantizer, self.decoder = encoder, quantizer, decoder

    def forward(
        self, s: Tensor, partners: list[Tensor] | None, use_sk: bool
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        q, loss, codes = self.quantizer(self.encoder(s), partners, use_sk)
        return self.decoder(q), loss, codes, q


def plain_mlp(widths: list[int], bn: bool, dropout: float = 0.0) -> nn.Sequential:
    """Linear layers with ReLU between them, dropout before and batch norm after each if asked."""
    modules: list[nn.Module] = []
    for index in range(len(widths) - 1):
        modules += [nn.Dropout(dropout), nn.Linear(widths[index], widths[index + 1])]
        modules += [nn.BatchNorm1d(widths[index + 1])] if bn else []
        modules += [nn.ReLU()] if index < len(widths) - 2 else []
    return nn.Sequential(*modules)


def copy_parameters(source: nn.Module, target: nn.Module) -> None:
    """Parameters and buffers in order, whatever they are called."""
    with torch.no_grad():
        for mine, theirs in zip(target.parameters(), source.parameters(), strict=True):
            mine.copy_(theirs)
        for mine, theirs in zip(target.buffers(), source.buffers(), strict=True):
            mine.copy_(theirs)
