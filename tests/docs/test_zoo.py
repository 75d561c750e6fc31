"""Every python block of docs/zoo and docs/interop.md runs; blocks of one page share their names and a folder.

A block that needs a package which may not be installed says so in a line of its own: `# needs: torch`.
"""

import importlib.util
import re
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[2] / "docs"
# A page costs seconds of compiling: these run each time, the others with `pytest -m slow`.
QUICK = ("README", "sequential")
PAGES = [
    page if page.stem in QUICK else pytest.param(page, marks=pytest.mark.slow)
    for page in (DOCS / "interop.md", *sorted((DOCS / "zoo").glob("*.md")))
]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_the_python_blocks_run(page, tmp_path, monkeypatch):
    text = page.read_text()
    assert text.count("```") % 2 == 0
    blocks = list(re.finditer(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL))
    assert blocks
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {"__name__": "__main__"}
    for block in blocks:
        needed = re.findall(r"^# needs: (.+)$", block[1], re.MULTILINE)
        if any(importlib.util.find_spec(name.strip()) is None for line in needed for name in line.split(",")):
            continue
        # Blank lines before it, so that an error shows the page's line.
        lines = "\n" * (text.count("\n", 0, block.start()) + 1)
        exec(compile(lines + block[1], str(page), "exec"), names)
