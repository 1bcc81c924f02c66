"""``python -m tacops advise FILE``: collapse or preserve? The spikes in a file answer."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from .._advise.advise import MORE, advise
from .._files.whole import check_figure, write_figure
from .._layers.times import mode_times
from ..layers import load_frozen

__all__ = ["add_arguments", "main"]

NOT_UNDERSTOOD = 2


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the file and the options of `advise`."""
    parser.add_argument(
        "file",
        metavar="FILE",
        help=".npy or .npz with frames (T, B, *S, C), or with events: a structured array with fields x, y, t, p, or .npz "
        "arrays of these names and, for several recordings, offsets",
    )
    parser.add_argument("--array", metavar="NAME", help="which array of a .npz file holds the frames")
    parser.add_argument("--frames", type=int, default=16, metavar="T", help="frames made of events (default 16)")
    parser.add_argument("--layout", default="channels_last", choices=["channels_last", "channels_first"])
    parser.add_argument(
        "--max-loss", type=float, default=0.05, help="share of the signal that may be lost (default 0.05)"
    )
    parser.add_argument(
        "--keep", type=float, default=0.5, help="share of the change that chunks must keep (default 0.5)"
    )
    parser.add_argument("--significance", type=float, default=0.01, help="(default 0.01)")
    parser.add_argument(
        "--max-samples",
        type=int,
        default=32,
        help="samples that are looked at, or up to 16 times as many where they are too few (default 32)",
    )
    parser.add_argument("--seed", type=int, default=0, help="of the choice of samples and the permutations (default 0)")
    parser.add_argument(
        "--layers",
        metavar="NETWORK.npz",
        help="frozen layers (tacops.layers.save_frozen): time exact, collapse and preserve of each on these spikes",
    )
    parser.add_argument("--plot", metavar="OUT", help="draw the statistics into this .png, .svg or .pdf file")


def main(args: argparse.Namespace) -> int:
    """Print the advice; 2 if the file or an option is wrong."""
    try:
        from ..backends._io.spikes import read_spikes

        if args.frames < 1 or args.max_samples < 1 or args.seed < 0:
            msg = "advise: --frames and --max-samples must be at least 1, --seed at least 0"
            raise ValueError(msg)
        plot = Path(args.plot) if args.plot else None
        check_figure(plot)
        layers = load_frozen(args.layers) if args.layers else None
        common = {"layout": args.layout, "seed": args.seed}
        names = ("max_loss", "keep", "significance", "max_samples")
        options = {name: getattr(args, name) for name in names}
        for samples in (args.max_samples, MORE * args.max_samples):  # recordings of events become frames one by one
            spikes = read_spikes(args.file, name=args.array, frames=args.frames, samples=samples, **common)
            advice = advise(spikes, **common, **options)
            if spikes.shape[1] != samples or (advice.enough_samples or samples + 1) <= samples:
                break
        if spikes.ndim == 3:  # which may be meant as one recording
            T, B, F = spikes.shape
            note = (
                f"taken as {B} samples of {F} features in {T} frames; one recording (T, H, W) must be (T, 1, H, W, 1)"
            )
            print(f"python -m tacops advise: {note}", file=sys.stderr)
        times = mode_times(layers, spikes, chunk_size=_chunk(advice.chunk_size)) if layers else None
        if plot:
            write_figure(plot, advice.plot())
    except (ImportError, MemoryError, OSError, TypeError, ValueError) as error:
        print(f"python -m tacops {_one_line(error)}", file=sys.stderr)
        return NOT_UNDERSTOOD
    print(advice)
    if times:
        print(times)
    if plot:
        print(f"drawn into {args.plot}")
    return 0


def _chunk(advised: int | None) -> int | None:
    """The K to time: the one advised, or each layer's own where only exact will do or nothing is known."""
    return advised if advised and advised > 1 else None


def _one_line(error: Exception) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    return text if text.startswith("advise: ") else f"advise: {text}"
