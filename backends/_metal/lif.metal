// The body of a Metal kernel: MLX writes its signature around it, and puts lif_step.h before it. Backend.scan:
// currents (frames, neurons) -> spikes (frames * repeat, neurons), membrane (neurons), all contiguous, channels last.
//
// One thread is one neuron, over all of time, its membrane in a register. The constants RESET, ROUNDED, RESTING (there was
// no membrane before) and COMPACT (spikes are bool), and the type SPIKE, are the signature's, too.
//
// sizes: neurons, frames, repeat, and the numbers of decays and thresholds, each one or that of the channels.
{
    const ulong n = thread_position_in_grid.x;
    const ulong neurons = (ulong)sizes[0];
    if (n >= neurons) return;
    const REAL decayed_by = decay[n % (ulong)sizes[3]];
    const REAL fires_at = threshold[n % (ulong)sizes[4]];
    REAL u = RESTING ? (REAL)0 : start[n];
    bool resting = RESTING;
    ulong at = n;
    for (ulong frame = 0; frame < (ulong)sizes[1]; ++frame) {
        const REAL current = currents[frame * neurons + n];
        for (long held = 0; held < sizes[2]; ++held) {
            const Stepped after = lif_step(u, current, resting, decayed_by, fires_at, poison[0], RESET, ROUNDED);
            spikes[at] = COMPACT ? (SPIKE)after.fired : (SPIKE)after.spike;
            u = after.membrane;
            resting = false;
            at += neurons;
        }
    }
    membrane[n] = u;
}
