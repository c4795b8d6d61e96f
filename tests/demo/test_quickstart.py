"""The quickstart: a shop in the package, real IDs, files that the other commands take."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from letter_fast.cli.app import run
from letter_fast.demo.shop import KINDS, _lines, load_shop
from letter_fast.evaluation.tree import plot_tree
from letter_fast.tokenization import SemanticIds


def test_the_shop_is_whole_and_the_same_each_time() -> None:
    shop = load_shop()
    assert len(shop.ids) == len(set(shop.titles)) == 1122
    assert np.isfinite(shop.text).all()
    assert np.isfinite(shop.cf).all()
    assert (np.abs(shop.cf).sum(1) > 0).all()  # nothing is left on the shelf
    again = load_shop()
    np.testing.assert_array_equal(shop.text, again.text)
    np.testing.assert_array_equal(shop.cf, again.cf)


def test_each_occasion_needs_products_that_there_are_and_each_product_an_occasion() -> None:
    products = [name for _, names in _lines("products.txt") for name in names]
    needed = {name for _, names in _lines("occasions.txt") for name in names}
    assert len(products) == len(set(products))
    assert needed == set(products)


def test_taste_knows_what_text_cannot() -> None:
    shop = load_shop()
    row = shop.titles.index(f"basil, {KINDS[0]}")

    def near(vectors: np.ndarray) -> set[str]:
        unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
        return {shop.aisles[other] for other in np.argsort(-(unit @ unit[row]))[1:9]}

    assert near(shop.text) == {"Herbs and spices"}
    assert near(shop.cf) & {"Pasta", "Cheese", "Oil and sauces", "Bread"}


def test_the_quickstart_leaves_what_other_commands_take(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "first"
    assert run(["quickstart", "--out", str(out), "--epochs", "1"]) == 0
    said = capfd.readouterr().out
    assert "spaghetti, organic  <a_" in said
    assert "1,122 after collisions were resolved" in said
    ids = SemanticIds.load(out / "ids.parquet")
    assert not ids.duplicates()
    assert ids.item_ids[0].as_py() == "P0001"
    assert (out / "tree.png").read_bytes().startswith(b"\x89PNG")
    command = said.split("next: letter-fast ")[1].split()
    assert run([*command, "--json"]) == 0
    assert json.loads(capfd.readouterr().out)
    assert run(["quickstart", "--epochs", "0", "--out", str(tmp_path / "none")]) == 2
    assert not (tmp_path / "none").exists()


def test_a_tree_of_few_items_and_odd_titles(tmp_path: Path) -> None:
    ids = SemanticIds(np.array([[0, 1, 0], [1, 1, 1], [0, 2, 1]]), [2, 3, 2])
    path = plot_tree(tmp_path / "tree.png", ids, ["$x_1$ " * 40, "", "🍎 <b>"])
    assert path.read_bytes().startswith(b"\x89PNG")
    with pytest.raises(ValueError, match="a title for each of 3 items, got 2"):
        plot_tree(path, ids, ["a", "b"])
    with pytest.raises(ValueError, match="two levels or more"):
        plot_tree(path, SemanticIds(np.array([[0]]), [2]), ["a"])
    removed = SemanticIds(np.array([[0, 1]]), [2, 3], is_live=np.array([False]))
    with pytest.raises(ValueError, match="no live item"):
        plot_tree(path, removed, ["a"])
