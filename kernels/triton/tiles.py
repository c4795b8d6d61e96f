"""Tiles per architecture: data, each row with its reason.

All come from the compile report (`python -m bench.compile_report`): the largest tile without spills
whose accumulator still leaves room for the epilogue. Not measured on a GPU yet.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import torch
import triton


class Tile(NamedTuple):
    """rows × words of scores a program holds at once."""

    rows: int
    words: int
    warps: int
    stages: int


class ScreenTile(NamedTuple):
    """A screen's, and how a row of its scores lies in threads, for score.keep_two."""

    rows: int
    words: int
    warps: int
    stages: int
    lanes: int = 8
    near: bool = False


class LayerTile(NamedTuple):
    """rows × words of a product, to which a round of its loop adds `step` terms each."""

    rows: int
    words: int
    step: int
    warps: int
    stages: int


# Above this width the residual doesn't fit in registers: screen_wide.py.
NARROW_LIMIT = 128

# Architecture -> padded width P -> tiles of the one-product and of the three-product screen. With
# mma.sync a warp's scores are 8 columns wide, so lanes are 8 for each warp along a row: Triton puts
# all warps along the rows where a tile has 32 rows and 32 words a warp, or where products follow
# one another (×3) and it has no more words than rows. wgmma has 64 rows for every 4 warps. 64 rows
# on 4 warps leave room for two programs and more on a multiprocessor of sm_90; from P = 64 on 128
# rows are worth more, as they halve what L2 is read for. Beyond these tiles come spills: 64 × 16 on
# 4 warps at P = 128 ×3 on sm_80 (12), 128 × 64 on 8 at P = 128 on sm_90 (36).
NARROW: dict[str, dict[int, tuple[ScreenTile, ScreenTile]]] = {
    "sm_80": {
        16: (ScreenTile(128, 32, 4, 2), ScreenTile(128, 64, 8, 2)),
        32: (ScreenTile(128, 32, 4, 2), ScreenTile(128, 64, 8, 2)),
        64: (ScreenTile(128, 32, 4, 2), ScreenTile(64, 32, 4, 2)),
        128: (ScreenTile(64, 64, 8, 2, lanes=32), ScreenTile(16, 32, 2, 2, lanes=16)),
    },
    "sm_90": {
        16: (ScreenTile(64, 64, 4, 2), ScreenTile(128, 64, 8, 2)),
        32: (ScreenTile(64, 64, 4, 2), ScreenTile(128, 64, 8, 2)),
        64: (ScreenTile(128, 64, 8, 2), ScreenTile(128, 64, 8, 2)),
        128: (ScreenTile(64, 64, 4, 2), ScreenTile(64, 32, 4, 2)),
    },
    "sm_100": {P: (ScreenTile(128, 64, 8, 2, lanes=2, near=True),) * 2 for P in (16, 32, 64)}
    | {
        128: (
            ScreenTile(128, 64, 8, 2, lanes=2, near=True),
            ScreenTile(64, 32, 8, 2, lanes=4, near=True),
        )
    },
    "gfx942": {P: (ScreenTile(128, 64, 8, 2, lanes=32),) * 2 for P in (16, 32, 64)}
    | {128: (ScreenTile(64, 64, 8, 2, lanes=32),) * 2},
}
# sm_86, sm_89 and consumer Blackwell (12.x): mma.sync as on sm_80, and 99 KB of shared memory. Two
# of sm_80's tiles spill there: P = 128 ×3 on sm_86 (5) and P = 64 ×3 on sm_120 (10).
NARROW["sm_86"] = NARROW["sm_80"] | {128: (NARROW["sm_80"][128][0], ScreenTile(128, 16, 8, 2))}
NARROW["sm_120"] = NARROW["sm_80"] | {64: (NARROW["sm_80"][64][0], ScreenTile(128, 32, 8, 2))}
NARROW["interpreter"] = {P: (ScreenTile(16, 32, 1, 1),) * 2 for P in NARROW["sm_80"]}

# The same two for D > 128; a step of the product takes WIDE_STEP of D. What L2 is read for binds
# them: 256 words a tile halve how often a row is read. 256 × 128 on sm_90 spills (30).
WIDE: dict[str, tuple[ScreenTile, ScreenTile]] = {
    "sm_80": (ScreenTile(128, 128, 8, 3, lanes=16), ScreenTile(128, 32, 8, 2)),
    "sm_90": (ScreenTile(128, 256, 8, 3), ScreenTile(128, 64, 8, 3)),
    "sm_100": (
        ScreenTile(128, 128, 8, 3, lanes=2, near=True),
        ScreenTile(128, 64, 8, 3, lanes=2, near=True),
    ),
    "gfx942": (ScreenTile(128, 128, 8, 3, lanes=32), ScreenTile(64, 64, 8, 2, lanes=32)),
    "interpreter": (ScreenTile(16, 32, 1, 1),) * 2,
}
WIDE["sm_86"] = WIDE["sm_120"] = WIDE["sm_80"]
# One product with few codewords, or for runners-up: the second tile, of which mma.sync has two
# warps along a row where no product follows another.
FEW = {architecture: three for architecture, (_, three) in WIDE.items()}
for _architecture in ("sm_80", "sm_86", "sm_120"):
    FEW[_architecture] = FEW[_architecture]._replace(lanes=16)
WIDE_STEP = 64
# Rows of the wide search whose fp16 halves are in memory at once, in bytes.
SLAB_BYTES = 256 << 20
# Elements of the residual that a program splits. Architecture -> where 512 spill (4).
SPLIT_ELEMENTS = 512
SPLIT_ELEMENTS_ON = {"sm_120": 1024}

# Slots a program packs, a divisor of codebook.SLOTS: few, so that four levels of 256 spread over 64
# programs. And codewords of its level that it looks at together.
PACK_SLOTS = {"gpu": 16, "interpreter": 128}
PACK_WORDS = 128


# Architecture -> P -> tile of the contrastive loss: its rows × the other side's. The split halves
# of the TF32 operands live in registers, so tiles shrink as P grows: 64 × 64 spills from P = 64 on,
# and at P = 128 on sm_90 so does 32 × 32 (45).
CONTRASTIVE: dict[str, dict[int, Tile]] = {
    "sm_80": {
        16: Tile(64, 64, 4, 2),
        32: Tile(64, 32, 4, 2),
        64: Tile(32, 32, 4, 2),
        128: Tile(32, 32, 8, 2),
    },
    "sm_90": {
        16: Tile(64, 64, 4, 2),
        32: Tile(64, 64, 4, 2),
        64: Tile(64, 32, 8, 2),
        128: Tile(16, 64, 8, 2),
    },
    "gfx942": {P: Tile(64, 64, 4, 2) for P in (16, 32, 64)} | {128: Tile(32, 64, 4, 2)},
    "interpreter": {P: Tile(16, 16, 1, 1) for P in (16, 32, 64, 128)},
}
# 32 × 32 spills there at P = 128 (15 and 25).
CONTRASTIVE["sm_86"] = CONTRASTIVE["sm_120"] = CONTRASTIVE["sm_80"] | {128: Tile(16, 32, 4, 2)}
CONTRASTIVE["sm_100"] = CONTRASTIVE["sm_90"]
# A layer of more weights than this is a product of its own in mlp.py. Of LETTER's fourteen the six
# of more have 95 % of the arithmetic.
MANY_WEIGHTS = 1 << 17
# Rows × columns of a run of layers of few weights (16 rows: as many programs as 1,024 rows can
# make), of the slopes of one of many, and of gradients of weights.
FEW_LAYERS = LayerTile(16, 64, 32, 4, 3)
ONE_LAYER = LayerTile(64, 64, 32, 4, 3)
# Architecture -> where that spills in float32 (6).
ONE_LAYER_ON = {"sm_120": LayerTile(64, 64, 32, 4, 2)}
WEIGHT_SUMS = LayerTile(32, 32, 32, 4, 3)
# Rows whose losses are added up at a time.
MEAN_ROWS = 1024
# Codewords that one is compared with at a time, and rows × levels a program draws partners for.
GROUP_STEP = 256
DRAWS = 256
# Codewords × codewords of the diversity loss, and the widest step along D. Few, so that four levels
# of 256 spread over 64 programs.
DIVERSITY = Tile(16, 32, 4, 2)
DIVERSITY_STEP = 64
# Elements a program of the residual losses holds: float64 sums of 2048 take 254 registers.
WALK_ELEMENTS = 1024
# Programs of theirs whose sums are added up at a time.
TERMS_PARTS = 64


class Block(NamedTuple):
    """float64 differences a program of settle.py or of the beam search holds at once."""

    elements: int
    warps: int


# With offsets or without -> block. At other sizes ptxas trades registers for residency and keeps
# a few scalars in local memory.
SETTLE = {False: Block(1024, 4), True: Block(4096, 8)}
# Architecture -> those that spill there with the ones above (8, 29 and 24), and don't with these.
SETTLE_ON = {
    "sm_86": {False: Block(2048, 8)},
    "sm_100": {True: Block(1024, 4)},
    "sm_120": {True: Block(2048, 8)},
}
# Of named codewords; 1024 on 4 warps spills on sm_90, 2048 on sm_80.
NAMED = Block(512, 4)
# Architecture -> where that spills (4).
NAMED_ON = {"sm_100": Block(1024, 8)}
# Of margins, and rows × columns of residuals that a program measures at once.
MARGINS = Block(512, 4)
MEASURED = 1024
# Architecture -> where that spills (4).
MEASURED_ON = {"sm_86": 512}
# At most this much of them along D.
SETTLE_STEP = 32

# Fixed-point values of cluster_sums.py that a program holds at once, at most this many along D: few
# runs a program, and a row in whole memory transactions. At 64 × 64, ptxas spills on sm_80.
SUMS = Block(4096, 8)
SUMS_STEP = 32

# within.py: rows whose bits a warp turns into pairs, and pairs a program costs, one a thread.
PAIR_ROWS = 64
PAIRS = 128

# Paths of the beam search in memory at once, in bytes; longer beams the host searches.
BEAM_BYTES = 256 << 20
MOST_BEAM = 128
# Paths × codewords that it screens together: the least score of each column is kept beside them.
PATHS = {
    "sm_80": Tile(64, 64, 4, 2),
    "sm_90": Tile(64, 64, 4, 3),
    "gfx942": Tile(64, 64, 4, 2),
    "interpreter": Tile(16, 32, 1, 1),
}
PATHS["sm_86"] = PATHS["sm_120"] = PATHS["sm_80"]
PATHS["sm_100"] = PATHS["sm_90"]
# float64 differences that a program extending a row's paths holds at once.
EXTEND_ELEMENTS = 1024

# The uniform mapping. A program holds a group of at most this many rows, if rows × K, in powers of
# two, are at most SINKHORN_ELEMENTS, and has a warp for each SINKHORN_WARP: 32 float64 a thread, as
# twice that spills. Larger groups go by tiles of rows × codewords.
SINKHORN_ROWS = (4, 16)
SINKHORN_ELEMENTS = 8192
SINKHORN_WARP = 1024
SINKHORN_TILE = Tile(16, 128, 4, 3)
# Blocks × codewords that a program adds up after a sweep. Few codewords, so that K = 256 spreads
# over 32 programs, and many blocks, so that 16,384 rows take 8 dependent steps.
SINKHORN_COMBINE = Tile(128, 8, 4, 3)
# Programs a multiprocessor is sure to hold at once: 4 warps of at most 255 registers a thread are
# less than half of its 65,536.
CO_RESIDENT = 2
# Their plans in memory at once, in bytes; torch takes as much again, twice, for a moment.
PLAN_BYTES = 256 << 20

# Rows of the narrow search between one emptying of its queues and the next: 16 bytes a row, 32 MiB.
QUEUE_ROWS = 1 << 21

# Programs a multiprocessor gets where the amount of work is known to the device only.
PERSISTENT = 8


def padded_width(D: int) -> int:
    """P: a power of two that a tensor core takes, or a multiple of the wide screen's step."""
    if D <= NARROW_LIMIT:
        return max(16, int(triton.next_power_of_2(D)))
    return -(-D // WIDE_STEP) * WIDE_STEP


def narrow(D: int, device: torch.device) -> tuple[ScreenTile, ScreenTile]:
    """Tiles of the screen with one product and of that with three, D ≤ NARROW_LIMIT."""
    return NARROW[architecture(device)][padded_width(D)]


def wide(sizes: tuple[int, ...], device: torch.device) -> tuple[ScreenTile, ScreenTile]:
    """The same two for any D; few codewords don't fill the first one's tile."""
    one, three = WIDE[architecture(device)]
    return (one if max(sizes) > one.words // 2 else FEW[architecture(device)]), three


def runner_up(device: torch.device) -> tuple[ScreenTile, ScreenTile]:
    """Tiles of the wide screens that look for the runner-up."""
    return FEW[architecture(device)], WIDE[architecture(device)][1]


def pack_shape(P: int, device: torch.device) -> dict[str, int]:
    """Slots × columns of codewords, and codewords whose hashes they meet, in codebook.py."""
    slots = PACK_SLOTS["interpreter" if device.type == "cpu" else "gpu"]
    return {"BLOCK_S": slots, "BLOCK_K": PACK_WORDS, "BLOCK_D": min(WIDE_STEP, P)}


def split_shape(P: int, architecture: str) -> dict[str, int]:
    """Rows × columns of the residual that screen_wide.py splits at once."""
    step = min(WIDE_STEP, P)
    elements = SPLIT_ELEMENTS_ON.get(architecture, SPLIT_ELEMENTS)
    return {"BLOCK_N": elements // step, "BLOCK_D": step}


def settle_blocks(architecture: str) -> dict[bool, Block]:
    """SETTLE of one architecture."""
    return SETTLE | SETTLE_ON.get(architecture, {})


def paths_tile(device: torch.device) -> Tile:
    """Tile of the beam search's screen."""
    return PATHS[architecture(device)]


def extend_shape(keep: int, parts: int) -> dict[str, int]:
    """Room of a row's list, of whose paths each part lists as many as are kept, and twice for good
    measure; and the launch options that go with it."""
    room = max(16, int(triton.next_power_of_2(2 * keep * parts)))
    step = max(1, min(SETTLE_STEP, EXTEND_ELEMENTS // room))
    return {"BLOCK_C": room, "BLOCK_D": step, "num_warps": min(8, room // 16)}


def named_shape(lanes: int, architecture: str) -> dict[str, int]:
    """Launch options of the rows whose nearest codewords are named."""
    block = NAMED_ON.get(architecture, NAMED)
    rows = max(1, block.elements // (lanes * SETTLE_STEP))
    return {"LANES": lanes, "BLOCK_N": rows, "BLOCK_D": SETTLE_STEP, "num_warps": block.warps}


def measured_shape(P: int, architecture: str) -> dict[str, int]:
    """Rows × columns of the residuals whose margins a program measures."""
    step = min(WIDE_STEP, P)
    return {"BLOCK_N": MEASURED_ON.get(architecture, MEASURED) // step, "BLOCK_D": step}


def contrastive_tile(D: int, device: torch.device) -> Tile:
    """Tile of the contrastive loss, D ≤ NARROW_LIMIT."""
    return CONTRASTIVE[architecture(device)][padded_width(D)]


def layers_options(many: bool, architecture: str) -> dict[str, int]:
    """Launch options of layers_kernel: for a layer of many weights, or a run of others."""
    tile = ONE_LAYER_ON.get(architecture, ONE_LAYER) if many else FEW_LAYERS
    return {
        "BLOCK_N": tile.rows,
        "BLOCK_K": tile.words,
        "BLOCK_D": tile.step,
        "num_warps": tile.warps,
        "num_stages": tile.stages,
    }


def sums_options() -> dict[str, int]:
    """Launch options of sums_kernel, whose loop goes along the rows."""
    tile = WEIGHT_SUMS
    return {
        "BLOCK_N": tile.step,
        "BLOCK_K": tile.rows,
        "BLOCK_D": tile.words,
        "num_warps": tile.warps,
        "num_stages": tile.stages,
    }


def diversity_width(D: int) -> int:
    """Columns that a program of the diversity loss takes at once."""
    return min(DIVERSITY_STEP, max(16, int(triton.next_power_of_2(D))))


def walk_shape(D: int) -> dict[str, int]:
    """Rows and columns a program of the residual losses takes."""
    width = min(128, int(triton.next_power_of_2(D)))
    return {"BLOCK_N": WALK_ELEMENTS // width, "BLOCK_D": width}


def product_precision(device: torch.device) -> str:
    """The precision of `tl.dot` in float32 where the product is a loss's or a gradient's.

    One TF32 product would err by 2⁻¹⁰ of |q|·|h|, and logits without temperature reach 10². AMD has
    no such split; there ieee is the matrix core's own float32.
    """
    return "tf32x3" if device.type == "cuda" and not torch.version.hip else "ieee"


def block_shape(block: Block, D: int) -> dict[str, int]:
    """The tile's launch options."""
    step = min(SETTLE_STEP, max(16, int(triton.next_power_of_2(D))))
    return {"BLOCK_K": block.elements // step, "BLOCK_D": step, "num_warps": block.warps}


def programs(work: int, each: int, device: torch.device, persistent: bool) -> int:
    """Programs to launch for `work` pieces, `each` at a time; at most what fills the device."""
    needed = -(-work // each)
    if not persistent:
        return needed
    return min(needed, PERSISTENT * _multiprocessors(device))


def co_resident(work: int, device: torch.device) -> int:
    """Programs of 4 warps for `work` pieces, at most as many as run at once."""
    return 1 if device.type == "cpu" else min(work, CO_RESIDENT * _multiprocessors(device))


# Least compute capability of each row.
_ARCHITECTURES = (
    ((12, 0), "sm_120"),
    ((10, 0), "sm_100"),
    ((9, 0), "sm_90"),
    ((8, 6), "sm_86"),
    ((8, 0), "sm_80"),
)


@lru_cache(maxsize=16)
def architecture(device: torch.device) -> str:
    """The table's row for `device`."""
    if device.type == "cpu":
        return "interpreter"
    if torch.version.hip:
        return "gfx942"
    capability = torch.cuda.get_device_capability(device)
    return next(name for least, name in _ARCHITECTURES if capability >= least)


@lru_cache(maxsize=16)
def _multiprocessors(device: torch.device) -> int:
    if device.type == "cpu":
        return 1
    return int(torch.cuda.get_device_properties(device).multi_processor_count)
