// CUDA kernels of the CuPy backend: neurons, aggregation, and both with a convolution of few channels.
//
// Compiled by NVRTC with -DREAL=float|double (numbers), -DINPUT=type (frames) and -DSPIKE=bool|REAL (spikes). The tests
// compile the same text for a CPU, so it keeps to extern "C" kernels, one-dimensional blocks and static shared memory.
// Arrays are contiguous with channels last; every count of elements is 64 bits wide.
//
// The step is lif_step.h's, which is put before this text.

#define LANES 8                              // output channels per thread of conv_lif
#define ROOM (24 * 1024 / sizeof(REAL))      // weights in shared memory: small enough for full occupancy
#define MOST_WEIGHTS 32                      // aggregation weights that are passed by value

struct Neurons {
    int repeat;          // steps for which a current is held
    int reset;           // of enum Reset
    int rounded;         // reproducible mode: round the decayed membrane to an integer
    int channels;
    int decay_step;      // 1: decays holds one number per channel, 0: one for all
    int threshold_step;
    REAL decay;          // where there is no array
    REAL threshold;
};

struct Window {
    int height, width, channels;             // of a frame
    int rows, columns, filters;              // of the currents
    int kernel_height, kernel_width;
    int stride_y, stride_x, top, left;       // top, left: padding on the low sides
    int dilation_y, dilation_x;
};

struct Weights { REAL at[MOST_WEIGHTS]; };

__device__ __forceinline__ void write(bool* to, bool fired, REAL) { *to = fired; }
__device__ __forceinline__ void write(REAL* to, bool, REAL spike) { *to = spike; }

__device__ __forceinline__ long long first() { return (long long)blockIdx.x * blockDim.x + threadIdx.x; }
__device__ __forceinline__ long long stride() { return (long long)gridDim.x * blockDim.x; }

__device__ __forceinline__ void step(REAL& u, REAL current, bool resting, REAL decay, REAL threshold, REAL poison,
                                     const Neurons& n, SPIKE* spike_out)
{
    const Stepped after = lif_step(u, current, resting, decay, threshold, poison, n.reset, n.rounded != 0);
    write(spike_out, after.fired, after.spike);
    u = after.membrane;
}

// Backend.scan: currents (frames, neurons) -> spikes (frames * repeat, neurons), membrane (neurons).
// start (neurons), decays, thresholds and poison () may be null: zeros, n.decay, n.threshold, 0. A thread carries the
// membrane of one neuron in a register through all of time; start and membrane may be one array.
extern "C" __global__ void lif(const REAL* __restrict__ currents, const REAL* start, const REAL* __restrict__ decays,
                               const REAL* __restrict__ thresholds, const REAL* __restrict__ poison,
                               SPIKE* __restrict__ spikes, REAL* membrane, long long frames, long long neurons, Neurons n)
{
    const REAL bad = poison ? *poison : (REAL)0;
    for (long long m = first(); m < neurons; m += stride()) {
        const int channel = (int)(m % n.channels);
        const REAL decay = decays ? decays[channel * n.decay_step] : n.decay;
        const REAL threshold = thresholds ? thresholds[channel * n.threshold_step] : n.threshold;
        REAL u = start ? start[m] : (REAL)0;
        for (long long t = 0; t < frames; ++t) {
            const REAL current = currents[t * neurons + m];
            for (int r = 0; r < n.repeat; ++r)
                step(u, current, !start && t == 0 && r == 0, decay, threshold, bad, n,
                     spikes + (t * n.repeat + r) * neurons + m);
        }
        membrane[m] = u;
    }
}

// Backend.weighted_sum: x (chunks, size, width) of any type -> sums (chunks, width), sum_k a_k x_k from the first k on.
// a_k is weights.at[k], or given[k, m % channels] where given (size, channels) is not null. One row of blocks per chunk.
extern "C" __global__ void weighted_sum(const INPUT* __restrict__ x, const REAL* __restrict__ given,
                                        REAL* __restrict__ sums, long long chunks, int size, long long width,
                                        int channels, const __grid_constant__ Weights weights)
{
    for (long long chunk = blockIdx.y; chunk < chunks; chunk += gridDim.y)
        for (long long m = first(); m < width; m += stride()) {
            const INPUT* frame = x + chunk * size * width + m;
            const REAL* own = given ? given + m % channels : given;
            REAL total = (REAL)0;
            for (int k = 0; k < size; ++k) {
                const REAL term = mul((REAL)frame[k * width], own ? own[(long long)k * channels] : weights.at[k]);
                total = k == 0 ? term : add(total, term);
            }
            sums[chunk * width + m] = total;
        }
}

// Backend.schedule for few channels: frames (T, batch, height, width, channels) -> spikes (T * repeat, batch, rows,
// columns, filters) and membrane, with weights (filters, kernel_height, kernel_width, channels) in shared memory:
//     i[y, x, f] = bias[f] + sum_{r, s, c} weights[f, r, s, c] frames[y sy - top + r dy, x sx - left + s dx, c]
// A thread carries LANES membranes at one position; currents never reach memory. The sums may be contracted: they are
// sums of products in an order of our own anyway, or of integers, which no order changes. bias may be null.
extern "C" __global__ void conv_lif(const INPUT* __restrict__ frames, const REAL* __restrict__ weights,
                                    const REAL* __restrict__ bias, const REAL* start, const REAL* __restrict__ decays,
                                    const REAL* __restrict__ thresholds, const REAL* __restrict__ poison,
                                    SPIKE* __restrict__ spikes, REAL* membrane, long long T, long long batch, Window w,
                                    Neurons n)
{
    __shared__ REAL taps[ROOM];              // (kernel_height, kernel_width, channels, padded): filters side by side
    const int groups = (w.filters + LANES - 1) / LANES, padded = groups * LANES;
    const int fan_in = w.kernel_height * w.kernel_width * w.channels;
    for (int j = threadIdx.x; j < fan_in * padded; j += blockDim.x)
        taps[j] = j % padded < w.filters ? weights[j % padded * fan_in + j / padded] : (REAL)0;
    __syncthreads();

    const REAL bad = poison ? *poison : (REAL)0;
    const long long positions = batch * w.rows * w.columns, neurons = positions * w.filters;
    for (long long j = first(); j < positions * groups; j += stride()) {
        const int filter = (int)(j % groups) * LANES, lanes = min(LANES, w.filters - filter);
        const long long position = j / groups;
        const int x0 = (int)(position % w.columns) * w.stride_x - w.left;
        const int y0 = (int)(position / w.columns % w.rows) * w.stride_y - w.top;
        const long long sample = position / w.columns / w.rows, m = position * w.filters + filter;
        REAL u[LANES], sums[LANES];
        #pragma unroll
        for (int l = 0; l < LANES; ++l) u[l] = start && l < lanes ? start[m + l] : (REAL)0;
        for (long long t = 0; t < T; ++t) {
            #pragma unroll
            for (int l = 0; l < LANES; ++l) sums[l] = (REAL)0;
            const INPUT* frame = frames + (t * batch + sample) * w.height * w.width * w.channels;
            for (int r = 0; r < w.kernel_height; ++r) {
                const int y = y0 + r * w.dilation_y;
                if (y < 0 || y >= w.height) continue;
                for (int s = 0; s < w.kernel_width; ++s) {
                    const int x = x0 + s * w.dilation_x;
                    if (x < 0 || x >= w.width) continue;
                    const INPUT* pixel = frame + ((long long)y * w.width + x) * w.channels;
                    const REAL* tap = taps + (r * w.kernel_width + s) * w.channels * padded + filter;
                    for (int c = 0; c < w.channels; ++c)
                        #pragma unroll
                        for (int l = 0; l < LANES; ++l) sums[l] += (REAL)pixel[c] * tap[c * padded + l];
                }
            }
            #pragma unroll
            for (int l = 0; l < LANES; ++l) {
                if (l >= lanes) continue;
                const int f = filter + l;
                const REAL current = bias ? add(sums[l], bias[f]) : sums[l];
                const REAL decay = decays ? decays[f * n.decay_step] : n.decay;
                const REAL threshold = thresholds ? thresholds[f * n.threshold_step] : n.threshold;
                for (int k = 0; k < n.repeat; ++k)
                    step(u[l], current, !start && t == 0 && k == 0, decay, threshold, bad, n,
                         spikes + (t * n.repeat + k) * neurons + m + l);
            }
        }
        #pragma unroll
        for (int l = 0; l < LANES; ++l)
            if (l < lanes) membrane[m + l] = u[l];
    }
}
