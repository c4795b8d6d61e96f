"""gpu-check without a GPU: its stages, what ends a hang, and what an interrupted one keeps."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from unittest import mock

import pytest
import torch

from bench import gpu_check, gpu_smoke
from bench.stages import Check, Stage
from letter_fast.kernels import reference
from tests.support.tensor_core_model import tensor_core
from tests.support.triton_backend import DEVICE, backend

with mock.patch.dict(os.environ, {} if DEVICE.type == "cuda" else {"TRITON_INTERPRET": "1"}):
    from bench import tensor_cores

ROOT = Path(__file__).resolve().parents[2]
HANG = "import time; print('before the hang'); time.sleep(600)"


@pytest.fixture
def check(tmp_path: Path) -> Check:
    return Check(tmp_path / "check.json", tmp_path, {"gpu": "none"})


def says(text: str, status: int = 0) -> tuple[str, ...]:
    return "-c", f"print({text!r}); raise SystemExit({status})"


def outcomes(file: Path) -> dict[str, str]:
    return {name: one["outcome"] for name, one in json.loads(file.read_text())["stages"].items()}


def test_a_hang_is_ended_with_the_line_it_stopped_at(
    check: Check, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    child = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {HANG!r}])"
    failed = check.run([Stage("hangs", ("-c", child), 6), Stage("next", says("went on"), 60)])
    assert failed == ["hangs"]
    assert outcomes(check.file) == {
        "hangs": "stopped after 6 s, after 'before the hang'",
        "next": "passed",
    }
    assert json.loads(check.file.read_text())["stages"]["next"]["output"] == ["went on"]
    assert "hangs: stopped after 6 s, after 'before the hang'" in capsys.readouterr().out


def test_outcomes_decide_what_runs(check: Check) -> None:
    failed = check.run(
        [
            Stage("fails", says("no", 3), 60),
            Stage("figures", says("1"), 60, needs=("fails",)),
            Stage("mends it", says("yes"), 60, mends="fails"),
            Stage("breaks", says("no", 1), 60),
            Stage("not here", says("1"), 60, unless="the tool is absent"),
            Stage("passes", says("1"), 60),
            Stage("mends nothing", says("1"), 60, mends="passes"),
        ]
    )
    assert failed == ["breaks"]
    assert outcomes(check.file) == {
        "fails": "failed with exit code 3",
        "figures": "left out: fails did not pass",
        "mends it": "passed",
        "breaks": "failed with exit code 1",
        "not here": "left out: the tool is absent",
        "passes": "passed",
        "mends nothing": "left out: not needed",
    }


def test_an_interrupted_check_keeps_what_it_had(tmp_path: Path) -> None:
    file = tmp_path / "check.json"
    script = f"""
from pathlib import Path
from bench.stages import Check, Stage, terminated_as_interrupted
with terminated_as_interrupted():
    Check(Path({str(file)!r}), Path({str(tmp_path)!r})).run(
        [Stage("done", {says("1")!r}, 60), Stage("cut", ("-c", {HANG!r}), 600)]
    )
"""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen([sys.executable, "-c", script], env=environment, stderr=-3)
    for _ in range(600):
        if file.exists() and "cut" in outcomes(file):
            break
        time.sleep(0.1)
    assert outcomes(file) == {"done": "passed", "cut": "running"}
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) != 0
    assert outcomes(file) == {"done": "passed", "cut": "interrupted"}


def test_the_shares_add_up_and_every_stage_can_be_named() -> None:
    stages = gpu_check.stages(Path("results"), "card")
    names = [stage.name for stage in stages]
    assert len(set(names)) == len(names)
    assert names[0] == "smoke"
    assert sum(stage.seconds for stage in stages) <= gpu_check.SECONDS - 15
    for place, stage in enumerate(stages):
        assert {*stage.needs, *filter(None, [stage.mends])} <= {*names[:place]}
        if stage.command[0] == "-m" and stage.command[1] != "pytest":
            assert (ROOT / stage.command[1].replace(".", "/")).is_dir() or (
                ROOT / (stage.command[1].replace(".", "/") + ".py")
            ).is_file()


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
@pytest.mark.parametrize("module", ["gpu_check", "gpu_smoke", "tensor_cores"])
def test_without_a_gpu_one_line_says_so(module: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", [module])
    with pytest.raises(SystemExit, match=rf"{module.replace('_', '.')} needs a CUDA device"):
        {"gpu_check": gpu_check, "gpu_smoke": gpu_smoke, "tensor_cores": tensor_cores}[
            module
        ].main()


def test_the_smoke_finds_wrong_codes_and_no_others() -> None:
    with mock.patch.object(gpu_smoke, "SIZES", [16] * 2):
        assert gpu_smoke.check(backend, DEVICE, settle=True) == []

        class Wrong:
            def residual_search(self, *arguments: object) -> tuple[torch.Tensor, ...]:
                found = reference.residual_search(*arguments)
                found[0][3, 1] += 1
                return found

        wrong = gpu_smoke.check(Wrong(), torch.device("cpu"), settle=True)
    assert wrong == ["48 rows to settle: 1 rows have wrong codes, the first is 3"]


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_the_smoke_finds_a_wrong_mapping() -> None:
    class Wrong:
        def sinkhorn_codes(self, *arguments: object) -> torch.Tensor:
            return (reference.sinkhorn_codes(*arguments) + 1) % 16

    with mock.patch.object(gpu_smoke, "SIZES", [16] * 2):
        assert gpu_smoke.check_sinkhorn(backend, DEVICE, rows=40) == []
        wrong = gpu_smoke.check_sinkhorn(Wrong(), torch.device("cpu"), rows=40)
    assert wrong[0] == "Sinkhorn of 40 rows, ε = 0.003: 40 rows have wrong codes"
    assert len(wrong) == 2


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.skipif(DEVICE.type == "cuda", reason="a GPU has sums of its own")
@pytest.mark.parametrize(
    ("block", "bits", "fault"),
    [(8, 24, ""), (16, 25, ""), (16, 23, ""), (4, 23, "blocks of 4"), (8, 23, "23 fraction bits")],
    ids=["A100", "H100", "assumed", "V100", "too rough"],
)
def test_the_probe_reads_how_tensor_cores_add(block: int, bits: int, fault: str) -> None:
    from triton.runtime.interpreter import InterpreterBuilder

    with mock.patch.object(InterpreterBuilder, "create_dot", tensor_core(block, bits)):
        found = tensor_cores.measure(torch.device("cpu"), 16, 1)
    assert (found.block, found.bits) == (block, bits)
    assert fault in found.fault
    assert bool(fault) == bool(found.fault)
