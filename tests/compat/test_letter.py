"""LETTER's and LC-Rec's classes beside the same formulas written plainly.

Codes of float32 matrix products can differ from exact ones on near-ties, so the plain version
measures distances in float64; Sinkhorn codes come from float64 probabilities on both sides. Groups
of two codewords leave one choice of partner, so that the diversity term can be compared too.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import letter_fast as lf
from letter_fast.compat import lc_rec, letter
from tests.support import oracle
from tests.support.plain_rqvae import PlainModel, PlainQuantizer, copy_parameters, plain_mlp

SIZES = [12, 8, 10]


def pairs(size: int, seed: int) -> tuple[list[int], Tensor]:
    """Groups of two at random, and the partner of each codeword."""
    order = torch.randperm(size, generator=torch.Generator().manual_seed(seed))
    groups, partner = [0] * size, torch.empty(size, dtype=torch.int64)
    for group, two in enumerate(order.view(-1, 2).tolist()):
        groups[two[0]] = groups[two[1]] = group
        partner[two[0]], partner[two[1]] = two[1], two[0]
    return groups, partner


def letter_quantizer(
    mu: float, beta: float, epsilons: list[float], width: int = 6
) -> tuple[letter.ResidualVectorQuantizer, PlainQuantizer]:
    ours = letter.ResidualVectorQuantizer(SIZES, width, epsilons, beta=beta, sk_iters=50)
    books = [oracle.clustered(k, width, 4, seed=k) * 0.6**level for level, k in enumerate(SIZES)]
    for layer, book in zip(ours.vq_layers, books):
        layer.mu = mu
        layer.embedding.weight.data.copy_(book)
    return ours, PlainQuantizer(books, mu, beta, epsilons, 50)


def gradients(loss: Tensor, x: Tensor, module: nn.Module) -> list[Tensor]:
    return list(torch.autograd.grad(loss, [x, *module.parameters()]))


@pytest.mark.parametrize("use_sk", [True, False])
@pytest.mark.parametrize("epsilons", [[0.0, 0.0, 0.003], [0.003, 0.0, 0.01], [0.0, 0.0, 0.0]])
@pytest.mark.parametrize(("mu", "beta"), [(0.25, 1.0), (0.5, 0.01), (0.0, 0.1)])
@pytest.mark.parametrize("as_dict", [True, False])
def test_quantizer_is_the_plain_one(
    use_sk: bool, epsilons: list[float], mu: float, beta: float, as_dict: bool
) -> None:
    ours, plain = letter_quantizer(mu, beta, epsilons)
    groups, partners = zip(*(pairs(size, seed=size) for size in SIZES))
    labels = (
        {str(level): group for level, group in enumerate(groups)} | {"3": []}
        if as_dict
        else [torch.tensor(group) for group in groups]
    )
    x = oracle.clustered(200, 6, 9, seed=1).requires_grad_()
    pull = torch.randn(200, 6)
    q, loss, codes = ours(x, labels, use_sk=use_sk)
    q_plain, loss_plain, codes_plain = plain(x, list(partners), use_sk)
    assert q.shape == x.shape
    assert loss.shape == ()
    assert codes.dtype == torch.int64
    assert torch.equal(codes, codes_plain)
    torch.testing.assert_close(q, q_plain, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(loss, loss_plain, rtol=1e-6, atol=1e-6)
    for mine, theirs in zip(
        gradients(loss + (q * pull).sum(), x, ours),
        gradients(loss_plain + (q_plain * pull).sum(), x, plain),
        strict=True,
    ):
        torch.testing.assert_close(mine, theirs, rtol=1e-6, atol=1e-6)


def test_one_level_and_its_label() -> None:
    ours, plain = letter_quantizer(0.25, 0.7, [0.0, 0.0, 0.003])
    group, partner = pairs(SIZES[2], seed=3)
    x = oracle.clustered(2 * 30, 6, 5, seed=2).view(2, 30, 6)
    layer = ours.vq_layers[2]
    q, loss, codes = layer(x, group, 2, use_sk=True)
    only = PlainQuantizer([plain.books[2]], 0.25, 0.7, [0.003], 50)
    q_plain, loss_plain, codes_plain = only(x.view(-1, 6), [partner], True)
    assert torch.equal(codes.view(-1), codes_plain[:, 0])
    torch.testing.assert_close(q.view(-1, 6), q_plain, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(loss, loss_plain, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(layer.get_codebook_entry(codes), q, rtol=1e-6, atol=1e-6)
    assert torch.equal(
        layer.get_codebook_entry(codes, [60, 6]), layer.get_codebook()[codes.view(-1)]
    )
    with pytest.raises(NotImplementedError, match="idx=-1"):
        layer(x, group, -1)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10_000), clusters=st.integers(2, 6))
def test_labels_draw_partners_of_the_same_group(seed: int, clusters: int) -> None:
    """With larger groups the term lies between those of the best and the worst partner."""
    ours, _ = letter_quantizer(0.25, 1.0, [0.0, 0.0, 0.0])
    labels = ours.cluster_codewords(clusters, seed)
    assert [len(labels[str(level)]) for level in range(3)] == SIZES
    x = oracle.clustered(50, 6, 9, seed=seed)
    with torch.no_grad():
        _, with_labels, codes = ours(x, labels, use_sk=False)
        _, without, _ = ours(x, None, use_sk=False)
    least, most = [], []
    for level, layer in enumerate(ours.vq_layers):
        words, group = layer.embedding.weight.detach(), torch.tensor(labels[str(level)])
        code = codes[:, level]
        own = torch.eye(len(words), dtype=torch.bool)
        logits = (words @ words.T).masked_fill(own, -torch.inf)
        loss = -(logits - logits.logsumexp(1, keepdim=True))
        partner = (group[:, None] == group[None]) & ~own
        alone = ~partner.any(1)
        low = loss.masked_fill(~partner, torch.inf).min(1).values.masked_fill(alone, 0.0)
        high = loss.masked_fill(~partner, -torch.inf).max(1).values.masked_fill(alone, 0.0)
        least.append(low[code].mean())
        most.append(high[code].mean())
    term = float(with_labels - without)
    assert float(sum(least)) / 3 - 1e-5 <= term <= float(sum(most)) / 3 + 1e-5


def letter_model(
    bn: bool, loss_type: str, dropout: float, seed: int
) -> tuple[letter.RQVAE, PlainModel, Tensor]:
    torch.manual_seed(seed)
    cf = torch.randn(300, 6)
    ours = letter.RQVAE(
        in_dim=20,
        num_emb_list=SIZES,
        e_dim=6,
        layers=[16, 12],
        dropout_prob=dropout,
        bn=bn,
        loss_type=loss_type,
        quant_loss_weight=0.8,
        sk_epsilons=[0.0, 0.0, 0.003],
        sk_iters=50,
        alpha=0.1,
        beta=0.05,
        cf_embedding=cf.numpy(),
    )
    books = [layer.embedding.weight.detach() for layer in ours.rq.layers]
    quantizer = PlainQuantizer(books, 0.25, 0.05, [0.0, 0.0, 0.003], 50)
    encoder, decoder = (
        plain_mlp(widths, bn, dropout) for widths in ([20, 16, 12, 6], [6, 12, 16, 20])
    )
    plain = PlainModel(encoder, quantizer, decoder)
    copy_parameters(ours.encoder, plain.encoder)
    copy_parameters(ours.decoder, plain.decoder)
    return ours, plain, cf


@pytest.mark.parametrize(
    ("bn", "loss_type", "dropout"),
    [(False, "mse", 0.0), (True, "l1", 0.0), (False, "l1", 0.2), (True, "mse", 0.1)],
)
def test_training_is_the_plain_one(bn: bool, loss_type: str, dropout: float) -> None:
    """50 steps of AdamW from the same weights: all four losses of every step, and the codes.

    In float64, where what two orders of summation differ by doesn't grow past a near-tie; codes are
    chosen from the float32 values on both sides.
    """
    ours, plain, cf = letter_model(bn, loss_type, dropout, seed=5)
    ours, plain, cf = ours.double(), plain.double(), cf.double()
    groups, partners = zip(*(pairs(size, seed=size) for size in SIZES))
    labels = {str(level): group for level, group in enumerate(groups)}
    s = oracle.clustered(300, 20, 30, seed=1).double()
    draw = torch.Generator().manual_seed(2)
    first, second = (
        torch.optim.AdamW(m.parameters(), 1e-3, weight_decay=1e-4) for m in (ours, plain)
    )
    for step in range(50):
        rows = torch.randperm(300, generator=draw)[:128]
        torch.manual_seed(step)  # of dropout
        out, rq_loss, codes, q = ours(s[rows], labels)
        losses = ours.compute_loss(out, rq_loss, rows, q, xs=s[rows])
        first.zero_grad()
        losses[0].backward()
        first.step()

        torch.manual_seed(step)
        out, rq_plain, codes_plain, q = plain(s[rows], list(partners), True)
        distance = nn.functional.mse_loss if loss_type == "mse" else nn.functional.l1_loss
        recon = distance(out, s[rows])
        contrast = nn.functional.cross_entropy(q @ cf[rows].T, torch.arange(128))
        total = recon + 0.8 * rq_plain + 0.1 * contrast
        second.zero_grad()
        total.backward()
        second.step()
        assert torch.equal(codes, codes_plain), step
        for mine, theirs in zip(losses, (total, contrast, recon, rq_plain), strict=True):
            torch.testing.assert_close(mine, theirs, rtol=1e-6, atol=1e-9)


def test_weights_of_a_seed_are_the_public_ones() -> None:
    """The order in which the originals draw: encoder, codebooks (normal, then uniform), decoder."""
    ours, _, _ = letter_model(True, "mse", 0.0, seed=7)
    torch.manual_seed(7)
    torch.randn(300, 6)
    for widths, mlp in (([20, 16, 12, 6], ours.encoder), ([6, 12, 16, 20], ours.decoder)):
        linears = [nn.Linear(a, b) for a, b in pairwise(widths)]
        for linear, mine in zip(linears, mlp.linears, strict=True):
            nn.init.xavier_normal_(linear.weight)
            assert torch.equal(linear.weight, mine.weight)
            assert not mine.bias.any()
        if mlp is ours.encoder:
            for size, layer in zip(SIZES, ours.rq.layers, strict=True):
                words = nn.Embedding(size, 6).weight.data.uniform_(-1.0 / size, 1.0 / size)
                assert torch.equal(words, layer.embedding.weight)


@pytest.mark.parametrize("module", [letter, lc_rec])
def test_tensors_have_the_public_names(module: object) -> None:
    model = module.RQVAE(20, [4, 4], 6, [16], bn=True)  # type: ignore[attr-defined]
    # Per layer: dropout, linear, batch norm; ReLU between.
    linear, norm = ("weight", "bias"), ("weight", "bias", "running_mean", "running_var",
                                        "num_batches_tracked")  # fmt: skip
    # LETTER has batch norm after the last too, LC-Rec (and MiniOneRec) does not.
    mlp = [(1, linear), (2, norm), (5, linear), *([(6, norm)] if module is letter else [])]
    names = {
        f"{part}.mlp_layers.{place}.{tensor}"
        for part in ("encoder", "decoder")
        for place, tensors in mlp
        for tensor in tensors
    }
    names |= {f"rq.vq_layers.{level}.embedding.weight" for level in range(2)}
    assert set(model.state_dict()) == names


@pytest.mark.parametrize("use_sk", [True, False])
@pytest.mark.parametrize("beta", [0.25, 0.6])
def test_lc_rec_is_the_plain_one(use_sk: bool, beta: float) -> None:
    epsilons = [0.0, 0.0, 0.003]
    torch.manual_seed(1)
    ours = lc_rec.RQVAE(20, SIZES, 6, [16], beta=beta, sk_epsilons=epsilons, sk_iters=50)
    books = [layer.embedding.weight.detach() for layer in ours.rq.layers]
    quantizer = PlainQuantizer(books, beta, 0.0, epsilons, 50)
    plain = PlainModel(plain_mlp([20, 16, 6], False), quantizer, plain_mlp([6, 16, 20], False))
    copy_parameters(ours.encoder, plain.encoder)
    copy_parameters(ours.decoder, plain.decoder)
    s = oracle.clustered(100, 20, 9, seed=4).requires_grad_()
    out, rq_loss, codes = ours(s, use_sk=use_sk)
    total, recon = ours.compute_loss(out, rq_loss, xs=s)
    out, rq_plain, codes_plain, _ = plain(s, None, use_sk)
    total_plain = nn.functional.mse_loss(out, s) + rq_plain
    assert torch.equal(codes, codes_plain)
    torch.testing.assert_close(total, total_plain, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(recon, total_plain - rq_plain, rtol=1e-6, atol=1e-6)
    for mine, theirs in zip(
        gradients(total, s, ours), gradients(total_plain, s, plain), strict=True
    ):
        torch.testing.assert_close(mine, theirs, rtol=1e-6, atol=1e-6)
    level = ours.rq.vq_layers[0]
    q, loss, code = level(ours.encoder(s), use_sk=use_sk)
    assert torch.equal(code, codes[:, 0])
    assert q.shape == (100, 6)
    assert loss.shape == ()


@settings(max_examples=25, deadline=None)
@given(
    sizes=st.lists(st.integers(2, 20), min_size=1, max_size=5),
    width=st.integers(1, 9),
    rows=st.integers(1, 60),
    seed=st.integers(0, 1000),
)
def test_any_shape_is_the_plain_one(sizes: list[int], width: int, rows: int, seed: int) -> None:
    ours = lc_rec.ResidualVectorQuantizer(sizes, width, [0.0] * len(sizes))
    books = [oracle.clustered(k, width, 4, seed=seed + k) * 0.6**i for i, k in enumerate(sizes)]
    for layer, book in zip(ours.layers, books, strict=True):
        layer.embedding.weight.data.copy_(book)
    x = oracle.clustered(rows, width, 9, seed=seed)
    clear = (ours.to_quantizer().encode(x, return_margin=True).margin > 1e-4).all(dim=1)
    x = x[clear].clone().requires_grad_()
    if len(x) == 0:
        return
    plain = PlainQuantizer(books, 0.25, 0.0, [0.0] * len(sizes), 50)
    (q, loss, codes), (q_plain, loss_plain, codes_plain) = ours(x), plain(x, None, False)
    assert torch.equal(codes, codes_plain)
    torch.testing.assert_close(q, q_plain, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(loss, loss_plain, rtol=1e-5, atol=1e-6)
    for mine, theirs in zip(gradients(loss, x, ours), gradients(loss_plain, x, plain), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-5, atol=1e-6)


def save_checkpoint(path: Path, model: nn.Module, **options: object) -> None:
    """As the public trainers write it."""
    optimizer = torch.optim.AdamW(model.parameters())
    state = {
        "args": argparse.Namespace(lr=1e-3, device="cuda:0", **options),
        "epoch": 9999,
        "best_loss": float("inf"),
        "best_collision_rate": 0.0012,
        "state_dict": model.state_dict(),
        "optimizer": optimizer.state_dict(),
    }
    torch.save(state, path, pickle_protocol=4)


OPTIONS = dict(
    num_emb_list=SIZES, e_dim=6, layers=[16, 12], dropout_prob=0.0, loss_type="mse",
    quant_loss_weight=1.0, kmeans_init=True, kmeans_iters=10, sk_epsilons=[0.0, 0.0, 0.003],
    sk_iters=50, beta=0.3,
)  # fmt: skip


@pytest.mark.parametrize("bn", [False, True])
@pytest.mark.parametrize("module", [letter, lc_rec])
def test_checkpoints(tmp_path: Path, module: object, bn: bool) -> None:
    made = module.RQVAE(20, bn=bn, **OPTIONS)  # type: ignore[attr-defined]
    s = oracle.clustered(200, 20, 30, seed=1)
    made.rq.vq_ini(made.encoder(s))
    made.train()
    for _ in range(3):  # batch norm sees rows
        made.encoder(s)
        made.decoder(made.encoder(s))
    extra = {"alpha": 0.2, "n_clusters": 10} if module is letter else {}
    save_checkpoint(tmp_path / "best.pth", made, bn=bn, **OPTIONS, **extra)
    read = module.RQVAE.from_checkpoint(tmp_path / "best.pth")  # type: ignore[attr-defined]
    assert not read.training
    assert all(layer.initted for layer in read.rq.layers)
    codes = read.get_indices(s)
    assert torch.equal(codes, made.eval().get_indices(s))
    read.train()
    read.rq(read.encoder(s), *([None] if module is letter else []))
    for mine, theirs in zip(read.rq.layers, made.rq.layers):  # going on starts nothing anew
        assert torch.equal(mine.embedding.weight, theirs.embedding.weight)

    model = read.eval().to_letter()
    assert isinstance(model, lf.Letter)
    with torch.no_grad():
        torch.testing.assert_close(model.encode_latents(s), read.encoder(s), rtol=1e-4, atol=1e-5)
        q = model.quantizer.decode(codes)
        torch.testing.assert_close(model.decoder(q), read.decoder(q), rtol=1e-4, atol=1e-5)
    config = model.config
    weights = (config.commitment_weight, config.cf_weight, config.diversity_weight)
    assert weights == ((0.25, 0.2, 0.3) if module is letter else (0.3, 0.0, 0.0))
    ids = lf.tokenize(model, s.numpy(), unique="none")
    assert (ids.codes == read.get_indices(s).numpy()).mean() > 0.99  # latents differ by rounding


def test_checkpoints_of_something_else(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.pth"
    torch.save({"state_dict": {"encoder.weight": torch.ones(2)}}, path)
    with pytest.raises(ValueError, match="not a checkpoint of an RQ-VAE"):
        letter.RQVAE.from_checkpoint(path)
    torch.save({"model": {}}, path)
    with pytest.raises(ValueError, match=r"no tensors under 'state_dict', only \['model'\]"):
        letter.RQVAE.from_checkpoint(path)
    wrong = dict(num_emb_list=[4, 5], e_dim=6, layers=[16])
    save_checkpoint(path, letter.RQVAE(20, [4, 4], 6, [16]), **wrong)
    with pytest.raises(ValueError, match="does not hold the model that its options name"):
        letter.RQVAE.from_checkpoint(path)


def test_codebooks_start_once_on_the_first_batch_of_training() -> None:
    x = oracle.clustered(200, 6, 30, seed=1)
    for module, labels in ((letter, [None]), (lc_rec, [])):
        rq = module.ResidualVectorQuantizer([8, 5], 6, [0.0, 0.0], kmeans_init=True)
        rq.eval()(x, *labels)
        assert not any(layer.initted or layer.embedding.weight.any() for layer in rq.layers)
        q, _, codes = rq.train()(x, *labels)
        assert all(layer.initted for layer in rq.layers)
        assert (x - q).square().sum() < 0.7 * (x - x.mean(0)).square().sum()
        before = [layer.embedding.weight.clone() for layer in rq.layers]
        rq(x + 1, *labels)
        for layer, words in zip(rq.layers, before):
            assert torch.equal(layer.embedding.weight, words)
        assert codes.shape == (200, 2)
    started = letter.ResidualVectorQuantizer([8, 5], 6, [0.0, 0.0], kmeans_init=True)
    started.vq_ini(x)
    counts = torch.bincount(started(x, None)[2][:, 0], minlength=8)
    assert int(counts.min()) > 0
    fresh = letter.ResidualVectorQuantizer([8, 5], 6, [0.0, 0.0], kmeans_init=True)
    fresh.load_state_dict(
        letter.ResidualVectorQuantizer([8, 5], 6, [0, 0], kmeans_init=True).state_dict()
    )
    assert not fresh.layers[0].initted
    fresh.load_state_dict(started.state_dict())
    assert fresh.layers[0].initted


def test_sinkhorn_follows_the_layer_as_generate_indices_sets_it() -> None:
    ours, plain = letter_quantizer(0.25, 1.0, [0.0, 0.0, 0.0])
    ours.vq_layers[-1].sk_epsilon = plain.epsilons[-1] = 0.003
    x = oracle.clustered(100, 6, 9, seed=3)
    assert torch.equal(ours.eval()(x, None)[2], plain(x, None, True)[2])


def test_clear_errors() -> None:
    ours, _ = letter_quantizer(0.25, 1.0, [0.0, 0.0, 0.0])
    x = torch.randn(5, 6)
    with pytest.raises(ValueError, match="no entry for level 2"):
        ours(x, {"0": [0] * 12, "1": [0] * 8})
    with pytest.raises(ValueError, match=r"a group for each of \[12, 8, 10\] codewords"):
        ours(x, torch.zeros(3, 12))
    with pytest.raises(ValueError, match="don't fit one tensor"):
        ours.get_codebook()
    with pytest.raises(ValueError, match="1 of 5 rows"):
        ours(x.index_fill(0, torch.tensor([2]), torch.nan), None)
    with pytest.raises(ValueError, match="loss_type must be one of mse, l1"):
        letter.RQVAE(4, loss_type="l2")
    same = letter.ResidualVectorQuantizer([4, 4], 6, [0.0, 0.0])
    assert same.get_codebook().shape == (2, 4, 6)


def test_imports_no_peer() -> None:
    names = "k_means_constrained sklearn faiss vector_quantize_pytorch wandb einops transformers"
    code = (
        "import sys, letter_fast.compat.letter, letter_fast.compat.lc_rec; "
        f"found = set({names.split()!r}) & set(sys.modules); assert not found, found"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
