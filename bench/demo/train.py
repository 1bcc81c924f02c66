"""Train the demonstration's networks, one per mode, on all of Fashion-MNIST, through tacops' own operators.

``python -m bench train`` reproduces ``bench/data/weights.npz``: fixed seeds for initial weights, order and spikes, Adam
with a cosine schedule, gradients through the fast-sigmoid surrogate. Each batch is rate-coded anew; the test set is
coded with the demonstration's own code. Floating-point sums differ between processors and library versions, so another
machine should reach similar accuracies, not the same bits. Needs ``pip install 'tacops[train]'`` and the data set.
"""

from __future__ import annotations

import argparse
import platform
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

import tacops
from bench.shared.datasets import FASHION_MNIST, Images, Labels, load_images
from bench.shared.encoding import TIME_STEPS, rate_code
from bench.shared.files import check_output
from bench.shared.model import (
    MODES,
    WEIGHTS_FILE,
    Mode,
    Trained,
    forward,
    initial_parameters,
    load_trained,
    save_trained,
)
from bench.shared.training import SLOPE, SURROGATE, Weights, accuracy, adam, fit, make_step, start

TEST_SEED = 0
TEST_BATCH = 500


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``python -m bench train``."""
    parser.add_argument("--modes", nargs="+", choices=MODES, default=list(MODES), help="modes to train (default: all)")
    parser.add_argument("--seed", type=int, default=0, help="seed of weights, order and spikes (default: 0)")
    parser.add_argument("--epochs", type=int, default=4, help="passes over the 60,000 training images (default: 4)")
    parser.add_argument("--batch", type=int, default=100, help="images per step (default: 100)")
    parser.add_argument("--rate", type=float, default=3e-3, help="Adam's initial learning rate (default: 0.003)")
    parser.add_argument("--images", type=int, default=60_000, help="training images to use (default: all)")
    parser.add_argument(
        "--output", type=Path, default=WEIGHTS_FILE, metavar="FILE", help="file to write (default: the shipped weights)"
    )


def main(args: argparse.Namespace) -> int:
    """Train and test the chosen modes, then write all weights; those of modes not chosen are kept."""
    console = Console(stderr=True)
    check_output(args.output)
    kept = Trained({}, {}) if set(args.modes) == set(MODES) else load_trained(args.output)
    images, labels = (array[: args.images] for array in load_images(FASHION_MNIST, "train"))
    test_images, test_labels = load_images(FASHION_MNIST, "test")
    test_frames = rate_code(test_images, seed=TEST_SEED)
    parameters, metadata = dict(kept.parameters), dict(kept.metadata)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console) as progress:
        task = progress.add_task("", total=len(args.modes) * args.epochs * (len(labels) // args.batch))
        for name in args.modes:
            began = time.perf_counter()
            weights = train(MODES[name], images, labels, args, _reporter(progress, task, name))
            seconds = round(time.perf_counter() - began)
            right = test(MODES[name], weights, test_frames, test_labels)
            parameters[name] = {key: np.asarray(value) for key, value in weights.items()}
            metadata[name] = {"test_accuracy": right, "seconds": seconds, **_conditions(args)}
            progress.console.print(f"{name}: {right:.2%} of 10,000 test images, trained in {seconds} s")
    save_trained(Trained(parameters, metadata), args.output)
    console.print(f"wrote {args.output}")
    return 0


def train(
    mode: Mode, images: Images, labels: Labels, args: argparse.Namespace, report: Callable[[float], None]
) -> Weights:
    """Train one mode's weights; ``report`` is called with the loss after each step."""
    per_epoch = len(labels) // args.batch
    optimiser = adam(args.rate, args.epochs * per_epoch)
    step = make_step(coded_logits(mode), optimiser)
    order_key, spike_key = jax.random.split(jax.random.key(args.seed))

    def batches() -> Iterator[tuple[Any, Images, Labels]]:
        for epoch in range(args.epochs):
            order = np.asarray(jax.random.permutation(jax.random.fold_in(order_key, epoch), len(labels)))
            for n in range(per_epoch):
                chosen = order[n * args.batch : (n + 1) * args.batch]
                yield jax.random.fold_in(spike_key, epoch * per_epoch + n), images[chosen], labels[chosen]

    state = start(dict(initial_parameters(args.seed)), optimiser)
    return fit(step, state, batches(), lambda loss, seconds: report(loss))[0]


def coded_logits(mode: Mode) -> Callable[..., Any]:
    """Build ``(weights, key, images) -> logits``, which codes the images anew with the key."""

    def logits(weights: Weights, key: Any, images: Any) -> Any:
        draws = jax.random.bits(key, (TIME_STEPS, *images.shape, 1), jnp.uint8)
        frames = (draws < images[..., None]).astype(jnp.float32)
        return forward(weights, frames, mode, jnp, SURROGATE).logits

    return logits


def test(mode: Mode, weights: Weights, frames: NDArray[np.bool_], labels: Labels) -> float:
    """Compute the accuracy on (T, N, 28, 28, 1) coded images."""
    classify = jax.jit(lambda batch: jnp.argmax(forward(weights, batch, mode, jnp).logits, axis=-1))
    starts = range(0, len(labels), TEST_BATCH)
    return accuracy(classify, ((frames[:, n : n + TEST_BATCH], labels[n : n + TEST_BATCH]) for n in starts))


def _reporter(progress: Progress, task: Any, name: str) -> Callable[[float], None]:
    """Make the function that advances the progress bar and shows the loss, averaged over about 50 steps."""
    mean: list[float] = []

    def report(loss: float) -> None:
        mean[:] = [0.98 * mean[0] + 0.02 * loss] if mean else [loss]
        text = f"{name}, loss {mean[0]:.3f}"
        progress.update(task, advance=1, description=text)
        done = int(progress.tasks[0].completed)
        if not progress.console.is_terminal and done % 200 == 0:
            progress.console.print(f"{done} of {progress.tasks[0].total} steps: {text}")

    return report


def _conditions(args: argparse.Namespace) -> dict[str, Any]:
    """Collect what must be known to reproduce a training run."""
    versions = {"tacops": tacops.__version__, "python": platform.python_version(), "jax": jax.__version__}
    versions |= {"optax": optax.__version__, "numpy": np.__version__}
    settings = {key: getattr(args, key) for key in ("seed", "epochs", "batch", "rate", "images")}
    return {
        "data": "Fashion-MNIST",
        "time_steps": TIME_STEPS,
        "settings": settings,
        "surrogate": f"fast_sigmoid(slope={SLOPE})",
        "test_seed": TEST_SEED,
        "versions": versions,
        "machine": platform.machine(),
    }
