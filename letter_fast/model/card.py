"""The README.md of a model's folder, which the Hugging Face hub shows as its card."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

TAGS = ("semantic-ids", "generative-recommendation", "residual-quantization")

# A card that holds it is replaced when the model is saved again.
WRITTEN = "<!-- letter-fast wrote this card; without this line it leaves it as it is. -->"

_MEASURES = {
    "recon": "reconstruction loss of the last epoch",
    "collision_rate": "collisions, 1 − distinct IDs / items, before they are resolved",
    "catalog_usage": "share of codewords in use, by level",
    "catalog_perplexity": "perplexity of the codes, by level",
}


def card_text(
    class_name: str,
    method: str,
    config: Mapping[str, Any],
    training: Mapping[str, Any],
    *,
    license: str | None = None,
    data: str | None = None,
    measures: Mapping[str, Any] | None = None,
) -> str:
    """The card of one model.

    class_name: as in `lf.Letter`; method: in markdown; config: every setting; training: what
    training noted, see `ModelFolder.training_facts`.
    license: name of a licence as the hub knows it, as "cc-by-4.0"; data: of which catalog, in
    words; measures: others than those of the training, by name.
    """
    head = "".join(f"- {tag}\n" for tag in TAGS)
    licensed = f"license: {license}\n" if license else ""
    noted = {name: training[key] for key, name in _MEASURES.items() if key in training}
    noted |= {str(name): value for name, value in (measures or {}).items()}
    catalog = data or "not said by who trained it"
    if "items" in training:
        catalog += f"; {training['items']:,} items, embeddings of width {config['input_dim']}"
    if "epochs" in training:
        catalog += f", {training['epochs']:,} epochs"
    return f"""---
{licensed}library_name: letter-fast
tags:
{head}---
{WRITTEN}

# Semantic-ID tokenizer

Turns item embeddings into short tuples of codes; made with letter-fast ({method}).

```python
import letter_fast as lf

model = lf.{class_name}.from_pretrained("path or repository")
ids = lf.tokenize(model, "embeddings.npy")
```

## Data

{catalog}.

## Measures

{_table("measure", noted) if noted else "None were noted."}

## Settings

{_table("setting", config)}

## Licence

{license or "Not stated: it is for who publishes the model to say."}
"""


def _table(what: str, values: Mapping[str, Any]) -> str:
    rows = [f"| {name} | {_shown(value)} |" for name, value in values.items()]
    return "\n".join([f"| {what} | |", "|---|---|", *rows])


def _shown(value: Any) -> str:
    if isinstance(value, Sequence) and not isinstance(value, str):
        return ", ".join(map(_shown, value))
    return f"{value:.4g}" if isinstance(value, float) else str(value)
