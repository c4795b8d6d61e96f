"""Files of other projects are data: whatever they hold, reading them runs nothing."""

from __future__ import annotations

import argparse
import pickle
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from letter_fast.compat import grid, lc_rec, letter
from letter_fast.compat.checkpoints import load_checkpoint, tensors
from letter_fast.torch_file import StandIn, read_torch_file


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


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize(
    "value",
    [np.float64(0.1), np.float32(0.5), np.float16(2), np.int64(-3), np.int8(7), np.uint64(2**63),
     np.bool_(True), np.complex128(1 + 2j), np.str_("text"), np.bytes_(b"raw"),
     np.datetime64("2026-11-30"), np.array([[1, 2], [3, 4]]), np.asfortranarray(np.eye(3, 2)),
     np.array([1.5], dtype=">f4"), {1, "a"}, frozenset({2}), torch.Size([2, 3]), 1 + 1j],
    ids=lambda value: f"{type(value).__name__}",
)  # fmt: skip
def test_plain_values_of_numpy_and_python(tmp_path: Path, value: Any, protocol: int) -> None:
    path = tmp_path / "it.pth"
    content = {"value": value, "args": argparse.Namespace(v=value)}
    torch.save(content, path, pickle_protocol=protocol)
    found = load_checkpoint(path)
    for one in (found["value"], found["args"]["v"]):
        if isinstance(value, np.ndarray):
            assert one.dtype.newbyteorder("=") == value.dtype.newbyteorder("=")
            np.testing.assert_array_equal(one, value)
        else:
            assert one == (value.item() if isinstance(value, np.generic) else value)


def test_objects_are_not_read(tmp_path: Path) -> None:
    path = tmp_path / "it.pth"
    torch.save({"value": np.array([{}])}, path)
    with pytest.raises(ValueError, match=r"holds NumPy objects \(O8\)"):
        load_checkpoint(path)


@pytest.mark.parametrize("module", [letter, lc_rec])
@pytest.mark.parametrize("prefix", ["", "module.", "_orig_mod.", "module._orig_mod."])
def test_prefixes_of_wrappers_are_taken_off(tmp_path: Path, module: Any, prefix: str) -> None:
    options = {"num_emb_list": [8, 8], "e_dim": 4, "layers": [8], "sk_epsilons": [0.0, 0.0]}
    model = module.RQVAE(8, **options)
    state = {prefix + name: tensor for name, tensor in model.state_dict().items()}
    content = {"args": argparse.Namespace(**options), "state_dict": state, "loss": np.float64(1)}
    torch.save(content, tmp_path / "it.pth", pickle_protocol=4)
    x = torch.randn(9, 8)
    found = module.RQVAE.from_checkpoint(tmp_path / "it.pth")
    assert torch.equal(found.get_indices(x), model.eval().get_indices(x))


def test_an_unknown_object_stands_aside(tmp_path: Path) -> None:
    model = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.ReLU())
    torch.save({"it": model, "a": torch.ones(2)}, tmp_path / "it.pth")
    found = read_torch_file(tmp_path / "it.pth")
    assert torch.equal(found["a"], torch.ones(2))
    assert isinstance(found["it"], StandIn)
    inner = found["it"].state["_modules"]["1"]
    assert (inner.name, repr(inner)) == ("torch.nn.modules.activation.ReLU",
                                         "<torch.nn.modules.activation.ReLU>")  # fmt: skip


def archive(path: Path, raw: bytes, compression: int = zipfile.ZIP_STORED) -> None:
    """A file of torch.save with another pickle; storage 0 has four floats."""
    torch.save({"a": torch.ones(4)}, path)
    with zipfile.ZipFile(path) as source:
        parts = {name: source.read(name) for name in source.namelist()}
    with zipfile.ZipFile(path, "w", compression) as target:
        for name, data in parts.items():
            target.writestr(name, raw if name.endswith("data.pkl") else data)


def tensor(size: list[int], stride: list[int], offset: int = 0, key: str = "0") -> bytes:
    """A pickle of {"state_dict": {"a": that tensor}}, over a storage of four floats."""

    def number(value: int) -> bytes:
        return b"\x8a\x09" + value.to_bytes(9, "little", signed=True)

    def numbers(values: list[int]) -> bytes:
        return b"(" + b"".join(map(number, values)) + b"t"

    def text(value: str) -> bytes:
        return b"X" + struct.pack("<I", len(value)) + value.encode()

    storage = b"(" + text("storage") + b"ctorch\nFloatStorage\n" + text(key) + text("cpu")
    return (
        b"\x80\x02}" + text("state_dict") + b"}" + text("a")
        + b"ctorch._utils\n_rebuild_tensor_v2\n(" + storage + number(4) + b"tQ" + number(offset)
        + numbers(size) + numbers(stride) + b"\x89ccollections\nOrderedDict\n)RtRss."
    )  # fmt: skip


TWICE = b"".join(b"h%ch%c\x86q%c" % (i, i, i + 1) for i in range(60))
NESTED = b"\x80\x02)q\x00" + TWICE  # sixty tuples, each twice in the next: hashing takes for ever
MALICIOUS = {
    "os.system": b"cos\nsystem\n(S'touch MARK'\ntR.",
    "of protocol 4": b"\x80\x04\x8c\x05posix\x8c\x06system\x93\x8c\x0atouch MARK\x85R.",
    "eval": b"\x80\x02c__builtin__\neval\nX\x01\x00\x00\x001\x85R.",
    "a method": b"\x80\x04\x8c\x07pathlib\x8c\x0aPath.touch\x93\x8c\x04MARK\x85R.",
    "through a module": b"cargparse\n_os.system\n(S'touch MARK'\ntR.",
    "torch.load": b"ctorch.serialization\nload\n(S'MARK'\ntR.",
    "instance": b"(S'touch MARK'\nios\nsystem\n.",
    "a memo of 2^31": b"\x80\x02]r\xff\xff\xff\x7f.",
    "bytes of 2^40": b"\x80\x05\x96" + struct.pack("<Q", 1 << 40) + b".",
    "a key": NESTED + b"}h\x3cK\x01s.",
    "a dictionary": NESTED + b"(h\x3cK\x01d.",
    "an element": NESTED + b"\x8f(h\x3c\x90.",
    "a frozen element": NESTED + b"(h\x3c\x91.",
    "a set": NESTED + b"cbuiltins\nset\n]h\x3ca\x85R.",
    "beyond its storage": tensor([5], [1]),
    "huge": tensor([2**40], [1]),
    "huge by stride 0": tensor([2**31], [0]),
    "negative": tensor([-1], [1]),
    "a far offset": tensor([1], [1], offset=2**50),
    "another file": tensor([1], [1], key="../../etc/passwd"),
    "a deep list": b"]" * 50_000 + b"a" * 49_999 + b".",
    "a large pickle": b"}" * (9 << 20),
}

READERS = [load_checkpoint, lc_rec.RQVAE.from_checkpoint, grid.ResidualQuantization.from_checkpoint]


@pytest.mark.parametrize("name", MALICIOUS)
@pytest.mark.parametrize("read", READERS)
def test_malicious_files_run_nothing_and_end_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, read: Callable[[Path], Any]
) -> None:
    monkeypatch.chdir(tmp_path)
    archive(tmp_path / "it.pth", MALICIOUS[name])
    with pytest.raises(ValueError, match=r"it\.pth") as caught:
        read(tmp_path / "it.pth")
    assert len(str(caught.value).splitlines()) == 1
    assert len(str(caught.value)) < 600
    assert not (tmp_path / "MARK").exists()


def test_other_archives(tmp_path: Path) -> None:
    path = tmp_path / "it.pth"
    archive(path, bytes(1 << 20), zipfile.ZIP_DEFLATED)
    with pytest.raises(ValueError, match="compressed records"):
        load_checkpoint(path)
    torch.save({"a": torch.ones(4)}, path, _use_new_zipfile_serialization=False)
    with pytest.raises(ValueError, match=r"the format of PyTorch before 1\.6"):
        load_checkpoint(path)
    torch.save({"a": torch.arange(1000)}, path)
    whole = path.read_bytes()
    path.write_bytes(whole[:-100])
    with pytest.raises(ValueError, match="is cut off"):
        load_checkpoint(path)
    place = whole.index(torch.arange(1000).numpy().tobytes())
    path.write_bytes(whole[: place + 8] + b"\x07" + whole[place + 9 :])
    with pytest.raises(ValueError, match="Bad CRC-32"):
        load_checkpoint(path)
    with pytest.raises(ValueError, match="does not exist"):
        load_checkpoint(tmp_path / "absent.pth")
    with pytest.raises(ValueError, match="is not a file"):
        load_checkpoint(tmp_path)


@pytest.mark.parametrize(
    "change",
    [{"num_emb_list": [10**8] * 2}, {"e_dim": 10**9}, {"layers": 10**9}, {"layers": [10**9]},
     {"kmeans_iters": 10**12}, {"sk_iters": -1}, {"dropout_prob": "x"}, {"loss_type": ["mse"]},
     {"sk_epsilons": "abc"}, {"sk_epsilons": [0.0]}, {"bn": "maybe"}, {"beta": None},
     {"num_emb_list": None}, {"quant_loss_weight": float("nan")}],
    ids=str,
)  # fmt: skip
def test_options_are_not_believed(tmp_path: Path, change: dict[str, Any]) -> None:
    """Least of all before anything is made of them."""
    options = {"num_emb_list": [4, 4], "e_dim": 4, "layers": [6], "sk_epsilons": [0.0, 0.0]}
    state = lc_rec.RQVAE(8, **options).state_dict()
    args = argparse.Namespace(**options | change)
    torch.save({"args": args, "state_dict": state}, tmp_path / "it.pth")
    with pytest.raises(ValueError, match="does not hold the model that its options name"):
        lc_rec.RQVAE.from_checkpoint(tmp_path / "it.pth")


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
def test_weights_are_finite(tmp_path: Path, value: float) -> None:
    options = {"num_emb_list": [4, 4], "e_dim": 4, "layers": [6], "sk_epsilons": [0.0, 0.0]}
    state = lc_rec.RQVAE(8, **options).state_dict()
    state["rq.vq_layers.1.embedding.weight"][2, 1] = value
    torch.save({"args": argparse.Namespace(**options), "state_dict": state}, tmp_path / "it.pth")
    with pytest.raises(ValueError, match=r"rq\.vq_layers\.1\.embedding\.weight holds NaN or Inf"):
        lc_rec.RQVAE.from_checkpoint(tmp_path / "it.pth")
