"""The site's pages are those of the repository, at the same paths, so a link leads to the same place on the forge and in the site."""

from __future__ import annotations

import html
import re
from pathlib import Path
from typing import Any

from latex2mathml.converter import convert
from mkdocs.structure.files import File, Files
from tutorials import notebook, pages

ROOT = Path(__file__).resolve().parents[2]
PAGES = ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "docs/**/*.md", "bench/*/README.md")
OWN = ROOT / "docs" / "site"
LINK = re.compile(r"\]\(([^)#\s]+)(?:#[^)\s]*)?\)")
FORMULA = re.compile(r'<(span|div) class="arithmatex">\\[(\[](.*?)\\[)\]]</\1>', re.DOTALL)


def on_files(files: Files, config: Any) -> Files:
    """Add the repository's pages, and the files that they link to."""
    found: set[Path] = set()
    for pattern in PAGES:
        found |= {path for path in ROOT.glob(pattern) if OWN not in path.parents and "_build" not in path.parts}
    for page in list(found):
        targets = {(page.parent / link).resolve() for link in LINK.findall(_prose(page.read_text(encoding="utf-8")))}
        found |= {target for target in targets if target.is_file() and ROOT in target.parents}
    for path in sorted(found):
        name = path.relative_to(ROOT).as_posix()
        files.append(File.generated(config, name, abs_src_path=str(path)))
    for page in pages():
        name = page.relative_to(ROOT).with_suffix(".ipynb").as_posix()
        files.append(File.generated(config, name, content=notebook(page)))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Tutorials offer themselves as notebooks."""
    if not page.file.src_uri.startswith("docs/tutorials/"):
        return markdown
    name = Path(page.file.src_uri).with_suffix(".ipynb").name
    return f"{markdown}\n\n[This page as a notebook]({name}), to be opened in a clone of the repository."


def on_page_content(content: str, **_: Any) -> str:
    """Formulas as MathML, which browsers show by themselves."""

    def mathml(found: re.Match[str]) -> str:
        return convert(html.unescape(found[2]).strip(), display="block" if found[1] == "div" else "inline")

    return FORMULA.sub(mathml, content)


def on_post_page(output: str, page: Any, **_: Any) -> str:
    """Nothing is loaded from elsewhere: the search's helper for pages in a folder is ours."""
    here = "../" * page.url.count("/")
    return output.replace('"https://unpkg.com/iframe-worker/shim"', f'"{here}search-worker.js"')


def _prose(text: str) -> str:
    """A page without its blocks of code, whose brackets are no links."""
    return re.sub(r"```.*?```", "", text, flags=re.DOTALL)
