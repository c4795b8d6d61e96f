"""Other projects' checkpoints and codes: what their own code gave (tests/fixtures), or one line.

The fixtures' README says which commit of which project wrote them.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from torch import Tensor

import letter_fast as lf
from letter_fast.compat import grid, lc_rec, letter, rqvae_recommender
from letter_fast.tokenization import import_ids
from letter_fast.torch_file import read_torch_file

FIXTURES = Path(__file__).parent.parent / "fixtures"
FAMILY: dict[str, Any] = {"letter": letter, "lc_rec": lc_rec, "minionerec": lc_rec}


def cases(*projects: str) -> list[Any]:
    found = [path for project in projects for path in sorted((FIXTURES / project).glob("*.npz"))]
    assert found
    return [pytest.param(path, id=f"{path.parent.name}-{path.stem}") for path in found]


def checkpoint(path: Path) -> Path:
    (found,) = (one for one in path.parent.glob(f"{path.stem}.*") if one.suffix != ".npz")
    return found


def recorded(path: Path) -> dict[str, Tensor]:
    with np.load(path) as file:
        return {name: torch.from_numpy(file[name]) for name in file.files}


def close(mine: Tensor, theirs: Tensor) -> None:
    torch.testing.assert_close(mine, theirs, rtol=1e-5, atol=2e-6)


# LETTER, LC-Rec, MiniOneRec


@pytest.mark.parametrize("path", cases(*FAMILY))
def test_family_gives_what_theirs_gave(path: Path) -> None:
    was = recorded(path)
    model = FAMILY[path.parent.name].RQVAE.from_checkpoint(checkpoint(path))
    labels = [None] if path.parent.name == "letter" else []
    with torch.no_grad():
        close(model.encoder(was["x"]), was["latents"])
        quantized, _, codes = model.rq(model.encoder(was["x"]), *labels, use_sk=False)
        close(model.decoder(quantized), was["decoded"])
    close(quantized, was["quantized"])
    assert torch.equal(codes, was["ids"])
    assert torch.equal(model.get_indices(was["x"]), was["ids"])
    assert torch.equal(model.get_indices(was["x"], use_sk=True), was["ids_sinkhorn"])
    if path.stem == "plus":
        with pytest.raises(ValueError, match="no encoder like ResidualEncoder"):
            model.to_letter()
    else:
        ids = lf.tokenize(model.to_letter(), was["x"].numpy(), unique="none")
        assert np.array_equal(ids.codes, was["ids"].numpy())


@pytest.mark.parametrize(
    "path", [case for case in cases("letter", "lc_rec") if "before" not in case.id]
)
def test_family_trains_as_theirs_did(path: Path) -> None:
    was = recorded(path)
    project, module = path.parent.name, FAMILY[path.parent.name]
    options = read_torch_file(checkpoint(path))["args"]
    more = {"alpha": options.alpha, "cf_embedding": was["cf"]} if project == "letter" else {}
    model = module.RQVAE(
        12, options.num_emb_list, options.e_dim, options.layers, bn=options.bn,
        sk_epsilons=options.sk_epsilons, sk_iters=options.sk_iters, beta=options.beta, **more,
    )  # fmt: skip
    start = {name: value for name, value in was.items() if name.startswith("start.")}
    model.load_state_dict({name.removeprefix("start."): value for name, value in start.items()})
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=float(was["lr"]), weight_decay=float(was["weight_decay"])
    )
    labels = [{str(level): [word // 2 for word in range(8)] for level in range(3)}]
    for losses in was["losses"]:
        optimizer.zero_grad()
        if project == "letter":
            out, rq_loss, _, dense = model(was["x"], *labels)
            terms = model.compute_loss(out, rq_loss, torch.arange(60), dense, xs=was["x"])
        else:
            out, rq_loss, _ = model(was["x"])
            terms = model.compute_loss(out, rq_loss, xs=was["x"])
        terms[0].backward()
        optimizer.step()
        close(torch.stack(terms).detach().double(), losses)


# RQ-VAE-Recommender


@pytest.mark.parametrize("path", cases("rqvae_recommender"))
def test_rqvae_recommender_gives_what_theirs_gave(tmp_path: Path, path: Path) -> None:
    was = recorded(path)
    model = rqvae_recommender.RqVae.from_checkpoint(checkpoint(path))
    old = path.stem.endswith("_before_2026_03_28")
    assert model.normalize_decoded == old
    close(model.encode(was["x"]).detach(), was["latents"])
    found = model.get_semantic_ids(was["x"])
    assert torch.equal(found.sem_ids, was["sem_ids"])
    for name in ("embeddings", "residuals", "quantize_loss"):
        close(getattr(found, name), was[name])
    close(model.decode(found.embeddings.sum(-1)).detach(), was["decoded"])

    # Without the module nothing tells which of the two encoders it is.
    bare = tmp_path / "bare.pt"
    torch.save({"model": dict(read_torch_file(checkpoint(path))["model"])}, bare)
    normalize = path.stem.startswith(("both", "normalize"))
    with pytest.raises(ValueError, match="nothing in the file tells activation"):
        rqvae_recommender.RqVae.from_checkpoint(bare, codebook_normalize=normalize)
    with pytest.raises(ValueError, match="nothing in the file tells codebook_normalize"):
        rqvae_recommender.RqVae.from_checkpoint(bare, activation="relu")
    again = rqvae_recommender.RqVae.from_checkpoint(
        bare, normalize, "silu" if old else "relu"
    ).get_semantic_ids(was["x"])
    assert torch.equal(again.sem_ids, was["sem_ids"])


def test_rqvae_recommender_is_not_told_otherwise() -> None:
    path = FIXTURES / "rqvae_recommender" / "plain.pt"
    for given, message in (
        ({"activation": "silu"}, "activation is given as 'silu', but the file's module has 'relu'"),
        ({"codebook_normalize": True}, "but the file's module has False"),
        ({"commitment_weight": 1.0}, "but the file's module has 0.25"),
    ):
        with pytest.raises(ValueError, match=message):
            rqvae_recommender.RqVae.from_checkpoint(path, **given)


def test_every_tensor_of_a_state_dict_is_read_or_refused() -> None:
    state = dict(read_torch_file(FIXTURES / "rqvae_recommender" / "plain.pt")["model"])
    build = rqvae_recommender.RqVae
    build(state, "relu", False)
    for change, message in (
        ({"encoder.mlp.0.bias": torch.ones(10)}, "of 10 tensors 9 are known"),
        ({"encoder.mlp.3.weight": torch.ones(2, 2)}, "of 10 tensors 9 are known"),
        ({"encoder.mlp.2.weight": torch.ones(6, 9)}, "encoder takes .9. numbers, it is given 10"),
        ({"layers.1.embedding.weight": torch.ones(8, 5)}, "don't fit"),
        ({"layers.1.embedding.weight": torch.ones(8)}, "must be a matrix"),
        ({"layers.0.out_proj.0.weight": torch.ones(4, 5)}, "takes .5. numbers, it is given 4"),
    ):
        with pytest.raises(ValueError, match=message):
            build({**state, **change}, "relu", False)
    with pytest.raises(ValueError, match="activation must be one of relu, silu"):
        build(state, "gelu", False)


# GRID


@pytest.mark.parametrize("path", cases("grid"))
def test_grid_gives_what_theirs_gave(path: Path) -> None:
    was = recorded(path)
    model = grid.ResidualQuantization.from_checkpoint(checkpoint(path))
    assert model.normalize_residuals == (path.stem == "rkmeans")
    found = model(was["x"])
    assert torch.equal(found.cluster_ids, was["ids"])
    close(found.all_residuals, was["residuals"])
    close(found.quantized_embeddings, was["quantized"])


# FAISS


def trained(name: str) -> Any:
    faiss = pytest.importorskip("faiss", reason="faiss is not installed")
    index = faiss.index_factory(16, name)
    index.train(vectors(400))
    return index


def vectors(rows: int) -> Any:
    return np.random.default_rng(0).standard_normal((rows, 16)).astype(np.float32) + 3


@pytest.mark.parametrize(
    "name",
    ["RQ3x4", "RQ2x5_Nfloat", "RQ2x3_Nqint8", "IDMap,RQ3x4", "IDMap2,RQ3x4", "RQ3x4,Refine(Flat)",
     "IDMap,RQ2x4,RFlat"],
)  # fmt: skip
def test_from_faiss_gives_the_codes_of_the_index(name: str) -> None:
    from letter_fast.compat.faiss import from_faiss

    faiss = pytest.importorskip("faiss")
    index = inner = trained(name)
    while not hasattr(inner, "rq"):
        inner = faiss.downcast_index(getattr(inner, "index", None) or inner.base_index)
    x, beam = vectors(200), inner.rq.max_beam_size
    ours = from_faiss(index)
    codes = ours.encode(torch.from_numpy(x), beam=beam)
    assert isinstance(codes, Tensor)
    reader = faiss.BitstringReader
    packed = inner.rq.compute_codes(x)
    theirs = []
    for row in packed:
        bits = reader(faiss.swig_ptr(row), len(row))
        theirs.append([bits.read(size.bit_length() - 1) for size in ours.codebook_sizes])
    assert (codes.numpy() == np.array(theirs)).all(axis=1).mean() > 0.99  # float32 near-ties


@pytest.mark.parametrize(
    ("name", "message"),
    [("IVF4,RQ3x4", "IndexIVFResidualQuantizer with by_residual"),
     ("IDMap,IVF4,RQ3x4", "IndexIVFResidualQuantizer with by_residual"),
     ("OPQ4_16,RQ3x4", "OPQMatrix"), ("PCA8,RQ3x4", "PCAMatrix"),
     ("L2norm,RQ3x4", "NormalizationTransform"), ("PCAR8,IVF4,RQ3x4", "PCAMatrix"),
     ("Pad32,RQ3x4", "RemapDimensionsTransform"), ("PRQ2x2x4", "IndexProductResidualQuantizer"),
     ("IVF4,PRQ2x2x4", "IndexIVFProductResidualQuantizer"), ("PQ4x4", "IndexPQ"),
     ("IVF4,Flat", "IndexIVFFlat"), ("Flat", "IndexFlat"), ("SQ8", "IndexScalarQuantizer"),
     ("HNSW8", "IndexHNSWFlat")],
)  # fmt: skip
def test_from_faiss_refuses_what_quantizes_something_else(name: str, message: str) -> None:
    refused(lambda: trained(name), message)


@pytest.mark.parametrize(
    ("make", "message"),
    [(lambda faiss: None, "got NoneType"), (lambda faiss: "it.faiss", "got str"),
     (lambda faiss: Path("it.faiss"), "got PosixPath"), (lambda faiss: vectors(2), "got ndarray"),
     (lambda faiss: faiss.Kmeans(4, 2), "got Kmeans"),
     (lambda faiss: faiss.ProductQuantizer(16, 4, 4), "got ProductQuantizer"),
     (lambda faiss: faiss.LocalSearchQuantizer(16, 2, 4), "got LocalSearchQuantizer"),
     (lambda faiss: faiss.ProductResidualQuantizer(16, 2, 2, 4), "got ProductResidualQuantizer"),
     (lambda faiss: faiss.index_factory(16, "LSQ2x4"), "got IndexLocalSearchQuantizer"),
     (lambda faiss: faiss.index_factory(16, "PLSQ2x2x4"), "got IndexProductLocalSearch"),
     (lambda faiss: faiss.IndexShards(16), "got IndexShards"),
     (lambda faiss: faiss.IndexBinaryFlat(16), "got IndexBinaryFlat"),
     (lambda faiss: faiss.ResidualQuantizer(16, 2, 4), "is not trained")],
)  # fmt: skip
def test_from_faiss_names_what_it_got(make: Callable[[Any], Any], message: str) -> None:
    faiss = pytest.importorskip("faiss", reason="faiss is not installed")
    refused(lambda: make(faiss), message)


def refused(make: Callable[[], Any], message: str) -> None:
    from letter_fast.compat.faiss import from_faiss

    with pytest.raises(ValueError, match=message) as caught:
        from_faiss(make())
    assert len(str(caught.value).splitlines()) == 1


def test_an_inverted_file_of_the_vectors_themselves_is_read() -> None:
    faiss = pytest.importorskip("faiss", reason="faiss is not installed")
    from letter_fast.compat.faiss import from_faiss

    index = faiss.index_factory(16, "IVF4,RQ3x4")
    index.by_residual = False
    index.train(vectors(400))
    rq = index.rq
    assert torch.equal(from_faiss(index).codebooks, from_faiss(rq).codebooks)


def test_codes_beyond_the_codebooks_are_not_packed() -> None:
    pytest.importorskip("faiss", reason="faiss is not installed")
    from letter_fast.compat.faiss import pack_codes, to_faiss, unpack_codes

    quantizer = lf.ResidualQuantizer(4, [12, 16])
    for codes, message in (
        (torch.tensor([[3, 3], [12, 0]]), r"row 1 has codes \[12, 0\]"),
        (torch.tensor([[-1, 3]]), r"row 0 has codes \[-1, 3\]"),
        (torch.tensor([[1.0, 2.0]]), "must be integers"),
        (torch.tensor([1, 2]), r"integers \[N, 2\]"),
    ):
        with pytest.raises(ValueError, match=message):
            pack_codes(codes, quantizer)
    with pytest.raises(ValueError, match=r"row 0 has codes \[15, 0\]"):
        unpack_codes(np.array([[15]], dtype=np.uint8), quantizer)
    for beam in (0, -1, 1.5, None, True):
        with pytest.raises(ValueError, match="beam must be a positive integer"):
            to_faiss(lf.ResidualQuantizer(4, [16]), beam)


# OpenOneRec: types of the column × what is in it

BIG = (1 << 59) + (7 << 20) + 1


def openonerec(tmp_path: Path, column: str, values: Any, **given: Any) -> lf.SemanticIds:
    path = tmp_path / "pid2sid.parquet"
    array = values if isinstance(values, pa.Array) else pa.array(values)
    pq.write_table(pa.table({"pid": list(range(len(array))), column: array}), path)
    return import_ids(path, "openonerec", **given)


@pytest.mark.parametrize(
    "kind", [pa.int64(), pa.uint64(), pa.dictionary(pa.int32(), pa.int64())], ids=str
)
def test_openonerec_reads_packed_numbers_exactly(tmp_path: Path, kind: pa.DataType) -> None:
    values = pa.array([BIG, 5], pa.int64())
    values = values.dictionary_encode() if pa.types.is_dictionary(kind) else values.cast(kind)
    table = openonerec(tmp_path, "packed", values, radix=1 << 20, sizes=[1 << 20] * 3)
    assert table.codes.tolist() == [[1 << 19, 7, 1], [0, 0, 5]]


@pytest.mark.parametrize(
    "kind",
    [
        pa.list_(pa.int8()),
        pa.list_(pa.uint64()),
        pa.large_list(pa.int32()),
        pa.list_(pa.int16(), 2),
    ],
    ids=str,
)
@pytest.mark.parametrize("column", ["sid", "codes"])
def test_openonerec_reads_lists(tmp_path: Path, column: str, kind: pa.DataType) -> None:
    assert openonerec(tmp_path, column, pa.array([[1, 2], [3, 4]], kind)).codes.tolist() == [
        [1, 2],
        [3, 4],
    ]


@pytest.mark.parametrize(
    ("column", "values", "message"),
    [
        ("packed", pa.array([5, None, 9], pa.int64()), "row 1 has no ID: packed is null"),
        ("packed", pa.array([BIG, None], pa.int64()), "row 1 has no ID"),
        ("packed", pa.array([None], pa.uint64()), "row 0 has no ID"),
        ("packed", pa.array([None, 4], pa.int64()).dictionary_encode(), "row 0 has no ID"),
        ("packed", [5.0, 9.0], "packed must hold integers .* got double"),
        ("packed", ["5", "9"], "got string"),
        ("packed", [True, False], "got bool"),
        ("packed", pa.array([5, 2**64 - 1], pa.uint64()), "row 1 holds 18446744073709551615"),
        ("packed", [-1], "row 0 holds -1"),
        ("sid", [[1, 2], None], "row 1 has no ID: sid is null"),
        ("sid", [[1, 2], [3, None]], "row 1 has a null in its list"),
        (
            "sid",
            pa.array([[1, 2], [None, 2]], pa.list_(pa.int32(), 2)),
            "row 1 has a null in its list",
        ),
        ("sid", [[1, 2], [3]], "row 1 has a list of another length"),
        ("sid", ["<a_1><b_2>"], "sid must hold .* got string"),
        ("sid", [[1.0, 2.0]], r"got list<element: double|got list<item: double"),
        ("sid", [["1", "2"]], "got list"),
        ("sid", [[[1], [2]]], "got list"),
        ("sid", [[1, 2], [-1, 2]], r"row 1 has codes \[-1, 2\]"),
        ("codes", [{"a": 1}], "codes must hold .* got struct"),
    ],
)
def test_openonerec_says_which_row_has_what(
    tmp_path: Path, column: str, values: Any, message: str
) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        openonerec(tmp_path, column, values, radix=1 << 20 if values == [BIG, None] else None)
    assert len(str(caught.value).splitlines()) == 1


# GRID's tables: whatever protocol they were saved with


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("dtype", [torch.int64, torch.int32, torch.uint8, torch.int16])
def test_grid_tables_of_any_protocol(tmp_path: Path, protocol: int, dtype: torch.dtype) -> None:
    path = tmp_path / "merged_predictions_tensor.pt"
    codes = torch.randint(0, 9, (40, 4), generator=torch.Generator().manual_seed(0)).to(dtype)
    torch.save(codes.T, path, pickle_protocol=protocol)
    assert np.array_equal(import_ids(path, "grid").codes, codes.long().numpy())


def test_nothing_advises_to_load_unsafely(tmp_path: Path) -> None:
    path = tmp_path / "it.pt"
    for content, zipped in (
        (torch.ones(2, 3), False),
        ({"keys": torch.nn.Linear(2, 2)}, True),
        (np.ones((2, 3)), True),
        ([torch.ones(2)], True),
    ):
        torch.save(content, path, _use_new_zipfile_serialization=zipped)
        for read in (
            lambda: import_ids(path, "grid"),
            lambda: grid.ResidualQuantization.from_checkpoint(path),
        ):
            with pytest.raises(ValueError, match="it") as caught:
                read()
            assert "weights_only" not in str(caught.value)
