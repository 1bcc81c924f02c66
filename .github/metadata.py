"""The README and the addresses of a release: on a package index, links have to lead back to the repository.

``TACOPS_REPOSITORY`` names it, as in ``https://github.com/OWNER/tacops``; the release workflow sets it. Without it links stay
as they are, and no address is stated.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from hatchling.metadata.plugin.interface import MetadataHookInterface

ROOT = Path(__file__).resolve().parents[1]


class Addresses(MetadataHookInterface):  # type: ignore[misc]
    """``readme`` and ``urls``."""

    def update(self, metadata: dict[str, Any]) -> None:
        """Fill them in."""
        address = os.environ.get("TACOPS_REPOSITORY", "").rstrip("/")
        text = (ROOT / "README.md").read_text(encoding="utf-8")
        urls = {"Paper": "https://arxiv.org/abs/2603.13810"}
        if address:
            text = with_addresses(
                text, f"{address}/blob/v{metadata['version']}", f"{address}/raw/v{metadata['version']}"
            )
            urls |= {
                "Repository": address,
                "Issues": f"{address}/issues",
                "Changelog": f"{address}/blob/main/CHANGELOG.md",
            }
        metadata["readme"] = {"content-type": "text/markdown", "text": text}
        metadata["urls"] = urls


def with_addresses(text: str, pages: str, files: str) -> str:
    """Links of Markdown to files beside it, with the address of pages before them; images, of files."""

    def absolute(found: re.Match[str]) -> str:
        image, label, target = found.groups()
        return f"{image}[{label}]({files if image else pages}/{target})"

    return re.sub(r"(!?)\[([^\]]*)\]\((?!https?:|#|mailto:)([^)\s]+)\)", absolute, text)
