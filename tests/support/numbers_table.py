"""Every public callable that takes numbers, each argument, each bad value: what must come of it.

Run as a program it makes the calls FIRST … and writes a line of JSON for each before the next
begins, so that the reader (test_numbers.py) knows which one killed it.
"""

from __future__ import annotations

import json
import math
import signal
import sys
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch

import letter_fast as lf
from letter_fast import functional as F
from letter_fast import losses

# A call that takes more of a processor's time counts as one that never ends.
SECONDS = 20


class Case(NamedTuple):
    """`call` of this name with `bad` for `argument`; taken: it must give what `good` gives."""

    name: str
    call: Callable[..., Any]
    good: dict[str, Any]
    argument: str
    label: str
    bad: Any
    taken: bool | None  # None: either, as long as it is an answer or one line


def _strange_layouts(x: torch.Tensor) -> Iterator[tuple[str, Any, bool | None]]:
    """The same numbers in other containers."""
    array = x.numpy()
    yield "numpy", array.copy(), True
    yield "read-only", _read_only(array), True
    yield "big-endian", array.astype(array.dtype.newbyteorder(">")), True
    yield "reversed", array[::-1].copy()[::-1], True
    yield "columns first", torch.from_numpy(np.asfortranarray(array)), True
    yield "every second", torch.from_numpy(np.repeat(array, 2, axis=0))[::2], True
    yield "list", array.tolist(), True


def _read_only(array: np.ndarray) -> np.ndarray:
    array = array.copy()
    array.flags.writeable = False
    return array


NO_NUMBERS = [
    ("None", None),
    ("text", "abc"),
    ("object", object()),
    ("dict", {"a": 1}),
    ("ragged", [[1.0], [1.0, 2.0]]),
]


def floats(x: torch.Tensor, rows_matter: bool = True) -> Iterator[tuple[str, Any, bool | None]]:
    """Bad values and other spellings of a float matrix [N, D]."""
    yield from _strange_layouts(x)
    yield "frame", pd.DataFrame(x.numpy()), True
    yield "float64", x.double(), True
    yield "numpy float64", x.double().numpy(), True
    yield "requires_grad", x.clone().requires_grad_(), True
    yield "float16", x.half(), None
    yield "bfloat16", x.bfloat16(), None
    for value in (math.nan, math.inf, -math.inf):
        broken = x.clone()
        broken[1, 0] = value
        yield f"holds {value}", broken, False
        yield f"all {value}", torch.full_like(x, value), False
    yield "1e300", x.double() * 1e300, False
    yield "too wide", torch.cat([x, x], dim=1), False
    yield "too narrow", x[:, :-1], False
    yield "no width", x[:, :0], False
    yield "no row", x[:0], None
    yield "flat", x.flatten(), False
    yield "a number", x[0, 0], False
    yield "complex", x.to(torch.complex64), False
    yield "int64", (x * 10).long(), False
    yield "bool", x > 0, False
    yield "sparse", x.to_sparse(), False
    yield "meta", x.to("meta"), False
    for label, bad in NO_NUMBERS:
        yield label, bad, False


def integers(codes: torch.Tensor, size: int | None) -> Iterator[tuple[str, Any, bool | None]]:
    """Bad values and other spellings of codes or group numbers, below `size` where that is said."""
    yield from _strange_layouts(codes)
    for dtype in (torch.int32, torch.int16, torch.uint8):
        yield str(dtype), codes.to(dtype), True
    yield "numpy uint64", codes.numpy().astype(np.uint64), True
    yield "float", codes.float(), False
    yield "bool", codes > 0, False
    yield "a number", codes.flatten()[0], False
    yield "no element", codes[:0], None
    yield "one more dimension", codes[None].repeat(2, *[1] * codes.dim()), None
    yield "meta", codes.to("meta"), False
    for label, bad in NO_NUMBERS:
        yield label, bad, False
    if size is not None:
        for value in (size, -2, 2**31, 2**62, -(2**63)):
            broken = codes.clone()
            broken.view(-1)[1] = value
            yield f"holds {value}", broken, False
        yield "int32 beyond", torch.full_like(codes, size).int(), False
        yield "uint64 beyond", np.full(codes.shape, 2**64 - 1, dtype=np.uint64), False


def counts(
    good: int, most: int | None = None, least: int = 1
) -> Iterator[tuple[str, Any, bool | None]]:
    """Bad values of an integer of at least 1."""
    yield "numpy", np.int64(good), True
    yield "0", 0, False if least else None
    for bad in (-1, -(2**63), 1.5, math.nan, math.inf, "3", None, [3], True, 2**63, 2**200):
        yield repr(bad)[:20], bad, None if isinstance(bad, int) and bad > good else False
    if most is not None:
        yield "one too many", most + 1, False


def seeds(good: int) -> Iterator[tuple[str, Any, bool | None]]:
    yield "numpy", np.int64(good), True
    for value in (-1, 2**63, 2**200):
        yield str(value)[:20], value, None
    for bad in (1.5, math.nan, "3", [3]):
        yield repr(bad), bad, False


def numbers(good: float) -> Iterator[tuple[str, Any, bool | None]]:
    """Bad values of a float of at least 0."""
    yield "numpy", np.float64(good), True
    for bad in (-1.0, math.nan, math.inf, -math.inf, "0.1", None, 1j):
        yield repr(bad), bad, False


def sizes(good: list[int]) -> Iterator[tuple[str, Any, bool | None]]:
    yield "numpy", np.array(good), True
    yield "tuple", tuple(good), True
    for bad in (
        [],
        [0, *good[1:]],
        [-1, *good[1:]],
        [good[0] + 1, *good[1:]],
        [good[0] - 1, *good[1:]],
        good[:1],
        [*good, 1],
        [2**62, 2**62, *good[2:]],
        [2**63, *good[1:]],
        [good[0] + 0.5, *good[1:]],
        ["3", *good[1:]],
        [math.nan, *good[1:]],
        [-sum(good), 2 * sum(good), *good[2:]],
        None,
        "ab",
        3.5,
    ):
        yield f"{bad!r:.40}", bad, False


def words(good: str) -> Iterator[tuple[str, Any, bool | None]]:
    for bad in ("nonsense", "", None, 3, [good], {}):
        yield repr(bad), bad, False


def cases() -> list[Case]:
    """All of them, in one order in every process."""
    torch.manual_seed(0)
    x, book = torch.randn(24, 4), torch.randn(7, 4)
    books = [torch.randn(5, 4), torch.randn(3, 4)]
    table, walk = torch.cat(books), torch.stack([torch.arange(24) % 5, torch.arange(24) % 3], dim=1)
    groups = torch.arange(8) % 2
    quantizer = lf.ResidualQuantizer(4, [5, 3]).fit(x, method="kmeans")
    ema = lf.ResidualQuantizer(4, [5, 3], codebook_update="ema").fit(x, method="kmeans")
    letter_config = dict(
        input_dim=6, hidden=(5,), latent_dim=4, codebook_size=(5, 3), cf_dim=3, sinkhorn_sweeps=5
    )
    letter = lf.Letter(lf.LetterConfig(**letter_config)).eval()
    plain = lf.ResidualKMeans(lf.ResidualKMeansConfig(4, (5, 3))).fit(x.numpy())
    s, h = torch.randn(24, 6), torch.randn(24, 3)
    found: list[Case] = []

    def add(name: str, call: Callable[..., Any], good: dict[str, Any], **bad: Any) -> None:
        for argument, values in bad.items():
            for label, value, taken in values:
                found.append(Case(name, call, good, argument, label, value, taken))

    def any_start(values: Any) -> list[tuple[str, Any, bool | None]]:
        """Arguments that may also be None."""
        return [(label, bad, None if bad is None else taken) for label, bad, taken in values]

    offset = torch.zeros(7)
    add(
        "nearest",
        F.nearest,
        dict(x=x, codebook=book, offset=None),
        x=floats(x),
        codebook=floats(book),
    )
    add(
        "nearest",
        F.nearest,
        dict(x=x, codebook=book, offset=offset),
        offset=[
            ("numpy", offset.numpy(), True),
            ("list", offset.tolist(), True),
            ("half", offset.half(), True),
            ("short", offset[:6], False),
            ("holds nan", offset * math.nan, False),
            ("inf", offset + math.inf, False),
            ("int64", offset.long(), None),
            ("complex", offset + 1j, False),
            ("text", "abc", False),
            ("matrix", offset[None], False),
            ("meta", offset.to("meta"), False),
            ("object", object(), False),
        ],
    )
    add(
        "residual_search",
        F.residual_search,
        dict(x=x, codebooks=books),
        x=floats(x),
        codebooks=[
            ("one", books[0], None),
            ("numbers", 3, False),
            ("none", None, False),
            ("text", "ab", False),
            *[
                (f"second {label}", [books[0], bad], taken)
                for label, bad, taken in floats(books[1])
            ],
        ],
    )
    options = dict(k=3, restarts=1, iterations=3, tolerance=1e-4, seed=0)
    add(
        "kmeans",
        F.kmeans,
        dict(x=x, start=x[:3], **options),
        x=any_width(floats(x)),
        k=counts(3, 24),
        restarts=counts(1),
        iterations=counts(3),
        tolerance=numbers(1e-4),
        seed=seeds(0),
        start=any_start(floats(x[:3])),
    )
    bounds = [
        ("numpy", np.int64(2), True),
        *[(repr(bad)[:20], bad, False) for bad in (-1, 25, 2**63, 2**200, 1.5, math.nan, "2", [2])],
        ("tensor", torch.tensor([2, 2, 2]), True),
        ("array", np.array([2, 2, 2]), True),
        ("short", torch.tensor([2, 2]), False),
        ("floats", torch.tensor([2.5, 2.0, 2.0]), False),
        ("complex", torch.tensor([2j, 2, 2]), False),
    ]
    add(
        "balanced_kmeans",
        F.balanced_kmeans,
        dict(x=x, min_size=2, max_size=20, **options),
        x=any_width(floats(x)),
        k=counts(3, 24),
        restarts=counts(1),
        iterations=counts(3),
        tolerance=numbers(1e-4),
        seed=seeds(0),
        min_size=bounds,
    )
    for cost in ("squared", "distance"):
        add(
            "balanced_assign",
            F.balanced_assign,
            dict(x=x, centroids=x[:3], min_size=2, max_size=20, cost=cost),
            x=floats(x),
            centroids=floats(x[:3]),
            min_size=bounds,
            cost=words(cost),
        )
    add(
        "sinkhorn_codes",
        F.sinkhorn_codes,
        dict(x=x, codebook=book, epsilon=0.01, sweeps=5, starts=torch.tensor([0, 9, 24])),
        x=floats(x),
        codebook=floats(book),
        epsilon=[*numbers(0.01), ("0", 0.0, False), ("tiny", 1e-310, False)],
        sweeps=counts(5),
        starts=any_start([*integers(torch.tensor([0, 9, 24]), 25)]),
    )
    add(
        "diversity_loss",
        lambda **a: F.diversity_loss(
            a["codes"], a["codebook"], a["groups"], torch.Generator().manual_seed(1)
        ),
        dict(codes=walk[:, 0], codebook=books[0], groups=groups[:5]),
        codes=integers(walk[:, 0], 5),
        codebook=any_width(without_nan(floats(books[0]))),
        groups=integers(groups[:5], None),
    )
    add(
        "contrastive_loss",
        F.contrastive_loss,
        dict(q=x, h=x.flip(0), temperature=1.0, normalize=False, negatives=x),
        q=without_nan(floats(x)),
        h=without_nan(floats(x.flip(0))),
        temperature=[*numbers(1.0), ("0", 0.0, False)],
        negatives=any_start(without_nan(floats(x))),
    )
    add(
        "diversity_losses",
        losses.diversity_losses,
        dict(codes=walk, codebooks=table, sizes=[5, 3], groups=groups, seed=3),
        codes=[*integers(walk, 5), ("K of level 2", walk + torch.tensor([0, 1]), False)],
        codebooks=any_width(without_nan(floats(table))),
        sizes=sizes([5, 3]),
        groups=integers(groups, None),
        seed=any_start(seeds(3)),
    )
    add(
        "residual_losses",
        losses.residual_losses,
        dict(
            z=x, codebooks=table, sizes=[5, 3], codes=walk, residual_grad="detach", reduction="mean"
        ),
        z=without_nan(floats(x)),
        codebooks=without_nan(floats(table)),
        sizes=sizes([5, 3]),
        codes=[
            *integers(walk, 5),
            ("K of level 2", walk + torch.tensor([0, 1]), False),
            ("half marked", walk - torch.tensor([0, 3]), False),
        ],
        residual_grad=words("detach"),
        reduction=words("mean"),
    )

    one = dict(
        dim=4,
        codebook_size=[5, 3],
        commitment_weight=0.25,
        sinkhorn_epsilon=0.0,
        sinkhorn_sweeps=5,
        ema_decay=0.5,
        residual_grad="full",
        reduction="sum",
        nonfinite="mark",
        codebook_update="ema",
    )
    add(
        "ResidualQuantizer",
        lambda **a: lf.ResidualQuantizer(**a).codebook_sizes,
        one,
        dim=counts(4),
        codebook_size=[
            *[
                (label, bad, bool(taken))
                for label, bad, taken in sizes([5, 3])
                if label not in ("[6, 3]", "[4, 3]", "[5]", "[5, 3, 1]")
            ],
            ("numpy int", np.int64(4), None),
        ],
        commitment_weight=numbers(0.25),
        sinkhorn_epsilon=[
            *numbers(0.0),
            ("short", [0.1], False),
            ("nan", [0.1, math.nan], False),
            ("numpy", np.array([0.1, 0.0]), True),
        ],
        sinkhorn_sweeps=counts(5),
        ema_decay=[*numbers(0.5), ("1", 1.0, False)],
        residual_grad=words("full"),
        reduction=words("sum"),
        nonfinite=words("mark"),
        codebook_update=words("ema"),
    )
    for name, model in (("quantizer", quantizer), ("ema quantizer", ema)):
        add(name, lambda z, model=model: model.eval()(z), dict(z=x), z=floats(x))
        add(
            name + ".train",
            lambda z: lf.ResidualQuantizer(4, [5, 3], sinkhorn_epsilon=0.01)(z),
            dict(z=x),
            z=[(a, b, None if c else c) for a, b, c in floats(x)],
        )
    add(
        "quantizer.encode",
        quantizer.encode,
        dict(z=x, beam=1, return_margin=False),
        z=floats(x),
        beam=[
            *[(repr(beam), beam, True) for beam in (np.int64(1),)],
            *[(repr(beam)[:20], beam, False) for beam in (0, -1, 1.5, math.nan, "2", None, True)],
            *[(f"2**{bits}", 2**bits, None) for bits in (20, 31, 40, 59, 62, 63, 200)],
        ],
    )
    add("quantizer.decode", quantizer.decode, dict(codes=walk), codes=integers(walk, 5))
    add(
        "quantizer.codebook",
        quantizer.codebook,
        dict(level=1),
        level=[(repr(bad)[:20], bad, False) for bad in (2, -3, 2**70, 1.5, "0", None)],
    )
    fit = dict(latents=x, method="kmeans", restarts=1, iterations=3, tolerance=1e-4, seed=0)
    for method in ("kmeans", "balanced_kmeans"):
        add(
            "quantizer.fit",
            lambda **a: lf.ResidualQuantizer(4, [5, 3]).fit(**a).codebooks,
            {**fit, "method": method},
            latents=floats(x),
            method=words("kmeans"),
            restarts=counts(1),
            iterations=counts(3),
            tolerance=numbers(1e-4),
            seed=seeds(0),
        )
    for broken in (math.nan, math.inf):
        sick = lf.ResidualQuantizer(4, [5, 3])
        sick.load_state_dict(quantizer.state_dict())
        with torch.no_grad():
            sick.codebook(1)[2, 3] = broken
        found.append(
            Case(
                "quantizer",
                lambda z, sick=sick: sick.encode(z),
                dict(z=x),
                "z",
                f"codeword {broken}",
                x,
                False,
            )
        )
        found.append(
            Case(
                "quantizer",
                lambda z, sick=sick: sick.encode(z, beam=3),
                dict(z=x),
                "z",
                f"codeword {broken}, beam",
                x,
                False,
            )
        )
        found.append(
            Case(
                "quantizer",
                lambda codes, sick=sick: sick.decode(codes),
                dict(codes=walk),
                "codes",
                f"codeword {broken}",
                walk,
                False,
            )
        )
    for changed in ([5], [5, 3, 1], [5, 4], [0, 8], [9, -1], [2**62, 3], []):
        moved = lf.ResidualQuantizer(4, [5, 3])
        for name, call in (
            ("encode", moved.encode),
            ("forward", moved.__call__),
            ("decode", moved.decode),
            ("fit", moved.fit),
        ):

            def use(
                sizes: Any,
                moved: Any = moved,
                call: Any = call,
                given: Any = walk if name == "decode" else x,
            ) -> Any:
                moved.codebook_sizes = sizes
                return call(given)

            found.append(
                Case(
                    f"quantizer.{name}, sizes changed",
                    use,
                    dict(sizes=[5, 3]),
                    "sizes",
                    repr(changed),
                    changed,
                    False,
                )
            )

    add("Letter", letter, dict(s=s), s=floats(s))
    for name, call in (("encode", letter.encode), ("encode_latents", letter.encode_latents)):
        add(
            f"Letter.{name}",
            call,
            dict(s=s),
            s=floats(s) if name == "encode" else without_nan(floats(s)),
        )
        for dtype in (torch.bfloat16, torch.float64):
            other = lf.Letter(lf.LetterConfig(**letter_config)).to(dtype)
            add(
                f"{dtype} Letter.{name}",
                getattr(other, name),
                dict(s=s),
                s=[("float32", s, None), ("same", s.to(dtype), None), ("half", s.half(), None)],
            )
    add("Letter.reconstruct", letter.reconstruct, dict(codes=walk), codes=integers(walk, 5))
    add(
        "Letter.losses",
        letter.losses,
        dict(s=s, h=h, groups=[groups[:5], groups[5:]], generator=3),
        s=floats(s),
        h=any_start(without_nan(floats(h))),
        groups=[
            ("short", [groups[:5]], False),
            ("numpy", [groups[:5].numpy(), groups[5:].numpy()], True),
            ("number", 3, False),
            *[
                (f"second {label}", [groups[:5], bad], taken)
                for label, bad, taken in integers(groups[5:], None)
            ],
        ],
        generator=any_start(seeds(3)),
    )
    for name in ("encode", "encode_latents"):
        add(
            f"ResidualKMeans.{name}",
            getattr(plain, name),
            dict(s=x),
            s=floats(x) if name == "encode" else without_nan(floats(x)),
        )
    add("ResidualKMeans.decode", plain.decode, dict(codes=walk), codes=integers(walk, 5))
    fitting: dict[str, Any] = dict(
        embeddings=x.numpy(), iterations=3, restarts=1, tolerance=1e-4, seed=0, first_level=0
    )
    add(
        "ResidualKMeans.fit",
        lambda **a: (
            lf.ResidualKMeans(lf.ResidualKMeansConfig(4, (5, 3))).fit(**a).quantizer.codebooks
        ),
        fitting,
        embeddings=floats(x),
        iterations=counts(3),
        restarts=counts(1),
        tolerance=numbers(1e-4),
        seed=seeds(0),
        first_level=[
            (repr(bad)[:20], bad, False) for bad in (-1, 3, 1.5, math.nan, "0", None, 2**70)
        ],
    )
    for name, value in dict(
        input_dim=6, latent_dim=4, cf_dim=3, diversity_clusters=3, sinkhorn_sweeps=5
    ).items():
        given = counts(value) if name != "cf_dim" else any_start(counts(value))
        add(
            "LetterConfig",
            lambda **a: lf.LetterConfig(**a).to_dict(),
            {**letter_config, name: value},
            **{name: given},
        )
    for name in (
        "quantization_weight",
        "commitment_weight",
        "cf_weight",
        "diversity_weight",
        "dropout",
        "ema_decay",
    ):
        add(
            "LetterConfig",
            lambda **a: lf.LetterConfig(**a).to_dict(),
            {**letter_config, name: 0.5},
            **{name: numbers(0.5)},
        )
    for name, good in dict(codebook_size=[5, 3], hidden=[5, 3]).items():
        bad = [
            (
                a,
                b,
                None
                if c is False
                and isinstance(b, list)
                and all(isinstance(n, int) and 0 < n < 99 for n in b)
                else c,
            )
            for a, b, c in sizes(good)
        ]
        add(
            "LetterConfig",
            lambda **a: lf.LetterConfig(**a).to_dict(),
            {**letter_config, name: good},
            **{name: bad},
        )
    add(
        "LetterConfig",
        lambda **a: lf.LetterConfig(**a).to_dict(),
        {**letter_config, "sinkhorn_epsilon": [0.1, 0.1]},
        sinkhorn_epsilon=[
            (repr(bad), bad, False)
            for bad in ([math.nan, 0.1], [-1.0, 0.1], [math.inf, 0], [0.1], ["0.1", 0], 0.1, None)
        ],
    )
    add(
        "ResidualKMeansConfig",
        lambda **a: lf.ResidualKMeansConfig(**a).to_dict(),
        dict(input_dim=4, codebook_size=[5, 3]),
        input_dim=counts(4),
        codebook_size=[
            (
                a,
                b,
                None
                if c is False
                and isinstance(b, list)
                and all(isinstance(n, int) and 0 < n < 99 for n in b)
                else c,
            )
            for a, b, c in sizes([5, 3])
        ],
    )
    for case in raw_calls(x, book, table, walk, groups):
        found.append(case)
    return found


def raw_calls(x: Any, book: Any, table: Any, walk: Any, groups: Any) -> Iterator[Case]:
    """Every op and each of its arguments: an answer or one line, never the end of the process."""
    none = torch.zeros(0, dtype=torch.int64)
    starts, home, rank = torch.tensor([0, 3, 7]), torch.arange(7) % 7, torch.arange(7)
    grouped = (x[:7].clone(), book, starts, home, rank, torch.tensor([1]), torch.tensor([0, 1, 1]))
    seed, doubles = torch.tensor(3), torch.rand(1, 3, 2, dtype=torch.float64)
    errors, weights = torch.ones(2).double(), torch.ones(3, 2).double()
    low, high = torch.zeros(7).long(), torch.full((7,), 9)
    calls: list[tuple[str, tuple[Any, ...]]] = [
        ("nearest", (x, book, torch.zeros(7).double())),
        ("nearest_bounded", (x, book, torch.zeros(24).long(), torch.ones(24), torch.zeros(7))),
        ("residual_search", (x, table, [5, 3], torch.zeros(8).double(), True, True)),
        ("residual_search_beam", (x, table, [5, 3], 3)),
        ("sinkhorn_codes", (x, book, torch.tensor([0, 9, 24]), 0.01, 5)),
        ("cluster_sums", (x, walk[:, 0].contiguous(), 5, 20)),
        ("kmeans_plusplus", ((x * 9).round()[None], torch.ones(1, 24).double(), doubles)),
        ("balanced_lloyd", (x[None], book[None], low, high, 2, 0.0, 20)),
        ("distinct_codes", grouped),
        ("distinct_codes", (*grouped[:5], none, torch.zeros(3).long())),
        ("evict_codes", (*grouped, 1)),
        ("diversity", (walk, table, [5, 3], groups, seed, True)),
        ("contrastive", (x, x.flip(0), True)),
        ("contrastive_gradient_h", (x, x.flip(0), torch.ones(24).double())),
        ("residuals", (x, table, [5, 3], walk)),
        ("residual_losses", (x, table, [5, 3], walk, "full", "mean")),
        ("residual_losses_backward", (x, table, [5, 3], walk, errors, x.clone(), weights)),
    ]
    for name, arguments in calls:
        op = getattr(torch.ops.letter_fast, name)
        for place, good in enumerate(arguments):
            for label, bad in _raw(good):

                def call(bad: Any, op: Any = op, given: Any = arguments, at: int = place) -> Any:
                    return op(*given[:at], bad, *given[at + 1 :])

                yield Case(f"ops.{name}", call, {}, "bad", f"{place}: {label}", bad, None)


def _raw(good: Any) -> Iterator[tuple[str, Any]]:
    """Values that the schema of an op lets through."""
    if isinstance(good, torch.Tensor):
        for dtype in (torch.float64, torch.float32, torch.float16, torch.int64, torch.int32):
            yield str(dtype), good.to(dtype)
        yield "bool", good > 0
        yield "meta", good.to("meta")
        yield "complex", good.to(torch.complex64)
        yield "a number", torch.zeros((), dtype=good.dtype)
        yield "one more dimension", good[None]
        yield "empty", good.new_empty((0,) * good.dim())
        for size in range(good.dim()):
            yield f"short in {size}", good.narrow(size, 0, good.shape[size] // 2)
            yield f"none in {size}", good.narrow(size, 0, 0)
            yield f"long in {size}", torch.cat([good, good], dim=size)
        if good.dim() > 1:
            yield "strided", good.mT.contiguous().mT
            yield "transposed", good.mT.contiguous()
        strange = (
            [math.nan, math.inf, 1e38] if good.is_floating_point() else [-2, 7, 2**62, -(2**63)]
        )
        for value in strange:
            yield f"all {value}", torch.full_like(good, value)
            if good.numel():
                broken = good.clone()
                broken.view(-1)[-1] = value
                yield f"holds {value}", broken
    elif isinstance(good, list):
        for bad in (
            [],
            [8],
            [5],
            [5, 3, 1],
            [0, 8],
            [-1, 9],
            [2**62, 2**62],
            [-(2**62), 2**62 + 8],
        ):
            yield str(bad), bad
    elif isinstance(good, bool):
        yield str(not good), not good
    elif isinstance(good, int):
        for whole in (0, -1, 2**31, 2**59, 2**62, -(2**63)):
            yield str(whole), whole
    elif isinstance(good, float):
        for number in (0.0, -1.0, math.nan, math.inf, 1e-320):
            yield str(number), number
    else:
        yield "nonsense", "nonsense"


def without_nan(values: Any) -> list[tuple[str, Any, bool | None]]:
    """Of what becomes a loss: NaN in, NaN out, as everywhere in PyTorch."""
    return [
        (label, bad, None if "nan" in label or "inf" in label or label in ("1e300",) else taken)
        for label, bad, taken in values
    ]


def any_width(values: Any) -> list[tuple[str, Any, bool | None]]:
    """Of what says itself how wide it is."""
    return [
        (label, bad, None if label in ("too wide", "too narrow") else taken)
        for label, bad, taken in values
    ]


def outcome(case: Case) -> tuple[str, str]:
    """ "" or what is wrong, and what came of it."""
    torch.manual_seed(0)
    try:
        answer = case.call(**{**case.good, case.argument: case.bad})
    except ValueError as error:
        if case.taken is True:
            return "refused", str(error)
        return (
            ("", str(error))
            if "\n" not in str(error) and str(error)
            else ("many lines", str(error))
        )
    except RuntimeError as error:
        fine = case.name.startswith("ops.") and "\n" not in str(error)
        return ("" if fine else type(error).__name__), str(error)
    except Exception as error:
        return type(error).__name__, str(error)
    if case.taken is False:
        return "taken", repr(answer)[:100]
    if case.taken is True:
        torch.manual_seed(0)
        expected = case.call(**case.good)
        if not _same(answer, expected):
            return "another answer", repr(answer)[:200]
    return "", "answered"


def _same(a: Any, b: Any) -> bool:
    if isinstance(a, torch.Tensor):
        return a.shape == b.shape and bool(
            torch.isclose(a.double(), b.double(), rtol=1e-4, atol=1e-5, equal_nan=True).all()
        )
    if isinstance(a, tuple | list):
        return len(a) == len(b) and all(map(_same, a, b))
    if isinstance(a, float):
        return math.isclose(a, b, rel_tol=1e-4, abs_tol=1e-5)
    return bool(a == b)


def main(first: int) -> None:
    torch.set_num_threads(1)
    for number, case in enumerate(cases()):
        if number < first:
            continue
        # The signal's default action ends the process, whatever runs.
        signal.setitimer(signal.ITIMER_PROF, SECONDS)
        wrong, said = outcome(case)
        print(json.dumps([number, wrong, said[:300]]), flush=True)
    signal.setitimer(signal.ITIMER_PROF, 0)


if __name__ == "__main__":
    main(int(sys.argv[1]))
