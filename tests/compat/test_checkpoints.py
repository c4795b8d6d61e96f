"""Files of other projects are data: whatever they hold, reading them runs nothing."""

from __future__ import annotations

import argparse
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from letter_fast.compat.checkpoints import load_checkpoint, tensors


@pytest.mark.parametrize("protocol", [2, 4, 5])
def test_what_trainers_write_comes_back(tmp_path: Path, protocol: int) -> None:
    model = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.BatchNorm1d(2))
    optimizer = torch.optim.AdamW(model.parameters())
    model(torch.randn(5, 3)).sum().backward()
    optimizer.step()
    state = {
        "args": argparse.Namespace(lr=1e-3, layers=[3, 2], bn=True, name=None),
        "epoch": 10_000,
        "best_loss": float("inf"),
        "state_dict": model.state_dict(),
        "optimizer": optimizer.state_dict(),
        "half": torch.ones(2, dtype=torch.bfloat16),
        "parameter": torch.nn.Parameter(torch.arange(3.0)),
    }
    torch.save(state, tmp_path / "it.pth", pickle_protocol=protocol)
    found = load_checkpoint(tmp_path / "it.pth")
    assert found["args"] == vars(state["args"])
    assert (found["epoch"], found["best_loss"]) == (10_000, float("inf"))
    for name, tensor in tensors(found, "state_dict", "it.pth").items():
        assert torch.equal(tensor, model.state_dict()[name])
    assert found["half"].dtype == torch.bfloat16
    assert torch.equal(found["parameter"], torch.arange(3.0))
    assert found["optimizer"]["state"][0]["step"] == 1


class Calls:
    """Unpickled, it calls a function."""

    def __init__(self, function: Callable[..., object], *arguments: object) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return self.call


@pytest.mark.parametrize("protocol", [2, 4])
@pytest.mark.parametrize("function", [Path.touch, print, getattr, torch.load, argparse.Action])
def test_nothing_is_called(tmp_path: Path, function: Callable[..., object], protocol: int) -> None:
    mark = tmp_path / "mark"
    content = {"state_dict": {}, "args": Calls(function, mark)}
    torch.save(content, tmp_path / "it.pth", pickle_protocol=protocol)
    with pytest.raises(ValueError, match="holds more than tensors, plain values and argparse"):
        load_checkpoint(tmp_path / "it.pth")
    assert not mark.exists()


def test_a_pickle_cannot_change_the_classes_it_names(tmp_path: Path) -> None:
    """BUILD on a class itself, by hand: c(argparse Namespace) (None, {"leak": 1}) b."""
    raw = b"\x80\x02}X\x01\x00\x00\x00acargparse\nNamespace\nN}X\x04\x00\x00\x00leakK\x01s\x86bs."
    assert vars(pickle.loads(raw)["a"])["leak"] == 1  # so an ordinary reader is changed
    del argparse.Namespace.leak  # type: ignore[attr-defined]
    torch.save({}, tmp_path / "it.pth")
    with zipfile.ZipFile(tmp_path / "it.pth") as source:
        parts = {name: source.read(name) for name in source.namelist()}
    with zipfile.ZipFile(tmp_path / "bad.pth", "w") as target:
        for name, data in parts.items():
            target.writestr(name, raw if name.endswith("data.pkl") else data)
    load_checkpoint(tmp_path / "bad.pth")
    assert not hasattr(argparse.Namespace, "leak")


def test_other_files(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(pickle.dumps({"state_dict": {}}))
    with pytest.raises(ValueError, match="not a file that"):
        load_checkpoint(path)
    torch.save([1], path)
    with pytest.raises(ValueError, match="must hold a dictionary, got list"):
        load_checkpoint(path)
    with pytest.raises(ValueError, match=r"no tensors under 'model', only \['iter'\]"):
        tensors({"iter": 3}, "model", path)
