"""The README and the addresses of a release: on a package index, links have to lead back to the repository.

One line says where that is, ``repository-code: https://github.com/OWNER/tacops`` in ``CITATION.cff``. Without it links stay as
they are, and no address is stated.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from hatchling.metadata.plugin.interface import MetadataHookInterface

ROOT = Path(__file__).resolve().parents[1]


class Addresses(MetadataHookInterface):  # type: ignore[misc]
    """``readme`` and ``urls``."""

    def update(self, metadata: dict[str, Any]) -> None:
        """Fill them in."""
        citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
        readme = (ROOT / "README.md").read_text(encoding="utf-8")
        text, metadata["urls"] = addressed(readme, repository(citation), metadata["version"])
        metadata["readme"] = {"content-type": "text/markdown", "text": text}


def repository(citation: str) -> str:
    """The address that a ``CITATION.cff`` states, or nothing."""
    found = re.search(r"^repository-code: *[\"']?(https?://[^\s\"']+?)/?[\"']? *$", citation, re.MULTILINE)
    return found[1] if found else ""


def addressed(text: str, address: str, version: str) -> tuple[str, dict[str, str]]:
    """The README with links that lead to the files of a version, and the addresses of the project."""
    urls = {"Paper": "https://arxiv.org/abs/2603.13810"}
    if not address:
        return text, urls
    urls |= {
        "Repository": address,
        "Issues": f"{address}/issues",
        "Changelog": f"{address}/blob/main/CHANGELOG.md",
    }
    return with_addresses(text, f"{address}/blob/v{version}", f"{address}/raw/v{version}"), urls


def with_addresses(text: str, pages: str, files: str) -> str:
    """Links of Markdown to files beside it, with the address of pages before them; images, of files."""

    def absolute(found: re.Match[str]) -> str:
        image, label, target = found.groups()
        return f"{image}[{label}]({files if image else pages}/{target})"

    return re.sub(r"(!?)\[([^\]]*)\]\((?!https?:|#|mailto:)([^)\s]+)\)", absolute, text)
