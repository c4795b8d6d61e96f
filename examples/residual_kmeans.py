"""Residual k-means on item embeddings: no training loop, a table of unique IDs at the end.

python examples/residual_kmeans.py [--text text.npy] [--codes 256 256 256] [--balanced]
"""

import argparse
import tempfile
from pathlib import Path

import letter_fast as lf
from letter_fast.catalog import Embeddings
from letter_fast.demo.synthetic import write_synthetic
from letter_fast.training import FitSettings, fit_residual_kmeans

options = argparse.ArgumentParser(description=__doc__)
options.add_argument("--text", type=Path, help=".npy, .parquet or .safetensors; else made up")
options.add_argument("--codes", type=int, nargs="+", default=[32, 32, 32])
options.add_argument("--balanced", action="store_true")
options.add_argument("--out", type=Path, help="folder (a temporary one)")
chosen = options.parse_args()

with tempfile.TemporaryDirectory() as temporary:
    out = chosen.out or Path(temporary)
    text = chosen.text or write_synthetic(Path(temporary), items=1000, text_width=64)[0]
    config = lf.ResidualKMeansConfig(
        input_dim=Embeddings.open(text).width,
        codebook_size=tuple(chosen.codes),
        balanced=chosen.balanced,
        normalize="unit",
    )
    model = lf.ResidualKMeans(config)
    fit_residual_kmeans(model, text, out / "model", FitSettings())
    ids = lf.tokenize(model, text, unique="optimal")
    ids.save(out / "ids.parquet")
    report = ids.metadata["resolution"]
    print(f"{len(ids)} items, collisions before: {report['before']}")
    print(f"after: {report['after']}")
    print(f"item {ids.item_ids[0]} is {' '.join(ids.tokens([0])[0])}")
