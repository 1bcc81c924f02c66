"""Two workers in processes of their own, a recording on disk larger than their memory, and one of them killed in the middle.

``python -m tests.support.dask_cluster FOLDER --frames 512 --memory 400MB --kill`` prints the number of spikes that differ from
those of a loop over the recording with NumPy.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

import dask
import dask.array as da
import numpy as np
import zarr
from distributed import Client, LocalCluster

import tacops

BLOCK, BATCH, SIDE = 64, 4, 128
"""Frames of a block, samples, and pixels of a side: 8 MiB of bool for each block of one sample."""
OPTIONS: dict[str, Any] = {
    "chunk_size": 16,
    "padding": 1,
    "stride": 2,
    "beta": 0.9,
    "compact": True,
    "reproducible": True,
}


def drawn(block_info: Any = None) -> Any:
    """A block of spikes, one in 16, by its place alone."""
    info = block_info[None]
    shape, place = info["chunk-shape"], info["chunk-location"]
    words = np.random.default_rng(place).integers(0, 2**63, (4, -(-int(np.prod(shape)) // 64)), np.int64)
    bits = np.unpackbits((words[0] & words[1] & words[2] & words[3]).view(np.uint8))
    return bits[: int(np.prod(shape))].reshape(shape).astype(bool)


def weights() -> Any:
    """Of a layer that fires."""
    return np.random.default_rng(7).normal(0.03, 0.3, (4, 3, 3, 2)).astype(np.float32)


def recording(frames: int) -> Any:
    """Spikes (T, B, H, W, 2) that nobody holds in memory."""
    shape = frames, BATCH, SIDE, SIDE, 2
    return da.map_blocks(
        drawn, chunks=da.core.normalize_chunks((BLOCK, 1, -1, -1, -1), shape), dtype=bool, meta=np.empty((0,) * 5, bool)
    )


def differing(folder: Path) -> tuple[int, int]:
    """Spikes of the store that are not those of the loop, and spikes in all."""
    given, found = zarr.open_array(folder / "events"), zarr.open_array(folder / "spikes")
    off = fired = 0
    for b in range(BATCH):
        membrane, place = None, 0
        for start in range(0, given.shape[0], BLOCK):
            want = tacops.tac_conv(given[start : start + BLOCK, b : b + 1], weights(), membrane=membrane, **OPTIONS)
            membrane, stop = want.membrane, place + want.spikes.shape[0]
            off += int((found[place:stop, b : b + 1] != want.spikes).sum())
            fired += int(want.spikes.sum())
            place = stop
    return off, fired


def kill_when_half_done(client: Any, folder: Path, blocks: int, log: list[str]) -> threading.Thread:
    """SIGKILL to one worker once half of the blocks are written."""
    pids = client.run(os.getpid)

    def watch() -> None:
        while len([path for path in (folder / "spikes").rglob("*") if path.is_file()]) <= blocks // 2:
            time.sleep(0.01)
        os.kill(next(iter(pids.values())), signal.SIGKILL)
        log.append("killed")

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    return thread


def main() -> int:
    """Write the recording, run the layer, compare."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--frames", type=int, default=512)
    parser.add_argument("--memory", default="0")
    parser.add_argument("--kill", action="store_true")
    args = parser.parse_args()
    shutil.rmtree(args.folder, ignore_errors=True)
    dask.config.set({"distributed.admin.log-format": "%(message)s"})
    log: list[str] = []
    with (
        LocalCluster(
            n_workers=2, threads_per_worker=1, memory_limit=args.memory, dashboard_address=None, silence_logs=50
        ) as cluster,
        Client(cluster) as client,
    ):
        recording(args.frames).to_zarr(str(args.folder / "events"))
        frames = da.from_zarr(str(args.folder / "events"))
        out = tacops.tac_conv(frames, da.from_array(weights(), chunks=-1), **OPTIONS)
        watcher = kill_when_half_done(client, args.folder, out.spikes.npartitions, log) if args.kill else None
        start = time.perf_counter()
        out.spikes.to_zarr(str(args.folder / "spikes"))
        took = time.perf_counter() - start
        if watcher is not None:
            watcher.join(10)
        peak = client.run(peak_memory)
    off, fired = differing(args.folder)
    size = args.frames * BATCH * SIDE * SIDE * 2
    print(f"{size / 1e6:.0f} MB of frames, {took:.1f} s, peak memory of workers {sorted(peak.values())} MB, {log}")
    print(f"{off} of {fired} spikes differ")
    return int(off > 0 or not fired or (args.kill and not log))


def peak_memory() -> int:
    """Of this process, in megabytes."""
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1000


if __name__ == "__main__":
    sys.exit(main())
