"""advise: files of frames and of events, the command line, real recordings."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tacops._advise.advise import advise
from tacops._cli.advise import add_arguments, main
from tacops.backends._io import npy
from tacops.backends._io import spikes as files
from tacops.backends._io.recordings import bin_recordings
from tests.support import ROOT
from tests.support.advise_inputs import Floats, Spikes, T, bernoulli, camera, drawn, moving

# files


def run(*arguments: object) -> int:
    import argparse

    parser = argparse.ArgumentParser()
    add_arguments(parser)
    return main(parser.parse_args([str(a) for a in arguments]))


def events_of(frames: Spikes) -> dict[str, Any]:
    """Events in the middle of their frames' time, recording after recording, with a span that gives the frames back."""
    steps, batch = frames.shape[:2]
    parts = {n: [] for n in "xytp"}  # type: dict[str, list[Any]]
    offsets = [0]
    for b in range(batch):
        t, y, x, p = np.nonzero(frames[:, b])
        ends = np.array([0, steps * 1000])  # two more events fix the span
        parts["t"].append(np.concatenate([ends[:1], t * 1000 + 500, ends[1:]]))
        for name, values in (("x", x), ("y", y), ("p", p)):
            parts[name].append(np.concatenate([[0], values, [0]]))
        offsets.append(offsets[-1] + len(t) + 2)
    arrays = {name: np.concatenate(values).astype(np.uint32) for name, values in parts.items()}
    return {**arrays, "offsets": np.array(offsets), "sensor_size": np.array([frames.shape[3], frames.shape[2], 2])}


def test_files_of_frames(tmp_path: Path, images: Floats, capsys: pytest.CaptureFixture[str]) -> None:
    spikes = drawn(moving(images[:6]))
    want = str(advise(spikes, max_loss=0.03))
    np.save(tmp_path / "frames.npy", spikes)
    np.savez(tmp_path / "one.npz", spikes)
    np.savez_compressed(tmp_path / "two.npz", spikes=spikes, labels=np.arange(6))
    for arguments in (["frames.npy"], ["one.npz"], ["two.npz", "--array", "spikes"]):
        assert run(tmp_path / arguments[0], *arguments[1:], "--max-loss", 0.03) == 0
        assert capsys.readouterr().out == want + "\n"


def test_files_of_events(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Binned into the frames they were made of."""
    frames = (camera(batch=5) > 0).astype(np.float32)
    arrays = events_of(frames)
    np.savez(tmp_path / "events.npz", **arrays, labels=np.arange(5))
    read = files.read_spikes(tmp_path / "events.npz", frames=T)
    assert np.abs(read - frames).sum() == 2 * 5  # the two events that fix the span
    assert run(tmp_path / "events.npz", "--frames", T) == 0
    assert "preserve" in capsys.readouterr().out
    first = files.read_spikes(tmp_path / "events.npz", frames=T, layout="channels_first")
    assert np.array_equal(np.moveaxis(first, 2, -1), read)
    assert files.read_spikes(tmp_path / "events.npz", frames=4, samples=2).shape == (4, 2, 34, 34, 2)


def test_events_without_polarity_or_offsets() -> None:
    t = np.array([10.0, 11.0, 30.0, 12.5])
    out = bin_recordings({"x": np.array([0, 1, 2, 2]), "y": np.array([0, 0, 1, 1]), "t": t}, frames=2)
    assert out.shape == (2, 1, 2, 3, 1)
    assert out[0, 0, :, :, 0].tolist() == [[1, 1, 0], [0, 0, 1]]
    assert out[1, 0, :, :, 0].tolist() == [[0, 0, 0], [0, 0, 1]]


def test_plot_of_a_file(tmp_path: Path, images: Floats, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("matplotlib")
    np.save(tmp_path / "frames.npy", bernoulli(images[:4]))
    assert run(tmp_path / "frames.npy", "--plot", tmp_path / "out.png") == 0
    assert (tmp_path / "out.png").stat().st_size > 1000
    assert run(tmp_path / "frames.npy", "--plot", tmp_path / "out.nonsense") == 2
    assert "nonsense" in capsys.readouterr().err


class Evil:
    """Writes a file when it is unpickled."""

    def __reduce__(self) -> Any:
        return (Path.touch, (Path("unpickled"),))


def test_unsafe_and_damaged_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """One sentence each, exit status 2, and nothing is unpickled."""
    monkeypatch.chdir(tmp_path)
    frames = np.ones((4, 2, 6, 6, 1), np.float32)
    np.save("whole.npy", frames)
    np.savez("whole.npz", a=frames)
    np.save("pickle.npy", np.array([Evil()], object))
    np.savez("pickle.npz", a=np.array([Evil()], object))
    Path("raw.npy").write_bytes(pickle.dumps(Evil()))
    Path("empty.npy").write_bytes(b"")
    Path("short.npy").write_bytes(Path("whole.npy").read_bytes()[:200])
    Path("header.npy").write_bytes(b"\x93NUMPY\x01\x00\xff\xff")
    Path("short.npz").write_bytes(Path("whole.npz").read_bytes()[:150])
    damaged = bytearray(Path("whole.npz").read_bytes())
    damaged[200] ^= 255
    Path("damaged.npz").write_bytes(damaged)
    np.savez("many.npz", a=frames, b=frames)
    np.savez("words.npz", a=np.array(["spike"]))
    with zipfile.ZipFile("text.npz", "w") as archive:
        archive.writestr("a.txt", "no array")
    for name in ("pickle.npy", "pickle.npz", "raw.npy", "empty.npy", "short.npy", "header.npy", "short.npz", "damaged.npz",
                 "many.npz", "words.npz", "text.npz", "missing.npy", "."):  # fmt: skip
        assert run(name) == 2, name
        error = capsys.readouterr().err
        assert error.startswith("python -m tacops advise: FILE must "), name
        assert error.count("\n") == 1, error
    assert not Path("unpickled").exists()
    assert run("many.npz", "--array", "c") == 2
    assert "hold an array called 'c'; got a, b" in capsys.readouterr().err
    assert run("whole.npy", "--keep", "2") == 2
    assert capsys.readouterr().err == "python -m tacops advise: keep must be in (0, 1); got 2.0\n"
    assert run("whole.npy", "--max-samples", "0") == 2


def test_large_files_are_refused_before_they_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A small archive that would unfold into gigabytes."""
    path = tmp_path / "bomb.npz"
    with (
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open("a.npy", "w", force_zip64=True) as file,
    ):
        header = {"descr": "|u1", "fortran_order": False, "shape": (2**32,)}
        np.lib.format.write_array_header_1_0(file, header)
        for _ in range(5):
            file.write(bytes(2**20))
    with zipfile.ZipFile(path) as archive:
        held = archive.getinfo("a.npy").file_size
    monkeypatch.setattr(npy, "LARGEST", held - 1)
    with pytest.raises(ValueError, match=r"^advise: FILE must be a whole .* file .*; got [\d,]+ bytes, more than "):
        files.read_spikes(path)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"x": np.array([0, 1])}, "one length"),
        ({"x": np.zeros(3)}, "integer pixel coordinates"),
        ({"x": np.array([0, -1, 2])}, "at least 0"),
        ({"x": np.array([0, 1, 2**40])}, "numbers per recording"),
        ({"sensor_size": np.array([2, 2])}, "sensor_size that holds its events"),
        ({"offsets": np.array([0, 2])}, "offsets that rise from 0 to its 3 events"),
        ({"offsets": np.array([0, 3, 2, 3])}, "offsets that rise"),
        ({"t": np.array([], float), "x": np.array([], int), "y": np.array([], int)}, "nonempty"),
    ],
)
def test_wrong_events(change: dict[str, Any], words: str) -> None:
    arrays = {"x": np.array([0, 1, 2]), "y": np.array([0, 1, 1]), "t": np.array([1.0, 2.0, 3.0]), **change}
    with pytest.raises(ValueError, match=f"^advise: FILE must .*{words}"):
        bin_recordings(arrays)


def test_command_line(tmp_path: Path, images: Floats) -> None:
    """Through ``python -m tacops``."""
    np.save(tmp_path / "frames.npy", bernoulli(images[:8]))
    done = subprocess.run(
        [sys.executable, "-m", "tacops", "advise", str(tmp_path / "frames.npy")], cwd=ROOT, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("collapse, chunk_size=16 (16 x fewer convolutions)\n")


# real recordings


def recordings() -> Path:
    for folder in os.environ.get("TACOPS_DATA", "").split(os.pathsep):
        for path in (Path(folder) / "nmnist_small" / "nmnist_small.npz", Path(folder) / "nmnist_small.npz"):
            if folder and path.is_file():
                return path
    pytest.skip("N-MNIST: no nmnist_small.npz in the folders that TACOPS_DATA names")


@pytest.mark.parametrize("frames", [8, 10, 16, 32, 64])
def test_event_camera_recordings(frames: int) -> None:
    """Saccades: preserve, and with finer frames longer chunks."""
    spikes = files.read_spikes(recordings(), frames=frames)
    advice = advise(spikes)
    assert advice.mode == "preserve", advice
    assert advice.effect_size > 0.3
    if frames >= 16:
        assert 2 <= (advice.chunk_size or 0) <= frames // 4
    assert advise(np.minimum(spikes, 1)).mode == "preserve"
