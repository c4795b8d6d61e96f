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
from .fields import Source, with_fields
from .interrupts import resumable
from .terminal import Json, decimals, numbers, print_json, progress

if TYPE_CHECKING:
    import torch

    from .config import Options


_KMEANS = "with --model residual-kmeans"
_FIELDS = (
    Source("model/config.py", "LetterConfig", "Model (default)"),
    Source("training/settings.py", "TrainSettings", "Training (default)"),
    Source("model/config.py", "ResidualKMeansConfig", f"W{_KMEANS[1:]} (default)", _KMEANS),
    Source("training/residual_kmeans.py", "FitSettings", f"W{_KMEANS[1:]} (default)", _KMEANS),
)


@with_fields(_FIELDS, without=["cf_dim"])
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
    json: Json = False,
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:1, …")] = "cpu",
    **fields: Any,
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
            raise ValueError("--preset is not an option of --model residual-kmeans")
        refuse_processes("residual k-means")
        if targets is not None:
            raise ValueError("residual k-means uses no collaborative embeddings: leave out --cf")
        chosen = build(config, flags, ResidualKMeansConfig, FitSettings, shapes)
        fit(catalog, *chosen, out, _usable(device), fresh, json, hint)
        return
    shapes |= {"cf_weight": 0.0} if targets is None else {"cf_dim": targets.width}
    named: Any = preset
    usual = (
        ({}, {}) if named is None else (model_fields(named, catalog.width), training_fields(named))
    )
    model_config, settings = build(config, flags, LetterConfig, TrainSettings, shapes, usual)
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
