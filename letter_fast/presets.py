"""Named settings that were measured to do better than the public code's, which stay the defaults.

recommended: a tokenizer whose IDs a recommender learns from (docs/results.md has the figures).

- The CF term compares by cosines over τ = 0.2. By inner products, as in the public code, it wants
  long latents, which outgrow the codewords that k-means placed at the start: level 1 is then used
  unevenly.
- α = 0.1 / S. The reconstruction error of a row of unit length and width S is at most 1/S, and the
  CF term begins at ln B, near 7. The public α = 0.01 makes that 26 times all there is to
  reconstruct at S = 384, this one 0.7 times. Rows of another length need α times their mean squared
  length.
- A codeword without items for five epochs moves onto a residual.
"""

from __future__ import annotations

from typing import Any, Literal, get_args

from letter_fast import validation

PresetName = Literal["recommended"]
PRESETS: tuple[PresetName, ...] = get_args(PresetName)


def model_fields(name: PresetName, input_dim: int) -> dict[str, Any]:
    """Fields of `LetterConfig` that the preset sets, for text of width `input_dim`."""
    validation.choice(name, PRESETS, "preset")
    validation.integer(input_dim, "input_dim", 1, validation.MOST)
    return {"cf_weight": 0.1 / input_dim, "cf_similarity": "cosine", "cf_temperature": 0.2}


def training_fields(name: PresetName) -> dict[str, Any]:
    """Fields of `TrainSettings` that the preset sets."""
    validation.choice(name, PRESETS, "preset")
    return {"revive_after": 5}
