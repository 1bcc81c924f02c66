// Backend.weighted_sum: x (chunks, size, width) of any type -> sums (chunks, width), sum_k a_k x_k from the first k on.
//
// a_k is given[k, m % channels] where given (size, channels) is not null, or weights.at[k - begin], of which a launch takes
// those from begin to end: launches that follow go on from the sums. One row of blocks per chunk. A thread takes RUN
// neighbours, and asks for AHEAD frames before it uses the first.

#define MOST_WEIGHTS 32                      // as in launching.py

struct Weights { REAL at[MOST_WEIGHTS]; };

extern "C" __global__ void weighted_sum(const INPUT* __restrict__ x, const REAL* __restrict__ given, REAL* sums,
                                        long long chunks, int size, INDEX width, int channels, int begin, int end,
                                        const __grid_constant__ Weights weights)
{
    for (long long chunk = blockIdx.y; chunk < chunks; chunk += gridDim.y)
        for (INDEX m = first() * RUN; m < width; m += stride() * RUN) {
            const INPUT* from = x + (chunk * size + begin) * width + m;
            REAL* to = sums + chunk * width + m;
            int channel[RUN] = {};
            if (given && channels > 1)
                #pragma unroll
                for (int l = 0; l < RUN; ++l) channel[l] = (int)((m + l) % channels);
            Run<REAL, RUN> total = {};
            if (begin) total = load<RUN>(to);
            for (int k = begin; k < end; k += AHEAD) {
                Run<INPUT, RUN> frame[AHEAD];
                #pragma unroll
                for (int a = 0; a < AHEAD; ++a) {
                    if (k + a < end) frame[a] = load<RUN>(from);
                    from += width;
                }
                #pragma unroll
                for (int a = 0; a < AHEAD; ++a) {
                    if (k + a >= end) break;
                    const REAL* row = given ? given + (long long)(k + a) * channels : given;
                    #pragma unroll
                    for (int l = 0; l < RUN; ++l) {
                        const REAL weight = row ? row[channel[l]] : weights.at[k + a - begin];
                        const REAL term = mul((REAL)frame[a].at[l], weight);
                        total.at[l] = k + a == 0 ? term : add(total.at[l], term);
                    }
                }
            }
            store<RUN>(to, total);
        }
}
