"""LETTER on a catalog: text and collaborative embeddings in, unique semantic IDs out.

python examples/letter_on_your_catalog.py --text text.npy --cf cf.npy --epochs 500 --out run
"""

import argparse
import tempfile
from pathlib import Path

import letter_fast as lf
from letter_fast.catalog import Embeddings
from letter_fast.demo.synthetic import write_synthetic

options = argparse.ArgumentParser(description=__doc__)
options.add_argument("--text", type=Path, help="[items, S] .npy, .parquet or .safetensors")
options.add_argument("--cf", type=Path, help="[items, H], of the same items; else both made up")
options.add_argument("--epochs", type=int, default=3)
options.add_argument("--codes", type=int, nargs="+", default=[16, 16, 16])
options.add_argument("--hidden", type=int, nargs="+", default=[64, 32], help="encoder widths")
options.add_argument("--out", type=Path, help="folder (a temporary one)")
chosen = options.parse_args()

with tempfile.TemporaryDirectory() as temporary:
    out = chosen.out or Path(temporary) / "run"
    text, cf = chosen.text, chosen.cf
    if text is None or cf is None:
        text, cf = write_synthetic(Path(temporary), items=600, text_width=64, cf_width=16)
    config = lf.LetterConfig(
        input_dim=Embeddings.open(text).width,
        hidden=tuple(chosen.hidden),
        latent_dim=16,
        codebook_size=tuple(chosen.codes),
        cf_dim=Embeddings.open(cf).width,
        cf_weight=0.002,
        diversity_clusters=4,
    )
    model = lf.Letter(config)
    settings = lf.TrainSettings(epochs=chosen.epochs, batch_size=256, revive_after=5)
    result = lf.train(
        model, text, cf, out=out, settings=settings, on_epoch=lambda record: print(
            f"epoch {record['epoch']}: loss {record['loss']:.4f}"
        ),
    )  # fmt: skip
    ids = lf.tokenize(result.model, text, unique="optimal")
    ids.save(out / "ids.parquet")
    ids.to_letter_json(out / "index.json")
    print(f"{len(ids)} items; item {ids.item_ids[0]} is {' '.join(ids.tokens([0])[0])}")
