"""The report of ``python -m bench compare``: one HTML file without scripts that needs nothing from anywhere."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from bench.compare.data import (
    PAPER,
    Groups,
    Machine,
    Spikes,
    accuracies,
    ceilings,
    common_layers,
    speeds,
    speedups,
)
from bench.compare.extended import densities, step_memory, steps
from bench.compare.gpu import KINDS, grouped, inexact, is_gpu_run
from bench.compare.plot import dots
from bench.machine.result import done
from bench.shared.tables import milliseconds, percent_of_ceiling

TEMPLATE = Path(__file__).with_name("compare.html.jinja")


def page(machines: Sequence[Machine], fired: Spikes, problems: Sequence[str]) -> str:
    """The whole file; every text that comes from a result is escaped.

    Parameters
    ----------
    machines : sequence of Machine
    fired : Spikes
    problems : sequence of str
        Why other files could not be compared.
    """
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    template = environment.from_string(TEMPLATE.read_text())
    return template.render(
        machines=machines,
        problems=problems,
        fired=fired,
        sections=list(sections(machines)),
        paper=PAPER,
        conformance={m.label: dict(done(m.content, "conformance")) for m in machines},
        conclusions={m.label: r["conclusion"] for m in machines for _, r in done(m.content, "sparsity")},
        steps=[
            (machine.label, part, backend, step)
            for machine in machines
            for part, steps in machine.content["parts"].items()
            for backend, step in steps.items()
            if step["status"] != "done"
        ],
    )


def sections(machines: Sequence[Machine]) -> list[dict[str, Any]]:
    """Headings, words, plots and tables; those for which no file has numbers are left out."""
    layers = {case: text for machine in machines for case, text in machine.layers().items()}
    over = ", ".join(common_layers(machines))
    mean = (
        f"Geometric means over the layers that all have measured: {over}." if over else "No layer was measured by all."
    )
    said = ", ".join(f"{value:g} x ({name})" for name, value in PAPER.items())
    found = [
        _section(
            "speedups",
            "Speed-up of collapse and preserve",
            f"Times as fast as exact simulation on the same machine and backend. {mean} Below: the whole shipped network. "
            f"Dashed: what the paper reports for collapse, {said}, for its own networks and code.",
            speedups(machines),
            machines,
            "times as fast as exact",
            lines={f"paper, {name}": value for name, value in PAPER.items()},
            show="{:.1f} x".format,
        )
    ]
    found += [
        _section(
            f"layer{n}",
            f"Speed: {case}",
            f"Milliseconds for one layer and its neurons, forward; less is faster. {text}.",
            speeds(machines, case),
            machines,
            "milliseconds",
            show=lambda value: milliseconds(value / 1e3),
        )
        for n, (case, text) in enumerate(layers.items())
    ]
    found += _extended(machines)
    found += _gpu(machines)
    found += [
        _section(
            "ceiling",
            "Fraction of each machine's own ceiling",
            "The ceiling is the larger of the matrix products alone and of the least memory traffic alone, as the same "
            f"machine's CPU did them in the same run: a GPU, a layer that follows its spikes, or a busy machine can be above 100 %. {mean}",
            ceilings(machines),
            machines,
            "percent of the machine's own ceiling",
            show=percent_of_ceiling,
        ),
        _section(
            "accuracy",
            "Accuracy of the shipped models",
            "Shipped images of Fashion-MNIST that the shipped networks classify rightly, on the default path.",
            accuracies(machines),
            machines,
            "percent right",
            log=False,
            show="{:.1f} %".format,
        ),
    ]
    return [section for section in found if section["groups"]]


def _gpu(machines: Sequence[Machine]) -> list[dict[str, Any]]:
    """Other libraries on the same device, too."""
    if not any(map(is_gpu_run, machines)):
        return []
    about = "By python -m bench gpu; layers in a rehearsal are tiny, and their operations are counted on a CPU."
    sections = [
        _section(name, title, about, grouped(machines, value), machines, unit, show="{:.4g}".format)
        for name, (title, unit, value) in KINDS.items()
    ]
    text = "Sums of reproducible mode's integers, all below 2^24, that are not the exact ones; 0 is exact."
    wrong = _section(
        "gpusums", "On a GPU: inexact sums", text, inexact(machines), machines, "sums", log=False, show="{:.0f}".format
    )
    return [*sections, wrong]


def _extended(machines: Sequence[Machine]) -> list[dict[str, Any]]:
    """Other shares of spikes, and training."""

    def times(value: float) -> str:
        return milliseconds(value / 1e3)

    return [
        _section(
            "densities",
            "Speed by the share of spikes",
            "Milliseconds for one exact layer and its neurons, forward, at several shares of spikes in its input.",
            densities(machines),
            machines,
            "milliseconds",
            show=times,
        ),
        _section(
            "steps",
            "Training steps",
            "Milliseconds for one layer and its neurons, forward and backward, spikes and gradients as results.",
            steps(machines),
            machines,
            "milliseconds",
            show=times,
        ),
        _section(
            "memory",
            "Peak memory of a training step",
            "MiB of the system's memory beside the step's inputs, at several T.",
            step_memory(machines),
            machines,
            "MiB",
            show="{:,.0f}".format,
        ),
    ]


def _section(
    name: str,
    title: str,
    text: str,
    groups: Groups,
    machines: Sequence[Machine],
    xlabel: str,
    *,
    show: Callable[[float], str],
    **how: Any,
) -> dict[str, Any]:
    labels = [machine.label for machine in machines]
    return {
        "name": name,
        "title": title,
        "text": text,
        "groups": groups,
        "show": show,
        # Matplotlib escapes what it writes, and its plots hold no links and no scripts
        "plot": Markup(dots(name, groups, labels, xlabel, **how)) if groups else "",
    }
