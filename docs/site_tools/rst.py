"""What numpydoc docstrings have of reStructuredText, in the Markdown that the site's pages are made of."""

from __future__ import annotations

import re
from typing import Any

import griffe


class Markdown(griffe.Extension):
    """Formulas with dollars."""

    def on_instance(self, *, obj: griffe.Object, **_: Any) -> None:
        """Change the docstring, before it is parsed."""
        if obj.docstring:
            obj.docstring.value = markdown(obj.docstring.value)


def markdown(text: str) -> str:
    """``:math:`` and ``.. math::`` as ``$`` and ``$$``; types, which are shown as code, without backticks."""

    def block(found: re.Match[str]) -> str:
        indent, first, more = found.groups()
        formula = " ".join(line.strip() for line in [first, *more.splitlines()] if line.strip())
        return f"{indent}$${formula}$$\n"

    text = re.sub(r"^( *)\.\. math::(.*)\n?((?:\1 +\S.*\n?|\s*\n(?=\1 +\S))*)", block, text, flags=re.MULTILINE)
    text = re.sub(r"^( *[*\w, ]+ : .*)$", lambda found: found[1].replace("``", ""), text, flags=re.MULTILINE)  # types
    return re.sub(r":math:`([^`]+)`", r"$\1$", text)
