"""python -m bench.step: one training step of LETTER, eager, compiled and captured.

    python -m bench.step --device cuda        what a step costs, and how many kernels it launches

The step is the trainer's, on a batch that lies on the device, at LETTER's shape. `compiled` runs
encoder and decoder through torch.compile, `graphs` lets it also capture CUDA graphs of them,
`captured` is the whole step as one CUDA graph; a variant that this machine can't run says why.
`products` are the matrix products of encoder and decoder alone. Variants take turns; figures are
medians, on a CPU of processor time.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from copy import deepcopy
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median

import torch
from torch import Tensor

import letter_fast as lf
from letter_fast.training import step as training
from letter_fast.training.capture import ORDINARY_STEPS, Capture, Graph, Inputs
from letter_fast.training.ranks import Ranks
from letter_fast.training.run import Run
from letter_fast.training.start import diversity_groups

from . import machine
from .measure import clock

VARIANTS = ("products", "eager", "compiled", "graphs", "captured")
_WARM = 3
_CALLS = 20


@dataclass
class Lane:
    """One variant: seconds of a step, round by round, and what the host launches for one."""

    name: str
    seconds: list[float] = field(default_factory=list)
    launches: int | None = None
    failure: str = ""


class Step:
    """The trainer's step of a model of its own, on always the same batch."""

    def __init__(self, model: lf.Letter, s: Tensor, h: Tensor) -> None:
        self.model = deepcopy(model).train()
        self.run = Run(self.model, lf.TrainSettings(batch_size=len(s)))
        clusters = model.config.diversity_clusters
        groups = diversity_groups(model.quantizer, clusters, seed=0, epoch=0)
        seed = torch.zeros((), dtype=torch.int64, device=s.device)
        self.inputs = Inputs(s, h, torch.cat(groups).to(s.device), seed)
        self.move = training.Step(self.run, Ranks(0, 1, s.device), None, torch.Generator()).move

    def __call__(self) -> None:
        self.move(self.inputs)


def build(name: str, model: lf.Letter, s: Tensor, h: Tensor) -> Callable[[], object]:
    """The variant, warmed up.

    Raises:
        ValueError: it needs a GPU.
    """
    if name == "products":
        return products(model, s)
    step = Step(model, s, h)
    if name in ("graphs", "captured") and not s.is_cuda:
        raise ValueError("CUDA graphs need a GPU")
    if name in ("compiled", "graphs"):
        mode = {"mode": "reduce-overhead"} if name == "graphs" else {}
        step.model.encoder.compile(**mode)
        step.model.decoder.compile(**mode)
    if name == "captured":
        return capture(step)
    for _ in range(_WARM):
        step()
    return step


def capture(step: Step) -> Callable[[], object]:
    """The whole step as one graph, after ORDINARY_STEPS and one replay."""
    captured = Capture(Graph(), step.run)
    with captured.graph.stream():
        for _ in range(ORDINARY_STEPS + 1):
            captured.step(step.move, step.inputs)
    return captured.graph.replay


def products(model: lf.Letter, s: Tensor) -> Callable[[], object]:
    """Encoder's and decoder's matrix products, forward and backward."""
    layers = [part for part in [*model.encoder, *model.decoder] if hasattr(part, "weight")]
    weights = [layer.weight.detach() for layer in layers]
    inputs = [s.new_ones(len(s), weight.shape[1]) for weight in weights]
    slopes = [s.new_ones(len(s), weight.shape[0]) for weight in weights]

    def run() -> None:
        for number, (weight, x, slope) in enumerate(zip(weights, inputs, slopes)):
            x @ weight.T
            slope.T @ x
            if number > 0:  # the gradient of the input is not needed
                slope @ weight

    return run


def launches(run: Callable[[], object]) -> int:
    """The number of times that the host tells the GPU to start something."""
    activities = [torch.profiler.ProfilerActivity.CPU, torch.profiler.ProfilerActivity.CUDA]
    with torch.profiler.profile(activities=activities) as profile:
        run()
        torch.cuda.synchronize()
    return sum(event.count for event in profile.key_averages() if "Launch" in event.key)


def compare(model: lf.Letter, s: Tensor, h: Tensor, rounds: int) -> list[Lane]:
    """All variants, in turns."""
    lanes, turns = [Lane(name) for name in VARIANTS], []
    for lane in lanes:
        try:
            run = build(lane.name, model, s, h)
            run()
            if s.is_cuda:
                lane.launches = launches(run)
            turns.append((lane, run))
        except Exception as error:
            lane.failure = f"{type(error).__name__}: {str(error).splitlines()[0][:200]}"
    for _ in range(rounds):
        for lane, run in turns:
            lane.seconds.append(_seconds(run, s.device))
    return lanes


def _seconds(run: Callable[[], object], device: torch.device) -> float:
    if device.type == "cuda":
        return clock(torch.enable_grad()(run), _CALLS, device)
    begin = time.process_time()
    run()
    return time.process_time() - begin


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m bench.step",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--rows", type=int, nargs="+", default=[1024, 16_384], help="B")
    parser.add_argument("--width", type=int, default=384, help="of text (384)")
    parser.add_argument("--hidden", default="2048,1024,512,256,128,64", help="(LETTER's)")
    parser.add_argument("--rounds", type=int, default=5, help="(5)")
    parser.add_argument("--json", type=Path, help="also write all of it to this file")
    options = parser.parse_args()
    device = torch.device(options.device)
    hidden = tuple(int(width) for width in options.hidden.split(","))
    torch.manual_seed(0)
    model = lf.Letter(lf.LetterConfig(input_dim=options.width, hidden=hidden)).to(device)
    found = {}
    for rows in options.rows:
        s = torch.nn.functional.normalize(torch.randn(rows, options.width), dim=1).to(device)
        h = torch.randn(rows, model.config.latent_dim).to(device)
        found[rows] = compare(model, s, h, options.rounds)
        print(f"B = {rows:,}, S = {options.width}, encoder {hidden}, {options.device}")
        for lane in found[rows]:
            if lane.failure:
                print(f"  {lane.name:10} {lane.failure}")
                continue
            ratio = median(a / b for a, b in zip(lane.seconds, found[rows][0].seconds))
            told = "" if lane.launches is None else f"{lane.launches:6} launches"
            print(f"  {lane.name:10} {1e3 * median(lane.seconds):9.3f} ms  {ratio:5.2f} × {told}")
    if options.json:
        lines = {rows: [asdict(lane) for lane in lanes] for rows, lanes in found.items()}
        facts = machine.facts(device)
        options.json.write_text(json.dumps({"machine": facts, "lines": lines}, indent=1) + "\n")


if __name__ == "__main__":
    main()
