"""Other code for the same layers: SNN libraries, and plain code in each array library as a specialist would write it.

With ``bench/gpu/exact/`` the only place outside of ``backends/`` that imports array libraries by name. One file per library; each is imported in
its own worker process alone.
"""

from __future__ import annotations

from bench.timing.subject import Entry

__all__ = ["PEERS", "PLAIN"]

PLAIN = {
    "numpy": Entry(
        "plain numpy",
        "plain",
        "bench.speed.peers.numpy_:PlainNumPy",
        note="im2col into one buffer, matmul, in-place LIF",
    ),
    "jax": Entry(
        "plain jax",
        "plain",
        "bench.speed.peers.jax_:PlainJAX",
        library="jax",
        module="jax",
        note="jit; lax.scan over im2col + dot, or over XLA's convolution, whichever is faster",
    ),
    "torch": Entry(
        "plain torch",
        "plain",
        "bench.speed.peers.torch_:PlainTorch",
        library="torch",
        module="torch",
        note="one convolution over T * B in channels-last or contiguous memory, whichever is faster; in-place LIF loop",
    ),
    "mlx": Entry(
        "plain mlx",
        "plain",
        "bench.speed.peers.mlx_:PlainMLX",
        library="mlx",
        module="mlx",
        note="mx.compile; one convolution over T * B, LIF loop",
    ),
}

PEERS = {
    entry.name: entry
    for entry in (
        Entry(
            "snnTorch",
            "peer",
            "bench.speed.peers.torch_:SnnTorch",
            library="torch",
            module="snntorch",
            install="snntorch",
            note="Leaky(beta=0.9), its default. It subtracts the threshold one step after the spike and undecayed, "
            "where ours subtracts at once and the rest decays",
        ),
        Entry(
            "SpikingJelly",
            "peer",
            "bench.speed.peers.torch_:SpikingJelly",
            library="torch",
            module="spikingjelly",
            install="spikingjelly",
            note="multi-step layers and LIFNode(tau=10.0, decay_input=False, v_reset=None). The same neuron, "
            "its decay computed as v - v / 10",
        ),
        Entry(
            "norse",
            "peer",
            "bench.speed.peers.torch_:Norse",
            library="torch",
            module="norse",
            install="norse",
            note="LIFBoxCell with dt / tau = 0.1 and reset_subtract, weights times 10. It scales its input by dt / tau and "
            "fires only above the threshold, where with ours a tie fires, too",
        ),
        Entry(
            "spyx",
            "peer",
            "bench.speed.peers.jax_:Spyx",
            library="jax",
            module="spyx",
            install="spyx",
            note="nnx.Conv or Linear and LIF(beta=0.9) in lax.scan, jit. It emits a spike one step late, from the "
            "membrane before the input, and subtracts the threshold undecayed",
        ),
        Entry(
            "mlx-snn",
            "peer",
            "bench.speed.peers.mlx_:MlxSnn",
            library="mlx",
            module="mlxsnn",
            install="mlx-snn",
            note="TemporalAggregatedConv and TACTemporalPreserve without bias, the latter's weights divided by the sum of "
            "its decays, because it injects that many times the drive. The same neuron; 2-D convolutions only",
        ),
    )
}
