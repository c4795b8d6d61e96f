"""Letter: its loss is the sum letter's paper writes, and a saved model is the same model."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file

import letter_fast as lf
from letter_fast.losses import contrastive_loss, diversity_losses
from tests.support import oracle

SMALL = dict(input_dim=12, hidden=(16,), latent_dim=4, codebook_size=(6, 5), diversity_clusters=2)


def model(**options: object) -> lf.Letter:
    config = lf.LetterConfig(**{**SMALL, **options})
    built = lf.Letter(config)
    built.quantizer.fit(torch.randn(50, config.latent_dim), method="kmeans")
    return built


@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("reconstruction", ["mse", "l1"])
def test_the_total_is_the_weighted_sum(reduction: str, reconstruction: str) -> None:
    letter = model(
        reduction=reduction, reconstruction=reconstruction, cf_weight=0.3, diversity_weight=0.2,
        quantization_weight=0.7,
    )  # fmt: skip
    s, h = oracle.clustered(20, 12, 3, seed=1), torch.randn(20, 4)
    groups = [torch.arange(6) % 2, torch.arange(5) % 2]
    losses = letter.losses(s, h, groups, 3)
    out = letter.quantizer(letter.encoder(s))
    per_level = diversity_losses(
        out.codes, letter.quantizer.codebooks, [6, 5], torch.cat(groups), 3
    )
    diversity = per_level.sum() / (2 if reduction == "mean" else 1)
    distance = {"mse": F.mse_loss, "l1": F.l1_loss}[reconstruction]
    recon = distance(letter.decoder(out.quantized), s)
    cf = contrastive_loss(out.quantized, h)
    torch.testing.assert_close(losses.total, recon + 0.7 * (out.loss + 0.2 * diversity) + 0.3 * cf)


def test_cf_by_cosines_is_the_formula() -> None:
    letter = model(cf_similarity="cosine", cf_temperature=0.2, cf_dim=7)
    s, h = torch.randn(10, 12), torch.randn(10, 7)
    q, target = letter.quantizer(letter.encoder(s)).quantized, letter.cf_projection(h)
    cosines = F.cosine_similarity(q[:, None], target[None], dim=2)
    expected = F.cross_entropy(cosines / 0.2, torch.arange(10))
    torch.testing.assert_close(letter.losses(s, h).cf, expected)
    # a few rows without CF: as if they weren't there
    has = torch.arange(10) % 3 > 0
    among = F.cross_entropy(cosines[has][:, has] / 0.2, torch.arange(int(has.sum())))
    torch.testing.assert_close(letter.losses(s, h, has_cf=has).cf, among)


def test_a_temperature_divides_the_products() -> None:
    letter, s, h = model(cf_temperature=0.5), torch.randn(10, 12), torch.randn(10, 4)
    q = letter.quantizer(letter.encoder(s)).quantized
    torch.testing.assert_close(letter.losses(s, h).cf, contrastive_loss(q, h, temperature=0.5))


def test_cf_reaches_the_encoder_and_not_the_codebook() -> None:
    letter = model()
    losses = letter.losses(torch.randn(8, 12), torch.randn(8, 4))
    weight, books = letter.encoder[0].weight, letter.quantizer.codebooks
    to_encoder, to_codebooks = torch.autograd.grad(losses.cf, [weight, books])
    assert bool(to_encoder.any())
    assert not bool(to_codebooks.any())


def test_other_cf_widths_get_a_map_and_bfloat16_trains() -> None:
    letter = model(cf_dim=7)
    losses = letter.losses(torch.randn(8, 12), torch.randn(8, 7), autocast=torch.bfloat16)
    losses.total.backward()
    assert losses.total.dtype == torch.float32
    assert letter.cf_projection.weight.grad is not None


def test_saved_is_the_same(tmp_path: Path) -> None:
    letter = model(cf_dim=7, dropout=0.1, batch_norm=True)
    letter.save_pretrained(tmp_path)
    loaded = lf.Letter.from_pretrained(tmp_path)
    assert loaded.config == letter.config
    assert loaded.fingerprint() == letter.fingerprint()
    assert loaded.quantizer.initialized
    s = torch.randn(30, 12)
    assert torch.equal(loaded.encode(s), letter.encode(s))
    assert letter.training
    loaded.quantizer.codebooks.data[0, 0] += 1
    assert loaded.fingerprint() != letter.fingerprint()


def test_broken_folders_are_refused_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"not a letter-fast model: it has no config\.json"):
        lf.Letter.from_pretrained(tmp_path)
    model().save_pretrained(tmp_path)
    weights = (tmp_path / "model.safetensors").read_bytes()
    for content in (weights[:40], b"", weights[:-1]):
        (tmp_path / "model.safetensors").write_bytes(content)
        with pytest.raises(ValueError, match=r"model\.safetensors does not hold"):
            lf.Letter.from_pretrained(tmp_path)
    save_file({"other": torch.zeros(2)}, tmp_path / "model.safetensors")
    with pytest.raises(ValueError, match="does not hold this model's weights"):
        lf.Letter.from_pretrained(tmp_path)
    for text, message in (("{", "is not JSON"), ("[]", "JSON object"), ("{}", "lacks input_dim")):
        (tmp_path / "config.json").write_text(text)
        with pytest.raises(ValueError, match=message):
            lf.Letter.from_pretrained(tmp_path)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(hidden=(0,)), "at least 1"),
        (dict(codebook_size=()), "at least"),
        (dict(sinkhorn_epsilon=(0.1,)), "one value per level"),
        (dict(cf_weight=-1.0), "cf_weight must be at least 0"),
        (dict(cf_similarity="cos"), "cf_similarity must be one of"),
        (dict(cf_temperature=0.0), "cf_temperature must be above 0"),
        (dict(dropout=1.0), "dropout"),
        (dict(residual_grad="none"), "residual_grad must be one of"),
    ],
)
def test_bad_configurations(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        lf.LetterConfig(**{**SMALL, **options})


def test_a_model_keeps_its_fingerprint_over_releases() -> None:
    """ID tables name it. This one was taken before the CF term had a similarity to choose."""
    letter = lf.Letter(lf.LetterConfig(**SMALL))
    for value in letter.state_dict().values():
        value.fill_(1)
    assert (
        letter.fingerprint() == "7fc114077e6036a33c6b38918ef1ef644edddde7133c70e9c88f81e2ba9b7858"
    )
    cosine = lf.LetterConfig(**SMALL, cf_similarity="cosine")
    assert lf.LetterConfig.from_dict(cosine.to_dict()) == cosine


def test_unknown_keys_name_the_nearest() -> None:
    with pytest.raises(ValueError, match="'latent_dims'; did you mean 'latent_dim'"):
        lf.LetterConfig.from_dict({"input_dim": 3, "latent_dims": 4})
