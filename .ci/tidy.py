"""Runs clang-tidy over the C++ kernels as they are built, each file once.

python .ci/tidy.py CLANG_TIDY

build/compile_commands.json has a kernel once for each instruction set; here one set stands for all,
AVX2 where there is one. .clang-tidy says what is checked.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def main(clang_tidy: str) -> int:
    commands = json.loads((ROOT / "build/compile_commands.json").read_text(encoding="utf-8"))
    # By source, the command to check: of several, that for AVX2, or the first.
    chosen: dict[str, dict[str, str]] = {}
    for command in commands:
        if command["file"] not in chosen or "-DLF_AVX2" in command["command"].split():
            # Where it was built may be gone.
            chosen[command["file"]] = {**command, "directory": str(ROOT)}
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "compile_commands.json").write_text(json.dumps([*chosen.values()]))

        def checked(source: str) -> subprocess.CompletedProcess[str]:
            words = [clang_tidy, "-p", folder, "--quiet", source]
            return subprocess.run(words, capture_output=True, text=True, check=False)

        # The longest first, so that the cores end together.
        sources = sorted(chosen, key=lambda source: -Path(source).stat().st_size)
        with ThreadPoolExecutor(os.cpu_count()) as threads:
            results = list(threads.map(checked, sources))
    # A header's fault is found in every file that includes it.
    faults = dict.fromkeys(result.stdout.strip() for result in results if result.returncode)
    print("\n".join(faults))
    for result in results:
        if result.returncode and not result.stdout:
            print(result.stderr)
    faulty = sum(result.returncode != 0 for result in results)
    print(f"clang-tidy: {len(sources)} files, {faulty} with faults")
    return int(faulty > 0)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
