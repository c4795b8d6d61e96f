"""The import rule at the kernels' door: backends import nothing above; who names a backend."""

import ast
from pathlib import Path

ROOT = Path(__file__).parents[1]
BACKENDS = tuple(f"letter_fast.kernels.{name}" for name in ("reference", "cpp", "triton"))
# Only the reference poses cost="distance"; the environment report names the native library.
KNOWN = {"letter_fast/clustering/balanced.py", "letter_fast/environment.py"}


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


def test_only_two_known_files_name_a_backend() -> None:
    found = {
        str(path.relative_to(ROOT))
        for path in (ROOT / "letter_fast").rglob("*.py")
        if any(name.startswith(BACKENDS) for name in imported(path))
    }
    assert found == KNOWN
