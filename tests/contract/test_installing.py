"""The package installs and works whatever the compiler does, and names the extras it lacks."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[2]

# A compiler that does nothing but write the files it is asked for.
WRITES = 'while [ $# -gt 1 ]; do [ "$1" = -o ] && : > "$2"; shift; done; exit 0'
FAILING = {
    "fails": "exit 1",
    "writes nothing": "exit 0",
    "is too old": f'case "$*" in *-DLF_AVX512_VNNI*|*i8mm*) exit 1;; esac; {WRITES}',
    "is killed midway": f'case "$*" in *pack.cpp*) kill -9 $$;; esac; {WRITES}',
    "crashes at the link": f'case "$*" in *exact.o*) kill -11 $$;; esac; {WRITES}',
}
# What only the extras bring, and this package as the tests have it.
NOT_REQUIRED = (
    *("__editable__", "faiss", "k_means_constrained", "letter_fast", "matplotlib", "ray"),
    *("scikit_learn", "sklearn", "tensorboard", "transformers", "triton", "vector_quantize"),
)


def program(path: Path, script: str) -> Path:
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return path


def run(
    command: list[str | Path], folder: Path, **variables: str
) -> subprocess.CompletedProcess[str]:
    """With a PATH on which there is ninja, if anywhere, and neither compiler nor anything else."""
    programs = folder / "programs"
    programs.mkdir(exist_ok=True)
    if (ninja := shutil.which("ninja")) and not (programs / "ninja").exists():
        (programs / "ninja").symlink_to(ninja)
    least = {"HOME": str(folder), "OMP_NUM_THREADS": "1", "PATH": str(programs)}
    return subprocess.run(
        [str(part) for part in command],
        cwd=folder,
        env={**least, **variables},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def copied_sources(folder: Path) -> Path:
    """A copy of the files that a source archive holds."""
    built = shutil.ignore_patterns("*.so", "__pycache__", "results")
    for name in ("kernels", "letter_fast", "bench"):
        shutil.copytree(ROOT / name, folder / name, ignore=built, symlinks=True)
    for name in ("setup.py", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder / name)
    return folder


def build(folder: Path, **variables: str) -> tuple[str, Path]:
    """Builds the extension over one of an earlier build: what is said, the library."""
    library = copied_sources(folder) / "build/lib/letter_fast/kernels/cpp/native.so"
    library.parent.mkdir(parents=True)
    library.write_bytes(b"of other sources")
    command = [sys.executable, "setup.py", "--quiet", "build_ext", "--build-lib", "build/lib"]
    done = run([*command, "--build-temp", "build/objects"], folder, **variables)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("warning: letter-fast") == 1, done.stderr
    return done.stderr, library


@pytest.mark.parametrize("name", ["", "absent", ".", "/dev/null", *FAILING])
def test_without_a_compiler_that_works_there_is_one_warning(name: str, tmp_path: Path) -> None:
    if name in FAILING:
        said, library = build(tmp_path, CXX=str(program(tmp_path / "compiler", FAILING[name])))
    else:
        said, library = build(tmp_path, CXX=name)
    assert "the CPU will use the slower reference backend" in said
    assert not library.exists()


def test_without_ninja_there_is_one_warning(tmp_path: Path) -> None:
    compiler = program(tmp_path / "compiler", WRITES)
    said, library = build(tmp_path, CXX=str(compiler), PATH="/nonexistent")
    assert "ninja" in said
    assert not library.exists()


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bin folder of an environment with the package, its dependencies, and no extra."""
    folder = tmp_path_factory.mktemp("bare")
    venv.create(folder / "venv")
    packages = folder / "packages"
    packages.mkdir()
    for path in Path(sysconfig.get_path("purelib")).iterdir():
        if not path.name.startswith(NOT_REQUIRED) and path.suffix != ".pth":
            (packages / path.name).symlink_to(path)
    site = sysconfig.get_path("purelib", vars={"base": str(folder / "venv")})
    (Path(site) / "dependencies.pth").write_text(f"{packages}\n")
    pip: list[str | Path] = [folder / "venv/bin/python", "-m", "pip", "install"]
    options = [
        "--disable-pip-version-check",
        "--no-index",
        "--no-deps",
        "--no-build-isolation",
        "-v",
    ]
    done = run([*pip, *options, copied_sources(folder / "source")], folder)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "the CPU will use the slower reference backend" in done.stdout + done.stderr
    return folder / "venv/bin"


def test_the_quickstart_works_in_a_bare_environment(bare: Path, tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    np.save(tmp_path / "text.npy", random.standard_normal((60, 8), dtype=np.float32))
    np.save(tmp_path / "cf.npy", random.standard_normal((60, 4), dtype=np.float32))
    small = "--hidden 8 --latent-dim 4 --codebook-size 4,4,8 --epochs 2 --batch-size 30"
    for line in (
        f"train text.npy --cf cf.npy --revive-after 5 --out run {small}",
        "tokenize run text.npy --out ids.parquet --index-json index.json",
        "evaluate run --embeddings text.npy --cf cf.npy",
    ):
        done = run([bare / "letter-fast", *line.split()], tmp_path)
        assert done.returncode == 0, done.stderr
        assert (
            done.stderr.count("letter-fast: warning: letter-fast runs on its slow reference") == 1
        )
        assert done.stderr.count("\n") == 1
    assert len(json.loads((tmp_path / "index.json").read_text())) == 60
    for line in ("evaluate run --embeddings text.npy --plots plots", "demo"):
        done = run([bare / "letter-fast", *line.split()], tmp_path)
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr.count("\n") == 1
        assert "needs matplotlib (No module named 'matplotlib')" in done.stderr
        assert "its extra [plots]" in done.stderr
    assert {path.name for path in tmp_path.iterdir()} == {
        *("programs", "text.npy", "cf.npy", "run", "ids.parquet"),
        *("index.json", "index.json.facts.json"),
    }


def test_neither_network_nor_a_home_that_can_be_written_is_needed(
    bare: Path, tmp_path: Path
) -> None:
    unshare = shutil.which("unshare")
    alone: list[str | Path] = [unshare, "--map-root-user", "--net"] if unshare else []
    if not unshare or run([*alone, bare / "python", "-c", ""], tmp_path).returncode:
        pytest.skip("this user can't take the network away from a process")
    np.save(tmp_path / "text.npy", np.random.default_rng(0).random((60, 8), dtype=np.float32))
    small = "--hidden 8 --latent-dim 4 --codebook-size 4,4,8 --epochs 1 --batch-size 30"
    for line in (f"train text.npy --out run {small}", "tokenize run text.npy --out ids.parquet"):
        # Nobody, not even root, makes a folder there.
        done = run([*alone, bare / "letter-fast", *line.split()], tmp_path, HOME="/dev/null/home")
        assert done.returncode == 0, done.stderr
        assert done.stderr.count("\n") == 1
    assert (tmp_path / "ids.parquet").is_file()


def test_one_wheel_serves_every_python_and_holds_the_shop(bare: Path) -> None:
    site = Path(sysconfig.get_path("purelib", vars={"base": str(bare.parent)}))
    (facts,) = site.glob("letter_fast-*.dist-info/WHEEL")
    tags = [line for line in facts.read_text().splitlines() if line.startswith("Tag: ")]
    assert len(tags) == 1
    assert tags[0].startswith("Tag: py3-none-")
    assert not tags[0].endswith("-any")
    assert (site / "letter_fast/demo/shop/products.txt").is_file()


def test_without_triton_its_backend_is_refused_in_one_line(bare: Path, tmp_path: Path) -> None:
    code = (
        "import letter_fast as lf\ntry:\n    lf.use_backend('triton').__enter__()\n"
        "except ValueError as error:\n    print(error)"
    )
    done = run([bare / "python", "-W", "ignore", "-c", code], tmp_path)
    assert done.stdout.startswith("the triton backend needs triton"), done.stderr


NEEDS = {
    "import letter_fast.ray": "ray[data]",
    "import letter_fast.compat.sklearn": "scikit-learn",
    "import letter_fast.compat.k_means_constrained": "scikit-learn",
    "from letter_fast.compat.faiss import from_faiss; from_faiss(None)": "faiss-cpu",
    "import letter_fast as lf; model = lf.Letter(lf.LetterConfig(input_dim=4, cf_weight=0)); "
    "lf.train(model, None, settings=lf.TrainSettings(tensorboard=True))": "tensorboard",
}


def test_python_names_the_extra_too(bare: Path, tmp_path: Path) -> None:
    lines = []
    for kind in ("ImportError", "ValueError"):
        for code in NEEDS:
            lines += ["try:", f"    exec({code!r})", f"except {kind} as error:", "    print(error)"]
    done = run([bare / "python", "-W", "ignore", "-c", "\n".join(lines)], tmp_path)
    assert done.returncode == 0, done.stderr
    said = done.stdout.splitlines()
    assert len(said) == 2 * len(NEEDS)
    for line, needed in zip(said, 2 * list(NEEDS.values())):
        assert f"needs {needed} (No module named" in line
