"""RQ-VAE-Recommender's and GRID's checkpoints: what their formulas give, written out here."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Literal

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from letter_fast.compat import grid, rqvae_recommender
from letter_fast.compat.rqvae_recommender import RqVae
from tests.support import oracle

S, HIDDEN, D, K, L = 12, 10, 6, 8, 3


def rqvae_state(sim_vq: bool) -> dict[str, Tensor]:
    shapes = {"encoder.mlp.0": (HIDDEN, S), "encoder.mlp.2": (D, HIDDEN),
              "decoder.mlp.0": (HIDDEN, D), "decoder.mlp.2": (S, HIDDEN)}  # fmt: skip
    state = {f"{name}.weight": torch.randn(shape) * 0.4 for name, shape in shapes.items()}
    for level in range(L):
        state[f"layers.{level}.embedding.weight"] = torch.randn(K, D) * 0.5**level
        if sim_vq:
            state[f"layers.{level}.out_proj.0.weight"] = torch.eye(D) + 0.1 * torch.randn(D, D)
    return state


@pytest.mark.parametrize("sim_vq", [False, True])
@pytest.mark.parametrize("normalize", [False, True])
@pytest.mark.parametrize("activation", ["relu", "silu"])
def test_rqvae_recommender(
    tmp_path: Path, sim_vq: bool, normalize: bool, activation: Literal["relu", "silu"]
) -> None:
    state = rqvae_state(sim_vq)
    torch.save({"iter": 7, "model": state, "optimizer": {"state": {}}}, tmp_path / "it.pt")
    model = RqVae.from_checkpoint(tmp_path / "it.pt", normalize, activation)
    between = F.relu if activation == "relu" else F.silu
    x = oracle.clustered(50, S, 9, seed=1)

    z = between(x @ state["encoder.mlp.0.weight"].T) @ state["encoder.mlp.2.weight"].T
    residual = F.normalize(z, dim=1) if normalize else z
    torch.testing.assert_close(model.encode(x), residual, rtol=1e-5, atol=1e-6)
    embeddings, residuals, ids, loss = model.get_semantic_ids(x)
    errors = torch.zeros(50)
    assert embeddings.shape == residuals.shape == (50, D, L)
    for level in range(L):
        book = state[f"layers.{level}.embedding.weight"]
        if sim_vq:
            book = book @ state[f"layers.{level}.out_proj.0.weight"].T
        if normalize and level == 0:
            book = F.normalize(book, dim=1)
        torch.testing.assert_close(residuals[..., level], residual, rtol=1e-5, atol=1e-6)
        code = torch.cdist(residual.double(), book.double()).argmin(1)
        assert torch.equal(ids[:, level], code)
        torch.testing.assert_close(embeddings[..., level], book[code], rtol=1e-5, atol=1e-6)
        residual = residual - book[code]
        errors += residual.square().sum(1)
    torch.testing.assert_close(loss, 1.25 * errors, rtol=1e-5, atol=1e-6)
    q = embeddings.sum(-1)
    torch.testing.assert_close(q, model.quantizer.decode(ids).detach())
    raw = between(q @ state["decoder.mlp.0.weight"].T) @ state["decoder.mlp.2.weight"].T
    raw = F.normalize(raw, dim=1) if activation == "silu" else raw  # as theirs was then
    torch.testing.assert_close(model.decode(q), raw, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("normalize", [False, True])
def test_grid(tmp_path: Path, normalize: bool) -> None:
    books = [torch.randn(K, D) for _ in range(L)]
    state = {f"quantization_layer_list.{level}.centroids": book for level, book in enumerate(books)}
    # Seeding state of the initializer, which is not the codebook.
    state["quantization_layer_list.0.initializer.clustering_module.centroids"] = torch.zeros(K, D)
    content = {"state_dict": state, "hyper_parameters": {"normalize_residuals": normalize}}
    torch.save(content, tmp_path / "it.ckpt")
    model = grid.ResidualQuantization.from_checkpoint(tmp_path / "it.ckpt")
    assert model.normalize_residuals == normalize
    x = oracle.clustered(50, D, 9, seed=1)
    ids, left, total, loss = model(x)
    residual, expected = x, torch.zeros_like(x)
    for level, book in enumerate(books):
        residual = F.normalize(residual, dim=-1) if normalize else residual
        code = torch.cdist(residual.double(), book.double()).argmin(1)
        residual, expected = residual - book[code], expected + book[code]
        assert torch.equal(ids[:, level], code)
        torch.testing.assert_close(left[..., level], residual, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(total, expected)
    assert float(loss) == 0.0
    if normalize:
        with pytest.raises(NotImplementedError, match="no normalize_residuals"):
            model.to_quantizer()
        with pytest.raises(ValueError, match=r"given as False, but .*it\.ckpt says True"):
            grid.ResidualQuantization.from_checkpoint(tmp_path / "it.ckpt", False)
    else:
        assert torch.equal(model.to_quantizer().encode(x), ids)


def test_clear_errors(tmp_path: Path) -> None:
    path = tmp_path / "it.pt"
    torch.save({"model": {"encoder.weight": torch.ones(2)}}, path)
    with pytest.raises(ValueError, match="not a state dict of an RqVae"):
        rqvae_recommender.RqVae.from_checkpoint(path, False, "relu")
    torch.save({"state_dict": {"quantization_layer_list.1.centroids": torch.ones(2, 2)}}, path)
    with pytest.raises(ValueError, match=r"no quantization_layer_list.0.centroids"):
        grid.ResidualQuantization.from_checkpoint(path)
    state = {"quantization_layer_list.0.centroids": torch.ones(2, 3)}
    for content, message in (
        ({}, "doesn't say normalize_residuals"),
        ({"hyper_parameters": {"normalize_residuals": 1}}, "neither true nor false"),
        ({"layers_initialized": [True, False]}, "before all codebooks had started"),
    ):
        torch.save({"state_dict": state, **content}, path)
        with pytest.raises(ValueError, match=message):
            grid.ResidualQuantization.from_checkpoint(path)
    state["quantization_layer_list.0.centroids"][1, 2] = torch.nan
    torch.save({"state_dict": state}, path)
    with pytest.raises(ValueError, match="centroids of level 0 holds NaN or Inf"):
        grid.ResidualQuantization.from_checkpoint(path, True)
    # Lightning keeps objects among the hyperparameters: what isn't needed is not in the way.
    options = {"loss": functools.partial(F.mse_loss), "normalize_residuals": False}
    state = {"quantization_layer_list.0.centroids": torch.ones(2, 3)}
    torch.save({"state_dict": state, "hyper_parameters": options}, path)
    assert not grid.ResidualQuantization.from_checkpoint(path).normalize_residuals
    with pytest.raises(ValueError, match=r"codebooks have widths \[3, 4\]"):
        grid.ResidualQuantization([torch.ones(2, 3), torch.ones(2, 4)])
    model = grid.ResidualQuantization([torch.ones(2, 3)])
    with pytest.raises(ValueError, match="last dimension of 3"):
        model(torch.ones(4, 2))
    with pytest.raises(ValueError, match="1 of 2 rows of embeddings"):
        model(torch.tensor([[0.0, 1, 2], [torch.nan, 1, 2]]))
