"""Files that are written whole or not at all: the one place of the project that writes what a user named.

The content goes to a new file in the same folder, which takes the old one's place in one step. So a full disk or an
interruption leaves what was there, and devices, pipes and folders are never replaced.
"""

from __future__ import annotations

import errno
import io
import os
import secrets
import stat
from contextlib import suppress
from pathlib import Path
from typing import Any

__all__ = ["OutputError", "check_figure", "check_output", "write_figure", "write_whole"]

LONGEST = 1000
"""Characters of a path that an error shows."""
FORMATS = ("png", "svg", "pdf")
"""Of plots."""


class OutputError(OSError):
    """A file can't be written there; the message is one sentence that names it."""


def write_whole(path: str | Path, content: bytes) -> None:
    """Write a file in one step; missing folders are made.

    A symbolic link stays, and the file that it points to is replaced. A file that was there keeps its mode, and its
    owner where the system allows that; a new one has the mode that the process's umask gives.

    Parameters
    ----------
    path : path
    content : bytes

    Raises
    ------
    OutputError
        If there is something else than a regular file, or the system refuses; no part of the content is left behind then.
    """
    try:
        target, before = _target(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        new = target.with_name(f".tacops-{secrets.token_hex(8)}.tmp")
        # a new file's mode is left to the system, which knows the umask; what replaces a private file is private at once
        handle = os.open(
            new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o600 if before else 0o666
        )
        try:
            with os.fdopen(handle, "wb") as file:
                if before:
                    _keep(new, before)
                file.write(content)
                file.flush()
                os.fsync(handle)  # some file systems find only now that the disk is full
            os.replace(new, target)
        except BaseException:
            with suppress(OSError):
                os.unlink(new)
            raise
    except (OSError, ValueError) as error:
        raise _refusal(path, error) from error


def check_output(*paths: str | Path | None) -> None:
    """Raise `OutputError` if `write_whole` could not write there: before hours of work are done for it.

    Parameters
    ----------
    *paths : path or None
        None is passed over. Nothing is written, and no folder is made.
    """
    for path in paths:
        if path is None:
            continue
        try:
            target, _ = _target(path)
            folder = next(parent for parent in target.parents if os.path.lexists(parent))
            if not folder.is_dir():
                raise OSError(errno.ENOTDIR, f"{folder} is no folder")
            if not os.access(folder, os.W_OK | os.X_OK):
                raise OSError(errno.EACCES, f"the folder {folder} cannot be written to")
        except (OSError, ValueError) as error:
            raise _refusal(path, error) from error


def write_figure(path: str | Path, figure: Any, **options: Any) -> None:
    """Write a Matplotlib figure in the format that the file's ending names; SVG without its date, so equal figures are equal.

    Parameters
    ----------
    path : path
    figure : matplotlib.figure.Figure
    **options
        Of its ``savefig``.
    """
    kind, buffer = _format(path), io.BytesIO()
    metadata = {"metadata": {"Date": None}} if kind == "svg" else {}
    figure.savefig(buffer, format=kind, **metadata, **options)
    write_whole(path, buffer.getvalue())


def check_figure(path: str | Path | None) -> None:
    """`check_output` for `write_figure`."""
    if path is not None:
        _format(path)
    check_output(path)


def _format(path: str | Path) -> str:
    kind = Path(path).suffix.removeprefix(".").lower()
    if kind not in FORMATS:
        raise OutputError(f"{path} cannot be written: the name of a plot must end in .{', .'.join(FORMATS)}")
    return kind


def _target(path: str | Path) -> tuple[Path, os.stat_result | None]:
    """Where links lead, and what is there: nothing, or a regular file that this process may write to."""
    target = Path(os.path.realpath(path))
    try:
        before = os.stat(target)
    except FileNotFoundError:
        return target, None
    if stat.S_ISDIR(before.st_mode):
        raise IsADirectoryError(errno.EISDIR, "it is a folder")
    if not stat.S_ISREG(before.st_mode):
        raise OSError(errno.EINVAL, "it is no regular file")
    if not os.access(target, os.W_OK):
        raise PermissionError(errno.EACCES, "it is read-only")
    return target, before


def _keep(new: Path, before: os.stat_result) -> None:
    """Give the new file the old one's owner, where that is allowed, and mode."""
    if hasattr(os, "chown"):
        with suppress(OSError):
            os.chown(new, before.st_uid, before.st_gid)
    os.chmod(new, stat.S_IMODE(before.st_mode) & 0o777)


def _refusal(path: str | Path, error: OSError | ValueError) -> OutputError:
    why = (error.strerror if isinstance(error, OSError) else None) or str(error) or type(error).__name__
    name = os.fspath(path)
    refusal = OutputError(f"{name if len(name) <= LONGEST else name[:LONGEST] + '...'} cannot be written: {why}")
    refusal.errno = error.errno if isinstance(error, OSError) else errno.EINVAL
    return refusal
