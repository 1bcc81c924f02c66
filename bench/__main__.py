"""``python -m bench``: the demonstration, or the sub-command that is named.

A sub-command is a module with ``add_arguments(parser)`` and ``main(args) -> int`` and one line in ``COMMANDS``.
Modules are imported when they are chosen, so a benchmark may need libraries that the others do without.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
import textwrap
from collections.abc import Sequence
from typing import Protocol, cast

DEMO = "bench.demo.command"

# name -> (module, one line for --help)
COMMANDS = {
    "speed": (
        "bench.speed.command",
        "time tacops, SNN libraries and plain code on the same layers, and the machine's ceilings",
    ),
    "flips": (
        "bench.spikes.flips",
        "count the spikes on which array libraries disagree, layer by layer, and draw the figure",
    ),
    "advise": ("bench.spikes.advise", "false alarms and power of tacops.advise, with the figure of docs/advise.md"),
    "accuracy": (
        "bench.accuracy.command",
        "train networks in every mode on real data, several seeds, and compare with the paper",
    ),
    "sparsity": (
        "bench.sparsity.command",
        "time five sparse strategies against dense convolution and temporal aggregation",
    ),
    "gpu": ("bench.gpu.command", "on a machine with a GPU: is tacops right there, and how fast, in about ten minutes"),
    "geometries": (
        "bench.spikes.geometries",
        "try random convolutions of every dtype, forwards and backwards, on every array library",
    ),
    "digests": ("bench.spikes.digests", "compare the spikes of reproducible mode with the digests that are stored"),
    "table": (
        "bench.table",
        "print the tables of a stored result of the demonstration, speed, accuracy or sparsity, or put them into a page",
    ),
    "run": ("bench.machine.command", "run the standard set and write one self-describing result file"),
    "compare": ("bench.compare.command", "compare result files of several machines: a table and an HTML report"),
    "train": ("bench.demo.train", "train the networks of the demonstration again (JAX and Optax, tens of minutes)"),
    "subset": ("bench.shared.subset", "cut the shipped test images out of Fashion-MNIST again"),
}

# OpenBLAS reads these when NumPy is loaded; set for another purpose or another processor they slow NumPy down.
SLOWING_VARIABLES = ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE")


class Command(Protocol):
    """What a module named in ``COMMANDS`` offers."""

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Add the command's options to ``parser``."""

    def main(self, args: argparse.Namespace) -> int:
        """Run, and return the exit code."""


def unset_slowing_variables() -> list[str]:
    """Remove, in this process only, the variables that slow OpenBLAS; return ``NAME=value`` for each that was set."""
    return [f"{name}={os.environ.pop(name)}" for name in SLOWING_VARIABLES if name in os.environ]


def load(module: str) -> Command:
    """Import a sub-command's module."""
    return cast(Command, importlib.import_module(module))


EXTRAS = {
    "optax": "train",
    "scipy": "sparsity",
    "numba": "numba",
    "jax": "jax",
    "torch": "torch",
    "flax": "flax",
    "threadpoolctl": "bench",
}
"""Which extra brings a module; the others are those of ``bench``."""


def lacking(error: ImportError, name: str) -> str:
    """One sentence about a library that a command needs and that is not there."""
    module = (error.name or "").partition(".")[0]
    if module in ("", "bench", "tacops", "tests"):
        raise error  # our own mistake
    install = f"pip install -e '.[{EXTRAS.get(module, 'bench')}]'"
    return f"python -m bench{name and f' {name}'}: needs {module}, which cannot be imported ({error}); try: {install}"


def demo_parser(command: Command) -> argparse.ArgumentParser:
    """Make the parser of ``python -m bench`` without a sub-command, whose help also lists the sub-commands."""
    width = max(map(len, COMMANDS))
    lines = [
        textwrap.fill(text, 79, initial_indent=f"  {name:{width}}  ", subsequent_indent=" " * (width + 4))
        for name, (_, text) in COMMANDS.items()
    ]
    parser = argparse.ArgumentParser(
        prog="python -m bench",
        usage="python -m bench [options]\n       python -m bench COMMAND [options]",
        description="Without a command: classify real images with small spiking networks on every\n"
        "array library that is installed, and compare exact simulation with temporal\naggregation. Takes about a minute.",
        epilog="\n".join(["commands (each has its own --help):", *lines]),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.add_arguments(parser)
    return parser


def main(argv: Sequence[str]) -> int:
    """Parse ``argv``, run the chosen command and return its exit code (2 for data or libraries that are missing)."""
    chosen = argv[0] if argv and not argv[0].startswith("-") else None
    try:
        return run(argv)
    except ImportError as error:
        print(lacking(error, chosen if chosen in COMMANDS else ""), file=sys.stderr)
        return 2


def run(argv: Sequence[str]) -> int:
    """As `main`, but a library that is missing is an `ImportError`."""
    unset = unset_slowing_variables()
    from bench.shared.datasets import DatasetError
    from bench.shared.files import OutputError

    chosen, rest = (argv[0], argv[1:]) if argv and not argv[0].startswith("-") else (None, argv)
    if chosen is None:
        command = load(DEMO)
        parser = demo_parser(command)
    elif chosen in COMMANDS:
        module, text = COMMANDS[chosen]
        command = load(module)
        parser = argparse.ArgumentParser(prog=f"python -m bench {chosen}", description=f"{text[0].upper()}{text[1:]}.")
        command.add_arguments(parser)
    else:
        print(f"python -m bench: no command {chosen!r}; there are {', '.join(COMMANDS)}", file=sys.stderr)
        return 2
    args = parser.parse_args(rest)
    args.unset_variables = unset
    try:
        return command.main(args)
    except (DatasetError, OutputError) as error:
        print(f"python -m bench: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("python -m bench: interrupted", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
