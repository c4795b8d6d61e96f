"""The demo's data, and the demo itself at a small size."""

from __future__ import annotations

import sys
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import numpy as np
import pytest

from letter_fast.catalog import CatalogError
from letter_fast.demo import movielens
from letter_fast.demo.movielens import load_movies
from letter_fast.demo.showcase import prefix_neighbours, run_showcase
from letter_fast.demo.synthetic import write_synthetic
from letter_fast.tokenization import SemanticIds


def test_movies() -> None:
    movies = load_movies(text_width=64)
    assert len(movies.ids) == len(set(movies.ids)) == 1682
    assert movies.titles[0] == "Toy Story (1995)"
    assert movies.text.shape == (1682, 64)
    assert movies.cf.shape == (1682, 32)
    assert np.isfinite(movies.text).all()
    assert np.isfinite(movies.cf).all()
    assert "recbole" not in sys.modules
    again = load_movies(text_width=64)
    np.testing.assert_array_equal(movies.cf, again.cf)
    # The sequels of Star Wars are its neighbours in taste.
    star_wars = movies.titles.index("Star Wars (1977)")
    unit = movies.cf / np.maximum(np.linalg.norm(movies.cf, axis=1, keepdims=True), 1e-9)
    near = {movies.titles[row] for row in np.argsort(-(unit @ unit[star_wars]))[:10]}
    assert "Return of the Jedi (1983)" in near


def test_absent_wheel_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> None:
        raise PackageNotFoundError(name)

    monkeypatch.setattr(movielens, "files", absent)
    with pytest.raises(CatalogError, match="pip install --no-deps recbole"):
        load_movies()


def test_synthetic_catalogs_are_reproducible(tmp_path: Path) -> None:
    text, cf = write_synthetic(tmp_path / "a", 70_000, text_width=8, cf_width=4)
    other, _ = write_synthetic(tmp_path / "b", 70_000, text_width=8, cf_width=4)
    assert text.read_bytes() == other.read_bytes()
    loaded = np.load(text, mmap_mode="r")
    assert loaded.shape == (70_000, 8)
    assert np.isfinite(loaded).all()
    assert np.load(cf).shape == (70_000, 4)


def test_the_demo_runs(tmp_path: Path) -> None:
    seen: list[str] = []
    made = run_showcase(tmp_path, items=400, epochs=2, on_epoch=lambda name, *_: seen.append(name))
    assert len(made.runs) == 2
    assert len(seen) == 4
    assert not made.ids.duplicates()
    for run in ("letter", "rqvae"):
        names = {path.name for path in (tmp_path / run).iterdir()}
        assert {"ids.parquet", "index.json", "model.safetensors", "usage.png"} <= names
        assert len(SemanticIds.load(tmp_path / run / "ids.parquet")) == 400


def test_neighbours_share_the_longest_prefix() -> None:
    ids = SemanticIds(np.array([[0, 1], [1, 1], [0, 2], [0, 1]]), [2, 3])
    assert prefix_neighbours(ids, 0, 3) == [3, 2]
