"""letter-fast train."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from .terminal import Json, print_json, progress


def numbers(text: str | None) -> tuple[int, ...] | None:
    """ "256,256,64" as integers; ValueError otherwise."""
    if text is None:
        return None
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError as error:
        raise ValueError(f"{text!r} must be integers joined by commas, like 256,256,256") from error


def train(
    embeddings: Annotated[
        Path, typer.Argument(help="Item text embeddings: .npy, .parquet or .safetensors.")
    ],
    out: Annotated[Path, typer.Option(help="Folder for model, log and checkpoint.")],
    cf: Annotated[
        Path | None,
        typer.Option(help="Collaborative embeddings; without them the model is a plain RQ-VAE."),
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option(help="TOML file with tables model and training; flags override it."),
    ] = None,
    epochs: Annotated[int | None, typer.Option(help="Passes over the catalog. (200)")] = None,
    batch_size: Annotated[int | None, typer.Option(help="Items per step. (1024)")] = None,
    learning_rate: Annotated[float | None, typer.Option(help="Of AdamW. (1e-3)")] = None,
    codebook_size: Annotated[
        str | None, typer.Option(help="Codewords of each level. (256,256,256,256)")
    ] = None,
    hidden: Annotated[
        str | None, typer.Option(help="Encoder widths. (2048,1024,512,256,128,64)")
    ] = None,
    latent_dim: Annotated[int | None, typer.Option(help="Width of the latent. (32)")] = None,
    cf_weight: Annotated[float | None, typer.Option(help="α of the CF loss. (0.01)")] = None,
    diversity_weight: Annotated[
        float | None, typer.Option(help="β of the diversity loss. (1e-4)")
    ] = None,
    residual_grad: Annotated[
        str | None,
        typer.Option(help="straight_through, detach, full or aggregate. (straight_through)"),
    ] = None,
    start: Annotated[
        str | None, typer.Option(help="balanced_kmeans, kmeans or random. (balanced_kmeans)")
    ] = None,
    precision: Annotated[str | None, typer.Option(help="float32 or bfloat16. (float32)")] = None,
    evaluate_every: Annotated[
        int | None, typer.Option(help="Epochs between evaluations. (10)")
    ] = None,
    checkpoint_every: Annotated[
        int | None, typer.Option(help="Epochs between checkpoints. (10)")
    ] = None,
    early_stop: Annotated[
        str | None, typer.Option(help="Stop by loss, recon or collision_rate.")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Of every random choice. (0)")] = None,
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:1, …")] = "cpu",
    tensorboard: Annotated[
        bool, typer.Option("--tensorboard", help="Also write TensorBoard events.")
    ] = False,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Ignore a checkpoint in the output folder.")
    ] = False,
    vectors: Annotated[
        str | None, typer.Option(help="Column or tensor that holds the vectors.")
    ] = None,
    ids: Annotated[str | None, typer.Option(help="Column that holds the item ids.")] = None,
    json: Json = False,
) -> None:
    """Train a tokenizer (LETTER, or RQ-VAE without --cf). A killed run goes on where it was.

    Example: letter-fast train text.npy --cf cf.npy --out run
    """
    import torch

    from letter_fast.catalog import Embeddings
    from letter_fast.model import Letter
    from letter_fast.training import train as run

    from .config import build

    flags: dict[str, Any] = {
        "epochs": epochs,
        "batch_size": batch_size,
        "learning_rate": learning_rate,
        "codebook_size": numbers(codebook_size),
        "hidden": numbers(hidden),
        "latent_dim": latent_dim,
        "cf_weight": cf_weight,
        "diversity_weight": diversity_weight,
        "residual_grad": residual_grad,
        "start": start,
        "precision": precision,
        "evaluate_every": evaluate_every,
        "checkpoint_every": checkpoint_every,
        "early_stop": early_stop,
        "seed": seed,
        "tensorboard": tensorboard or None,
    }
    catalog = Embeddings.open(embeddings, vectors=vectors, ids=ids)
    targets = Embeddings.open(cf) if cf is not None else None
    model_config, settings = build(
        config, flags, catalog.width, targets.width if targets is not None else None
    )
    try:
        place = torch.device(device)
        torch.empty(0, device=place)
    except (RuntimeError, AssertionError) as error:
        raise ValueError(
            f"device {device!r} can't be used: {str(error).splitlines()[0]}"
        ) from error
    torch.manual_seed(settings.seed)
    model = Letter(model_config)
    with progress("epochs") as bar:
        task = bar.add_task("training", total=settings.epochs, note="")

        def show(record: dict[str, Any]) -> None:
            rate = record.get("collision_rate")
            note = f"loss {record['loss']:.4g}"
            note += f", collisions {rate:.2%}" if rate is not None else ""
            bar.update(task, completed=record["epoch"], note=note)

        result = run(
            model, catalog, targets, out, settings, device=place, resume=not fresh, on_epoch=show
        )
    summary = {"model": str(out), "epochs": result.epochs, "stopped_early": result.stopped_early}
    if json:
        print_json({**summary, **result.record})
        return
    record = result.record
    print(f"trained {result.epochs} epochs; the model is in {out}")
    print(f"loss {record['loss']:.4g}, reconstruction {record['recon']:.4g}", end="")
    print(f", collisions {record['collision_rate']:.2%}" if "collision_rate" in record else "")
    print(f"next: letter-fast tokenize {out} {embeddings} --out ids.parquet")
