// Backend.schedule for few channels: frames (T, batch, height, width, channels) -> spikes (T * repeat, batch, rows,
// columns, filters) and membrane, with weights (filters, kernel_height, kernel_width, channels) in shared memory:
//     i[y, x, f] = bias[f] + sum_{r, s, c} weights[f, r, s, c] frames[y sy - top + r dy, x sx - left + s dx, c]
//
// A thread carries LANES membranes at one position; currents never reach memory. It sums TOGETHER frames at once, so a weight
// that it reads serves them all. Blocks stay until everything is done, so each copies the weights once, in the order in
// which they lie. The sums may be contracted: they are sums of products in an order of our own anyway, or of integers,
// which no order changes. bias may be null. RUN is LANES where filters are whole runs of them, else 1.

#define LANES 8                              // output channels per thread; as in launching.py
#define TOGETHER ((int)(8 / sizeof(REAL)))   // frames whose sums are in registers: more leave room for fewer threads

struct Window {
    int height, width, channels;             // of a frame
    int rows, columns, filters;              // of the currents
    int kernel_height, kernel_width;
    int stride_y, stride_x, top, left;       // top, left: padding on the low sides
    int dilation_y, dilation_x;
};

template <class T> __device__ __forceinline__ void put(T* to, const Run<T, LANES>& values, int lanes)
{
    if (RUN == LANES) store<LANES>(to, values);
    else
        #pragma unroll
        for (int l = 0; l < LANES; ++l)
            if (l < lanes) to[l] = values.at[l];
}

// sums[a][l] of frames a of TOGETHER, at one position
__device__ __forceinline__ void convolve(REAL (&sums)[TOGETHER][LANES], const INPUT* const (&frame)[TOGETHER], const REAL* taps,
                                         int y0, int x0, int padded, const Window& w)
{
    for (int r = 0; r < w.kernel_height; ++r) {
        const int y = y0 + r * w.dilation_y;
        if (y < 0 || y >= w.height) continue;
        for (int s = 0; s < w.kernel_width; ++s) {
            const int x = x0 + s * w.dilation_x;
            if (x < 0 || x >= w.width) continue;
            const INDEX pixel = ((INDEX)y * w.width + x) * w.channels;
            const REAL* tap = taps + (r * w.kernel_width + s) * w.channels * padded;
            for (int c = 0; c < w.channels; ++c) {
                const Run<REAL, LANES> weight = load<LANES>(tap + c * padded);
                #pragma unroll
                for (int a = 0; a < TOGETHER; ++a) {
                    const REAL input = (REAL)frame[a][pixel + c];
                    #pragma unroll
                    for (int l = 0; l < LANES; ++l) sums[a][l] += input * weight.at[l];
                }
            }
        }
    }
}

extern "C" __global__ void conv_lif(const INPUT* __restrict__ frames, const REAL* __restrict__ weights,
                                    const REAL* __restrict__ bias, const REAL* start, const REAL* __restrict__ decays,
                                    const REAL* __restrict__ thresholds, const REAL* __restrict__ poison,
                                    SPIKE* __restrict__ spikes, REAL* membrane, int T, INDEX batch, Window w, Neurons n)
{
    extern __shared__ __align__(16) REAL taps[];  // (kernel_height, kernel_width, channels, padded): filters side by side
    const int groups = (w.filters + LANES - 1) / LANES, padded = groups * LANES;
    const int fan_in = w.kernel_height * w.kernel_width * w.channels;
    for (int j = threadIdx.x; j < fan_in * padded; j += blockDim.x)
        taps[j % fan_in * padded + j / fan_in] = j < w.filters * fan_in ? weights[j] : (REAL)0;
    __syncthreads();

    const REAL bad = poison ? *poison : (REAL)0;
    const INDEX positions = batch * w.rows * w.columns, neurons = positions * w.filters;
    const INDEX size = (INDEX)w.height * w.width * w.channels;
    for (INDEX j = first(); j < positions * groups; j += stride()) {
        const int filter = (int)(j % groups) * LANES, lanes = RUN == LANES ? LANES : min(LANES, w.filters - filter);
        const INDEX position = j / groups, line = position / w.columns, sample = line / w.rows;
        const int x0 = (int)(position % w.columns) * w.stride_x - w.left;
        const int y0 = (int)(line % w.rows) * w.stride_y - w.top;
        const INDEX m = position * w.filters + filter;
        Run<REAL, LANES> u;
        #pragma unroll
        for (int l = 0; l < LANES; ++l) u.at[l] = start && l < lanes ? start[m + l] : (REAL)0;
        bool resting = !start;
        SPIKE* to = spikes + m;
        for (int t = 0; t < T; t += TOGETHER) {
            const INPUT* frame[TOGETHER];       // after the last, the last again: summed and not used
            REAL sums[TOGETHER][LANES] = {};
            #pragma unroll
            for (int a = 0; a < TOGETHER; ++a) frame[a] = frames + ((INDEX)min(t + a, T - 1) * batch + sample) * size;
            convolve(sums, frame, taps + filter, y0, x0, padded, w);
            #pragma unroll
            for (int a = 0; a < TOGETHER; ++a) {
                if (t + a >= T) break;
                for (int k = 0; k < n.repeat; ++k, to += neurons, resting = false) {
                    Run<SPIKE, LANES> fired;
                    #pragma unroll
                    for (int l = 0; l < LANES; ++l) {
                        const int f = l < lanes ? filter + l : filter;
                        const REAL current = bias ? add(sums[a][l], bias[f]) : sums[a][l];
                        const REAL decay = decays ? decays[f * n.decay_step] : n.decay;
                        const REAL threshold = thresholds ? thresholds[f * n.threshold_step] : n.threshold;
                        step(u.at[l], current, resting, decay, threshold, bad, n, &fired.at[l]);
                    }
                    put(to, fired, lanes);
                }
            }
        }
        put(membrane + m, u, lanes);
    }
}
