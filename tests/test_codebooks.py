"""`codebooks` means one thing, in both of its forms, wherever a public name takes or gives them."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import letter_fast as lf
from letter_fast import losses, ops
from letter_fast.codebooks import Codebooks
from letter_fast.kernels import cpp, reference
from letter_fast.tokenization import resolve

SIZES, D = [5, 3], 4
torch.manual_seed(0)
TABLE = torch.randn(sum(SIZES), D)
BOOKS = list(TABLE.split(SIZES))
X = torch.randn(12, D)
CODES = lf.functional.residual_search(X, BOOKS).codes
GROUPS = torch.arange(sum(SIZES)) % 2

# Every public function with such an argument, called with codebooks and sizes.
TAKEN: dict[str, Callable[..., Any]] = {
    "letter_fast.functional.residual_search": lambda books, sizes: lf.functional.residual_search(
        X, books, sizes
    ),
    "letter_fast.losses.residual_losses": lambda books, sizes: losses.residual_losses(
        X, books, sizes, CODES
    ),
    "letter_fast.losses.diversity_losses": lambda books, sizes: losses.diversity_losses(
        CODES, books, sizes, GROUPS, 3
    ),
    "letter_fast.tokenization.resolve": lambda books, sizes: resolve(CODES, X, books, sizes=sizes)[
        :2
    ],
}


def public_functions() -> dict[str, Callable[..., Any]]:
    """Functions that some package's `__all__` lists, compat apart: there names are a peer's."""
    found = {}
    packages = [lf, lf.functional]
    for module in pkgutil.iter_modules(lf.__path__, "letter_fast."):
        if module.ispkg and module.name.split(".")[1] not in ("compat", "bench", "kernels", "ops"):
            packages.append(importlib.import_module(module.name))
    for package in packages:
        for name in getattr(package, "__all__", ()):
            function = getattr(package, name)
            if inspect.isfunction(function):
                found[f"{package.__name__}.{name}"] = function
    return found


def flat(result: Any) -> list[Tensor]:
    if isinstance(result, Tensor | np.ndarray | list):
        return [torch.as_tensor(result)]
    return [each for part in result for each in flat(part)]


def test_every_public_function_with_codebooks_is_tried() -> None:
    public = public_functions()
    assert len(public) > 20
    taking = {
        name for name, each in public.items() if "codebooks" in inspect.signature(each).parameters
    }
    assert taking == set(TAKEN)
    for name in taking:
        parameters = inspect.signature(public[name]).parameters
        assert parameters["codebooks"].annotation == "Codebooks"
        assert parameters["sizes"].annotation == "Sequence[int] | None"
    assert Codebooks is not None


@pytest.mark.parametrize("name", TAKEN)
def test_both_forms_are_the_same(name: str) -> None:
    expected = flat(TAKEN[name](TABLE, SIZES))
    forms: list[tuple[object, object]] = [
        (BOOKS, None),
        (tuple(BOOKS), None),
        ([book.tolist() for book in BOOKS], None),
        ([book.numpy() for book in BOOKS], None),
        (torch.nn.ParameterList(BOOKS), None),
        (TABLE.numpy(), np.array(SIZES)),
    ]
    for codebooks, sizes in forms:
        found = flat(TAKEN[name](codebooks, sizes))
        assert len(found) == len(expected)
        for one, other in zip(found, expected):
            torch.testing.assert_close(one, other, check_dtype=False)  # lists are float64


@pytest.mark.parametrize("name", TAKEN)
def test_codebooks_that_are_neither_are_refused_in_one_line(name: str) -> None:
    for codebooks, sizes, message in [
        (TABLE, None, "are stacked: give their sizes"),
        (TABLE, [5, 4], "sizes must add up to the 8 codewords"),
        (BOOKS, SIZES, "codebooks"),
        ([], None, "at least one level"),
        ("ab", None, "must be a list of them"),
        ([BOOKS[0], torch.zeros(3, D + 1)], None, r"one width, got \[4, 5\]"),
        ([BOOKS[0], torch.zeros(0, D)], None, r"codebooks\[1\] is empty"),
        ([BOOKS[0].long(), BOOKS[1]], None, r"codebooks\[0\] must be a floating-point"),
    ]:
        with pytest.raises(ValueError, match=message) as refused:
            TAKEN[name](codebooks, sizes)
        assert "\n" not in str(refused.value)


def test_a_list_of_codebooks_gets_its_gradient() -> None:
    books = [book.clone().requires_grad_() for book in BOOKS]
    table = TABLE.clone().requires_grad_()
    losses.residual_losses(X, books, None, CODES).codebook.sum().backward()
    losses.residual_losses(X, table, SIZES, CODES).codebook.sum().backward()
    gradients = [book.grad for book in books if book.grad is not None]
    assert table.grad is not None
    assert torch.equal(torch.cat(gradients), table.grad)


def test_attributes_are_the_stacked_form() -> None:
    """That which every function takes as it stands."""
    for quantizer in (
        lf.ResidualQuantizer(D, SIZES),
        lf.ResidualKMeans(lf.ResidualKMeansConfig(D, tuple(SIZES))).quantizer,
        lf.Letter(
            lf.LetterConfig(input_dim=6, hidden=(5,), latent_dim=D, codebook_size=tuple(SIZES))
        ).quantizer,
    ):
        codebooks, sizes = quantizer.codebooks, quantizer.codebook_sizes
        assert isinstance(codebooks, torch.nn.Parameter)
        assert codebooks.shape == (sum(SIZES), D)
        assert codebooks.dtype == torch.float32
        assert sizes == SIZES
        for level, book in enumerate(codebooks.split(sizes)):
            assert torch.equal(quantizer.codebook(level), book)
        found = lf.functional.residual_search(X, codebooks, sizes)
        assert torch.equal(found.codes, quantizer.eval().encode(X))


@pytest.mark.parametrize("package", [ops, reference, cpp])
def test_operations_take_the_stacked_form(package: Any) -> None:
    """A tensor, and its sizes next to it."""
    taking = 0
    for _, each in inspect.getmembers(package, callable):
        function = getattr(each, "_init_fn", each)
        if not inspect.isfunction(function):
            continue
        parameters = list(inspect.signature(function).parameters.values())
        names = [each.name for each in parameters]
        if "codebooks" in names:
            at = names.index("codebooks")
            assert parameters[at].annotation in ("Tensor", Tensor)
            assert names[at + 1] == "sizes"
            taking += 1
    assert taking >= 4
