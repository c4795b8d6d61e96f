"""The notebooks run from top to bottom, at the small size that their cells' metadata name."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

NOTEBOOKS = sorted((Path(__file__).resolve().parents[2] / "notebooks").glob("*.ipynb"))


@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pyplot = pytest.importorskip("matplotlib.pyplot", reason="matplotlib is not installed")
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    for package in ("sklearn", "transformers", "recbole"):
        if package in path.read_text(encoding="utf-8"):
            installed(package)
    pyplot.switch_backend("agg")
    monkeypatch.chdir(tmp_path)
    namespace: dict[str, Any] = {"__name__": "notebook"}
    for place, cell in enumerate(cells):
        if cell["cell_type"] == "code":
            code = smaller("".join(cell["source"]), cell["metadata"].get("small", {}))
            exec(compile(code, f"{path.name}, cell {place}", "exec"), namespace)
    pyplot.close("all")


def smaller(code: str, sizes: dict[str, str]) -> str:
    """The code with other values of some of its constants."""
    for name, value in sizes.items():
        code, found = re.subn(rf"^{name} = .*$", f"{name} = {value}", code, flags=re.M)
        assert found == 1, f"{name} is not set once in the cell that makes it small"
    return code


def installed(package: str) -> None:
    """Skips where a package's files are absent; recbole is there without what it needs."""
    from importlib.metadata import PackageNotFoundError, distribution

    try:
        distribution("scikit-learn" if package == "sklearn" else package)
    except PackageNotFoundError:
        pytest.skip(f"{package} is not installed")


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_kept_with_what_it_showed(path: Path) -> None:
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    assert [cell["execution_count"] for cell in code] == list(range(1, len(code) + 1))
    kinds = {output["output_type"] for cell in code for output in cell["outputs"]}
    assert "error" not in kinds
    assert path.stat().st_size < 600_000
