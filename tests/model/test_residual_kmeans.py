"""ResidualKMeans: its codebooks are k-means of the residuals, and a saved model is the same."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from torch import Tensor

import letter_fast as lf
from letter_fast.evaluation import evaluate
from letter_fast.model import load
from letter_fast.model.residual_kmeans import unit_rows
from tests.support import oracle

ROWS = oracle.clustered(300, 10, 12, seed=1)


def model(
    sizes: tuple[int, ...] = (8, 6, 7), width: int = 10, **options: object
) -> lf.ResidualKMeans:
    config = lf.ResidualKMeansConfig(width, sizes, **options)
    return lf.ResidualKMeans(config)


def crossed(seed: int) -> tuple[Tensor, Tensor]:
    """Rows a_i + b_j + c_k + noise, each part ten times finer, all combinations; and i, j, k."""
    random = np.random.default_rng(seed)
    sizes, scales = (5, 4, 3), (100.0, 10.0, 1.0)
    steps = [scale * random.standard_normal((size, 8)) for size, scale in zip(sizes, scales)]
    parts = np.stack(np.meshgrid(*map(np.arange, sizes), indexing="ij"), -1).reshape(-1, 3)
    parts = random.permutation(parts.repeat(10, axis=0))
    rows = sum(step[parts[:, level]] for level, step in enumerate(steps))
    rows = rows + 0.01 * random.standard_normal(rows.shape)
    return torch.from_numpy(rows.astype(np.float32)), torch.from_numpy(parts)


@pytest.mark.parametrize("balanced", [False, True])
def test_equals_a_literal_residual_kmeans(balanced: bool) -> None:
    rows, parts = crossed(seed=3)
    kmeans = model((5, 4, 3), 8, balanced=balanced).fit(rows, restarts=8)
    codes = kmeans.encode(rows)
    residual = rows.double()
    for level, size in enumerate((5, 4, 3)):
        # Of clusters so far apart, the best k-means is the parts that the rows were made of.
        means = torch.stack([residual[parts[:, level] == part].mean(0) for part in range(size)])
        name = torch.stack([codes[parts[:, level] == part, level][0] for part in range(size)])
        assert sorted(name.tolist()) == list(range(size))
        assert torch.equal(codes[:, level], name[parts[:, level]])
        found = kmeans.quantizer.codebook(level)[name].double()
        torch.testing.assert_close(found, means, rtol=1e-5, atol=1e-5)
        residual = residual - means[parts[:, level]]


def test_what_does_not_fit_is_streamed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    np.save(tmp_path / "rows.npy", ROWS.numpy())
    held = model(normalize="unit").fit(tmp_path / "rows.npy")
    monkeypatch.setattr("letter_fast.model.residual_kmeans._HELD_BYTES", 0)
    monkeypatch.setattr("letter_fast.catalog.Embeddings.read", None)
    streamed = model(normalize="unit").fit(tmp_path / "rows.npy")
    assert torch.equal(streamed.quantizer.codebooks, held.quantizer.codebooks)
    rest = model(normalize="unit")
    with torch.no_grad():
        rest.quantizer.codebook(0).copy_(held.quantizer.codebook(0))
    rest.fit(tmp_path / "rows.npy", first_level=1)
    assert torch.equal(rest.quantizer.codebooks, held.quantizer.codebooks)


def residuals(kmeans: lf.ResidualKMeans, rows: Tensor) -> list[Tensor]:
    """The rows that each level was made of, by the oracle."""
    books = [kmeans.quantizer.codebook(level).detach() for level in range(kmeans.quantizer.levels)]
    return [rows] + [oracle.residual_search(rows, books[: n + 1])[1] for n in range(len(books) - 1)]


def test_codewords_are_the_means_of_their_rows() -> None:
    kmeans = model().fit(ROWS, iterations=200, tolerance=0.0)
    for level, left in enumerate(residuals(kmeans, ROWS)):
        book = kmeans.quantizer.codebook(level).detach()
        labels = torch.tensor(oracle.nearest(left, book))
        for code in range(len(book)):
            mean = left[labels == code].double().mean(0)
            torch.testing.assert_close(book[code].double(), mean, rtol=1e-6, atol=1e-6)


def test_balanced_codewords_are_the_means_of_clusters_within_the_bounds() -> None:
    crowd = torch.cat([ROWS[:90], 0.01 * torch.randn(90, 10)])  # half of the rows in one place
    kmeans = model(balanced=True).fit(crowd, iterations=200, tolerance=0.0)
    for level, left in enumerate(residuals(kmeans, crowd)):
        book = kmeans.quantizer.codebook(level).detach()
        low, high = 180 // (2 * len(book)), math.ceil(2 * 180 / len(book))
        labels = lf.functional.balanced_assign(left, book, low, high).labels
        sizes = torch.bincount(labels, minlength=len(book))
        assert low <= int(sizes.min()) <= int(sizes.max()) <= high
        for code in range(len(book)):
            mean = left[labels == code].double().mean(0)
            torch.testing.assert_close(book[code].double(), mean, rtol=1e-5, atol=1e-5)
    plain = model().fit(crowd, iterations=200, tolerance=0.0)
    assert int(torch.bincount(plain.encode(crowd)[:, 0]).max()) > math.ceil(2 * 180 / 8)


def test_a_constant_added_to_every_row_changes_no_code() -> None:
    rows, _ = crossed(seed=4)
    codes = [
        model((5, 4, 3), 8).fit(x, restarts=4).encode(x) for x in (rows, rows + torch.arange(8))
    ]
    assert torch.equal(*codes)


def test_unit_rows() -> None:
    x = torch.cat([torch.randn(50, 37), torch.zeros(1, 37), torch.full((1, 37), 1e-44)])
    x[:4] *= torch.tensor([1e30, 1e-30, 1e37, 1e-38])[:, None]
    length = np.sqrt([math.fsum(float(v) ** 2 for v in row) for row in x.double().tolist()])
    expected = (x.double().numpy() / np.where(length > 0, length, 1)[:, None]).astype(np.float32)
    np.testing.assert_array_equal(unit_rows(x).numpy(), expected)
    pieces = torch.cat([unit_rows(part) for part in x.split([1, 2, 30, 19])])
    assert torch.equal(pieces, unit_rows(x))
    assert torch.equal(unit_rows(x[:, :1]), x[:, :1].sign())


def test_normalized_models_see_directions() -> None:
    scaled = ROWS * torch.rand(300, 1).add(0.5).log2().round().exp2()  # powers of two are exact
    kmeans = model(normalize="unit").fit(ROWS)
    assert torch.equal(kmeans.encode_latents(ROWS), unit_rows(ROWS))
    again = model(normalize="unit").fit(scaled)
    assert torch.equal(kmeans.quantizer.codebooks, again.quantizer.codebooks)
    assert torch.equal(kmeans.encode(scaled), kmeans.encode(ROWS))
    by_hand = model().fit(unit_rows(ROWS))
    assert torch.equal(kmeans.quantizer.codebooks, by_hand.quantizer.codebooks)
    assert not torch.equal(model().fit(ROWS).quantizer.codebooks, kmeans.quantizer.codebooks)


@pytest.mark.parametrize("normalize", ["none", "unit"])
def test_files_give_what_a_tensor_gives(tmp_path: Path, normalize: str) -> None:
    rows = ROWS.half()
    np.save(tmp_path / "rows.npy", rows.numpy())
    vectors = pa.array(list(rows.float().numpy()))
    pq.write_table(pa.table({"v": vectors}), tmp_path / "rows.parquet", row_group_size=64)
    whole = model(normalize=normalize).fit(rows)
    for name in ("rows.npy", "rows.parquet"):
        assert model(normalize=normalize).fit(tmp_path / name).fingerprint() == whole.fingerprint()


def test_decode_adds_up_the_codewords() -> None:
    kmeans = model().fit(ROWS)
    codes = kmeans.encode(ROWS)
    errors = [float((ROWS - kmeans.decode(codes[:, :n])).square().sum()) for n in (1, 2, 3)]
    assert errors == sorted(errors, reverse=True)
    parts = [kmeans.quantizer.codebook(level)[codes[:, level]] for level in range(3)]
    assert torch.equal(kmeans.reconstruct(codes), parts[0] + parts[1] + parts[2])


def test_levels_can_be_kept_and_are_counted() -> None:
    seen: list[int] = []
    whole = model().fit(ROWS, seed=5, on_level=seen.append)
    assert seen == [1, 2, 3]
    again = model()
    with torch.no_grad():
        again.quantizer.codebook(0).copy_(whole.quantizer.codebook(0))
    again.fit(ROWS, seed=5, first_level=1)
    assert again.fingerprint() == whole.fingerprint()
    assert model().fit(ROWS, seed=6).fingerprint() != whole.fingerprint()


@pytest.mark.parametrize("options", [{}, dict(balanced=True, normalize="unit")])
def test_saved_is_the_same(tmp_path: Path, options: dict[str, object]) -> None:
    kmeans = model(**options).fit(ROWS)
    kmeans.save_pretrained(tmp_path)
    for loaded in (lf.ResidualKMeans.from_pretrained(tmp_path), load(tmp_path)):
        assert isinstance(loaded, lf.ResidualKMeans)
        assert loaded.config == kmeans.config
        assert loaded.fingerprint() == kmeans.fingerprint()
        assert torch.equal(loaded.encode(ROWS), kmeans.encode(ROWS))
    assert "lf.ResidualKMeans.from_pretrained" in (tmp_path / "README.md").read_text()
    loaded.quantizer.codebooks.data[0, 0] += 1
    assert loaded.fingerprint() != kmeans.fingerprint()


def test_a_folder_says_which_model_it_holds(tmp_path: Path) -> None:
    model().fit(ROWS).save_pretrained(tmp_path / "kmeans")
    letter = lf.Letter(lf.LetterConfig(10, hidden=(8,), latent_dim=4, codebook_size=(4, 4)))
    letter.save_pretrained(tmp_path / "letter")
    assert isinstance(load(tmp_path / "letter"), lf.Letter)
    with pytest.raises(ValueError, match="says model_type 'letter', not 'residual-kmeans'"):
        lf.ResidualKMeans.from_pretrained(tmp_path / "letter")
    with pytest.raises(ValueError, match="says model_type 'residual-kmeans', not 'letter'"):
        lf.Letter.from_pretrained(tmp_path / "kmeans")

    file = tmp_path / "letter" / "config.json"
    values = json.loads(file.read_text())
    assert values.pop("model_type") == "letter"
    file.write_text(json.dumps(values))  # as folders were written before there were two kinds
    assert load(tmp_path / "letter").fingerprint() == letter.fingerprint()
    file.write_text(json.dumps({"model_type": "residual_kmeans", **values}))
    with pytest.raises(ValueError, match="did you mean 'residual-kmeans'"):
        load(tmp_path / "letter")
    with pytest.raises(ValueError, match=r"it has no config\.json"):
        load(tmp_path)


def test_tokenize_and_evaluate_take_it() -> None:
    kmeans = model().fit(ROWS)
    ids = lf.tokenize(kmeans, ROWS)
    assert not ids.duplicates()
    assert ids.sizes == [8, 6, 7]
    assert ids.metadata["model"] == kmeans.fingerprint()
    np.testing.assert_array_equal(
        lf.tokenize(kmeans, ROWS, "none", batch_size=7).codes, kmeans.encode(ROWS).numpy()
    )
    result = evaluate(kmeans, ROWS, torch.randn(300, 4), ids)
    assert result.collision_rate == 0.0
    assert result.cf_recall is None  # its latents are no CF vectors
    assert result.neighbour_overlap is not None
    left = ROWS - kmeans.decode(torch.from_numpy(ids.codes))
    assert result.reconstruction == pytest.approx(float(left.square().mean()), rel=1e-5)
    assert result.latent_error[-1] == pytest.approx(
        float(left.square().sum() / ROWS.square().sum()), rel=1e-5
    )


BROKEN = torch.where(torch.arange(300)[:, None] == 41, torch.inf, ROWS)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: model().fit(ROWS[:, :4]), "width 4, the model expects 10"),
        (lambda: model().fit(ROWS[:7]), "7 items, fewer than the 8 codewords of a level"),
        (lambda: model().fit(BROKEN), "row 41 holds NaN or Inf"),
        (lambda: model().encode(ROWS), "call fit first"),
        (lambda: lf.tokenize(model(), ROWS), "never trained or fitted"),
        (lambda: model().fit(ROWS).encode(ROWS[:, :4]), "last dimension of 10"),
        (lambda: model().fit(ROWS).encode(BROKEN), "row 41"),
        (lambda: model(normalize="unit").fit(ROWS).encode(BROKEN), "row 41"),
        (lambda: lf.tokenize(model().fit(ROWS), ROWS[:, :4]), "width 4, the model expects 10"),
        (lambda: model(()), "at least 1 level"),
        (lambda: model((4, 0)), "codebook_size must be at least 1, got 0"),
        (lambda: model(width=0), "input_dim must be at least 1"),
        (lambda: model(normalize="units"), "did you mean 'unit'"),
        (lambda: model(balanced=1), "balanced must be true or false"),
        (lambda: lf.ResidualKMeansConfig.from_dict({}), "lacks input_dim"),
        (
            lambda: lf.ResidualKMeansConfig.from_dict({"input_dim": 3, "normalise": "unit"}),
            "did you mean 'normalize'",
        ),
    ],
)
def test_bad_input(call: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()


def test_a_list_is_a_tuple() -> None:
    config = lf.ResidualKMeansConfig(4, [8, 8])
    assert lf.ResidualKMeansConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config
