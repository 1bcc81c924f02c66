"""Run the Python of pages, each page's blocks in one process from top to bottom: ``python docs/site_tools/tutorials.py``.

The pictures that the blocks save go beside the page. Pages that are named are run alone; ``--into FOLDER`` puts pictures there.
``--notebooks FOLDER`` runs nothing, and writes the tutorials as notebooks of Jupyter; the site has them, too.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
BLOCK = re.compile(r"^```python\n(.*?)^```", re.DOTALL | re.MULTILINE)
PICTURE = re.compile(r"!\[[^\]]*\]\(([^)]+)\)")
LOCAL = re.compile(r"\[([^\]]+)\]\((?!https?:)[^)\s]+\)")
SETTINGS = (
    "import matplotlib as _mpl; _mpl.use('agg'); _mpl.rcParams.update({'savefig.dpi': 110, 'savefig.bbox': 'tight'})"
)


def pages() -> list[Path]:
    """All tutorials."""
    return sorted((ROOT / "docs" / "tutorials").glob("*.md"))


def code(page: Path) -> str:
    """All blocks, each at the line that it has in the page, so that errors name it."""
    text, lines = page.read_text(encoding="utf-8"), []
    for block in BLOCK.finditer(text):
        lines += [""] * (text.count("\n", 0, block.start(1)) - len(lines)) + block[1].splitlines()
    if PICTURE.search(text):
        lines[0] = SETTINGS
    return "\n".join(lines)


ROOT_CELL = """\
# to the root of the clone, which has the images
import os
from pathlib import Path

os.chdir(next(folder for folder in [Path.cwd(), *Path.cwd().parents] if (folder / "bench").is_dir()))"""


def notebook(page: Path) -> str:
    """The same text and blocks as a notebook, whose first cell finds the clone that it lies in."""
    cells: list[dict[str, Any]] = []

    def add(kind: str, text: str) -> None:
        if text.strip():
            cell = {"cell_type": kind, "id": f"cell-{len(cells)}", "metadata": {}, "source": text.strip()}
            cells.append(cell if kind == "markdown" else {**cell, "execution_count": None, "outputs": []})

    text, start = page.read_text(encoding="utf-8"), 0
    for block in BLOCK.finditer(text):
        add("markdown", _alone(text[start : block.start()]))
        if start == 0:
            add("code", ROOT_CELL)
        add("code", block[1])
        start = block.end()
    add("markdown", _alone(text[start:]))
    about = {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}}
    return json.dumps({"cells": cells, "metadata": about, "nbformat": 4, "nbformat_minor": 5}, indent=1) + "\n"


def _alone(text: str) -> str:
    """Without pictures, which the cells draw, and without links to other files."""
    return LOCAL.sub(lambda found: found[1], PICTURE.sub("", text))


def run(page: Path, into: Path) -> str:
    """Run a page in an empty folder where only ``bench`` is; return what it prints, and keep its pictures."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "bench").symlink_to(ROOT / "bench")
        (folder / f"{page.stem}_page.py").write_text(code(page), encoding="utf-8")
        script = f"import runpy, sys; sys.path.insert(0, {str(ROOT)!r}); runpy.run_path({page.stem + '_page.py'!r})"
        done = subprocess.run([sys.executable, "-c", script], cwd=folder, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"{page.name}:\n{done.stdout}{done.stderr}")
        for picture in PICTURE.findall(page.read_text(encoding="utf-8")):
            shutil.copy(folder / picture, into / picture)
    return done.stdout


def main() -> None:
    """Run, and print what the pages print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("page", type=Path, nargs="*")
    parser.add_argument("--into", type=Path)
    parser.add_argument("--notebooks", type=Path, metavar="FOLDER")
    args = parser.parse_args()
    if args.notebooks:
        args.notebooks.mkdir(parents=True, exist_ok=True)
        for page in args.page or pages():
            (args.notebooks / f"{page.stem}.ipynb").write_text(notebook(page), encoding="utf-8")
        return
    for page in args.page or pages():
        print(f"== {page.name}\n{run(page, args.into or page.parent)}")


if __name__ == "__main__":
    main()
