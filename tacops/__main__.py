"""``python -m tacops``: what is installed here, whether it fires the right spikes, and which mode fits your data."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

from . import __version__

COMMANDS = {
    "info": ("tacops._cli.info", "version, backends and their precision settings, and what is missing and why"),
    "check": ("tacops._cli.check", "run the conformance checks on some or all backends"),
    "advise": ("tacops._cli.advise", "collapse or preserve? Ask a file of spikes"),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status."""
    arguments = sys.argv[1:] if arguments is None else arguments
    parser = argparse.ArgumentParser(prog=_name(), description=__doc__)
    parser.add_argument("--version", action="version", version=f"tacops {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="command")
    chosen = next((argument for argument in arguments if not argument.startswith("-")), None)
    for name, (module, summary) in COMMANDS.items():
        sub = commands.add_parser(name, help=summary, description=f"{summary[0].upper()}{summary[1:]}.")
        if name == chosen:  # the others, and what they import, are none of this call's business
            command = import_module(module)
            command.add_arguments(sub)
            sub.set_defaults(run=command.main)
    options = parser.parse_args(arguments)
    status: int = options.run(options)
    return status


def _name() -> str:
    """The installed command, or this module."""
    return "tacops" if Path(sys.argv[0]).stem == "tacops" else "python -m tacops"


if __name__ == "__main__":
    sys.exit(main())
