"""letter_fast.ray gives the table that tokenize gives on one machine."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

import letter_fast as lf
from tests.support import oracle

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # of Ray, about itself
    ray = pytest.importorskip("ray")
    import letter_fast.ray as cluster

ROWS = 500
TEXT = oracle.clustered(ROWS, 10, 8, seed=1).numpy()
NAMES = np.array([f"item-{row * 7919 % ROWS:03}" for row in range(ROWS)])


def make_model(sizes: tuple[int, ...]) -> lf.Letter:
    torch.manual_seed(0)
    config = lf.LetterConfig(input_dim=10, hidden=(48,), latent_dim=6, codebook_size=sizes)
    made = lf.Letter(config)
    made.quantizer.fit(made.encode_latents(torch.from_numpy(TEXT)), method="kmeans")
    return made


def table(rows: slice) -> pa.Table:
    return pa.table({"item_id": NAMES[rows].tolist(), "vector": list(TEXT[rows])})


def same_ids(left: lf.SemanticIds, right: lf.SemanticIds) -> bool:
    return (
        np.array_equal(left.codes, right.codes)
        and left.item_ids.equals(right.item_ids)
        and left.sizes == right.sizes
    )


@pytest.mark.parametrize("policy", ["none", "letter", "suffix", "optimal"])
@pytest.mark.parametrize("sizes", [(6, 8, 40), (3, 2, 84)])
def test_groups_are_resolved_as_the_whole(policy: str, sizes: tuple[int, ...]) -> None:
    """The workers' work without workers. With 3 × 2 × 84 codes one first code is over-full."""
    model = make_model(sizes)
    existing = lf.tokenize(model, TEXT[:90], policy, item_ids=NAMES[:90])
    new = slice(90, ROWS)
    whole = lf.tokenize(model, TEXT[new], policy, existing, removed="keep", item_ids=NAMES[new])
    ids = pa.array(NAMES[new].tolist())
    encoder = cluster._Encoder(model, "item_id", "vector", ids, False)
    parts = [encoder.encode(table(slice(start, start + 64))) for start in range(0, ROWS, 64)]
    encoded = pa.concat_tables(parts)
    codes = np.array(encoded["codes"].to_pylist())
    resolver = cluster._Resolver(model, policy, existing.codes, codes)
    groups = resolver.group(encoded)
    keys = groups["group"].to_numpy()
    assert (len(np.unique(keys)) == 1) == (sizes[0] == 3)
    order = np.random.default_rng(0).permutation(np.unique(keys))
    done = pa.concat_tables(resolver.resolve(groups.filter(pa.array(keys == key))) for key in order)
    found = dict(zip(done["item_id"].to_pylist(), map(tuple, done["codes"].to_pylist())))
    assert found == {name: whole.codes_of(name) for name in NAMES[new].tolist()}


@pytest.fixture(scope="module")
def two_workers() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    yield
    ray.shutdown()


@pytest.mark.slow
@pytest.mark.usefixtures("two_workers")
@pytest.mark.filterwarnings("ignore::DeprecationWarning:ray", "ignore::FutureWarning:ray")
@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_a_cluster_gives_the_table_of_one_machine(tmp_path: Path) -> None:
    model = make_model((6, 8, 40))
    for number, start in enumerate(range(0, ROWS, 130)):
        rows = slice(start, start + 130)
        pq.write_table(table(rows), tmp_path / f"{number}.parquet", row_group_size=50)
    existing = lf.tokenize(model, TEXT[:90], item_ids=NAMES[:90], margins=True)
    whole = lf.tokenize(model, tmp_path, existing=existing)
    found = cluster.tokenize(model, str(tmp_path), existing=existing)
    assert same_ids(found, whole)
    np.testing.assert_array_equal(found.margins, whole.margins)
    assert found.metadata["policy"] == "optimal"
    assert found.metadata["model"] == model.fingerprint()
    resolution, wanted = found.metadata["resolution"], whole.metadata["resolution"]
    assert resolution.pop("added_distortion") == pytest.approx(wanted.pop("added_distortion"))
    growth = "added_distortion_of_moved"
    assert resolution.pop(growth) == pytest.approx(wanted.pop(growth))
    assert resolution == wanted

    again = cluster.tokenize(model, str(tmp_path), existing=found)
    assert same_ids(again, found)
    assert again.metadata == found.metadata
    np.testing.assert_array_equal(again.margins, found.margins)

    broken = TEXT[:40].copy()
    broken[7, 2] = np.nan
    bad = pa.table({"item_id": NAMES[:40].tolist(), "vector": list(broken)})
    pq.write_table(bad, tmp_path / "0.parquet")
    with pytest.raises(ValueError, match=f"item {NAMES[7]} holds NaN or Inf"):
        cluster.tokenize(model, str(tmp_path), "none")
