"""Files that users name are written whole or not at all, by one function, and only where a regular file can be."""

from __future__ import annotations

import ast
import errno
import io
import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from bench.__main__ import main as bench
from tacops.__main__ import main as tacops
from tacops._files.whole import OutputError, check_output, write_figure, write_whole
from tacops.backends._io.npz import npz_bytes
from tacops.layers import FrozenLayer, save_frozen
from tests.support import ROOT


@pytest.fixture
def umask() -> Iterator[None]:
    before = os.umask(0o027)
    yield
    os.umask(before)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_new_files_have_the_mode_that_umask_gives(tmp_path: Path, umask: None) -> None:
    write_whole(tmp_path / "new" / "folder" / "file", b"content")
    assert (tmp_path / "new" / "folder" / "file").read_bytes() == b"content"
    assert mode(tmp_path / "new" / "folder" / "file") == 0o640


def test_arrays_may_have_any_name() -> None:
    """Also those that `numpy.savez` takes for its own; and nothing is pickled."""
    arrays = {name: np.arange(n + 1) for n, name in enumerate(("file", "allow_pickle", "args", "a.b"))}
    with np.load(io.BytesIO(npz_bytes(arrays)), allow_pickle=False) as found:
        assert {name: len(found[name]) for name in found.files} == {name: len(x) for name, x in arrays.items()}
    with pytest.raises(ValueError, match=r"[Oo]bject"):
        npz_bytes({"objects": np.array([{}], object)})


@pytest.mark.parametrize("kept", [0o600, 0o664, 0o755])
def test_old_files_keep_their_mode(tmp_path: Path, umask: None, kept: int) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")
    path.chmod(kept)
    write_whole(path, b"new")
    assert (path.read_bytes(), mode(path)) == (b"new", kept)


def test_links_stay_and_their_targets_are_replaced(tmp_path: Path) -> None:
    target, link, far = tmp_path / "there" / "file", tmp_path / "link", tmp_path / "far"
    target.parent.mkdir()
    target.write_bytes(b"old")
    link.symlink_to(Path("there", "file"))
    far.symlink_to(link)
    write_whole(far, b"new")
    assert (far.is_symlink(), link.is_symlink(), target.read_bytes()) == (True, True, b"new")
    dangling = tmp_path / "dangling"
    dangling.symlink_to(tmp_path / "there" / "second")
    write_whole(dangling, b"new")
    assert dangling.is_symlink()
    assert (tmp_path / "there" / "second").read_bytes() == b"new"


def not_files(folder: Path) -> dict[str, tuple[Path, str]]:
    """What must not be replaced, and what is said of it."""
    (folder / "folder").mkdir()
    (folder / "file").write_bytes(b"old")
    (folder / "loop").symlink_to(folder / "loop")
    (folder / "linked").symlink_to("pipe")
    os.mkfifo(folder / "pipe")
    return {
        "folder": (folder / "folder", "it is a folder"),
        "below a file": (folder / "file" / "below", "Not a directory"),
        "loop": (folder / "loop", "Too many levels of symbolic links"),
        "link to a pipe": (folder / "linked", "it is no regular file"),
        "pipe": (folder / "pipe", "it is no regular file"),
        "long name": (folder / ("x" * 300), "File name too long"),
        "no name": (folder / "a\0b", "embedded null byte"),
    }


def test_nothing_but_files_is_replaced(tmp_path: Path) -> None:
    """Pipes stand in for devices: as root, a wrong `write_whole` would replace those of the machine that tests it."""
    with pytest.raises(OutputError, match=r"^/dev/null cannot be written: it is no regular file$"):
        check_output("/dev/null")
    for kind, (path, words) in not_files(tmp_path).items():
        before = sorted(os.listdir(tmp_path))
        for write in (lambda path: write_whole(path, b"new"), check_output):
            with pytest.raises(OutputError) as caught:
                write(path)
            assert str(caught.value) == f"{path} cannot be written: {words}", kind
        assert sorted(os.listdir(tmp_path)) == before
        assert stat.S_ISFIFO((tmp_path / "pipe").stat().st_mode)
    assert (tmp_path / "file").read_bytes() == b"old"


def test_read_only_files_and_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The system's administrator may write anywhere, so the answer of `os.access` stands in."""
    path = tmp_path / "file"
    path.write_bytes(b"old")
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(OutputError, match=r"file cannot be written: it is read-only$"):
        write_whole(path, b"new")
    with pytest.raises(OutputError, match=r"new cannot be written: the folder .* cannot be written to$"):
        check_output(tmp_path / "new")
    assert path.read_bytes() == b"old"


@pytest.mark.parametrize("at", ["fsync", "replace", "open", "fdopen"])
@pytest.mark.parametrize("old", [None, b"old"])
def test_a_full_disk_leaves_what_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: str, old: bytes | None
) -> None:
    path = tmp_path / "file"
    if old:
        path.write_bytes(old)

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, at, full)
    with pytest.raises(OutputError) as caught:
        write_whole(path, b"new")
    monkeypatch.undo()
    assert str(caught.value) == f"{path} cannot be written: No space left on device"
    assert caught.value.errno == errno.ENOSPC
    assert [entry.read_bytes() for entry in tmp_path.iterdir()] == [old] * bool(old)


def test_a_disk_that_is_full_halfway(tmp_path: Path) -> None:
    """A limit of the process's file size stands in for the disk: part of the content is written, then the system refuses."""
    code = (
        "import resource, signal, sys; from tacops._files.whole import write_whole\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN); resource.setrlimit(resource.RLIMIT_FSIZE, (10**6, 10**6))\n"
        "write_whole(sys.argv[1], bytes(2 * 10**6))"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "file")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (
        done.stderr.splitlines()[-1]
        == f"tacops._files.whole.OutputError: {tmp_path}/file cannot be written: File too large"
    )
    assert not list(tmp_path.iterdir())


def test_an_interruption_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", stop)
    with pytest.raises(KeyboardInterrupt):
        write_whole(tmp_path / "file", b"new")
    assert not list(tmp_path.iterdir())


def test_plots_by_their_endings(tmp_path: Path) -> None:
    figure = pytest.importorskip("matplotlib.figure").Figure()
    for name, start in (("a.png", b"\x89PNG"), ("a.svg", b"<?xml"), ("a.PDF", b"%PDF")):
        write_figure(tmp_path / name, figure)
        assert (tmp_path / name).read_bytes().startswith(start)
    for name in ("a", "a.", "a.exe"):
        with pytest.raises(
            OutputError, match=r"cannot be written: the name of a plot must end in \.png, \.svg, \.pdf$"
        ):
            write_figure(tmp_path / name, figure)


def test_frozen_layers_are_not_written_over_devices(tmp_path: Path) -> None:
    layer = FrozenLayer({"weight": np.ones((2, 3), np.float32)}, {"chunk_size": 2})
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OSError, match=r"pipe cannot be written: it is no regular file$"):
        save_frozen(tmp_path / "pipe", {"layer": layer})
    assert stat.S_ISFIFO((tmp_path / "pipe").stat().st_mode)


COMMANDS = {
    "run": ["-o", "{}"],
    "speed": ["--json", "{}"],
    "speed, plot": ["--plot", "{folder}/absent/../file/x"],
    "sparsity": ["--json", "{}"],
    "accuracy": ["--json", "{}"],
    "accuracy, work": ["--work", "{}"],
    "flips": ["--out", "{}"],
    "advise": ["--json", "{}"],
    "advise, plot": ["--plot", "{}"],
    "advise, kind of plot": ["--plot", "{folder}/a.exe"],
    "train": ["--output", "{}"],
    "subset": ["--output", "{}"],
    "digests": ["--write", "--reference", "{}"],
    "demo": ["--json={}"],
}


@pytest.mark.parametrize("name", COMMANDS)
def test_commands_refuse_before_they_work(tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str) -> None:
    """One sentence, exit status 2, and the pipe is still one. Each of these commands would take minutes or more."""
    (tmp_path / "file").write_bytes(b"old")
    os.mkfifo(tmp_path / "pipe")
    if name.startswith("train"):
        pytest.importorskip("optax")
    command = [] if name == "demo" else [name.split(",")[0]]
    options = [text.format(tmp_path / "pipe", folder=tmp_path) for text in COMMANDS[name]]
    assert bench([*command, *options]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("python -m bench")
    assert "cannot be written: " in err
    assert err.count("\n") == 1
    assert stat.S_ISFIFO((tmp_path / "pipe").stat().st_mode)
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["file", "pipe"]


def test_advise_refuses_a_device_for_its_plot(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    np.save(tmp_path / "frames.npy", np.ones((4, 1, 5), np.float32))
    for path, words in (
        (tmp_path / "pipe", "the name of a plot must end in"),
        (tmp_path / "a.svg" / "b.svg", "Not a directory"),
    ):
        (tmp_path / "a.svg").write_bytes(b"old")
        assert tacops(["advise", str(tmp_path / "frames.npy"), "--plot", str(path)]) == 2
        out, err = capsys.readouterr()
        assert (out, err.count("\n")) == ("", 1)
        assert f"advise: {path} cannot be written: {words}" in err


WRITERS = {"write_text", "write_bytes", "mkstemp", "NamedTemporaryFile", "tofile", "dump"}
TO_BUFFERS = {"savefig", "save", "savez", "savez_compressed"}


def writers(text: str) -> Iterator[str]:
    """Calls that write files other than through `write_whole`."""
    for node in ast.walk(ast.parse(text)):
        if not isinstance(node, ast.Call):
            continue
        owner, _, name = ast.unparse(node.func).rpartition(".")
        first = ast.unparse(node.args[0]) if node.args else ""
        given = [a.value for a in [*node.args, *(k.value for k in node.keywords)] if isinstance(a, ast.Constant)]
        modes = {m for m in given if isinstance(m, str) and set(m) <= set("rwaxbt+")}
        opened = name in ("open", "fdopen") and any(set(m) & set("wax+") for m in modes)
        saved = name in TO_BUFFERS and first != "buffer" and (owner in ("np", "mx", "torch") or name != "save")
        if name in WRITERS or opened or saved:
            yield f"{name}({first})"


@pytest.mark.parametrize(
    "text",
    [
        "open(p, 'w')",
        "p.open(mode='ab')",
        "p.write_text('')",
        "np.savez(p, a)",
        "figure.savefig(path)",
        "json.dump(a, f)",
    ],
)
def test_the_search_finds_writers(text: str) -> None:
    assert len(list(writers(text))) == 1


def test_nothing_else_writes() -> None:
    """Plots and arrays go to buffers; a worker's log, in a folder of its own, and Linux's /proc are no user's files."""
    core = [f for f in (ROOT / "tacops").rglob("*.py") if "backends" not in f.relative_to(ROOT).parts]
    files = [*core, *(ROOT / "backends").rglob("*.py"), *(ROOT / "bench").rglob("*.py")]
    found = {(f.name, line) for f in files for line in writers(f.read_text(encoding="utf-8"))}
    buffer = ("npz.py", "open(f'{name}.npy')")
    proc = ("memory.py", "write_text('5')")  # forgets the largest resident set
    assert found == {("whole.py", "fdopen(handle)"), ("pool.py", "open(log)"), ("pool.py", "mkstemp()"), buffer, proc}
