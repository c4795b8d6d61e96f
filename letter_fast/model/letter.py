"""Letter: item embedding → latent → codes → reconstruction, and the loss that ties them."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from huggingface_hub import PyTorchModelHubMixin, hf_hub_download
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor, nn

from letter_fast.atomic import write_bytes
from letter_fast.losses import contrastive_loss, diversity_loss
from letter_fast.quantizer import QuantizerOutput, ResidualQuantizer

from .config import LetterConfig
from .encoder import mlp

CONFIG_FILE = "config.json"
WEIGHTS_FILE = "model.safetensors"

_CARD = """---
{{ card_data }}
---

# Semantic-ID tokenizer

Turns item embeddings into short tuples of codes; trained with letter-fast
([LETTER](https://arxiv.org/abs/2405.07314)). `config.json` holds its shape and loss weights.

```python
import letter_fast as lf

model = lf.Letter.from_pretrained("path or repository")
ids = lf.tokenize(model, "embeddings.npy")
```
"""


class LetterLosses(NamedTuple):
    """total = recon + w_rq (quantization + β diversity) + α cf, and its unweighted terms.

    total, recon, quantization, cf, diversity: []; output: the quantizer's own terms and codes.
    """

    total: Tensor
    recon: Tensor
    quantization: Tensor
    cf: Tensor
    diversity: Tensor
    output: QuantizerOutput


class Letter(
    nn.Module,
    PyTorchModelHubMixin,
    library_name="letter-fast",
    tags=["semantic-ids", "generative-recommendation"],
    model_card_template=_CARD,
):
    """The tokenizer of Wang et al. 2024 (arXiv 2405.07314)."""

    def __init__(self, config: LetterConfig) -> None:
        super().__init__()
        self.config = config
        # The mixin would write its own config.json; `_save_pretrained` writes ours.
        self._hub_mixin_config = None
        widths = [config.input_dim, *config.hidden, config.latent_dim]
        self.encoder = mlp(widths, config.dropout, config.batch_norm)
        self.decoder = mlp(widths[::-1], config.dropout, config.batch_norm)
        self.quantizer = ResidualQuantizer(
            dim=config.latent_dim,
            codebook_size=config.codebook_size,
            commitment_weight=config.commitment_weight,
            residual_grad=config.residual_grad,
            sinkhorn_epsilon=config.sinkhorn_epsilon,
            sinkhorn_sweeps=config.sinkhorn_sweeps,
            reduction=config.reduction,
        )
        self.cf_projection: nn.Module = (
            nn.Identity()
            if config.cf_dim in (None, config.latent_dim)
            else nn.Linear(int(config.cf_dim or 0), config.latent_dim)
        )

    def forward(self, s: Tensor) -> Tensor:
        """The reconstruction of the item embedding through its codes. s [B, S] -> [B, S]"""
        reconstruction: Tensor = self.decoder(self.quantizer(self.encoder(s)).quantized)
        return reconstruction

    def losses(
        self,
        s: Tensor,
        h: Tensor | None = None,
        groups: Sequence[Tensor] | None = None,
        generator: torch.Generator | None = None,
        autocast: torch.dtype | None = None,
    ) -> LetterLosses:
        """LETTER's loss of one batch.

        s [B, S] item embeddings; h [B, H] collaborative embeddings (None: no cf term);
        groups: per level the group of each codeword, [K_l] int64 (None: no diversity term);
        autocast: dtype for encoder and decoder; the quantizer and all losses stay in float32.
        """
        config = self.config
        with torch.autocast(s.device.type, autocast, enabled=autocast is not None):
            z = self.encoder(s)
        output = self.quantizer(z.float())
        with torch.autocast(s.device.type, autocast, enabled=autocast is not None):
            reconstruction = self.decoder(output.quantized)
        distance = F.mse_loss if config.reconstruction == "mse" else F.l1_loss
        recon = distance(reconstruction.float(), s)

        cf = diversity = recon.new_zeros(())
        if h is not None:
            cf = contrastive_loss(output.quantized, self.cf_projection(h))
        if groups is not None:
            per_level = torch.stack(
                [
                    diversity_loss(
                        output.codes[:, level], self.quantizer.codebook(level), group, generator
                    )
                    for level, group in enumerate(groups)
                ]
            )
            diversity = per_level.mean() if config.reduction == "mean" else per_level.sum()
        total = (
            recon
            + config.quantization_weight * (output.loss + config.diversity_weight * diversity)
            + config.cf_weight * cf
        )
        return LetterLosses(total, recon, output.loss, cf, diversity, output)

    @torch.no_grad()
    def encode_latents(self, s: Tensor) -> Tensor:
        """Latents in evaluation mode. s [B, S] -> z [B, D] float32"""
        training = self.training
        self.eval()
        try:
            z: Tensor = self.encoder(s).float()
        finally:
            self.train(training)
        return z

    @torch.no_grad()
    def encode(self, s: Tensor) -> Tensor:
        """Codes of item embeddings. s [B, S] -> [B, L] int64"""
        codes = self.quantizer.encode(self.encode_latents(s))
        assert isinstance(codes, Tensor)
        return codes

    @torch.no_grad()
    def reconstruct(self, codes: Tensor) -> Tensor:
        """Item embeddings that codes stand for. codes [B, L] -> [B, S]"""
        training = self.training
        self.eval()
        try:
            reconstruction: Tensor = self.decoder(self.quantizer.decode(codes))
        finally:
            self.train(training)
        return reconstruction

    def fingerprint(self) -> str:
        """SHA-256 of configuration and weights: which model made an ID."""
        digest = hashlib.sha256(json.dumps(self.config.to_dict(), sort_keys=True).encode())
        for name, value in sorted(self.state_dict().items()):
            digest.update(name.encode())
            digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
        return digest.hexdigest()

    def _save_pretrained(self, save_directory: Path) -> None:
        state = {
            name: value.detach().cpu().contiguous() for name, value in self.state_dict().items()
        }
        config = json.dumps(self.config.to_dict(), indent=2) + "\n"
        write_bytes(Path(save_directory) / WEIGHTS_FILE, save(state, metadata={"format": "pt"}))
        write_bytes(Path(save_directory) / CONFIG_FILE, config.encode())

    @classmethod
    def from_pretrained(  # type: ignore[override]
        cls,
        name: str | os.PathLike[str],
        *,
        map_location: str = "cpu",
        **hub: Any,
    ) -> Letter:
        """Reads a folder, or a model of the Hugging Face hub, in evaluation mode.

        hub: options of `huggingface_hub.hf_hub_download` (revision, token, cache_dir, …).
        Raises:
            ValueError: a file is missing, broken, or of another model.
        """

        def fetch(file: str) -> Path:
            if not Path(name).is_dir():
                return Path(hf_hub_download(str(name), file, **hub))
            if not (Path(name) / file).is_file():
                raise ValueError(f"{name} is no letter-fast model: it has no {file}")
            return Path(name) / file

        config_file, weights_file = fetch(CONFIG_FILE), fetch(WEIGHTS_FILE)
        try:
            values = json.loads(config_file.read_text())
        except (UnicodeDecodeError, json.JSONDecodeError) as error:
            raise ValueError(f"{config_file} is not JSON: {error}") from error
        if not isinstance(values, dict):
            raise ValueError(f"{config_file} must hold a JSON object")
        try:
            model = cls(LetterConfig.from_dict(values))
        except ValueError as error:
            raise ValueError(f"{config_file}: {error}") from error
        try:
            model.load_state_dict(load_file(weights_file, device=map_location))
        except (SafetensorError, RuntimeError) as error:
            reason = str(error).splitlines()[0]
            raise ValueError(
                f"{weights_file} does not hold this model's weights: {reason}"
            ) from error
        return model.eval()
