"""letter_fast.ray refuses bad shards as tokenize does: ValueError, one line."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import letter_fast as lf
from tests.support import oracle

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # of Ray, about itself
    ray = pytest.importorskip("ray")
    import letter_fast.ray as cluster

ROWS, WIDTH = 60, 6
TEXT = oracle.clustered(ROWS, WIDTH, 8, seed=1).numpy()
NAMES = [f"item-{row:02}" for row in range(ROWS)]
MODEL = lf.ResidualKMeans(lf.ResidualKMeansConfig(WIDTH, (4, 30))).fit(TEXT)


def write(folder: Path, names: Any = NAMES, vectors: Any = None, **others: Any) -> None:
    columns = {"item_id": names, "vector": list(TEXT) if vectors is None else vectors, **others}
    table = pa.table({name: values for name, values in columns.items() if values is not None})
    pq.write_table(table, folder / "1.parquet")


def spoiled(row: int, vector: Any) -> list[Any]:
    return [vector if one == row else list(map(float, TEXT[one])) for one in range(ROWS)]


def corrupt(folder: Path) -> None:
    """The ids can be read, the vectors can't."""
    table = pa.table({"item_id": NAMES, "vector": list(TEXT)})
    pq.write_table(table, folder / "1.parquet", compression="none", use_dictionary=False)
    content = bytearray((folder / "1.parquet").read_bytes())
    place = pq.ParquetFile(folder / "1.parquet").metadata.row_group(0).column(1).data_page_offset
    content[place : place + 24] = b"\xff" * 24
    (folder / "1.parquet").write_bytes(content)


def cut(folder: Path) -> None:
    write(folder)
    whole = (folder / "1.parquet").read_bytes()
    (folder / "1.parquet").write_bytes(whole[: len(whole) // 2])


# On the driver, before the cluster has anything to do.
SOON: dict[str, tuple[Callable[[Path], Any], dict[str, Any], str]] = {
    "no file": (lambda _: None, {}, "can't be read as parquet|no column"),
    "half a file": (cut, {}, "can't be read as parquet"),
    "no such vectors": (write, {"vectors": "v"}, "'v'"),
    "no such ids": (write, {"ids": "sku"}, "'sku'"),
    "repeated ids": (lambda at: write(at, ["a"] * ROWS), {}, "unique"),
    "a null id": (lambda at: write(at, [None, *NAMES[1:]]), {}, "null"),
    "no ids": (lambda at: write(at, None), {}, "there is no column of item ids"),
    "no vectors": (lambda at: write(at, NAMES, NAMES), {}, "vector"),
}
# In a worker.
LATER: dict[str, tuple[Callable[[Path], Any], dict[str, Any], str]] = {
    "another width": (lambda at: write(at, NAMES, list(TEXT[:, :4])), {}, "width 4"),
    "one of another width": (lambda at: write(at, NAMES, spoiled(7, [1.0])), {}, "item-00"),
    "a null vector": (lambda at: write(at, NAMES, spoiled(7, None)), {}, "item-00"),
    "NaN": (
        lambda at: write(at, NAMES, spoiled(7, [float("nan")] * WIDTH)), {},
        "item item-07 holds NaN or Inf",
    ),
    "vectors that can't be read": (corrupt, {}, "a worker failed: .+"),
}  # fmt: skip


@pytest.mark.parametrize("kind", SOON)
def test_refused_by_the_driver(tmp_path: Path, kind: str) -> None:
    make, options, message = SOON[kind]
    make(tmp_path)
    where = tmp_path / "absent.parquet" if kind == "no file" else tmp_path
    with pytest.raises(ValueError, match=message) as refusal:
        cluster.tokenize(MODEL, str(where), **options)
    assert "\n" not in str(refusal.value)


def test_models_are_compared_before_anything_is_read(tmp_path: Path) -> None:
    table = lf.tokenize(MODEL, TEXT, item_ids=NAMES)
    other = lf.ResidualKMeans(MODEL.config)
    with pytest.raises(ValueError, match="never trained or fitted"):
        cluster.tokenize(other, str(tmp_path))
    other.fit(TEXT, seed=1)
    with pytest.raises(ValueError, match="made by another model"):
        cluster.tokenize(other, str(tmp_path), existing=table)


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
def test_refused_by_a_worker(tmp_path: Path) -> None:
    """One after the other: a cluster takes its time to start."""
    for number, (kind, (make, options, message)) in enumerate(LATER.items()):
        folder = tmp_path / str(number)
        folder.mkdir()
        make(folder)
        with pytest.raises(ValueError, match=message) as refusal:
            cluster.tokenize(MODEL, str(folder), **options)
        assert "\n" not in str(refusal.value), kind


@pytest.mark.slow
@pytest.mark.usefixtures("two_workers")
@pytest.mark.filterwarnings("ignore::DeprecationWarning:ray", "ignore::FutureWarning:ray")
@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.parametrize("names", [NAMES, list(range(ROWS))], ids=["strings", "numbers"])
def test_a_night_on_a_cluster(tmp_path: Path, names: list[Any]) -> None:
    """The same table as on one machine: marks, digests and counts."""
    earlier = lf.tokenize(MODEL, TEXT[:50], item_ids=names[:50])
    tonight = TEXT[5:].copy()
    tonight[3] += 1
    write(tmp_path, names[5:], list(tonight))
    found: list[Any] = []
    options = dict(existing=earlier, on_existing=found.append)
    whole = lf.tokenize(MODEL, tmp_path, **options)
    table = cluster.tokenize(MODEL, str(tmp_path), **options)
    for name in ("codes", "is_live", "digests"):
        np.testing.assert_array_equal(getattr(table, name), getattr(whole, name))
    assert table.item_ids.equals(whole.item_ids)
    assert found[0] == found[1]
    assert (found[0].changed, found[0].absent, found[0].new) == (1, 5, 10)
