"""One step of training on one page, and the epoch made of such steps.

Of a batch of B items, with embeddings s [B, S] and collaborative vectors h [B, H]:

    z = encoder(s);  ẑ, codes = quantizer(z);  ŝ = decoder(ẑ)                      `Letter.losses`
    total = recon(ŝ, s) + w_rq (quantization(z, codes) + β diversity(codes)) + α cf(ẑ, h)

Then the gradient of `total`, and one step of AdamW. Of several processes each runs encoder and
decoder on its own rows of the batch, and their gradients are added (`ranks`).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import torch
from torch import Tensor

from letter_fast.losses.diversity import draw_seed
from letter_fast.model import LetterLosses, Share

from .batches import Batch, Batches
from .capture import Capture, Inputs
from .metrics import EpochMeans
from .randomness import generator, stream
from .ranks import Ranks
from .run import Run
from .start import diversity_groups

# Steps between looks at whether the losses are still numbers; each look waits for the device.
_LOOK_EVERY = 100


def train_epoch(
    run: Run, batches: Batches, ranks: Ranks, capture: Capture | None = None
) -> EpochMeans:
    """One pass over the catalog in a fresh order, a step a batch."""
    settings, epoch = run.settings, run.epoch
    torch.manual_seed(stream(settings.seed, "dropout", epoch, ranks.rank))
    positives = generator(ranks.device, settings.seed, "positives", epoch)
    step = Step(run, ranks, _groups(run, ranks), positives, capture)
    means = EpochMeans(run.model, epoch + 1)
    on_its_stream = capture.graph.stream() if capture else nullcontext()
    with on_its_stream, _products(tf32=settings.precision == "tf32"):
        for number, batch in enumerate(batches.epoch(epoch)):
            done, steps = epoch * batches.steps + number, settings.epochs * batches.steps
            losses = step(batch, settings.learning_rate_at(done, steps))
            means.add(losses)
            if number % _LOOK_EVERY == _LOOK_EVERY - 1:
                means.check()
    return means


class Step:
    """A step of an epoch: step(batch, learning_rate) moves the weights once.

    groups: that of each codeword, [ΣK], for the diversity term, or None without it.
    positives: draws that term's partners.
    """

    def __init__(
        self,
        run: Run,
        ranks: Ranks,
        groups: Tensor | None,
        positives: torch.Generator,
        capture: Capture | None = None,
    ) -> None:
        self.run, self.ranks, self.groups, self.positives = run, ranks, groups, positives
        self.capture = capture
        self.one = torch.ones((), device=ranks.device)  # which `backward` would make anew
        self.autocast = torch.bfloat16 if run.settings.precision == "bfloat16" else None

    def __call__(self, batch: Batch, learning_rate: float) -> LetterLosses:
        self.run.set_learning_rate(learning_rate)
        seed = None if self.groups is None else draw_seed(self.positives, self.ranks.device)
        inputs = Inputs(batch.s, batch.h, self.groups, seed)
        if self.capture:
            return self.capture.step(self.move, inputs)
        return self.move(inputs, batch.share, batch.has_cf)

    def move(
        self, inputs: Inputs, share: Share | None = None, has_cf: Tensor | None = None
    ) -> LetterLosses:
        """Losses, gradients and AdamW. share, has_cf: as `Batch` has them."""
        model, optimizer, settings = self.run.model, self.run.optimizer, self.run.settings
        losses = model.losses(
            *inputs,
            self.autocast,
            share=share,
            has_cf=has_cf,
            nonfinite="mark",  # to raise would wait for the device; `EpochMeans` counts them
        )
        optimizer.zero_grad()
        losses.total.backward(self.one)
        self.ranks.add_gradients(model.parameters(), model.quantizer.codebooks)
        if settings.clip_norm > 0:
            torch.nn.utils.clip_grad_norm_(model.parameters(), settings.clip_norm)
        optimizer.step()
        return losses


def _groups(run: Run, ranks: Ranks) -> Tensor | None:
    """The groups of the diversity term in this epoch; None if the term has no weight."""
    config, settings = run.model.config, run.settings
    if config.diversity_weight == 0:
        return None
    found = ranks.ask_first(
        diversity_groups,
        run.model.quantizer,
        config.diversity_clusters,
        settings.seed,
        run.epoch,
    )
    return torch.cat(found).to(ranks.device)


@contextmanager
def _products(tf32: bool) -> Iterator[None]:
    """Products of float32 matrices in TF32, on GPUs that have it; otherwise as torch was told."""
    before = torch.backends.cuda.matmul.allow_tf32
    if tf32:
        torch.backends.cuda.matmul.allow_tf32 = True
    try:
        yield
    finally:
        if tf32:
            torch.backends.cuda.matmul.allow_tf32 = before
