"""letter-fast train."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .columns import (
    CfByRow,
    CfIds,
    CfVectors,
    Ids,
    Vectors,
    named_items,
    open_cf,
    tokenize_hint,
)
from .interrupts import resumable
from .terminal import Json, decimals, numbers, print_json, progress

if TYPE_CHECKING:
    import torch

    from .config import Options


def _model(text: str) -> Any:
    return typer.Option(help=text, rich_help_panel="Model (default)")


def _training(text: str) -> Any:
    return typer.Option(help=text, rich_help_panel="Training (default)")


def _kmeans(text: str) -> Any:
    return typer.Option(help=text, rich_help_panel="With --model residual-kmeans (default)")


def train(
    context: typer.Context,
    embeddings: Annotated[
        Path, typer.Argument(help="Item text embeddings: .npy, .parquet or .safetensors.")
    ],
    out: Annotated[Path, typer.Option(help="Folder for model, log and checkpoint.")],
    model: Annotated[
        str | None,
        typer.Option(
            help="letter, or residual-kmeans: no encoder, codewords are k-means of the embeddings "
            "themselves, then of what is left over of them, and so on. (letter)"
        ),
    ] = None,
    cf: Annotated[
        Path | None,
        typer.Option(help="Collaborative embeddings; without them the model is a plain RQ-VAE."),
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option(
            help="TOML file with tables model and training, which may hold model_type and any "
            "field of LetterConfig and TrainSettings, or of ResidualKMeansConfig and FitSettings; "
            "flags override it."
        ),
    ] = None,
    preset: Annotated[
        str | None,
        typer.Option(
            help="recommended: the CF term by cosines, α = 0.1 / width (for rows of length 1), "
            "dead codewords revived; the file and the flags override it."
        ),
    ] = None,
    vectors: Vectors = None,
    ids: Ids = None,
    cf_vectors: CfVectors = None,
    cf_ids: CfIds = None,
    cf_by_row: CfByRow = False,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Ignore a checkpoint in the output folder.")
    ] = False,
    allow_collisions: Annotated[
        bool,
        typer.Option(
            "--allow-collisions",
            help="Train on more items than the codebooks make IDs; otherwise that is refused.",
        ),
    ] = False,
    json: Json = False,
    codebook_size: Annotated[
        str | None,
        _model("Codewords of each level; 256,256,256 for residual-kmeans. (256,256,256,256)"),
    ] = None,
    hidden: Annotated[str | None, _model("Encoder widths. (2048,1024,512,256,128,64)")] = None,
    latent_dim: Annotated[int | None, _model("Width of the latent. (32)")] = None,
    cf_missing: Annotated[
        str | None,
        _training("Items that --cf lacks: error, or mask (they have no CF term). (error)"),
    ] = None,
    cf_weight: Annotated[float | None, _model("α of the CF loss. (0.01)")] = None,
    cf_similarity: Annotated[
        str | None, _model("The CF loss compares by product, or by cosine. (product)")
    ] = None,
    cf_temperature: Annotated[
        float | None, _model("τ, divides these similarities; cosines need one near 0.2. (1.0)")
    ] = None,
    diversity_weight: Annotated[float | None, _model("β of the diversity loss. (0.0001)")] = None,
    quantization_weight: Annotated[
        float | None, _model("w_rq of the quantization loss. (1.0)")
    ] = None,
    commitment_weight: Annotated[float | None, _model("μ of the commitment term. (0.25)")] = None,
    diversity_clusters: Annotated[
        int | None, _model("Groups of each codebook, for the diversity loss. (10)")
    ] = None,
    sinkhorn_epsilon: Annotated[
        str | None,
        _model(
            "ε of the uniform mapping while training, for each level, 0 for none: 0,0,0,0.003. "
            "Where it is left out, 0.003 at the last level."
        ),
    ] = None,
    sinkhorn_sweeps: Annotated[int | None, _model("Sweeps of Sinkhorn–Knopp. (50)")] = None,
    reconstruction: Annotated[str | None, _model("mse or l1. (mse)")] = None,
    reduction: Annotated[
        str | None, _model("Of the quantization losses: mean, or sum (paper). (mean)")
    ] = None,
    dropout: Annotated[float | None, _model("Before every linear layer. (0.0)")] = None,
    batch_norm: Annotated[
        bool,
        typer.Option(
            "--batch-norm",
            help="Batch normalization after every hidden linear layer.",
            rich_help_panel="Model (default)",
        ),
    ] = False,
    residual_grad: Annotated[
        str | None, _model("straight_through, detach, full or aggregate. (straight_through)")
    ] = None,
    codebook_update: Annotated[
        str | None,
        _model("gradient, or ema: moving averages; needs --diversity-weight 0. (gradient)"),
    ] = None,
    ema_decay: Annotated[float | None, _model("Of the moving averages. (0.99)")] = None,
    epochs: Annotated[int | None, _training("Passes over the catalog. (200)")] = None,
    batch_size: Annotated[int | None, _training("Items per step. (1024)")] = None,
    learning_rate: Annotated[float | None, _training("Of AdamW, at its highest. (0.001)")] = None,
    schedule: Annotated[
        str | None, _training("Learning rate: constant, or cosine down to 0. (constant)")
    ] = None,
    warmup_steps: Annotated[
        int | None, _training("First steps, over which the learning rate rises. (0)")
    ] = None,
    weight_decay: Annotated[float | None, _training("Of AdamW. (0.0001)")] = None,
    clip_norm: Annotated[
        float | None, _training("Largest gradient norm; 0 does not clip. (0.0)")
    ] = None,
    compile: Annotated[
        bool,
        typer.Option(
            "--compile",
            help="Run encoder and decoder through torch.compile.",
            rich_help_panel="Training (default)",
        ),
    ] = False,
    capture: Annotated[
        bool,
        typer.Option(
            "--capture",
            help="Replay the training step as one CUDA graph.",
            rich_help_panel="Training (default)",
        ),
    ] = False,
    start: Annotated[
        str | None,
        _training("Codebooks start by balanced_kmeans, kmeans or random. (balanced_kmeans)"),
    ] = None,
    start_rows: Annotated[
        int | None, _training("Rows that the codebook start sees, at most. (20000)")
    ] = None,
    start_restarts: Annotated[
        int | None, _training("Restarts of the start's k-means; the best is kept. (1)")
    ] = None,
    revive_after: Annotated[
        int | None, _training("Epochs without use that revive a codeword; 0 is never. (0)")
    ] = None,
    precision: Annotated[str | None, _training("float32, tf32 or bfloat16. (float32)")] = None,
    evaluate_every: Annotated[int | None, _training("Epochs between evaluations. (10)")] = None,
    checkpoint_every: Annotated[int | None, _training("Epochs between checkpoints. (10)")] = None,
    early_stop: Annotated[
        str | None, _training("Stop by loss, recon or collision_rate. (None)")
    ] = None,
    patience: Annotated[
        int | None, _training("Evaluations without a better value before it stops. (10)")
    ] = None,
    seed: Annotated[int | None, _training("Of every random choice. (0)")] = None,
    balanced: Annotated[
        bool,
        typer.Option(
            "--balanced",
            help="Keep N/2K to 2N/K items in every cluster, for a more even use of the codes.",
            rich_help_panel="With --model residual-kmeans (default)",
        ),
    ] = False,
    normalize: Annotated[
        str | None, _kmeans("none, or unit: scale every embedding to length 1 first. (none)")
    ] = None,
    iterations: Annotated[int | None, _kmeans("Of k-means at each level, at most. (25)")] = None,
    restarts: Annotated[
        int | None, _kmeans("Runs of k-means at each level; the best is kept. (1)")
    ] = None,
    tolerance: Annotated[
        float | None, _kmeans("k-means ends when the error falls by less than this share. (0.0001)")
    ] = None,
    device: Annotated[
        str, typer.Option(help="cpu, cuda, cuda:1, …", rich_help_panel="Training (default)")
    ] = "cpu",
    tensorboard: Annotated[
        bool,
        typer.Option(
            "--tensorboard",
            help="Also write TensorBoard events.",
            rich_help_panel="Training (default)",
        ),
    ] = False,
) -> None:
    """Train a tokenizer: LETTER (without --cf an RQ-VAE), or residual k-means.

    A killed run goes on where it was.

    Example: letter-fast train text.npy --cf cf.npy --out run

    Example: letter-fast train text.npy --model residual-kmeans --balanced --out run

    In several processes: torchrun --nproc-per-node 2 -m letter_fast.cli.app train …
    """
    import torch

    from letter_fast.atomic import check_folder
    from letter_fast.catalog import Embeddings
    from letter_fast.model import Letter, LetterConfig, ResidualKMeansConfig
    from letter_fast.presets import model_fields, training_fields
    from letter_fast.torchrun import refuse_processes
    from letter_fast.training import FitSettings, TrainSettings
    from letter_fast.training import train as run
    from letter_fast.training.ranks import is_first_process

    from .config import build, chosen_model
    from .residual_kmeans import fit

    flags = _options(context.params, LetterConfig, TrainSettings, ResidualKMeansConfig, FitSettings)
    check_folder(out, inputs=(embeddings, cf))
    catalog = Embeddings.open(embeddings, vectors=vectors, ids=ids)
    targets = open_cf(cf, cf_vectors, cf_ids, cf_by_row)
    hint = tokenize_hint(out, embeddings, vectors, ids)
    shapes: dict[str, Any] = {"input_dim": catalog.width}
    if chosen_model(config, model) == ResidualKMeansConfig.model_type:
        if preset is not None:
            raise ValueError("--preset is no option of --model residual-kmeans")
        refuse_processes("residual k-means")
        if targets is not None:
            raise ValueError("residual k-means uses no collaborative embeddings: leave out --cf")
        chosen = build(config, flags, ResidualKMeansConfig, FitSettings, shapes)
        fit(catalog, *chosen, out, _usable(device), fresh, json, hint)
        return
    shapes |= {"cf_weight": 0.0} if targets is None else {"cf_dim": targets.width}
    named: Any = preset
    fields = (
        ({}, {}) if named is None else (model_fields(named, catalog.width), training_fields(named))
    )
    model_config, settings = build(config, flags, LetterConfig, TrainSettings, shapes, fields)
    place = _usable(device)
    torch.manual_seed(settings.seed)
    letter = Letter(model_config)
    talks = is_first_process()
    with progress("epochs", talks) as bar:
        task = bar.add_task("training", total=settings.epochs, note="")

        def show(record: dict[str, Any]) -> None:
            rate = record.get("collision_rate")
            note = f"loss {record['loss']:.3g}"
            note += f", collisions {rate:.1%}" if rate is not None else ""
            bar.update(task, completed=record["epoch"], note=note)

        with resumable("the same command goes on from the last finished epoch"):
            result = run(
                letter,
                catalog,
                targets,
                out,
                settings,
                cf_by_row=cf_by_row,
                device=place,
                resume=not fresh,
                on_epoch=show,
            )
    if not talks:
        return
    summary = {"model": str(out), "epochs": result.epochs, "stopped_early": result.stopped_early}
    summary |= {"item_ids": catalog.named_by}
    if json:
        print_json({**summary, **result.record})
        return
    record = result.record
    print(f"trained {result.epochs} epochs; the model is in {out}")
    print(f"loss {record['loss']:.4g}, reconstruction {record['recon']:.4g}", end="")
    print(f", collisions {record['collision_rate']:.2%}" if "collision_rate" in record else "")
    if without := record.get("without_cf"):
        print(f"{without:,} of {catalog.rows:,} items have no CF vector and had no CF term")
    print(named_items(catalog))
    print(hint)


def _options(given: dict[str, Any], *options: type[Options]) -> dict[str, Any]:
    """The flags that are fields of `options`, by name; None of those that were not given."""
    known = {field.name for one in options for field in dataclasses.fields(one)}
    fields = {name: value for name, value in given.items() if name in known}
    for name in ("codebook_size", "hidden"):
        fields[name] = numbers(fields[name])
    fields["sinkhorn_epsilon"] = decimals(fields["sinkhorn_epsilon"])
    return {name: None if value is False else value for name, value in fields.items()}


def _usable(device: str) -> torch.device:
    import torch

    from letter_fast.training.ranks import own_device

    try:
        place = own_device(torch.device(device))
        torch.zeros((), device=place).item()
    except (RuntimeError, AssertionError) as error:
        raise ValueError(
            f"device {device!r} can't be used: {str(error).splitlines()[0]}"
        ) from error
    return place
