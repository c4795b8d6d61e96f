"""Measures of a tokenizer on its catalog, cheapest first; none needs a recommender."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from letter_fast import validation
from letter_fast.catalog import Embeddings, align_cf
from letter_fast.catalog.alignment import CF_MISSING, CfMissing
from letter_fast.catalog.id_types import ItemId
from letter_fast.model import Letter, Tokenizer, check_trained, trained_on
from letter_fast.tokenization import SemanticIds, collision_statistics
from letter_fast.tokenization.digests import row_digests
from letter_fast.tokenization.provenance import check_model

from .joined import joined

# Items whose neighbours are looked for, at most; a seeded sample of larger catalogs.
_QUERIES = 10_000
_NEIGHBOURS = 10
OF_TABLES = "of ID tables only"
# Scores held at once: 64 MiB of them.
_SCORES = 1 << 24


@dataclass(frozen=True)
class Evaluation:
    """One tokenizer, or one ID table of it, on one catalog; lists are per level.

    What is None, `missing` says why.
    """

    items: int
    reconstruction: float
    """Mean (s − ŝ)² of what the codes are decoded to."""
    latent_error: list[float]
    """Mean ‖z − q_l‖² / mean ‖z‖² after each level."""
    usage: list[float]
    """Share of the level's codewords that occur."""
    entropy: list[float]
    """Of the codes, in bits."""
    perplexity: list[float]
    """2^entropy: codewords in even use that would be as spread."""
    collision_rate: float
    """1 − distinct IDs / items."""
    colliding: float
    """Items that share their ID with another / items."""
    largest_group: int
    """Items of the most crowded ID."""
    cf_recall: float | None
    """Share of items i for which h_i is among the 10 largest ⟨q_i, h_j⟩ over all items j; only of
    a `Letter`, whose latents live where h does."""
    neighbour_overlap: float | None
    """Mean share of equal codes between an item and its 10 nearest by CF cosine."""
    random_overlap: float | None
    """The same between random pairs."""
    changed: int | None = None
    """Of a table: items with another embedding than the one their ID was made from."""
    beyond: int = 0
    """Of a table: its live items that the catalog lacks, and that were not measured."""
    first_beyond: ItemId | None = None
    """One of them."""
    missing: dict[str, str] = field(default_factory=dict)
    """By the name of a measure that is None, the reason."""

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


@torch.no_grad()
def evaluate(
    model: Tokenizer,
    embeddings: Any,
    cf: Any = None,
    ids: SemanticIds | None = None,
    *,
    cf_by_row: bool = False,
    with_removed: bool = False,
    other_model: bool = False,
    cf_missing: CfMissing = "error",
    batch_size: int = 4096,
    seed: int = 0,
) -> Evaluation:
    """Measures the codes that `model` gives (collisions unresolved), or those of its table `ids`.

    Every measure is of the same codes. A table is joined by item id.

    embeddings, cf: what `Embeddings.open` takes, with the columns the model was trained with.
    cf_by_row: row i of both is one item, whatever ids there are.
    with_removed: items that the table marks as removed are measured too.
    other_model: the table is another model's, and that is meant.
    cf_missing: "mask" leaves items that `cf` lacks out of what is measured with it.
    Raises:
        ValueError: inputs, model and IDs don't fit each other, or the model was never trained.
    """
    check_trained(model)
    validation.choice(cf_missing, CF_MISSING, "cf_missing")
    validation.flags(cf_by_row=cf_by_row, with_removed=with_removed, other_model=other_model)
    batch_size = validation.integer(batch_size, "batch_size", 1)
    seed = validation.integer(seed, "seed")
    usual = trained_on(model)
    catalog = Embeddings.open(embeddings, usual=usual.embeddings)
    catalog.check_width(model.config.input_dim)
    quantizer = model.quantizer
    table = None
    if ids is not None:
        check_model(ids, model.fingerprint(), other_model)
        table = joined(ids, catalog, quantizer, with_removed)
    device = quantizer.codebooks.device
    levels = quantizer.levels
    encoded, quantized, digests = [], [], []
    norm, error, recon = 0.0, np.zeros(levels), 0.0
    done = 0
    for batch in catalog.batches(batch_size):
        s = torch.from_numpy(batch).to(device)
        z = model.encode_latents(s)
        if table is None:
            codes = quantizer.encode(z)
            encoded.append(codes.cpu())
        else:
            own = table.codes[done : done + len(batch), :levels]
            codes = torch.from_numpy(own).to(device)
            digests.append(row_digests(batch))
        done += len(batch)
        norm += float(z.double().square().sum())
        for level in range(levels):
            q = quantizer.decode(codes[:, : level + 1])
            error[level] += float((z - q).double().square().sum())
        recon += float((model.reconstruct(codes) - s).double().square().sum())
        if cf is not None and isinstance(model, Letter):
            quantized.append(quantizer.decode(codes).cpu())

    whole = torch.cat(encoded).numpy() if table is None else table.codes
    sizes = quantizer.codebook_sizes if ids is None else ids.sizes
    spread = [level_spread(whole[:, level], size) for level, size in enumerate(sizes)]
    collisions = collision_statistics(whole)
    missing = {}
    recall = neighbours = strangers = None
    if cf is None:
        missing = dict.fromkeys(("cf_recall", "neighbour_overlap", "random_overlap"), "needs CF")
    else:
        targets = align_cf(catalog, Embeddings.open(cf, usual=usual.cf), cf_missing, cf_by_row)
        h = targets.read()
        if isinstance(model, Letter):
            projected = model.cf_projection(h.to(device)).cpu()
            if projected.shape[1] != quantizer.dim:
                raise ValueError(
                    f"the collaborative embeddings have width {h.shape[1]}, the model expects "
                    f"{model.config.cf_dim or quantizer.dim}"
                )
            projected[~h.any(dim=1)] = 0.0  # the map's bias is no CF
            recall = cf_recall(torch.cat(quantized), projected, seed)
        else:
            missing["cf_recall"] = "its latents have no CF"
        neighbours, strangers = code_overlap(whole, h, seed)
    changed = None if table is None else table.changed(np.concatenate(digests))
    if changed is None:
        missing["changed"] = OF_TABLES if table is None else "not recorded"
    return Evaluation(
        items=catalog.rows,
        reconstruction=recon / (catalog.rows * catalog.width),
        latent_error=(error / max(norm, 1e-300)).tolist(),
        usage=[one[0] for one in spread],
        entropy=[one[1] for one in spread],
        perplexity=[2.0 ** one[1] for one in spread],
        collision_rate=collisions.collision_rate,
        colliding=collisions.colliding,
        largest_group=collisions.largest_group,
        cf_recall=recall,
        neighbour_overlap=neighbours,
        random_overlap=strangers,
        changed=changed,
        beyond=0 if table is None else table.beyond,
        first_beyond=None if table is None else table.first_beyond,
        missing=missing,
    )


def level_spread(codes: NDArray[np.integer[Any]], size: int) -> tuple[float, float]:
    """Share of codewords used and entropy in bits of one level. codes [N]"""
    counts = np.bincount(codes, minlength=size)
    share = counts[counts > 0] / max(counts.sum(), 1)
    return float((counts > 0).mean()), float(-(share * np.log2(share)).sum())


def cf_recall(q: Tensor, h: Tensor, seed: int = 0) -> float:
    """Share of rows i with h_i among the 10 largest ⟨q_i, h_j⟩; items without CF (0) are left out.

    q, h [N, D]; ties count against the item. At most 10,000 seeded queries.
    """
    rows = _queries(h, seed)
    if len(rows) == 0:
        return 0.0
    found = 0
    for part in rows.split(max(1, _SCORES // len(h))):
        scores = q[part] @ h.T
        own = scores.gather(1, part[:, None])
        found += int(((scores >= own).sum(dim=1) <= _NEIGHBOURS).sum())
    return found / len(rows)


def code_overlap(codes: NDArray[np.integer[Any]], h: Tensor, seed: int = 0) -> tuple[float, float]:
    """Mean share of equal codes, level by level: with the 10 nearest by CF cosine; by chance.

    codes [N, T], h [N, H]; items without CF (0) are left out.
    """
    usable = (h.abs().sum(dim=1) > 0).nonzero().squeeze(1)
    if len(usable) < 2:
        return 0.0, 0.0
    table = torch.from_numpy(codes)
    unit = torch.nn.functional.normalize(h, dim=1)
    known = unit[usable]
    rows = _queries(h, seed)
    near = min(_NEIGHBOURS, len(usable) - 1)
    shared = 0.0
    for part in rows.split(max(1, _SCORES // len(known))):
        scores = unit[part] @ known.T
        scores[part[:, None] == usable[None, :]] = -torch.inf
        others = usable[scores.topk(near, dim=1).indices]
        shared += float((table[part][:, None] == table[others]).double().mean(dim=(1, 2)).sum())
    generator = torch.Generator().manual_seed(seed)
    left, right = (
        usable[torch.randint(len(usable), (100_000,), generator=generator)] for _ in range(2)
    )
    apart = left != right
    chance = float((table[left[apart]] == table[right[apart]]).double().mean())
    return shared / len(rows), chance


def _queries(h: Tensor, seed: int) -> Tensor:
    usable = (h.abs().sum(dim=1) > 0).nonzero().squeeze(1)
    if len(usable) <= _QUERIES:
        return usable
    generator = torch.Generator().manual_seed(seed)
    return usable[torch.randperm(len(usable), generator=generator)[:_QUERIES]]
