// Backend.scan: currents (frames, neurons) -> spikes (frames * repeat, neurons), membrane (neurons).
//
// bias (channels), start (neurons), decays, thresholds and poison () may be null: nothing is added, zeros, n.decay,
// n.threshold, 0. A thread carries the membranes of RUN neurons in registers through all of time, and asks for the currents
// of AHEAD frames before it uses the first; start and membrane may be one array.

struct Own { REAL decay[RUN], threshold[RUN], bias[RUN]; };

// Channels are counted only where they differ: a remainder of 64 bits takes longer than a step.
__device__ __forceinline__ Own own(INDEX m, const REAL* bias, const REAL* decays, const REAL* thresholds, const Neurons& n)
{
    Own of;
    const bool differ = bias || (decays && n.decay_step) || (thresholds && n.threshold_step);
    int channel = differ ? (int)(m % n.channels) : 0;
    #pragma unroll
    for (int l = 0; l < RUN; ++l) {
        of.bias[l] = bias ? bias[channel] : (REAL)0;
        of.decay[l] = decays ? decays[channel * n.decay_step] : n.decay;
        of.threshold[l] = thresholds ? thresholds[channel * n.threshold_step] : n.threshold;
        if (differ && ++channel == n.channels) channel = 0;
    }
    return of;
}

extern "C" __global__ void lif(const REAL* __restrict__ currents, const REAL* __restrict__ bias, const REAL* start,
                               const REAL* __restrict__ decays, const REAL* __restrict__ thresholds,
                               const REAL* __restrict__ poison, SPIKE* __restrict__ spikes, REAL* membrane, INDEX frames,
                               INDEX neurons, Neurons n)
{
    const REAL bad = poison ? *poison : (REAL)0;
    for (INDEX m = first() * RUN; m < neurons; m += stride() * RUN) {
        const Own of = own(m, bias, decays, thresholds, n);
        Run<REAL, RUN> u = {};
        if (start) u = load<RUN>(start + m);
        bool resting = !start;
        const REAL* from = currents + m;
        SPIKE* to = spikes + m;
        for (INDEX left = frames; left > 0; left -= AHEAD) {
            Run<REAL, RUN> current[AHEAD];
            #pragma unroll
            for (int a = 0; a < AHEAD; ++a) {
                if (a < left) current[a] = load<RUN>(from);
                from += neurons;
            }
            #pragma unroll
            for (int a = 0; a < AHEAD; ++a) {
                if (a >= left) break;
                for (int r = 0; r < n.repeat; ++r, to += neurons, resting = false) {
                    Run<SPIKE, RUN> fired;
                    #pragma unroll
                    for (int l = 0; l < RUN; ++l) {
                        const REAL i = bias ? add(current[a].at[l], of.bias[l]) : current[a].at[l];
                        step(u.at[l], i, resting, of.decay[l], of.threshold[l], bad, n, &fired.at[l]);
                    }
                    store<RUN>(to, fired);
                }
            }
        }
        store<RUN>(membrane + m, u);
    }
}
