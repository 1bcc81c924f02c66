"""The CuPy adapter on the stand-in of ``fake_cupy``: a simulation on this CPU, in a process of its own. No GPU takes part."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

from tests.cuda.host import MISSING
from tests.support import ROOT

START = "from tests.support import fake_cupy; print('simulated CuPy with', fake_cupy.install());"
LAYER = """
import cupy, numpy as np, tacops
from tests.support.fake_cupy import Device, traffic
rng = np.random.default_rng(0)
spikes = cupy.array(rng.random((8, 2, 6, 6, 2)) < 0.4)
weight = cupy.array(rng.normal(0, 0.5, (4, 3, 3, 2)).astype(np.float32))
wide = cupy.array(rng.normal(0, 0.5, (800, 3, 3, 2)).astype(np.float32))
beta = cupy.array(rng.uniform(0.5, 1, 4).astype(np.float32))
before = dict(traffic)
def cost(*names):
    return {name: traffic[name] - before.get(name, 0) for name in names or ("launches", "products", "to host", "to device", "waits")}
"""
compiled = pytest.mark.skipif(MISSING is not None, reason=f"the CuPy adapter is not simulated: {MISSING}")


def _run(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", START + code], cwd=ROOT, capture_output=True, text=True, timeout=900, check=False
    )


def _passes(code: str) -> None:
    done = _run(code)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]


@compiled
def test_adapter_passes_every_check() -> None:
    """No name that CuPy lacks, no implicit conversion, no value read from the device; kernels equal the core."""
    done = _run("import sys; from tacops.__main__ import main; sys.exit(main(['check', 'cupy']))")
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert "a simulation on NumPy" in done.stdout
    assert int(re.findall(r"^cupy: (\d+) passed, 0 failed", done.stdout, re.MULTILINE)[0]) > 90


@compiled
@pytest.mark.parametrize("reproducible", [False, True])
def test_nothing_waits_and_nothing_is_copied(reproducible: bool) -> None:
    """An operator queues its work: no value goes to the host, none comes from there, no stream is waited for."""
    call = f"reproducible={reproducible})"
    _passes(
        f"""{LAYER}
tacops.conv_lif(spikes, weight, padding=1, {call}
assert cost() == {{"launches": 1, "products": 0, "to host": 0, "to device": 0, "waits": 0}}, cost()
tacops.tac_conv(spikes, weight, chunk_size=4, padding=1, compact=True, {call}
assert cost() == {{"launches": 3, "products": 0, "to host": 0, "to device": 0, "waits": 0}}, cost()
tacops.tac_conv(spikes, wide, chunk_size=4, mode="preserve", padding=1, {call}
assert cost() == {{"launches": 6, "products": 1, "to host": 0, "to device": 0, "waits": 0}}, cost()
tacops.tac_conv(spikes, weight, chunk_size=4, beta=beta, aggregation="sum", threshold=beta, {call}
assert cost() == {{"launches": 8, "products": 1, "to host": 0, "to device": 0, "waits": 0}}, cost()
"""
    )


@compiled
def test_launches_of_a_layer() -> None:
    """S3 of the benchmarks, on a GPU with the second-level cache of an H100: everything that is queued, counted."""
    _passes(
        """
import cupy, numpy as np, tacops
from tacops.backends import get_backend
from tacops._backend.window import Window
from tacops._core.neurons import LIFStep
from tacops._core.synapses import Convolve
from tests.support.fake_cupy import traffic
rng = np.random.default_rng(0)
spikes = cupy.array(rng.random((16, 8, 28, 28, 32)) < 0.1)
weight = cupy.array(rng.normal(0, 0.1, (64, 3, 3, 32)).astype(np.float32))
bias = cupy.array(rng.normal(0, 0.1, 64).astype(np.float32))
def cost(call):
    before = dict(traffic)
    call()
    return {name: count - before.get(name, 0) for name, count in traffic.items() if count > before.get(name, 0)}
assert cost(lambda: tacops.conv_lif(spikes, weight, bias, padding=1)) == {"launches": 4, "products": 3}
paid = cost(lambda: tacops.conv_lif(spikes, weight, bias, padding=1, reproducible=True))
assert paid["operations"] <= 42, paid
assert {name: paid[name] for name in paid if name != "operations"} == {"launches": 3, "products": 2}, paid
# reproducible: as the layer is run, once its weights are whole numbers
backend, window = get_backend("cupy"), Window((1, 1), ((1, 1), (1, 1)), (1, 1), 1)
whole, step = cupy.round(weight * 1000), LIFStep(get_backend("cupy"), 0.9, 1000.0, "subtract", rounded=True)
runs = {}
for half in (True, False):
    conv = Convolve(backend, window, whole, None, exact=True, fits_half=half)
    paid = cost(lambda: runs.update({half: backend.schedule(conv, step, spikes, None, 1)}))
    # weights as float16 are one operation more
    assert paid == ({"launches": 3, "products": 2, "operations": 1} if half else {"launches": 4, "products": 3}), paid
assert runs[True][0]._data.any()
assert np.array_equal(runs[True][0]._data, runs[False][0]._data)
assert np.array_equal(runs[True][1][0]._data, runs[False][1][0]._data)
"""
    )


@compiled
def test_reproducible_layers_multiply_float16_where_it_holds_their_numbers() -> None:
    """By the grid's rule, which is known without reading: frames of up to 2048 units."""
    _passes(
        """
import cupy, numpy as np, tacops
from tests.support import fake_cupy
kinds = []
def listen(handle, *of):
    kinds.append((of[7], of[16]))
    return sound(handle, *of)
cublas = cupy.cuda.cublas
sound, cublas.gemmEx = cublas.gemmEx, listen
rng = np.random.default_rng(0)
spikes = rng.integers(0, 2, (8, 2, 6, 6, 8))
weight = rng.normal(0, 0.1, (100, 3, 3, 8)).astype(np.float32)
def run(x, **options):
    kinds.clear()
    got = tacops.tac_conv(cupy.array(x), cupy.array(weight), **options)
    want = tacops.tac_conv(x, weight, **options)
    assert np.array_equal(got.spikes._data, want.spikes) and np.array_equal(got.membrane._data, want.membrane)
    return set(kinds)
half, full = {(2, 68)}, {(0, 69)}
for x in (spikes > 0, spikes.astype(np.float32), spikes.astype(np.uint8)):
    assert run(x, chunk_size=1, reproducible=True) == half
    assert run(x, chunk_size=4, reproducible=True, aggregation="sum") == half
assert run(3 * spikes, chunk_size=1, reproducible=tacops.Grid(input_max=3)) == half
assert run(3.0 * spikes.astype(np.float32), chunk_size=1, reproducible=tacops.Grid(input_max=4000)) == full
assert run(spikes > 0, chunk_size=1, reproducible=tacops.Grid(weight_bits=14)) == full
# who breaks the rule gets NaN, not other spikes
broken = tacops.conv_lif(cupy.array(spikes.astype(np.float32) * 3), cupy.array(weight), reproducible=True)
assert np.isnan(broken.spikes._data).all() and np.isnan(broken.membrane._data).all()
"""
    )


@compiled
def test_many_weights_are_not_copied() -> None:
    """More aggregation weights than travel with one launch."""
    _passes(
        f"""{LAYER}
long = cupy.array((rng.random((100, 1, 4, 4, 2)) < 0.3).astype(np.float32))
before = dict(traffic)
sums = tacops.aggregate(long, 100, beta=0.99)
assert cost() == {{"launches": 4, "products": 0, "to host": 0, "to device": 0, "waits": 0}}, cost()
want = tacops.aggregate(long.get(), 100, beta=0.99)
assert np.allclose(sums._data, want, rtol=1e-5)
"""
    )


@compiled
def test_kernels_run_where_the_arrays_are() -> None:
    """Arrays of device 1, while device 0 is current, are computed with on device 1 and stay there."""
    _passes(
        f"""{LAYER}
from tacops.backends import get_backend
with Device(1):
    there = [cupy.array(cupy.asnumpy(a)) for a in (spikes, weight, wide)]
assert [a.device.id for a in there] == [1, 1, 1] and Device.current == 0
for weights in there[1:]:
    for options in ({{"chunk_size": 1}}, {{"chunk_size": 4, "mode": "preserve"}}):
        out = tacops.tac_conv(there[0], weights, padding=1, **options)
        assert out.spikes.device.id == out.membrane.device.id == 1 and Device.current == 0
assert get_backend("cupy").device_of(out.spikes) == "cuda:1"
"""
    )


@compiled
def test_half_precision_takes_the_core_s_path() -> None:
    """Without a kernel: float16 has none."""
    _passes(
        f"""{LAYER}
half = cupy.array(rng.normal(0, 0.5, (4, 3, 3, 2)).astype(np.float16))
out = tacops.tac_conv(spikes, half, chunk_size=4)
assert out.spikes.dtype == out.membrane.dtype == np.float16
assert cost()["launches"] == 0
"""
    )


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ("runtime.getDeviceCount = fail; driver = 0", r"needs an NVIDIA driver, and this machine has none"),
        ("runtime.getDeviceCount = fail; driver = 12080", r"supports CUDA 12.x; .*pip install 'cupy-cuda12x\[ctk\]'"),
        ("runtime.getDeviceCount = fail; driver = 13000", r"found no usable NVIDIA GPU \(broken\)"),
        ("runtime.getDeviceCount = lambda: 0", r"found no NVIDIA GPU; CUDA_VISIBLE_DEVICES may hide it"),
        ("adapter._find_cublas = fail", r"CUDA's cuBLAS \(broken\); try: pip install 'cupy-cuda13x\[ctk\]'"),
        ("cupy.cuda.nvrtc.getVersion = fail", r"CUDA's NVRTC \(broken\); try: pip install 'cupy-cuda13x\[ctk\]'"),
        ("adapter._find_headers = fail", r"CUDA's headers \(broken\); try: pip install 'cupy-cuda13x\[ctk\]'"),
    ],
)
def test_what_is_missing_is_one_sentence(state: str, message: str) -> None:
    """From the driver to the headers, with the command that mends it where one does."""
    done = _run(
        f"""
import cupy
from tacops.backends import cupy_ as adapter
runtime, driver = cupy.cuda.runtime, 13000
def fail():
    raise RuntimeError("broken")
{state}
runtime.driverGetVersion = lambda: driver
print(adapter.BACKEND.unavailable())
"""
    )
    assert done.returncode == 0, done.stderr[-3000:]
    sentence = done.stdout.splitlines()[-1]
    assert re.search(message, sentence), sentence
    assert sentence.startswith("backend 'cupy'")


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ("np.asarray(x)", "Implicit conversion"),
        ("np.add(np.ones(2), x)", "Unsupported type"),
        ("np.sum(x)", "numpy.sum was called"),
        ("cupy.stack([x, np.ones(2)])", "Unsupported type"),
        ("bool(cupy.max(x))", "a GPU would be waited for"),
        ("cupy.unstack(x)", "has no attribute 'unstack'"),
        ("cupy.dot(cupy.ones((4, 4))[::2, ::2], cupy.ones((2, 2)))", "would copy first"),
    ],
)
def test_stand_in_is_strict(wrong: str, message: str) -> None:
    """What CuPy refuses, the stand-in refuses."""
    done = _run(f"import cupy, numpy as np; x = cupy.array(np.ones(2)); {wrong}")
    assert done.returncode == 1
    assert message in done.stderr
