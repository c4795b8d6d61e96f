"""Options of the wrong type or name are refused by name; right ones pass."""

from __future__ import annotations

import pytest

import letter_fast as lf


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(latent_dim=8.0), r"latent_dim must be an integer, got 8\.0"),
        (dict(latent_dim=True), "latent_dim must be an integer, got True"),
        (dict(hidden=16), "hidden must be a list, each item an integer, got 16"),
        (dict(hidden=[16, "a"]), "hidden must be a list"),
        (dict(cf_weight="0.1"), r"cf_weight must be a finite number, got '0\.1'"),
        (dict(cf_weight=float("nan")), "cf_weight must be a finite number, got nan"),
        (dict(cf_weight=-1), "cf_weight must be at least 0, got -1"),
        (dict(cf_dim="8"), "cf_dim must be an integer or absent, got '8'"),
        (dict(cf_dim=0), "cf_dim must be at least 1, got 0"),
        (dict(codebook_size=[8, 0]), "codebook_size must be at least 1, got 0"),
        (dict(batch_norm=1), "batch_norm must be true or false, got 1"),
    ],
)
def test_model_options(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        lf.LetterConfig(input_dim=4, **options)


def test_training_options() -> None:
    with pytest.raises(ValueError, match=r"epochs must be an integer, got 2\.5"):
        lf.TrainSettings(epochs=2.5)
    with pytest.raises(
        ValueError, match="early_stop must be one of loss, recon, collision_rate or absent, got 3"
    ):
        lf.TrainSettings(early_stop=3)


def test_an_integer_is_a_number_and_a_list_a_tuple() -> None:
    config = lf.LetterConfig(input_dim=4, hidden=[8], cf_weight=1, cf_dim=None)
    assert config.hidden == (8,)
    assert lf.LetterConfig.from_dict(config.to_dict()) == config
