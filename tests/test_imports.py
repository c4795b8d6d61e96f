"""The import rule at the kernels' door: backends import nothing above; who names a backend."""

import ast
from collections.abc import Iterable
from graphlib import TopologicalSorter
from pathlib import Path

ROOT = Path(__file__).parents[1]
BACKENDS = tuple(f"letter_fast.kernels.{name}" for name in ("reference", "cpp", "triton"))


def imported(path: Path) -> set[str]:
    """Absolute imports of letter_fast in a file, those inside functions too."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return {name for name in names if name.split(".")[0] == "letter_fast"}


def test_kernels_import_nothing_above_them() -> None:
    files = sorted((ROOT / "kernels").rglob("*.py"))
    above = {n for f in files for n in imported(f) if not n.startswith("letter_fast.kernels")}
    assert files
    assert above == set()


def test_no_file_but_an_op_names_a_backend() -> None:
    found = {
        str(path.relative_to(ROOT))
        for path in (ROOT / "letter_fast").rglob("*.py")
        if any(name.startswith(BACKENDS) for name in imported(path))
    }
    # An op names its specification, by which the backend's function is found.
    ops = {name for name in found if name.startswith("letter_fast/ops/")}
    assert ops
    for name in ops:
        named = {each for each in imported(ROOT / name) if each.startswith(BACKENDS)}
        assert named == {"letter_fast.kernels.reference"}
    assert found == ops


def modules() -> dict[str, Path]:
    """Every module of the package, by name; kernels/ and bench/ are parts of it by links."""
    found = {}
    for root, name in [("letter_fast", "letter_fast"), ("kernels", "letter_fast.kernels")]:
        for path in sorted((ROOT / root).rglob("*.py")):
            parts = path.relative_to(ROOT / root).with_suffix("").parts
            if root == "letter_fast" and parts[0] in ("kernels", "bench"):
                continue
            found[".".join([name, *(part for part in parts if part != "__init__")])] = path
    return found


def wanted(name: str, path: Path, known: Iterable[str]) -> set[str]:
    """Modules that a module imports, inside functions and for types too."""
    home = name if path.name == "__init__.py" else name.rpartition(".")[0]
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            above = home.split(".")[: len(home.split(".")) - node.level + 1] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            for alias in node.names:
                inner = f"{base}.{alias.name}"
                found.add(inner if inner in known else base)
    return (found & set(known)) - {name}


def test_imports_run_one_way() -> None:
    """No module needs itself, by whatever way round."""
    known = modules()
    assert len(known) > 150
    TopologicalSorter({n: wanted(n, path, known) for n, path in known.items()}).prepare()
