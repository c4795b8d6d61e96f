"""ResidualVQ beside the package itself: outputs, gradients, state and training, option by option.

The package measures distances as ‖x‖² + ‖e‖² − 2x·e in float32, whose rounding settles near-ties.
Here it gets distances from float64, so that both decide alike; single steps also leave out rows
that are close to a tie.
"""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from letter_fast.compat.vector_quantize_pytorch import GroupedResidualVQ, ResidualVQ
from tests.support import oracle

theirs = pytest.importorskip(
    "vector_quantize_pytorch", reason="vector-quantize-pytorch is not installed"
)

WIDTH, LEVELS = 6, 3

OPTIONS: dict[str, dict[str, Any]] = {
    "default": {},
    "straight-through": dict(rotation_trick=False),
    "decay, eps, weight": dict(decay=0.95, eps=1e-3, commitment_weight=0.3),
    "no commitment": dict(commitment_weight=0.0),
    "per-level sizes": dict(codebook_size=(12, 7, 9), num_quantizers=None),
    "shared": dict(shared_codebook=True),
    "cosine": dict(use_cosine_sim=True),
    "cosine, straight-through": dict(use_cosine_sim=True, rotation_trick=False),
    "learned": dict(learnable_codebook=True, ema_update=False),
    "learned, straight-through": dict(
        learnable_codebook=True, ema_update=False, rotation_trick=False
    ),
    "learned, dead": dict(learnable_codebook=True, ema_update=False, threshold_ema_dead_code=3),
    "fixed": dict(ema_update=False),
    "dropout": dict(quantize_dropout=True, quantize_dropout_cutoff_index=1),
    "dropout in twos": dict(quantize_dropout=True, quantize_dropout_multiple_of=2),
    "dead codewords": dict(threshold_ema_dead_code=3),
    "dead, not averaged": dict(threshold_ema_dead_code=3, ema_update=False),
    "dead, cosine": dict(threshold_ema_dead_code=3, use_cosine_sim=True),
    "projected": dict(codebook_dim=4),
    "beam": dict(beam_size=3),
    "beam, weighted": dict(beam_size=4, beam_score_quantizer_weights=[1.0, 0.5, 2.0]),
    "beam in evaluation": dict(beam_size=1, eval_beam_size=4),
    "beam, cosine": dict(beam_size=3, use_cosine_sim=True),
    "beam, dropout": dict(beam_size=3, quantize_dropout=True),
    "beam, learned": dict(beam_size=3, learnable_codebook=True, ema_update=False),
    "orthogonal": dict(orthogonal_reg_weight=0.5),
    "orthogonal, cosine, dead": dict(
        orthogonal_reg_weight=1.0, use_cosine_sim=True, threshold_ema_dead_code=3
    ),
    "orthogonal, active": dict(
        orthogonal_reg_weight=0.5,
        orthogonal_reg_active_codes_only=True,
        orthogonal_reg_max_codes=5,
        threshold_ema_dead_code=3,
    ),
    "orthogonal, learned, shared": dict(
        orthogonal_reg_weight=0.5, learnable_codebook=True, ema_update=False, shared_codebook=True
    ),
    "drawn": dict(stochastic_sample_codes=True, sample_codebook_temp=0.1),
    "drawn, cosine": dict(
        stochastic_sample_codes=True, sample_codebook_temp=0.3, use_cosine_sim=True
    ),
    "drawn, shared": dict(stochastic_sample_codes=True, shared_codebook=True),
    "drawn, dead, orthogonal": dict(
        stochastic_sample_codes=True,
        threshold_ema_dead_code=3,
        orthogonal_reg_weight=0.5,
        orthogonal_reg_max_codes=5,
    ),
    "drawn at temperature 0": dict(stochastic_sample_codes=True, sample_codebook_temp=0.0),
    "neural": dict(implicit_neural_codebook=True),
    "neural, shared, drawn": dict(
        implicit_neural_codebook=True,
        shared_codebook=True,
        stochastic_sample_codes=True,
        mlp_kwargs=dict(dim_hidden=5, depth=2),
    ),
    "neural, per-level sizes": dict(
        implicit_neural_codebook=True, codebook_size=(12, 7, 9), num_quantizers=None
    ),
    "part of the gradient": dict(quant_grad_frac=0.3),
    "part of the gradient, straight-through": dict(quant_grad_frac=0.3, rotation_trick=False),
    "part of the gradient, cosine, shared": dict(
        quant_grad_frac=0.3, use_cosine_sim=True, shared_codebook=True
    ),
    "part of the gradient, learned": dict(
        quant_grad_frac=0.3, learnable_codebook=True, ema_update=False
    ),
    "diveq": dict(diveq=True),
    "diveq, projected, dropout": dict(diveq=True, codebook_dim=4, quantize_dropout=True),
    "directional": dict(directional_reparam=True, threshold_ema_dead_code=3),
    "directional, orthogonal": dict(
        directional_reparam=True,
        directional_reparam_variance=0.1,
        threshold_ema_dead_code=3,
        orthogonal_reg_weight=0.5,
        orthogonal_reg_max_codes=5,
    ),
    "directional, drawn, shared": dict(
        directional_reparam=True,
        threshold_ema_dead_code=1e-6,
        stochastic_sample_codes=True,
        shared_codebook=True,
    ),
    "not routed": dict(route_gradients_to_input=False),
    "padding as it is": dict(return_zeros_for_masked_padding=False),
}


@pytest.fixture(autouse=True)
def _precise_peer(monkeypatch: pytest.MonkeyPatch) -> None:
    module = theirs.vector_quantize_pytorch

    def precise(x: Tensor, y: Tensor, eps: float = 1e-8) -> Tensor:
        mode = "donot_use_mm_for_euclid_dist"
        return torch.cdist(x.double(), y.double(), compute_mode=mode).to(x.dtype)

    monkeypatch.setattr(module, "cdist", precise)


def twins(**options: Any) -> tuple[ResidualVQ, nn.Module]:
    """Ours and theirs from one seed; the codebooks are spread as data is."""
    options = {"dim": WIDTH, "num_quantizers": LEVELS, "codebook_size": 16, **options}
    torch.manual_seed(3)
    peer = theirs.ResidualVQ(**copy.deepcopy(options))
    torch.manual_seed(3)
    ours = ResidualVQ(**options)
    mine, other = ours.state_dict(), peer.state_dict()
    assert list(mine) == list(other)
    for name, value in other.items():
        assert torch.equal(mine[name], value), name
    for level, layer in enumerate(peer.layers):
        book = layer._codebook
        if options.get("shared_codebook") and level > 0:
            continue
        words = oracle.clustered(book.embed.shape[1], book.embed.shape[2], 5, seed=level)
        words = words * 0.6**level
        if options.get("use_cosine_sim"):
            words = nn.functional.normalize(words, dim=1)
        book.embed.data.copy_(words)
        book.embed_avg.data.copy_(words)
    ours.load_state_dict(peer.state_dict())
    return ours, peer


def clear_rows(count: int, ours: ResidualVQ) -> Tensor:
    """Rows that are not near a tie at any level. [count, WIDTH]"""
    x = oracle.clustered(2 * count, WIDTH, 9, seed=7)
    if ours.levels[0].use_cosine_sim or ours.implicit_neural_codebook:
        return x[:count]
    with torch.no_grad():
        margin = ours.to_quantizer().encode(ours.project_in(x), return_margin=True).margin
    clear = x[(margin > 1e-3).all(dim=1)]
    assert len(clear) >= count
    return clear[:count]


def call(module: nn.Module, x: Tensor, seed: int, **options: Any) -> tuple[Tensor, ...]:
    torch.manual_seed(seed)
    output: tuple[Tensor, ...] = module(x, **options)
    return output


@pytest.mark.parametrize("name", OPTIONS)
def test_a_step_of_training(name: str) -> None:
    ours, peer = twins(**OPTIONS[name])
    x = clear_rows(120, ours).view(2, 60, WIDTH)
    pull = torch.randn(x.shape)
    results = []
    for module in (ours, peer):
        leaf = x.clone().requires_grad_()
        quantized, indices, losses = call(module.train(), leaf, seed=11)
        loss = (quantized * pull).sum() + (losses * torch.tensor([1.0, 2.0, 3.0])).sum()
        leaves = [leaf, *module.parameters()]
        grads = torch.autograd.grad(loss, leaves, allow_unused=True)
        results.append((quantized, indices, losses, *grads))
    mine, other = results
    assert torch.equal(mine[1], other[1])
    for a, b in zip(mine, other, strict=True):
        if a is not None and b is not None:
            torch.testing.assert_close(
                a, b, rtol=1e-5, atol=2e-6 * max(1.0, float(b.detach().abs().max()))
            )
        else:
            assert not any(grad is not None and grad.any() for grad in (a, b))
    state = ours.state_dict()
    for key, value in peer.state_dict().items():
        # With beams the package updates the first level's averages only, see below.
        if ours.beam_size in (None, 1) or key.startswith("layers.0."):
            torch.testing.assert_close(state[key], value, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", [name for name in OPTIONS if "active" not in name])
@pytest.mark.parametrize("mode", [True, False], ids=["training", "evaluation"])
def test_padding(name: str, mode: bool) -> None:
    """Outputs, losses, gradients and averages with a mask, whose rows may hold anything."""
    ours, peer = twins(**OPTIONS[name])
    x = clear_rows(120, ours).view(2, 60, WIDTH)
    mask = torch.arange(60) < torch.tensor([[41], [17]])
    pull = torch.randn(x.shape)
    results = []
    for module in (ours, peer):
        leaf = x.clone().requires_grad_()
        found = call(module.train(mode), leaf, seed=11, mask=mask)
        loss = (found[0] * pull).sum() + (found[2] * torch.tensor([1.0, 2.0, 3.0])).sum()
        leaves = [leaf, *module.parameters()]
        grads = (
            [] if not loss.requires_grad else torch.autograd.grad(loss, leaves, allow_unused=True)
        )
        results.append((*found, *grads))
    for a, b in zip(*results, strict=True):
        if a is not None and b is not None:
            torch.testing.assert_close(
                a, b, rtol=1e-5, atol=2e-6 * max(1.0, float(b.detach().abs().max()))
            )
        else:
            assert not any(grad is not None and grad.any() for grad in (a, b))
    state = ours.state_dict()
    for key, value in peer.state_dict().items():
        if ours.beam_size in (None, 1):
            torch.testing.assert_close(state[key], value, rtol=1e-5, atol=5e-6)


@pytest.mark.parametrize("name", OPTIONS)
@pytest.mark.parametrize("shape", [(100, WIDTH), (2, 50, WIDTH)])
def test_evaluation(name: str, shape: tuple[int, ...]) -> None:
    ours, peer = twins(**OPTIONS[name])
    x = clear_rows(100, ours).view(shape)
    with torch.no_grad():
        mine = call(ours.eval(), x, seed=1, return_all_codes=True)  # diveq draws even here
        other = call(peer.eval(), x, seed=1, return_all_codes=True)
    assert mine[1].dtype == torch.int64
    assert torch.equal(mine[1], other[1])
    for a, b in zip(mine, other, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(
        ours.get_output_from_indices(mine[1]), peer.get_output_from_indices(mine[1])
    )
    for a, b in zip(ours.codebooks, peer.codebooks, strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize(
    "name", ["default", "straight-through", "learned", "dead codewords", "dropout", "projected",
             "shared", "cosine", "beam, learned", "orthogonal, cosine, dead", "drawn",
     "part of the gradient", "diveq", "neural"],
)  # fmt: skip
def test_fifty_steps_of_training(name: str) -> None:
    """An autoencoder around either, from one seed: the losses of every step."""
    ours, peer = twins(**OPTIONS[name])
    data = oracle.clustered(600, 10, 40, seed=1)
    runs = []
    for quantizer in (ours, peer):
        torch.manual_seed(5)
        model = nn.ModuleDict(
            dict(encoder=nn.Linear(10, WIDTH), quantizer=quantizer, decoder=nn.Linear(WIDTH, 10))
        ).train()
        optimizer = torch.optim.SGD(model.parameters(), 0.05)
        record = []
        for _ in range(50):
            # No row twice: two dead codewords that move to equal rows are a tie.
            batch = data[torch.randperm(600)[:64]]
            quantized, _, losses = model["quantizer"](model["encoder"](batch)[None])
            recon = nn.functional.mse_loss(model["decoder"](quantized[0]), batch)
            loss = recon + losses.sum()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            record.append([float(recon.detach()), *losses.detach().tolist()])
        runs.append(torch.tensor(record))
    torch.testing.assert_close(runs[0], runs[1], rtol=1e-4, atol=1e-6)
    assert runs[0][-1, 0] < runs[0][0, 0]


@pytest.mark.parametrize("name", ["default", "shared", "cosine", "learned", "projected"])
def test_state_dicts_go_both_ways(name: str) -> None:
    ours, peer = twins(**OPTIONS[name])
    x = clear_rows(100, ours)
    ours.train()(x)
    peer.load_state_dict(ours.state_dict())
    mine, other = ours.eval()(x), peer.eval()(x)
    assert torch.equal(mine[1], other[1])
    torch.testing.assert_close(mine[0], other[0], rtol=1e-5, atol=1e-6)


def test_beams_train_all_levels() -> None:
    """The package hands `update_indices` the first level only (1.32: all_residuals[..., 0, :] takes
    a level where it means a beam), so its other codebooks stay as they began."""
    ours, peer = twins(beam_size=3)
    before = copy.deepcopy(ours.state_dict())
    x = clear_rows(100, ours)
    _, codes, _ = ours.train()(x)
    peer.train()(x)
    residual = x
    for level in range(LEVELS):
        name = f"layers.{level}._codebook."
        hot = nn.functional.one_hot(codes[:, level], 16).float()
        size = 0.8 * before[name + "cluster_size"] + 0.2 * hot.sum(0)
        total = 0.8 * before[name + "embed_avg"] + 0.2 * (hot.T @ residual)
        smoothed = (size + 1e-5) / (size.sum() + 16 * 1e-5) * size.sum()
        torch.testing.assert_close(ours.codebooks[level][None], total / smoothed[..., None])
        residual = residual - before[name + "embed"][0, codes[:, level]]
    learned = [bool((peer.codebooks[level] != before[f"layers.{level}._codebook.embed"]).any())
               for level in range(LEVELS)]  # fmt: skip
    assert learned[0]
    assert learned[1:] == [False, False] or all(learned)  # should a later version do it


def test_gradient_reaches_codewords_if_the_input_needs_none() -> None:
    ours, peer = twins(learnable_codebook=True, ema_update=False)
    x = clear_rows(50, ours)[None]
    grads = []
    for module in (ours, peer):
        quantized, _, _ = module.train()(x)
        grads.append(torch.autograd.grad(quantized.square().sum(), list(module.parameters())))
    for a, b in zip(*grads, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)


@settings(max_examples=15, deadline=None)
@given(
    sizes=st.lists(st.integers(2, 12), min_size=1, max_size=4),
    width=st.integers(2, 9),
    rows=st.integers(1, 40),
    seed=st.integers(0, 1000),
)
def test_any_shape_evaluates_like_the_package(
    sizes: list[int], width: int, rows: int, seed: int
) -> None:
    options: dict[str, Any] = {"dim": width, "codebook_size": tuple(sizes)}
    torch.manual_seed(seed)
    peer = theirs.ResidualVQ(**options).eval()
    ours = ResidualVQ(**options).eval()
    ours.load_state_dict(peer.state_dict())
    x = torch.randn(rows, width)
    margin = ours.to_quantizer().encode(x, return_margin=True).margin
    clear = x[(margin > 1e-4).all(dim=1)]
    mine, other = ours(clear[None]), peer(clear[None])
    assert torch.equal(mine[1], other[1])
    torch.testing.assert_close(mine[0], other[0], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("cosine", [False, True])
@pytest.mark.parametrize("shared", [False, True])
def test_kmeans_start_is_no_worse(cosine: bool, shared: bool) -> None:
    """Starts differ in method (k-means‖ against random rows), so errors are compared."""
    options = dict(kmeans_init=True, use_cosine_sim=cosine, shared_codebook=shared, decay=1.0)
    x = oracle.clustered(800, WIDTH, 30, seed=2)
    options |= {"dim": WIDTH, "num_quantizers": LEVELS, "codebook_size": 16}
    ours = ResidualVQ(**options).eval()
    errors = []
    for seed in range(3):
        torch.manual_seed(seed)
        quantized = theirs.ResidualVQ(**options).eval()(x[None])[0]
        errors.append(float((x - quantized[0]).square().mean()))
    own = float((x - ours(x)[0]).square().mean())
    assert own < 1.05 * max(errors)
    assert all(bool(level._codebook.initted) for level in ours.levels)
    before = ours.codebooks
    ours(x + 1)
    assert torch.equal(before, ours.codebooks)
    ResidualVQ(**options).load_state_dict(ours.state_dict())


def test_dropped_levels_are_marked_and_decode_to_less() -> None:
    ours, peer = twins(quantize_dropout=True)
    x = clear_rows(40, ours)[None]
    depths = set()
    for seed in range(12):
        options = dict(rand_quantize_dropout_fixed_seed=seed, freeze_codebook=True)
        mine, other = ours.train()(x, **options), peer.train()(x, **options)
        assert torch.equal(mine[1], other[1])
        depths.add(int((mine[1][0, 0] >= 0).sum()))
        torch.testing.assert_close(ours.get_output_from_indices(mine[1]), mine[0].detach())
    assert depths == {1, 2, 3}
    coarse = ours.get_output_from_indices(mine[1][..., :2])
    torch.testing.assert_close(coarse, peer.get_output_from_indices(mine[1][..., :2]))
    whole, _ = twins()
    with pytest.raises(ValueError, match=r"indices must be \[..., 3\].*need quantize_dropout"):
        whole.get_output_from_indices(mine[1][..., :2])


def test_freezing() -> None:
    x = clear_rows(40, twins()[0])
    for frozen in (ResidualVQ(dim=WIDTH, num_quantizers=2, codebook_size=8, freeze_codebook=True),
                   ResidualVQ(dim=WIDTH, num_quantizers=2, codebook_size=8)):  # fmt: skip
        before = copy.deepcopy(frozen.state_dict())
        held = frozen.levels[0].freeze_codebook
        frozen.train()(x, **({} if held else {"freeze_codebook": True}))
        for key, value in frozen.state_dict().items():
            assert torch.equal(before[key], value)
        frozen(x, freeze_codebook=False)
        assert not torch.equal(before["layers.0._codebook.embed"], frozen.codebooks[0][None])


def test_half_precision_and_empty_input() -> None:
    ours, _ = twins()
    quantized, indices, _ = ours.eval()(clear_rows(20, ours).half())
    assert quantized.dtype == torch.float16
    assert indices.shape == (20, LEVELS)
    for mode in (True, False):
        quantized, indices, losses = ours.train(mode)(torch.zeros(0, WIDTH))
        assert quantized.shape == (0, WIDTH)
        assert indices.shape == (0, LEVELS)
        assert bool(losses.isfinite().all())
    assert bool(ours.codebooks.isfinite().all())


REFUSED: dict[str, Any] = dict(
    heads=2,
    codebook_diversity_loss_weight=0.1,
    affine_param=True,
    accept_image_fmap=True,
    vq_bridge=nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2)),
    in_place_codebook_optimizer=torch.optim.SGD,
    sync_codebook=True,
)


@pytest.mark.parametrize("name", REFUSED)
@pytest.mark.parametrize("kind", [ResidualVQ, GroupedResidualVQ])
def test_what_is_not_here_says_so_in_one_line(name: str, kind: Any) -> None:
    with pytest.raises(NotImplementedError, match=f"^{name}=.* is not supported here$") as caught:
        kind(dim=WIDTH, num_quantizers=2, codebook_size=8, **{name: REFUSED[name]})
    assert "\n" not in str(caught.value)


def test_every_option_of_the_package_is_known() -> None:
    """Each is an argument, or refused by name; none is "unknown"."""
    import inspect

    from letter_fast.compat.vector_quantize_pytorch.options import UNSUPPORTED
    from letter_fast.compat.vector_quantize_pytorch.vector_quantize import VectorQuantize

    known = set(UNSUPPORTED)
    for mine in (ResidualVQ, VectorQuantize):
        known |= set(inspect.signature(mine).parameters)
    for source in (theirs.ResidualVQ, theirs.VectorQuantize):
        named = {
            name
            for name, parameter in inspect.signature(source).parameters.items()
            if parameter.kind != parameter.VAR_KEYWORD
        }
        assert not named - known
    for name, default in UNSUPPORTED.items():
        for source in (theirs.ResidualVQ, theirs.VectorQuantize):
            parameter = inspect.signature(source).parameters.get(name)
            assert parameter is None or parameter.default == default, name


BAD_OPTIONS = [
    (dict(dim="6"), "dim must be a whole number of at least 1, got '6'"),
    (dict(dim=0), "dim must be a whole number"),
    (dict(codebook_size="256"), "codebook_size must be a whole number"),
    (dict(codebook_size=8.0), "codebook_size must be a whole number"),
    (dict(codebook_size=(8, "8")), "each of codebook_size must be a whole number"),
    (dict(num_quantizers=0), "num_quantizers must be a whole number"),
    (dict(codebook_dim=0), "codebook_dim must be a whole number"),
    (dict(beam_size=-1), "beam_size must be a whole number"),
    (dict(kmeans_iters=0), "kmeans_iters must be a whole number"),
    (dict(quantize_dropout=True, quantize_dropout_cutoff_index=2), "must be below 2"),
    (dict(quantize_dropout_multiple_of=0), "multiple_of must be a whole number"),
    (dict(decay=1.5), "decay must be a number from 0 to 1.0, got 1.5"),
    (dict(decay=float("nan")), "decay must be a number"),
    (dict(commitment_weight="1"), "commitment_weight must be a number"),
    (dict(threshold_ema_dead_code=-1), "threshold_ema_dead_code must be a number"),
    (dict(implicit_neural_codebook=True, mlp_kwargs=dict(dept=2)), "did you mean 'depth'"),
    (dict(directional_reparam=True), "needs threshold_ema_dead_code above 0"),
]


@pytest.mark.parametrize(("options", "message"), BAD_OPTIONS)
@pytest.mark.parametrize("kind", [ResidualVQ, GroupedResidualVQ])
def test_options_are_checked(options: dict[str, Any], message: str, kind: Any) -> None:
    with pytest.raises(ValueError, match=message):
        kind(**{**dict(dim=WIDTH, num_quantizers=2, codebook_size=8), **options})


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int16, torch.int32, torch.int64])
def test_indices_of_any_integer_type(dtype: torch.dtype) -> None:
    ours, _ = twins()
    indices = torch.tensor([[3, 15, 0], [1, 2, 3]])
    expected = ours.get_output_from_indices(indices)
    assert torch.equal(ours.get_output_from_indices(indices.to(dtype)), expected)
    words = ours.levels[0].get_codes_from_indices(torch.tensor(3, dtype=dtype))
    assert torch.equal(words, ours.codebooks[0][3])


@pytest.mark.parametrize(
    ("indices", "message"),
    [
        (
            torch.tensor([[0, 1, 2], [3, 16, 0]]),
            r"index 16 of row \d is outside the codebook, which has 0 to 15",
        ),
        (torch.tensor([[0, -2, 2]]), r"index -2 of row \d is outside"),
        (torch.zeros(2, 3), "indices must be integers, got torch.float32"),
        (torch.zeros(2, 3, dtype=torch.bool), "indices must be integers, got torch.bool"),
    ],
)
def test_indices_are_checked(indices: Tensor, message: str) -> None:
    ours, _ = twins()
    for ask in (ours.get_codes_from_indices, ours.get_output_from_indices,
                ours.levels[0].get_codes_from_indices):  # fmt: skip
        with pytest.raises(ValueError, match=message):
            ask(indices)


@pytest.mark.parametrize(
    "name", ["default", "cosine", "drawn", "neural", "beam", "part of the gradient", "orthogonal"]
)
@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_what_is_not_finite_is_refused(name: str, bad: float) -> None:
    ours, _ = twins(**OPTIONS[name])
    x = clear_rows(10, ours)
    for mode in (True, False):
        rows = x.clone()
        rows[4, 2] = bad
        with pytest.raises(ValueError, match=r"1 of 10 rows of x hold NaN or Inf.*row 4"):
            ours.train(mode)(rows)
    with torch.no_grad():
        ours.levels[1].codebook[3, 2] = bad
    with pytest.raises(ValueError, match="rows of the codebook hold NaN or Inf"):
        ours.eval()(x)


def test_clear_errors() -> None:
    basic: dict[str, Any] = dict(dim=WIDTH, num_quantizers=2, codebook_size=8)
    with pytest.raises(ValueError, match="did you mean 'affine_param'"):
        ResidualVQ(**basic, affine_params=True)
    for options, message in (
        (dict(num_quantizers=None), "num_quantizers is needed"),
        (dict(codebook_size=(8, 8, 8)), "doesn't fit num_quantizers 2"),
        (dict(codebook_size=(8, 9), shared_codebook=True), "one size"),
        (dict(eval_beam_size=2), "needs beam_size"),
        (dict(beam_size=2, beam_score_quantizer_weights=[1.0]), "needs 2 values"),
        (dict(learnable_codebook=True), "needs ema_update=False"),
    ):
        with pytest.raises(ValueError, match=message):
            ResidualVQ(**{**basic, **options})
    ours = ResidualVQ(**basic)
    for mask in (torch.ones(2, dtype=torch.bool), torch.ones(2, 3)):
        with pytest.raises(ValueError, match=r"mask must be a bool tensor \[2, 3\]"):
            ours(torch.zeros(2, 3, WIDTH), mask=mask)
    with pytest.raises(NotImplementedError, match=r"^indices=<Tensor> of ResidualVQ"):
        ours(torch.zeros(2, WIDTH), indices=torch.zeros(2, 2, dtype=torch.int64))
    with pytest.raises(NotImplementedError, match="beam_size above 1 goes with none"):
        ResidualVQ(**basic, beam_size=2, implicit_neural_codebook=True)(torch.zeros(2, WIDTH))
    with pytest.raises(ValueError, match=f"last dimension of {WIDTH}"):
        ours(torch.zeros(2, 3))
    with pytest.raises(ValueError, match="x must be a tensor, got ndarray"):
        ours(np.zeros((2, WIDTH)))
    with pytest.raises(ValueError, match=r"mask must be a bool tensor \[2\], .*got list"):
        ours(torch.zeros(2, WIDTH), mask=[True, False])
    with pytest.raises(ValueError, match="beam_size must be a whole number"):
        ours(torch.zeros(2, WIDTH), beam_size=0)
    with pytest.raises(ValueError, match="1 of 2 rows"):
        ours(torch.tensor([[0.0] * WIDTH, [torch.inf] * WIDTH]))
    with pytest.raises(NotImplementedError, match="no use_cosine_sim"):
        ResidualVQ(**basic, use_cosine_sim=True).to_quantizer()


@pytest.mark.parametrize("options", [{}, dict(use_cosine_sim=True), dict(shared_codebook=True)])
@pytest.mark.parametrize("mode", [True, False], ids=["training", "evaluation"])
@pytest.mark.parametrize("masked", [True, False])
def test_kmeans_start_on_fewer_rows_than_codewords(
    options: dict[str, Any], mode: bool, masked: bool
) -> None:
    options = dict(dim=WIDTH, num_quantizers=3, codebook_size=16, kmeans_init=True, **options)
    x = oracle.clustered(12, WIDTH, 9, seed=3)[None]
    mask = (torch.arange(12) < 7)[None] if masked else None
    ours, peer = ResidualVQ(**options), theirs.ResidualVQ(**options)
    with pytest.warns(UserWarning, match="for 16 codewords; rows are drawn more than once"):
        mine = call(ours.train(mode), x, seed=4, mask=mask)
    other = call(peer.train(mode), x, seed=4, mask=mask)
    for a, b in zip(mine, other, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)
    state = ours.state_dict()
    for key, value in peer.state_dict().items():
        torch.testing.assert_close(state[key], value, rtol=1e-5, atol=1e-6)


def test_kmeans_start_waits_for_rows() -> None:
    ours = ResidualVQ(dim=WIDTH, num_quantizers=2, codebook_size=8, kmeans_init=True)
    assert ours(torch.zeros(0, WIDTH))[1].shape == (0, 2)
    assert not any(bool(level._codebook.initted) for level in ours.levels)


@pytest.mark.parametrize(
    "name",
    ["default", "cosine", "shared", "learned", "projected", "dead codewords", "orthogonal",
     "drawn", "part of the gradient", "neural", "diveq", "dropout", "beam"],
)  # fmt: skip
@pytest.mark.parametrize("mode", [True, False], ids=["training", "evaluation"])
def test_double(name: str, mode: bool) -> None:
    ours, peer = twins(**OPTIONS[name])
    x = clear_rows(100, ours).double()[None]
    results = []
    for module in (ours.double(), peer.double()):
        leaf = x.clone().requires_grad_()
        found = call(module.train(mode), leaf, seed=11)
        loss = found[0].square().sum() + found[2].sum()
        grads = torch.autograd.grad(loss, leaf, allow_unused=True) if loss.requires_grad else [None]
        results.append((*found, *grads))
    for a, b in zip(*results, strict=True):
        if a is not None or b is not None:
            torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)
    assert results[0][0].dtype == torch.float64


@pytest.mark.parametrize("options", [{}, dict(kmeans_init=True), dict(shared_codebook=True)])
def test_double_as_the_default(options: dict[str, Any]) -> None:
    torch.set_default_dtype(torch.float64)
    try:
        ours = ResidualVQ(dim=WIDTH, num_quantizers=2, codebook_size=8, **options)
        peer = theirs.ResidualVQ(dim=WIDTH, num_quantizers=2, codebook_size=8, **options)
        peer.load_state_dict(ours.state_dict())
        x = torch.randn(1, 40, WIDTH)
        mine = ours.train()(x)
        assert mine[0].dtype == torch.float64
        peer.load_state_dict(ours.state_dict())
        mine, other = ours.eval()(x), peer.eval()(x)
        assert torch.equal(mine[1], other[1])
        torch.testing.assert_close(mine[0], other[0])
    finally:
        torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize("name", ["default", "cosine", "learned", "drawn", "neural", "orthogonal"])
def test_bfloat16(name: str) -> None:
    ours, _ = twins(**OPTIONS[name])
    ours.bfloat16().train()
    x = oracle.clustered(50, WIDTH, 9, seed=7).bfloat16().requires_grad_()
    quantized, indices, losses = call(ours, x, seed=2)
    (quantized.square().sum() + losses.sum()).backward()
    assert quantized.dtype == torch.bfloat16
    assert x.grad is not None
    assert bool(x.grad.isfinite().all())
    assert bool((indices >= 0).all())


def test_rows_of_zeros_choose_the_first_direction() -> None:
    ours, peer = twins(use_cosine_sim=True)
    x = torch.zeros(1, 5, WIDTH)
    mine, other = ours.eval()(x), peer.eval()(x)
    assert torch.equal(mine[1], other[1])
    assert not mine[1][..., 0].any()


@pytest.mark.parametrize(
    "options",
    [
        {},
        dict(shared_codebook=True),
        dict(quantize_dropout=True),
        dict(use_cosine_sim=True, threshold_ema_dead_code=3),
        dict(stochastic_sample_codes=True, sample_codebook_temp=0.2),
        dict(implicit_neural_codebook=True),
        dict(diveq=True),
    ],
)
@pytest.mark.parametrize("masked", [True, False])
def test_groups(options: dict[str, Any], masked: bool) -> None:
    options = dict(dim=8, groups=2, num_quantizers=LEVELS, codebook_size=16, **options)
    torch.manual_seed(3)
    peer = theirs.GroupedResidualVQ(**copy.deepcopy(options))
    torch.manual_seed(3)
    ours = GroupedResidualVQ(**options)
    state = peer.state_dict()
    assert list(ours.state_dict()) == list(state)
    for key, value in ours.state_dict().items():
        assert torch.equal(value, state[key]), key
    x = oracle.clustered(100, 8, 20, seed=1).view(2, 50, 8)
    mask = torch.arange(50) < torch.tensor([[41], [17]]) if masked else None
    for mode in (True, False):
        mine, other = (
            call(module.train(mode), x, seed=9, mask=mask, return_all_codes=True)
            for module in (ours, peer)
        )
        for a, b in zip(mine, other, strict=True):
            for one, its_twin in zip(a, b, strict=True):
                torch.testing.assert_close(one, its_twin, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(
        ours.get_output_from_indices(mine[1]), peer.get_output_from_indices(other[1])
    )
    torch.testing.assert_close(
        ours.get_codes_from_indices(mine[1]), peer.get_codes_from_indices(other[1])
    )
    torch.testing.assert_close(ours.codebooks, peer.codebooks)


def test_groups_refuse_in_one_line() -> None:
    with pytest.raises(ValueError, match="a multiple of groups, got 7 and 2"):
        GroupedResidualVQ(dim=7, groups=2, num_quantizers=2, codebook_size=4)
    ours = GroupedResidualVQ(dim=8, groups=2, num_quantizers=2, codebook_size=4)
    with pytest.raises(ValueError, match="last dimension of 8"):
        ours(torch.zeros(3, 4))
    with pytest.raises(NotImplementedError, match=r"^indices=<Tensor>"):
        ours(torch.zeros(3, 8), indices=torch.zeros(2, 3, 2))


@pytest.mark.parametrize("name", ["default", "cosine", "learned", "orthogonal", "drawn"])
def test_layers_are_what_people_reach_for(name: str) -> None:
    ours, peer = twins(**OPTIONS[name])
    x = clear_rows(60, ours)[None]
    for mine, other in zip(ours.layers, peer.layers, strict=True):
        for attribute in ("codebook_size", "commitment_weight", "use_cosine_sim", "ema_update",
                          "learnable_codebook", "rotation_trick", "dim"):  # fmt: skip
            assert getattr(mine, attribute) == getattr(other, attribute), attribute
        for attribute in ("codebook_size", "threshold_ema_dead_code", "decay", "eps",
                          "kmeans_iters", "ema_update"):  # fmt: skip
            a, b = (getattr(layer._codebook, attribute) for layer in (mine, other))
            assert a == b, attribute
        assert torch.equal(mine.codebook, other.codebook)
        for mode in (False, True):
            for a, b in zip(call(mine.train(mode), x, seed=3), call(other.train(mode), x, seed=3),
                            strict=True):  # fmt: skip
                torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)
        indices = torch.tensor([[0, 3, 15]])
        for method in ("get_codes_from_indices", "get_output_from_indices"):
            a, b = (getattr(layer, method)(indices) for layer in (mine, other))
            torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)
        words = torch.randn(16, WIDTH)
        mine.codebook = words
        assert torch.equal(mine._codebook.embed[0], words)
        mine._codebook.embed.data.copy_(-words[None])
        assert torch.equal(mine.codebook, -words)


def test_settings_change_during_training() -> None:
    ours, peer = twins()
    x = clear_rows(60, ours)[None]
    for module in (ours, peer):
        module.layers[1].commitment_weight = 0.25
        module.layers[0]._codebook.decay = 0.5
        module.layers[2]._codebook.threshold_ema_dead_code = 0.9
    mine, other = (call(module.train(), x, seed=1) for module in (ours, peer))
    torch.testing.assert_close(mine[2], other[2])
    torch.testing.assert_close(ours.codebooks[0], peer.codebooks[0])
