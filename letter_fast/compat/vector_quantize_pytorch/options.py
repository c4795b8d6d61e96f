"""Options of the package that must keep their default here; each is refused by its name."""

from __future__ import annotations

from typing import Any

import torch

from letter_fast.options import check_keys

UNSUPPORTED: dict[str, Any] = {
    "heads": 1,
    "separate_codebook_per_head": False,
    "accept_image_fmap": False,
    "accept_3d_fmap": False,
    "channel_last": True,
    "layernorm_after_project_in": False,
    "commitment_use_cross_entropy_loss": False,
    "codebook_diversity_loss_weight": 0.0,
    "codebook_diversity_temperature": 100.0,
    "straight_through": False,
    "vq_bridge": None,
    "manual_ema_update": False,
    "in_place_codebook_optimizer": None,
    "manual_in_place_optimizer_update": False,
    "affine_param": False,
    "affine_param_batch_decay": 0.99,
    "affine_param_codebook_decay": 0.9,
    "sync_affine_param": False,
    "sync_kmeans": True,
    "sync_codebook": None,
    "sync_update_v": 0.0,
}


def check_unsupported(options: dict[str, Any], known: list[str]) -> None:
    """Refuses options that are neither the package's nor left as they are.

    known: names that the caller has taken out of `options` already
    Raises:
        ValueError: the package has no such option; names the nearest.
        NotImplementedError: it has, and it isn't here.
    """
    check_keys(options, [*known, *UNSUPPORTED], "ResidualVQ")
    changed = {name: value for name, value in options.items() if value != UNSUPPORTED[name]}
    # Absent synchronisation is what one process has anyway.
    for name in ("sync_kmeans", "sync_codebook"):
        if changed.get(name) is False:
            del changed[name]
    refuse(changed)
    distributed = torch.distributed
    several = (
        distributed.is_available()
        and distributed.is_initialized()
        and distributed.get_world_size() > 1
    )
    if several and options.get("sync_codebook") is not False:
        raise NotImplementedError(
            "codebooks are not synchronised between processes: sync_codebook=False leaves each its "
            "own"
        )


def refuse(given: dict[str, Any]) -> None:
    """Refuses arguments that are given at all: NotImplementedError names the first."""
    for name, value in given.items():
        if value is not None:
            plain = isinstance(value, bool | int | float | str)
            shown = repr(value) if plain else f"<{type(value).__name__}>"
            raise NotImplementedError(f"{name}={shown} of ResidualVQ is not supported here")
