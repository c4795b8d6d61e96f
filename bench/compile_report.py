"""The compiler's report on the Triton kernels, without a GPU: registers, spills, tensor cores.

    python -m bench.compile_report [--json FILE] [--only NAME] [--target NAME]

Compiles every kernel with every tile of `kernels/triton/tiles.py` for its architecture. The exit
code is 1 if one spills on a card of SPILL_FREE, if a screen has no tensor-core instruction, if one
whose every operation is to be rounded has a float64 FMA, if an atomic waits for all of memory
(MEMBAR), if threads may race (races.py), or if a program needs more shared memory than the card
has.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import triton
from rich.console import Console
from rich.table import Table
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from letter_fast.kernels.triton import tiles
from letter_fast.kernels.triton.ascent import (
    COUNT_BINS,
    COUNT_ROWS,
    STEP_WORDS,
    count_kernel,
    step_kernel,
)
from letter_fast.kernels.triton.cluster_sums import code_sums_kernel
from letter_fast.kernels.triton.codebook import SLOTS, slots_kernel, words_kernel
from letter_fast.kernels.triton.contrastive import (
    contrastive_gradient_h_kernel,
    contrastive_kernel,
    mean_kernel,
)
from letter_fast.kernels.triton.diversity import (
    draw_kernel,
    group_kernel,
    slope_kernel,
    softmax_kernel,
    total_kernel,
)
from letter_fast.kernels.triton.gather import gather_kernel
from letter_fast.kernels.triton.joined_codes import joined_codes_kernel
from letter_fast.kernels.triton.margins import margins_kernel, margins_left_kernel
from letter_fast.kernels.triton.mlp import layers_kernel, sums_kernel
from letter_fast.kernels.triton.nearest import SCORE_ROWS, score_kernel
from letter_fast.kernels.triton.residual_losses import (
    scatter_kernel,
    terms_kernel,
    unscale_kernel,
    walk_kernel,
    weights_kernel,
)
from letter_fast.kernels.triton.residual_search_beam import (
    extend_kernel,
    list_kernel,
    screen_paths_kernel,
)
from letter_fast.kernels.triton.residuals import residuals_kernel
from letter_fast.kernels.triton.screen import screen_kernel
from letter_fast.kernels.triton.screen_wide import low_kernel, screen_wide_kernel, split_kernel
from letter_fast.kernels.triton.settle import named_kernel, settle_kernel
from letter_fast.kernels.triton.sinkhorn_large import mapping_kernel
from letter_fast.kernels.triton.sinkhorn_small import group_kernel as sinkhorn_group_kernel
from letter_fast.kernels.triton.weighted_total import (
    weighted_slopes_kernel,
    weighted_total_kernel,
)
from letter_fast.kernels.triton.within import candidates_kernel, costs_kernel, pairs_kernel

from .races import races

TARGETS = {
    "sm_80": GPUTarget("cuda", 80, 32),
    "sm_86": GPUTarget("cuda", 86, 32),
    "sm_90": GPUTarget("cuda", 90, 32),
    "sm_100": GPUTarget("cuda", 100, 32),
    "sm_120": GPUTarget("cuda", 120, 32),
    "gfx942": GPUTarget("hip", "gfx942", 64),
}
SPILL_FREE = ("sm_80", "sm_86", "sm_90", "sm_120")
# Bytes a program may have.
SHARED = {
    "sm_80": 166_912,
    "sm_86": 101_376,
    "sm_90": 232_448,
    "sm_100": 232_448,
    "sm_120": 101_376,
    "gfx942": 65_536,
}

# The kernels use one name for one thing, so a type a name is enough. Sizes are 32-bit, as Triton
# passes them when they fit; a unit stride is a constant, as it makes it.
TYPES = {
    "x": "*fp32",
    "codebook": "*fp32",
    "codebooks": "*fp32",
    "high": "*fp16",
    "low": "*fp16",
    "bias": "*fp32",
    "limits": "*fp32",
    "exponent": "*i32",
    "offset": "*fp64",
    "allowed": "*i8",
    "hashes": "*i64",
    "starts": "*i64",
    "sizes": "*i64",
    "slots": "*i64",
    "codes": "*i64",
    "code": "*i64",
    "found": "*i64",
    "runners": "*i64",
    "queue": "*i64",
    "count": "*i64",
    "left": "*i64",
    "left_count": "*i64",
    "margins": "*fp32",
    "errors": "*fp32",
    "residuals": "*fp32",
    "quantized": "*fp32",
    "halves": "*fp16",
    "facts": "*fp32",
    "alive": "*i8",
    "paths": "*i64",
    "listed": "*i32",
    "next_residuals": "*fp32",
    "next_alive": "*i8",
    "next_paths": "*i64",
    "score": "*fp64",
    "order": "*i64",
    "ordered": "*i16",
    "sums": "*i64",
    "slack": "*fp64",
    "bits": "*i32",
    "counts": "*i64",
    "pair_rows": "*i64",
    "words": "*i32",
    "costs": "*fp64",
    "q": "*fp32",
    "h": "*fp32",
    "log_total": "*fp64",
    "row_loss": "*fp64",
    "gradient": "*fp32",
    "partial": "*fp64",
    "weights": "*fp64",
    "grad_quantized": "*fp32",
    "grad_x": "*fp32",
    "grad_codebooks": "*fp32",
    "owner": "*i64",
    "groups": "*i64",
    "begin": "*i64",
    "rank": "*i64",
    "others": "*i64",
    "cells": "*i64",
    "seed": "*i64",
    "drawn": "*fp32",
    "levels": "*i64",
    "logarithms": "*fp32",
    "paired": "*fp32",
    "counted": "*fp32",
    "losses": "*fp32",
    **dict.fromkeys(("commitment", "loss", "error", "quantization", "cf"), "*fp32"),
    **dict.fromkeys(("diversity", "recon", "even"), "*fp32"),
    **dict.fromkeys(("commitment_weight", "w_rq", "beta", "alpha"), "fp32"),
    "scale": "*fp64",
    "epsilon": "i64",
    "plan": "*fp64",
    "blocks": "*i64",
    "borders": "*i64",
    "columns": "*fp64",
    "factors": "*fp64",
    "parts": "*fp64",
    "spans": "*fp64",
    "arrived": "*i32",
    "peaks": "*fp64",
    "last": "*fp64",
    "state": "*fp64",
    "next_state": "*fp64",
    "kept": "*fp64",
    "least": "*i64",
    "next_least": "*i64",
}
# Pointers of another type in these kernels than their names have elsewhere.
OVERRIDES = {
    softmax_kernel: {"peaks": "*fp32"},
    slope_kernel: {"peaks": "*fp32"},
    words_kernel: {"peaks": "*fp32", "limits": "*i32"},
    slots_kernel: {"peaks": "*fp32", "limits": "*i32"},
    scatter_kernel: {"errors": "*fp64"},
    unscale_kernel: {"errors": "*fp64"},
    terms_kernel: {"errors": "*fp64"},
    list_kernel: {"counts": "*i32", "words": "i32"},
    screen_paths_kernel: {"parts": "i32"},
    extend_kernel: {"counts": "*i32", "slots": "i32"},
    step_kernel: {"low": "*i64", "high": "*i64", "limits": "*fp64"},
    mapping_kernel: {"least": "*fp64", "groups": "i32"},
}
TENSOR_CORE = re.compile(r"\b(HGMMA|UTC\w*MMA|HMMA|v_mfma)\w*")
# Those of a program alone (CTA) come with the tensor cores' asynchronous products.
MEMBAR = re.compile(r"\bMEMBAR\.\w+\.(?:GPU|SYS)\b")
FMA = re.compile(r"\bDFMA\b|v_fma_f64|v_fmac_f64")


@dataclass(frozen=True)
class Case:
    """One kernel as one launch compiles it."""

    name: str
    config: str
    kernel: Any
    constants: dict[str, Any]
    warps: int
    stages: int
    tensor_core: bool
    fused: bool = True  # may multiply and add in one rounding
    waits: bool = False  # its programs wait for one another, and then for memory
    types: dict[str, Any] = field(default_factory=dict)  # other than TYPES, or tuples of them


@dataclass(frozen=True)
class Row:
    """One compiled kernel. Shared memory in bytes; spills as instructions (AMD: registers)."""

    kernel: str
    target: str
    config: str
    registers: int
    spills: int
    shared: int
    tensor_core: str
    bad: str


def cases(target: str) -> Iterator[Case]:
    """Every kernel × its configurations for one architecture."""
    for width, pair in tiles.NARROW[target].items():
        for three, tile in enumerate(pair):
            yield Case(
                "screen ×3" if three else "screen",
                f"P={width} {tile.rows}×{tile.words} {tile.warps}w {tile.stages}s",
                screen_kernel,
                {
                    "THREE": bool(three),
                    "P": width,
                    "BLOCK_N": tile.rows,
                    "BLOCK_K": tile.words,
                    "LANES": tile.lanes,
                    "NEAR": tile.near,
                },
                tile.warps,
                tile.stages,
                tensor_core=True,
            )
    one, three_ = tiles.WIDE[target]
    for runner, three, tile in (
        (False, False, one),
        (False, True, three_),
        (True, False, tiles.FEW[target]),
        (True, True, three_),
    ):
        yield Case(
            f"{'runner-up' if runner else 'screen wide'}{' ×3' if three else ''}",
            f"{tile.rows}×{tile.words} {tile.warps}w {tile.stages}s",
            screen_wide_kernel,
            {
                "THREE": three,
                "RUNNER_UP": runner,
                "BLOCK_N": tile.rows,
                "BLOCK_K": tile.words,
                "BLOCK_D": tiles.WIDE_STEP,
                "LANES": tile.lanes,
                "NEAR": tile.near,
            },
            tile.warps,
            tile.stages,
            tensor_core=True,
        )
    for width in (16, 32, 64):
        slots, step = tiles.PACK_SLOTS["gpu"], min(tiles.WIDE_STEP, width)
        shape = {"BLOCK_S": slots, "BLOCK_D": step}
        for shifted in (False, True):
            config = f"P={width} {slots}×{step}{' offset' if shifted else ''}"
            of = {"HAS_OFFSET": shifted, **shape}
            yield Case("pack words", config, words_kernel, of, 4, 3, False)
            of |= {"DISTINCT": True, "SLOTS": SLOTS, "BLOCK_K": tiles.PACK_WORDS}
            yield Case("pack slots", config, slots_kernel, of, 4, 3, False)
        shape = tiles.split_shape(width, target)
        config = "{BLOCK_N}×{BLOCK_D}".format(**shape)
        yield Case("split", config, split_kernel, shape, 4, 3, False)
        yield Case("split low", config, low_kernel, shape, 4, 3, False)
    for shifted, block in tiles.settle_blocks(target).items():
        form = " offset" if shifted else ""
        shape = tiles.block_shape(block, tiles.SETTLE_STEP)
        warps = shape.pop("num_warps")
        config = "{BLOCK_K}×{BLOCK_D}".format(**shape) + f" {warps}w{form}"
        yield Case(
            "settle", config, settle_kernel, {"HAS_OFFSET": shifted, **shape}, warps, 3, False
        )
        shape = tiles.named_shape(tiles.WIDE[target][1].lanes, target)
        warps = shape.pop("num_warps")
        config = "{BLOCK_N}×{LANES}×{BLOCK_D}".format(**shape) + f" {warps}w{form}"
        shape |= {"HAS_OFFSET": shifted}
        yield Case("settle named", config, named_kernel, shape, warps, 3, False)
    for shifted in (False, True):
        form = " offset" if shifted else ""
        for step in (32, 64):
            shape = {"HAS_OFFSET": shifted, **tiles.measured_shape(step, target)}
            config = f"{shape['BLOCK_N']}×{step}{form}"
            yield Case("margins", config, margins_kernel, shape, 4, 3, False)
        shape = tiles.block_shape(tiles.MARGINS, tiles.SETTLE_STEP)
        warps = shape.pop("num_warps")
        config = "{BLOCK_K}×{BLOCK_D}".format(**shape) + f" {warps}w{form}"
        shape |= {"HAS_OFFSET": shifted}
        yield Case("margins left", config, margins_left_kernel, shape, warps, 3, False)
    for width in (16, 32, tiles.WIDE_STEP):
        paths = tiles.PATHS[target]
        yield Case(
            "screen paths",
            f"P={width} 8 of {paths.rows}×{paths.words} {paths.warps}w {paths.stages}s",
            screen_paths_kernel,
            {"PATHS": 8, "BLOCK_N": paths.rows, "BLOCK_K": paths.words, "BLOCK_D": width},
            paths.warps,
            paths.stages,
            tensor_core=True,
        )
    shape = {"BLOCK_N": tiles.PAIR_ROWS}
    yield Case("list", f"{tiles.PAIR_ROWS} 1w", list_kernel, shape, 1, 3, False)
    for keep in (8, 64):
        shape = tiles.extend_shape(keep, 1)
        warps = shape.pop("num_warps")
        config = "{BLOCK_C}×{BLOCK_D}".format(**shape) + f" {warps}w"
        yield Case("extend", config, extend_kernel, shape, warps, 3, False)
    yield Case("gather", "16×128", gather_kernel, {"BLOCK_N": 16, "BLOCK_D": 128}, 4, 3, False)
    constants = {"HAS_OFFSET": True, "BLOCK_N": SCORE_ROWS}
    yield Case("score", f"{SCORE_ROWS}×8", score_kernel, constants, 4, 3, False, fused=False)
    screens = {f"P={width} ": (width, pair[0]) for width, pair in tiles.NARROW[target].items()}
    screens[""] = (tiles.WIDE_STEP, tiles.WIDE[target][1])
    for label, (width, tile) in screens.items():
        step = min(width, tiles.WIDE_STEP)
        yield Case(
            "candidates",
            f"{label}{tile.rows}×{tile.words} {tile.warps}w {tile.stages}s",
            candidates_kernel,
            {"BLOCK_N": tile.rows, "BLOCK_K": tile.words, "BLOCK_D": step},
            tile.warps,
            tile.stages,
            tensor_core=True,
        )
    shape = {"BLOCK_N": tiles.PAIR_ROWS}
    yield Case("pairs", f"{tiles.PAIR_ROWS} 1w", pairs_kernel, shape, 1, 3, False)
    shape = {"BLOCK": tiles.PAIRS}
    yield Case("costs", f"{tiles.PAIRS} 4w", costs_kernel, shape, 4, 3, False, fused=False)
    shape = {"BLOCK_N": COUNT_ROWS, "BINS": COUNT_BINS}
    yield Case("cluster sizes", f"{COUNT_ROWS}×{COUNT_BINS} 8w", count_kernel, shape, 8, 3, False)
    shape = {"BLOCK": STEP_WORDS}
    yield Case("price step", f"{STEP_WORDS} 4w", step_kernel, shape, 4, 3, False, fused=False)
    for width in (16, tiles.SUMS_STEP):
        shape = {"BLOCK_N": tiles.SUMS.elements // width, "BLOCK_D": width}
        config = "{BLOCK_N}×{BLOCK_D}".format(**shape) + f" {tiles.SUMS.warps}w"
        yield Case("code sums", config, code_sums_kernel, shape, tiles.SUMS.warps, 3, False)
    for width, sides in tiles.CONTRASTIVE[target].items():
        options: dict[str, Any] = {
            "PRECISION": "ieee" if target == "gfx942" else "tf32x3",
            "P": width,
            "BLOCK_N": sides.rows,
            "BLOCK_K": sides.words,
        }
        config = f"P={width} {sides.rows}×{sides.words} {sides.warps}w {sides.stages}s"
        warps, stages = sides.warps, sides.stages
        both = {"WITH_GRADIENT": True, **options}
        yield Case("contrastive", config, contrastive_kernel, both, warps, stages, True)
        kernel = contrastive_gradient_h_kernel
        yield Case("contrastive h", config, kernel, options, warps, stages, True)
    for width in (32, 128):
        shape = tiles.walk_shape(width)
        config = "{BLOCK_N}×{BLOCK_D}".format(**shape)
        yield Case("walk", config, walk_kernel, shape, 4, 3, False)
        yield Case("residuals", config, residuals_kernel, shape, 4, 3, False)
        yield Case("scatter", config, scatter_kernel, shape, 4, 3, False)
    shape = {"BLOCK_K": tiles.GROUP_STEP}
    yield Case("group", str(tiles.GROUP_STEP), group_kernel, shape, 4, 3, False)
    yield Case("draw", str(tiles.DRAWS), draw_kernel, {"BLOCK": tiles.DRAWS}, 4, 3, False)
    rows, words, warps, stages = tiles.DIVERSITY
    for width in (16, 32, 64):
        options = {
            "SLOTS": SLOTS,
            "PRECISION": "ieee" if target == "gfx942" else "tf32x3",
            "BLOCK_N": rows,
            "BLOCK_K": words,
            "BLOCK_D": width,
        }
        config = f"{rows}×{words}×{width} {warps}w"
        yield Case("diversity softmax", config, softmax_kernel, options, warps, stages, True)
        yield Case("diversity slope", config, slope_kernel, options, warps, stages, True)
    shape = {"BLOCK": tiles.GROUP_STEP}
    yield Case("diversity total", str(tiles.GROUP_STEP), total_kernel, shape, 4, 3, False)
    yield from small_cases()
    yield Case("unscale", "128", unscale_kernel, {"BLOCK_D": 128}, 4, 3, False)
    yield from mlp_cases(target)
    yield from sinkhorn_cases()


def small_cases() -> Iterator[Case]:
    """Sums of a step that are a launch and little else, with four levels."""
    levels: dict[str, Any] = {"L": 4, "MEAN": True}
    options: dict[str, Any]
    for name, kernel, options in (
        ("terms", terms_kernel, {"BLOCK_S": tiles.TERMS_PARTS, "BLOCK_L": 8}),
        (
            "weights",
            weights_kernel,
            {"GIVEN": (False,) * 3 + (True,), "RESIDUAL_GRAD": "detach", "BLOCK_L": 4},
        ),
    ):
        options |= levels | {"WITH_CODEBOOK": True}
        yield Case(name, "4", kernel, options, 4, 3, False, types={"level": "*fp32"})
    levels |= {"BLOCK_L": 4}
    number = {"total": "*fp32"}
    yield Case("total", "4", weighted_total_kernel, dict(levels), 1, 3, False, types=number)
    levels |= {"GIVEN": (True, False, False)}
    yield Case("total slopes", "4", weighted_slopes_kernel, levels, 1, 3, False, types=number)
    yield Case("mean", str(tiles.MEAN_ROWS), mean_kernel, {"BLOCK": tiles.MEAN_ROWS}, 4, 3, False)
    shape = {"WIDTHS": (3, 1), "STARTS": (0, 3), "L": 4, "BLOCK_N": tiles.DRAWS}
    parts = {"parts": ("*i64",) * 2}
    name = f"{tiles.DRAWS}×3, 1"
    yield Case("joined codes", name, joined_codes_kernel, shape, 4, 3, False, types=parts)


def mlp_cases(target: str) -> Iterator[Case]:
    """Layers of LETTER's default encoder, of few weights forward and backward and of many."""
    narrow, wide = (512, 256, 128, 64, 32), (2048, 1024)
    for precision in ("ieee",) if target == "gfx942" else ("ieee", "tf32"):
        runs = {"forward": narrow, "backward": narrow[::-1], "backward, many": wide[::-1]}
        for form, widths in runs.items():
            options: dict[str, Any] = dict(tiles.layers_options(form.endswith("many"), target))
            warps, stages = options.pop("num_warps"), options.pop("num_stages")
            config = "{BLOCK_N}×{BLOCK_K}×{BLOCK_D}".format(**options) + f" {warps}w {stages}s"
            steps = len(widths) - 1
            options |= {"WIDTHS": widths, "RECTIFIED": (True,) * steps}
            options |= {"FORWARD": form == "forward", "PRECISION": precision}
            parts = dict.fromkeys(("weights", "beside", "outputs"), ("*fp32",) * steps)
            name, cores = f"layers {form}", precision == "tf32" or target == "gfx942"
            yield Case(
                name, f"{precision} {config}", layers_kernel, options, warps, stages, cores,
                types=parts,
            )  # fmt: skip
        options = dict(tiles.sums_options())
        warps, stages = options.pop("num_warps"), options.pop("num_stages")
        config = "{BLOCK_N}×{BLOCK_K}×{BLOCK_D}".format(**options) + f" {warps}w {stages}s"
        ends = {"OUT": narrow[1:], "IN": narrow[:-1]}
        tile = options["BLOCK_K"], options["BLOCK_D"]
        across = tuple(triton.cdiv(width, tile[1]) for width in ends["IN"])
        down = tuple(triton.cdiv(width, tile[0]) for width in ends["OUT"])
        options |= ends | {"ACROSS": across, "TILES": tuple(a * b for a, b in zip(across, down))}
        options |= {"PRECISION": precision}
        parts = dict.fromkeys(
            ("slopes", "inputs", "grad_weights", "grad_biases"), ("*fp32",) * len(across)
        )
        yield Case(
            "layers sums", f"{precision} {config}", sums_kernel, options, warps, stages, cores,
            types=parts,
        )  # fmt: skip


def sinkhorn_cases() -> Iterator[Case]:
    """The uniform mapping, in products and in logarithms."""
    tile, combine = tiles.SINKHORN_TILE, tiles.SINKHORN_COMBINE
    shape = {"BLOCK_N": tile.rows, "BLOCK_K": tile.words}
    shape |= {"COMBINE_N": combine.rows, "COMBINE_K": combine.words}
    for log in (False, True):
        form = " log" if log else ""
        for rows in tiles.SINKHORN_ROWS:
            words, held = tiles.SINKHORN_ELEMENTS // rows, tiles.SINKHORN_ELEMENTS
            constants = {"LOG": log, "BLOCK_N": rows, "BLOCK_K": words}
            warps_of = held // tiles.SINKHORN_WARP
            name = f"{rows}×{words} {warps_of}w{form}"
            yield Case("sinkhorn group", name, sinkhorn_group_kernel, constants, warps_of, 3, False)
        name = f"{tile.rows}×{tile.words} {tile.warps}w{form}"
        constants = {"LOG": log, **shape}
        warps, stages = tile.warps, tile.stages
        yield Case("sinkhorn", name, mapping_kernel, constants, warps, stages, False, waits=True)


def built(case: Case, target: str) -> Any:
    """One case as Triton compiles it."""
    names = case.kernel.arg_names
    constants = case.constants | ({"stride_d": 1} if "stride_d" in names else {})
    types = TYPES | OVERRIDES.get(case.kernel, {}) | case.types
    signature = {
        name: "constexpr" if name in constants else types.get(name, "i32") for name in names
    }
    aligned = {
        place: [["tt.divisibility", 16]]
        for at, name in enumerate(names)
        if signature[name][0].startswith("*") or name in ("D", "P", "stride_n")
        for place in _places(at, signature[name])
    }
    source = ASTSource(case.kernel, signature, constants, aligned)
    options = {
        "num_warps": case.warps,
        "num_stages": case.stages,
        "enable_fp_fusion": case.fused,
        "launch_cooperative_grid": case.waits,
    }
    return triton.compile(source, target=TARGETS[target], options=options)


def _places(at: int, kind: str | tuple[str, ...]) -> list[tuple[int, ...]]:
    """Of the argument `at`, or of each part of a tuple, as Triton counts them."""
    return [(at,)] if isinstance(kind, str) else [(at, part) for part in range(len(kind))]


def compile_case(case: Case, target: str) -> Row:
    """Compiles one case and reads registers, spills and instructions from the binary."""
    compiled = built(case, target)
    if "cubin" in compiled.asm:
        registers, spills, text = read_cubin(compiled.asm["cubin"])
    else:
        text = compiled.asm["amdgcn"]
        registers = _number(r"\.vgpr_count:\s+(\d+)", text)
        spills = _number(r"\.vgpr_spill_count:\s+(\d+)", text)
    found = TENSOR_CORE.findall(text)
    cores = f"{len(found)} {max(set(found), key=found.count)}" if found else "–"
    bad = []
    if spills and target in SPILL_FREE:
        bad.append("spills")
    if case.tensor_core and not found:
        bad.append("no tensor core")
    if not case.fused and FMA.search(text):
        bad.append("fma")
    if MEMBAR.search(text) and not case.waits:
        bad.append("membar")
    if compiled.metadata.shared > SHARED[target]:
        bad.append("shared memory")
    if races(compiled.asm["ttgir"]):
        bad.append("race")
    return Row(
        kernel=case.name,
        target=target,
        config=case.config,
        registers=registers,
        spills=spills,
        shared=compiled.metadata.shared,
        tensor_core=cores,
        bad=", ".join(bad),
    )


def read_cubin(cubin: bytes) -> tuple[int, int, str]:
    """Registers a thread, loads and stores of spilled ones, and the disassembly."""
    tool = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "kernel.cubin"
        file.write_bytes(cubin)
        usage, text = (
            subprocess.run([tool, option, file], check=True, capture_output=True, text=True).stdout
            for option in ("-res-usage", "-sass")
        )
    return _number(r"REG:(\d+)", usage), len(re.findall(r"\b(?:STL|LDL)\b", text)), text


def _number(pattern: str, text: str) -> int:
    found = re.search(pattern, text)
    if found is None:
        raise ValueError(f"the compiler's output has no {pattern!r}")
    return int(found[1])


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description="registers, spills and tensor cores, without a GPU"
    )
    parser.add_argument("--json", type=Path, help="also write the rows to this file")
    parser.add_argument("--only", default="", help="only kernels whose name starts with this")
    parser.add_argument("--target", choices=TARGETS, action="append", help="only these targets")
    options = parser.parse_args(arguments)
    rows = [
        compile_case(case, target)
        for target in options.target or TARGETS
        for case in cases(target)
        if case.name.startswith(options.only)
    ]
    table = Table("kernel", "target", "config", "registers", "spills", "shared", "tensor core", "")
    for row in rows:
        table.add_row(*map(str, asdict(row).values()))
    Console(width=120 if not sys.stdout.isatty() else None).print(table)
    if options.json:
        options.json.write_text(json.dumps([asdict(row) for row in rows], indent=1) + "\n")
    return int(any(row.bad for row in rows))


if __name__ == "__main__":
    raise SystemExit(main())
