"""python -m bench.gpu_smoke: does anything come back from this GPU, and is it right?

    1 row, a row of NaN, 1,000 rows; near-ties and duplicates, which the last stage settles;
    Sinkhorn, whose programs wait for one another

Each is searched on the GPU and by the reference on the CPU; a line before each, so that a hang has
a name. --settle: only what the last stage settles, few enough rows for compute-sanitizer.
"""

from __future__ import annotations

import argparse
import sys

import torch
from torch import Tensor

from letter_fast import kernels
from letter_fast.kernels import Backend, reference

SIZES = [256] * 4
DIM = 32


def cases(settle: bool) -> dict[str, Tensor]:
    """Rows by name. Those between two codewords are settled: no screen can certify them."""
    generator = torch.Generator().manual_seed(0)
    books = codebooks()
    pairs = torch.randint(SIZES[0], (2, 48), generator=generator)
    halfway = (books[pairs[0]] + books[pairs[1]]) / 2
    halfway[7] = torch.nan
    rows = torch.randn(1000, DIM, generator=generator)
    if settle:
        return {"48 rows to settle": halfway}
    nan = rows[:1].clone()
    nan[0, 3] = torch.nan
    return {"1 row": rows[:1], "a row of NaN": nan, "1,000 rows": rows, "48 to settle": halfway}


def codebooks() -> Tensor:
    """[ΣK, D], a few codewords of them twice."""
    books = torch.randn(sum(SIZES), DIM, generator=torch.Generator().manual_seed(1))
    books[5] = books[4]
    books[SIZES[0] :] /= 4
    return books


def check(backend: Backend, device: torch.device, settle: bool) -> list[str]:
    """The cases with wrong codes, a line each."""
    books, wrong = codebooks(), []
    for name, rows in cases(settle).items():
        print(name, flush=True)
        expected = reference.residual_search(rows, books, SIZES)[0]
        codes = backend.residual_search(rows.to(device), books.to(device), SIZES)[0].cpu()
        differ = (codes != expected).any(dim=1).nonzero().squeeze(1).tolist()
        if differ:
            wrong.append(f"{name}: {len(differ)} rows have wrong codes, the first is {differ[0]}")
    return wrong


def check_sinkhorn(backend: Backend, device: torch.device, rows: int = 1000) -> list[str]:
    """The mappings with wrong codes, a line each: one in products, then one in logarithms."""
    x, book = cases(settle=False)["1,000 rows"][:rows], codebooks()[: SIZES[0]]
    starts, wrong = torch.tensor([0, len(x)]), []
    for epsilon in (0.003, 0.001):
        name = f"Sinkhorn of {len(x):,} rows, ε = {epsilon}"
        print(name, flush=True)
        expected = reference.sinkhorn_codes(x, book, starts, epsilon, 20)
        codes = backend.sinkhorn_codes(x.to(device), book.to(device), starts, epsilon, 20).cpu()
        differ = int((codes != expected).sum())
        if differ:
            wrong.append(f"{name}: {differ} rows have wrong codes")
    return wrong


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m bench.gpu_smoke",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--settle", action="store_true", help="only what the last stage settles")
    options = parser.parse_args()
    if not torch.cuda.is_available():
        sys.exit(f"gpu_smoke needs a CUDA device; torch {torch.__version__} sees none")
    device = torch.device("cuda", torch.cuda.current_device())
    backend = kernels.pick(device)
    wrong = check(backend, device, options.settle)
    if not options.settle:
        wrong += check_sinkhorn(backend, device)
    sys.exit("\n".join(wrong))


if __name__ == "__main__":
    main()
