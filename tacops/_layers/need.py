"""What a module with layers says where its framework is missing."""

from __future__ import annotations

__all__ = ["lacking"]


def lacking(module: str, extra: str, error: ImportError) -> ImportError:
    """The error that takes the place of a failed import at the top of `module`; `extra` of this package installs the rest."""
    found = f"needs {error.name.partition('.')[0]}, which cannot be imported" if error.name else "cannot be imported"
    kind = ModuleNotFoundError if isinstance(error, ModuleNotFoundError) else ImportError
    more = "; without a GPU, add --extra-index-url https://download.pytorch.org/whl/cpu" if extra == "torch" else ""
    return kind(f"{module} {found}; try: pip install 'tacops[{extra}]' ({error}){more}", name=error.name)
