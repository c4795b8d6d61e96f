"""The things a stranger looks for first: a version, completion, a citation; and that they agree."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

import letter_fast
from letter_fast.cli.app import run

ROOT = Path(__file__).parents[1]


def test_one_version_everywhere(capfd: pytest.CaptureFixture[str]) -> None:
    assert run(["--version"]) == 0
    assert capfd.readouterr().out == f"letter-fast {letter_fast.__version__}\n"
    for name, pattern in {
        "pyproject.toml": r'^version = "(.+)"$',
        "CITATION.cff": r"^version: (.+)$",
        "CHANGELOG.md": r"^## (\S+)",
    }.items():
        found = re.search(pattern, (ROOT / name).read_text(encoding="utf-8"), re.MULTILINE)
        assert found is not None, name
        assert found[1] == letter_fast.__version__, name


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_shells_complete_commands(shell: str) -> None:
    code = "import sys; sys.argv[0] = 'letter-fast'; from letter_fast.cli.app import main; main()"
    words = {"COMP_WORDS": "letter-fast to", "COMP_CWORD": "1"}
    words |= {"_TYPER_COMPLETE_ARGS": "letter-fast to", "_TYPER_COMPLETE_FISH_ACTION": "get-args"}
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={"_LETTER_FAST_COMPLETE": f"complete_{shell}", "PYTHONPATH": str(ROOT), **words},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "tokenize" in done.stdout, done.stderr


def test_a_bug_report_names_versions_kernels_and_openmp(capfd: pytest.CaptureFixture[str]) -> None:
    assert run(["env"]) == 0
    table = capfd.readouterr().out
    assert run(["env", "--json"]) == 0
    facts = json.loads(capfd.readouterr().out)
    assert facts["letter-fast"] == letter_fast.__version__
    assert facts["CPU kernels"].startswith(("cpp, ", "reference: "))
    assert all(str(value) in table for value in facts.values() if isinstance(value, str))
    for path in facts["OpenMP runtimes"]:
        assert path in table


_OTHERS = [name for name in ("sklearn.cluster", "faiss") if find_spec(name.split(".")[0])]
_WORK = """
import {}
import numpy as np, torch, letter_fast as lf
x = torch.arange(4000.0).reshape(500, 8) % 7
codes, _ = lf.functional.residual_search(x, [x[:5].contiguous()])
if "sklearn.cluster" in {others!r}:
    import sklearn.cluster
    sklearn.cluster.KMeans(4, n_init=1, random_state=0).fit(x.numpy())
if "faiss" in {others!r}:
    import faiss
    index = faiss.IndexFlatL2(8)
    index.add(x.numpy())
    index.search(x.numpy(), 3)
again, _ = lf.functional.residual_search(x, [x[:5].contiguous()])
assert torch.equal(codes, again)
print((x @ x.T).shape[0])
"""


# letter_fast before all others, and behind them.
@pytest.mark.parametrize(
    "order", [["letter_fast", "torch", *_OTHERS], [*reversed(_OTHERS), "torch", "letter_fast"]]
)
def test_openmp_runtimes_get_along(order: list[str]) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", _WORK.format(", ".join(order), others=_OTHERS)],
        env={**os.environ, "OMP_NUM_THREADS": "2"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "500\n"), done.stderr
