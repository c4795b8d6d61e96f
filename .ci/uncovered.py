"""Lists the public functions that no test runs, from coverage's JSON: python .ci/uncovered.py FILE

Tests in processes of their own are not seen: a function of this list may still be tested there.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path


def main(file: str) -> None:
    report = json.loads(Path(file).read_text(encoding="utf-8"))
    uncovered = [
        f"{path}: {name}"
        for path, facts in sorted(report["files"].items())
        for name, function in facts["functions"].items()
        # "" is what stands outside of functions; a leading underscore is for the module itself.
        if name and not any(part.startswith("_") for part in name.split("."))
        if function["summary"]["covered_lines"] == 0 < function["summary"]["num_statements"]
    ]
    print(f"lines covered: {report['totals']['percent_covered']:.1f} %")
    print(f"public functions that no test runs in its own process: {len(uncovered)}")
    print("\n".join(f"  {each}" for each in uncovered))


if __name__ == "__main__":
    main(*sys.argv[1:])
