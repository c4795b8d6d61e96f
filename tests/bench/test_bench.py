"""The harness at tiny sizes: each peer gives the right codes, figures are what they say."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import torch

from letter_fast.bench import __main__ as entrance
from letter_fast.bench import machine, report, workloads
from letter_fast.bench.measure import Comparison, Lane, clock, compare, limited, ratio, share
from letter_fast.bench.memory import extra_bytes
from letter_fast.bench.peers import peers
from letter_fast.bench.workloads import Workload, make
from letter_fast.cli.app import run

CPU = torch.device("cpu")
TINY = Workload("tiny", "a test", 5, (32, 32, 32), cpu_rows=300)

# faiss and vector-quantize-pytorch warn of their own dependencies.
pytestmark = pytest.mark.filterwarnings("default")


@pytest.fixture(scope="module")
def tiny() -> Comparison:
    chosen = [peer for peer in peers(CPU) if "compile" not in peer.name]
    return compare(
        TINY,
        make(TINY, TINY.cpu_rows, CPU),
        chosen,
        threads=[1, 2],
        rounds=3,
        seconds=10.0,
        tell=lambda message: None,
    )


def test_every_peer_ran_each_round_and_finds_the_codes(tiny: Comparison) -> None:
    assert tiny.left_out == {}
    names = {peer.name for peer in peers(CPU)} - {"torch.compile, chunked"}
    for threads in (1, 2):
        lanes = [lane for lane in tiny.lanes if lane.threads == threads]
        assert {lane.name for lane in lanes if lane.role != "limit"} == names
        assert [lane.role for lane in lanes].count("limit") == 1
    for lane in tiny.lanes:
        assert len(lane.seconds) == 3
        assert all(second > 0 for second in lane.seconds)
        if lane.role == "ours":
            assert (lane.differing, lane.checked) == (0, 300)
        if lane.role == "peer":  # float32 may lose a near-tie, not more
            assert lane.checked == 300
            assert lane.differing is not None
            assert lane.differing <= 3, lane.name


def test_a_peer_that_fails_is_left_out_and_named() -> None:
    ragged = Workload("ragged", "a test", 5, (16, 12), cpu_rows=64)
    chosen = [peer for peer in peers(CPU) if peer.ours or "ResidualQuantizer" in peer.name]
    found = compare(
        ragged,
        make(ragged, 64, CPU),
        chosen,
        threads=[1],
        rounds=1,
        seconds=1.0,
        tell=lambda message: None,
    )
    assert list(found.left_out) == ["faiss ResidualQuantizer"]
    assert any("without faiss ResidualQuantizer" in said for said in report.sentences(found, False))


def test_ratios_are_taken_round_by_round() -> None:
    def lane(rows: float, *seconds: float) -> Lane:
        return Lane("", "", 1, rows, "peer", seconds=list(seconds))

    fast, slow = lane(100, 1.0, 2.0, 4.0), lane(50, 1.0, 4.0, 2.0)
    assert ratio(fast, slow) == 2.0  # 2, 4, 1
    assert fast.rate == 50.0
    assert share(fast, [slow, lane(25, 1.0, 1.0, 1.0)]) == 4.0  # 100/25, 50/12.5, 25/25


def test_workloads_are_the_anchors() -> None:
    for workload, flop in ((workloads.W1, 65.5e3), (workloads.W2, 4.72e6), (workloads.W3, 3.15e6)):
        assert workload.flop == pytest.approx(flop, rel=2e-3)
        assert workload.gpu_rows == 1_000_000
    assert workloads.W1.bytes == 160


def test_problems_repeat_and_hold_no_zeros() -> None:
    first, again = make(TINY, 300, CPU), make(TINY, 300, CPU)
    assert torch.equal(first.x, again.x)
    assert all(torch.equal(a, b) for a, b in zip(first.codebooks, again.codebooks, strict=True))
    assert [len(words) for words in first.codebooks] == [32, 32, 32]
    assert (first.x != 0).all()
    errors = []
    residual = first.x
    for words in first.codebooks:
        residual = residual - words[torch.cdist(residual, words).argmin(1)]
        errors.append(float(residual.square().sum()))
    assert errors == sorted(errors, reverse=True)  # codebooks fit the rows, level by level


def test_the_real_catalog(shared_data: Path) -> None:
    assert "Yelp" in workloads.available()
    x, sample = workloads.yelp(workloads.YELP, 500, CPU)
    assert x.shape == (500, 32)
    assert len(sample) == workloads.YELP.sample_rows


def test_the_entrance_writes_table_json_and_chart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(entrance, "available", lambda: {"tiny": TINY})
    arguments = "--rounds 2 --threads 1 --skip torch"
    monkeypatch.setattr(sys, "argv", ["bench", *arguments.split()])
    monkeypatch.setenv("RESULTS", str(tmp_path))
    entrance.main()
    stem = machine.name(CPU)
    assert {path.suffix for path in tmp_path.glob(f"{stem}.*")} == {".json", ".txt", ".png"}
    assert "faiss.knn chained" in capsys.readouterr().out
    written = json.loads((tmp_path / f"{stem}.json").read_text())
    assert written["machine"]["libraries"]["torch"] == torch.__version__
    lanes = written["workloads"][0]["lanes"]
    assert all(len(lane["seconds"]) == 2 for lane in lanes)
    assert not any("torch" in lane["peer"] for lane in lanes)


def test_the_short_version(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("W1", "W2", "W3"):
        monkeypatch.setattr(workloads, name, TINY)
    assert run(["bench", "--rounds", "1", "--json"]) == 0
    written = json.loads(capsys.readouterr().out)
    assert len(written["workloads"]) == 3
    assert run(["bench", "--device", "abacus"]) == 2
    assert "--device must be cpu" in capsys.readouterr().err


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_memory_is_what_the_call_adds() -> None:
    assert extra_bytes(2000, CPU) < 1 << 30


def test_a_gpu_is_timed_by_events(monkeypatch: pytest.MonkeyPatch) -> None:
    class Event:
        def __init__(self, enable_timing: bool) -> None:
            assert enable_timing

        def record(self) -> None:
            done.append("record")

        def synchronize(self) -> None: ...

        def elapsed_time(self, stop: Event) -> float:
            return 6.0  # milliseconds

    done: list[str] = []
    monkeypatch.setattr(torch.cuda, "Event", Event)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: None)
    assert clock(lambda: done.append("run"), 3, torch.device("cuda")) == pytest.approx(2e-3)
    assert done == ["record", "run", "run", "run", "record"]


def test_threads_are_limited_and_given_back() -> None:
    before = torch.get_num_threads()
    with limited(1):
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == before
