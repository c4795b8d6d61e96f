"""The examples for vLLM and SGLang, driven as those engines drive a processor.

With the packages, it is their classes; without, stand-ins that have what vLLM 0.33 and SGLang
0.5.23 ask of a processor and hand to it.
"""

from __future__ import annotations

import enum
import importlib
import sys
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, make_dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch

from letter_fast.tokenization import SemanticIds

SIZES, START, BEGIN, END = [6, 5, 4], 10, 2, 1
IDS = SemanticIds(
    np.unique(np.random.default_rng(0).integers(0, SIZES, (40, 3)), axis=0), SIZES,
)  # fmt: skip
NAMES = IDS.token_ids(START)
WIDTH = START + sum(SIZES)


class MoveDirectionality(enum.Enum):
    UNIDIRECTIONAL = enum.auto()
    SWAP = enum.auto()


@dataclass(frozen=True)
class BatchUpdate:
    batch_size: int
    removed: Sequence[int]
    added: Sequence[Any]
    moved: Sequence[Any]


class LogitsProcessor(ABC):
    @abstractmethod
    def __init__(self, vllm_config: Any, device: torch.device, is_pin_memory: bool) -> None: ...
    @abstractmethod
    def apply(self, logits: torch.Tensor) -> torch.Tensor: ...
    @abstractmethod
    def is_argmax_invariant(self) -> bool: ...
    @abstractmethod
    def update_state(self, batch_update: BatchUpdate | None) -> None: ...


class CustomLogitProcessor(ABC):
    @abstractmethod
    def __call__(self, logits: torch.Tensor, custom_param_list: Any = None) -> torch.Tensor: ...


STAND_INS = {
    "vllm.v1.sample.logits_processor": (MoveDirectionality, BatchUpdate, LogitsProcessor),
    "sglang.srt.sampling.custom_logit_processor": (CustomLogitProcessor,),
}
Params = make_dataclass("Params", ["extra_args"])
Req = make_dataclass("Req", ["origin_input_ids", "output_ids"])


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Any:
    """The example's module, and the engine's one that it is written against."""
    name = request.param
    try:
        theirs = importlib.import_module(name)
    except ImportError:
        parts = name.split(".")
        for length in range(1, len(parts) + 1):
            dotted = ".".join(parts[:length])
            monkeypatch.setitem(sys.modules, dotted, ModuleType(dotted))
        theirs = sys.modules[name]
        for one in STAND_INS[name]:
            setattr(theirs, one.__name__, one)
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "examples" / "serving"))
    example = f"{name.split('.')[0]}_processor"
    monkeypatch.delitem(sys.modules, example, raising=False)
    yield importlib.import_module(example), theirs
    sys.modules.pop(example, None)


def allowed(logits: torch.Tensor) -> list[list[int]]:
    return [row.isfinite().nonzero().flatten().tolist() for row in logits]


def first_codes(rows: Any) -> list[int]:
    return np.unique(NAMES[rows, 0]).tolist()


@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("engine", ["vllm.v1.sample.logits_processor"], indirect=True)
def test_vllm(engine: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    example, theirs = engine
    IDS.save(tmp_path / "ids.parquet")
    for name, value in (
        ("IDS", tmp_path / "ids.parquet"), ("START", START), ("BEGIN", BEGIN), ("END", END),
    ):  # fmt: skip
        monkeypatch.setenv(f"LETTER_FAST_{name}", str(value))
    assert issubclass(example.SemanticIds, theirs.LogitsProcessor)
    processor = example.SemanticIds(None, torch.device("cpu"), False)
    assert not processor.is_argmax_invariant()
    with pytest.raises(ValueError, match="must be a list of item ids"):
        processor.validate_params(Params({"excluded": "B1"}))

    outputs: list[list[int]] = [[], [], [], []]
    same = np.flatnonzero(IDS.codes[:, 0] == IDS.codes[0, 0]).tolist()
    added = [
        (0, Params({"semantic_ids": True}), [5, 6, BEGIN], outputs[0]),
        (1, Params(None), [5, BEGIN], outputs[1]),
        (2, Params({"semantic_ids": True, "excluded": same}), [BEGIN], outputs[2]),
        (3, Params({"semantic_ids": True}), [4, 5, 6, 7, 8], outputs[3]),
    ]
    processor.update_state(theirs.BatchUpdate(4, [], added, []))
    everything, every_first = list(range(WIDTH)), first_codes(slice(None))
    free = list(range(START))
    masked = allowed(processor.apply(torch.randn(4, WIDTH)))
    assert masked[:2] == [every_first, everything]
    assert masked[2:] == [[one for one in every_first if one != NAMES[0, 0]], free]

    # As the engine goes on: outputs grow in place, rows leave and change places.
    outputs[0] += NAMES[0].tolist()
    outputs[3] += [BEGIN, int(NAMES[5, 0])]
    processor.update_state(None)
    masked = allowed(processor.apply(torch.randn(4, WIDTH)))
    assert masked[0] == [END]
    assert masked[3] == np.unique(NAMES[IDS.codes[:, 0] == IDS.codes[5, 0], 1]).tolist()
    swap = (0, 3, theirs.MoveDirectionality.SWAP)
    processor.update_state(theirs.BatchUpdate(4, [], [], [swap]))
    again = allowed(processor.apply(torch.randn(4, WIDTH)))
    assert (again[0], again[3]) == (masked[3], masked[0])
    down = (3, 1, theirs.MoveDirectionality.UNIDIRECTIONAL)
    processor.update_state(theirs.BatchUpdate(3, [1], [], [down]))
    assert allowed(processor.apply(torch.randn(3, WIDTH)))[1] == [END]

    # Beam search sends each step as a prompt, without wishes.
    monkeypatch.setenv("LETTER_FAST_EVERY", "1")
    processor = example.SemanticIds(None, torch.device("cpu"), False)
    beam = [(0, Params(None), [7, 7, BEGIN, *NAMES[3, :2].tolist()], [])]
    processor.update_state(theirs.BatchUpdate(1, [], beam, []))
    third = NAMES[(IDS.codes[:, :2] == IDS.codes[3, :2]).all(axis=1), 2]
    assert allowed(processor.apply(torch.randn(1, WIDTH))) == [np.unique(third).tolist()]


@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("engine", ["sglang.srt.sampling.custom_logit_processor"], indirect=True)
def test_sglang(engine: Any, tmp_path: Path) -> None:
    example, theirs = engine
    IDS.save(tmp_path / "ids.parquet")
    wishes = {"ids": str(tmp_path / "ids.parquet"), "start": START, "end": END}
    if hasattr(theirs.CustomLogitProcessor, "to_str"):
        processor = theirs.CustomLogitProcessor.from_str(example.SemanticIds.to_str())
    else:
        processor = example.SemanticIds()
    inside = {**wishes, "begin": BEGIN}
    rows = [
        {**wishes, "__req__": Req([4, 5], [])},
        {**wishes, "__req__": Req([4, 5], NAMES[2].tolist())},
        {**inside, "__req__": Req([4, 5], [])},
        {**inside, "__req__": Req([4, 5, BEGIN], [])},
        {**inside, "excluded": [*range(1, len(IDS))], "__req__": Req([BEGIN], [])},
        None,
        {"__req__": Req([1], [])},
    ]
    masked = allowed(processor(torch.randn(len(rows), WIDTH), rows))
    every_first, everything = first_codes(slice(None)), list(range(WIDTH))
    assert masked[:4] == [every_first, [END], list(range(START)), every_first]
    assert masked[4:] == [[int(NAMES[0, 0])], everything, everything]
    scores = torch.randn(2, WIDTH)
    assert processor(scores, None) is scores
