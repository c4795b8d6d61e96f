"""Drop-ins take rows of every kind, with the same result, or refuse them in one line."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.sparse import csr_matrix
from torch import Tensor, nn

from letter_fast.compat.fastkmeans import FastKMeans
from letter_fast.compat.k_means_constrained import KMeansConstrained
from letter_fast.compat.sklearn import ResidualKMeans
from letter_fast.compat.vector_quantize_pytorch import GroupedResidualVQ, ResidualVQ
from tests.support import oracle

# Whole numbers, which every type below holds exactly.
X = (4 * oracle.clustered(90, 6, 5, seed=4)).round().numpy()

ESTIMATORS: dict[str, Callable[[], Any]] = {
    "KMeansConstrained": lambda: KMeansConstrained(5, 10, 30, n_init=2, random_state=0),
    "FastKMeans": lambda: FastKMeans(6, 5),
    "ResidualKMeans": lambda: ResidualKMeans((5, 4), random_state=0),
    "ResidualKMeans, balanced": lambda: ResidualKMeans(5, balanced=True, random_state=0),
}


def read_only(x: Any) -> Any:
    copy = x.copy()
    copy.setflags(write=False)
    return copy


KINDS: dict[str, Callable[[Any], Any]] = {
    "lists": lambda x: x.tolist(),
    "float64": lambda x: x.astype(np.float64),
    "float16": lambda x: x.astype(np.float16),
    "int8": lambda x: x.astype(np.int8),
    "int64": lambda x: x.astype(np.int64),
    "big-endian": lambda x: x.astype(">f4"),
    "Fortran order": np.asfortranarray,
    "every second row": lambda x: np.repeat(x, 2, axis=0)[::2],
    "backwards": lambda x: x[::-1].copy()[::-1],
    "read-only": read_only,
    "frame": pd.DataFrame,
    "tensor": torch.from_numpy,
}


@pytest.mark.parametrize("estimator", ESTIMATORS)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.filterwarnings("ignore:X does not have valid feature names", "ignore:X has feature")
def test_rows_of_every_kind_give_one_result(estimator: str, kind: str) -> None:
    expected = ESTIMATORS[estimator]().fit(X)
    given = KINDS[kind](X)
    found = ESTIMATORS[estimator]().fit(given)
    assert (found.predict(given) == expected.predict(X)).all()
    assert (found.predict(X) == expected.predict(given)).all()


BAD: dict[str, Callable[[Any], Any]] = {
    "NaN": lambda x: np.where(np.arange(6) == 2, np.nan, x),
    "infinite": lambda x: np.where(np.arange(6) == 2, np.inf, x),
    "above float32": lambda x: x.astype(np.float64) * 1e300,
    "one row alone": lambda x: x[0],
    "three dimensions": lambda x: x[None],
    "no row": lambda x: x[:0],
    "no column": lambda x: x[:, :0],
    "text": lambda x: np.full(x.shape, "a"),
    "objects": lambda x: np.full(x.shape, None, dtype=object),
    "complex": lambda x: x + 1j,
    "ragged": lambda x: [[1.0, 2.0], [3.0]],
    "sparse": csr_matrix,
    "nothing": lambda x: None,
}


@pytest.mark.parametrize("estimator", ESTIMATORS)
@pytest.mark.parametrize("kind", BAD)
@pytest.mark.parametrize("method", ["fit", "predict"])
def test_what_cannot_be_taken_is_refused_in_one_line(
    estimator: str, kind: str, method: str
) -> None:
    model = ESTIMATORS[estimator]().fit(X)
    if (method, kind) == ("predict", "no row") and estimator == "FastKMeans":
        assert model.predict(X[:0]).shape == (0,)
        return
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises((ValueError, TypeError, NotImplementedError)) as caught:
            getattr(model, method)(BAD[kind](X))
    assert str(caught.value).strip()


QUANTIZERS: dict[str, Callable[[], nn.Module]] = {
    "ResidualVQ": lambda: ResidualVQ(dim=6, num_quantizers=2, codebook_size=5),
    "ResidualVQ, cosine": lambda: ResidualVQ(
        dim=6, num_quantizers=2, codebook_size=5, use_cosine_sim=True, orthogonal_reg_weight=1.0
    ),
    "ResidualVQ, drawn": lambda: ResidualVQ(
        dim=6, num_quantizers=2, codebook_size=5, stochastic_sample_codes=True
    ),
    "ResidualVQ, neural": lambda: ResidualVQ(
        dim=6, num_quantizers=2, codebook_size=5, implicit_neural_codebook=True
    ),
    "GroupedResidualVQ": lambda: GroupedResidualVQ(
        dim=6, groups=2, num_quantizers=2, codebook_size=5, kmeans_init=True
    ),
}


@pytest.mark.parametrize("quantizer", QUANTIZERS)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("shape", [(90, 6), (2, 45, 6), (3, 5, 6, 6)])
def test_modules_of_every_precision_and_shape(
    quantizer: str, dtype: torch.dtype, shape: tuple[int, ...]
) -> None:
    module = QUANTIZERS[quantizer]().to(dtype).train()
    rows = torch.from_numpy(X).to(dtype).view(shape).requires_grad_()
    quantized, indices, losses, *_ = module(rows)
    (quantized.float().square().sum() + losses.float().sum()).backward()
    assert quantized.dtype == dtype
    assert quantized.shape == shape
    assert indices.shape[-len(shape) :] == (*shape[:-1], 2)
    assert rows.grad is not None
    assert bool(rows.grad.isfinite().all())


@pytest.mark.parametrize("quantizer", QUANTIZERS)
@pytest.mark.parametrize(
    "rows", [X, X.tolist(), None, torch.from_numpy(X).int(), torch.zeros(3, 5), torch.tensor(1.0)]
)
def test_modules_refuse_in_one_line(quantizer: str, rows: Any) -> None:
    with pytest.raises(ValueError, match=r"^x must be ") as caught:
        QUANTIZERS[quantizer]()(rows)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("quantizer", QUANTIZERS)
@pytest.mark.parametrize("name", ["mask", "indices"])
def test_no_message_prints_a_tensor(quantizer: str, name: str) -> None:
    argument: Tensor = torch.zeros(90, 2, dtype=torch.int64)
    with pytest.raises((ValueError, NotImplementedError)) as caught:
        QUANTIZERS[quantizer]()(torch.from_numpy(X), **{name: argument})
    assert "\n" not in str(caught.value)
    assert "tensor(" not in str(caught.value)
