"""The table of docs/parity.md: `python -m tests.parity` prints it, with `--write` it goes into the file.

It fails if an error is above its limit or a reference is not installed (pip install -e '.[references]').
"""

import importlib
import os
import sys
from pathlib import Path

os.environ.setdefault("JAX_PLATFORMS", "cpu")
sys.path.insert(0, str(Path(__file__).parents[1]))

from parity.comparison import LIMITS, Case

DOCUMENT = Path(__file__).parents[2] / "docs" / "parity.md"
MARK = "<!-- made by `python -m tests.parity --write` -->"


def main(arguments: list[str]) -> int:
    files = sorted(Path(__file__).parent.glob("test_*.py"))
    modules = [importlib.import_module(f"parity.{file.stem}") for file in files]
    rows: dict[str, list[Case]] = {}
    for module in modules:
        for case in getattr(module, "CASES", ()):
            rows.setdefault(case.row, []).append(case)

    lines = [
        "| architecture | reference | cases | outputs, float32 | gradients | outputs, float64 | gradients |",
        "| --- | --- | --: | --: | --: | --: | --: |",
    ]
    failed = []
    for row, cases in rows.items():
        worst = []
        for dtype, limits in LIMITS.items():
            errors = [case.errors(dtype) for case in cases]
            for case, pair in zip(cases, errors, strict=True):
                if not all(one <= limit for one, limit in zip(pair, limits, strict=True)):
                    failed.append(f"{case}, {dtype}: {pair}")
            worst += [max(pair[index] for pair in errors) for index in (0, 1)]
        references = ", ".join(dict.fromkeys(f"{case.reference} ({case.package} {case.version})" for case in cases))
        lines.append(f"| {row} | {references} | {len(cases)} | " + " | ".join(f"{one:.1e}" for one in worst) + " |")
        print(lines[-1], flush=True)
    if "--write" in arguments:
        text = DOCUMENT.read_text()
        head, _, rest = text.partition(MARK)
        _, _, tail = rest.partition(MARK)
        DOCUMENT.write_text(f"{head}{MARK}\n\n" + "\n".join(lines) + f"\n\n{MARK}{tail}")
    print("\n".join(f"too far apart: {line}" for line in failed))
    return 1 if failed else 0


sys.exit(main(sys.argv[1:]))
