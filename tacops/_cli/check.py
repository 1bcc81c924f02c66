"""``python -m tacops check``: the conformance checks of `tacops.testing`, one line each."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence

__all__ = ["add_arguments", "main"]

MOST = 125
"""The largest exit status that shells don't use for something else."""

WORDS = {"passed": "ok", "failed": "FAILED", "expected failure": "expected", "not applicable": "-"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    parser.add_argument(
        "backend",
        nargs="*",
        help="a name, or package.module:OBJECT for a backend that is not registered; "
        "one that is missing is a failure (default: all that can run here)",
    )
    parser.add_argument(
        "--device",
        metavar="NAME",
        help="where arrays are put, as the backend calls it, for example cpu, cuda, cuda:1, mps, gpu or tpu; one that is "
        "missing is a failure (default: an accelerator if there is one)",
    )
    parser.add_argument("--tier", type=int, choices=(1, 2, 3, 4), action="append", help="these tiers only")
    parser.add_argument(
        "--quick",
        action="store_true",
        help="a few checks of each kind, less than a minute for each backend; all of them take up to ten",
    )
    parser.add_argument("--slow", action="store_true", help="also check what takes a minute (torch.compile)")
    parser.add_argument("--quiet", action="store_true", help="print failures and the summary only")
    parser.add_argument(
        "--expect-failure",
        action="append",
        default=[],
        metavar="CHECK=REASON",
        help="a failure that is known, with its reason; a pass then is a failure (* stands for anything)",
    )


def main(args: argparse.Namespace) -> int:
    """Run the checks; the exit status is the number of failures, at most 125."""
    from .._backend.dispatch import available_backends, missing_backends

    if args.slow:
        os.environ["TACOPS_SLOW"] = "1"
    try:
        expected = dict(_expectation(text) for text in args.expect_failure)
    except ValueError as error:
        print(f"python -m tacops check: {error}")
        return 2
    names = list(dict.fromkeys(args.backend)) or available_backends()
    tiers = args.tier or (1, 2, 3, 4)
    options = {"quiet": args.quiet, "device": args.device, "quick": args.quick}
    failures = sum(check_backend(name, tiers, expected, **options) for name in names)
    if not args.backend:
        for name, reason in missing_backends().items():
            print(f"{name}: not checked: {reason}")
    return min(failures, MOST)


def _expectation(text: str) -> tuple[str, str]:
    check, equals, reason = text.partition("=")
    if not equals or not check or not reason:
        msg = f"--expect-failure must be CHECK=REASON; got {text!r}"
        raise ValueError(msg)
    return check, reason


def check_backend(
    name: str,
    tiers: Sequence[int],
    expected: dict[str, str],
    *,
    quiet: bool,
    device: str | None = None,
    quick: bool = False,
) -> int:
    """Check one backend, printing as it goes, and return how many checks failed; a missing backend or device is one."""
    from .._backend.protocol import BackendUnavailable
    from ..testing import conformance_checks, load_backend, run_checks, where

    try:
        backend = load_backend(name).on(device)
        about = where(backend)
    except (BackendUnavailable, TypeError, ValueError) as error:
        print(f"{name}: FAILED: {error}")
        return 1
    print(f"{name}: version {about['version']}, device {about['device']}, precision {about['precision']}", flush=True)
    counts = dict.fromkeys(WORDS, 0)
    seconds = 0.0
    checks = [check for check in conformance_checks(quick=quick) if check.tier in tiers]
    for outcome in run_checks(backend, checks, expected):
        counts[outcome.status] += 1
        seconds += outcome.seconds
        if not quiet or outcome.status == "failed":
            remark = f"  {outcome.message}" if outcome.message else ""
            print(f"{name}  {WORDS[outcome.status]:8}  {outcome.check.id}{remark}", flush=True)
    said = ", ".join(f"{count} {status}" for status, count in counts.items() if count or status in ("passed", "failed"))
    print(f"{name}: {said} ({seconds:.1f} s)", flush=True)
    return counts["failed"]
