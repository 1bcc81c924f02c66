// What a convolution multiplies: x (N, *in, channels) -> columns (rows, *kernel, channels), zero where padding is.
//
// Row j holds the inputs of output position begin + j, of positions (N, *out) one after the other. Layers of fewer
// dimensions than three have ones before. COLUMN is REAL, or half (given as its bits): of an integer up to 2048, which it
// holds exactly. Anything else that is not 0 becomes NaN, so that no product is silently another. A thread takes RUN channels.

struct Places {
    int in[3], out[3], kernel[3], stride[3], low[3], dilation[3];
    int channels;
};

#ifdef HALF
typedef unsigned short COLUMN;
__device__ __forceinline__ COLUMN column(float value)
{
    const unsigned bits = __float_as_uint(value), size = bits & 0x7fffffffu;
    if (size == 0) return 0;
    const bool exact = size >= 0x3f800000u && size <= 0x45000000u && (bits & 0x1fffu) == 0;  // 1 to 2048, of 11 bits
    return exact ? (COLUMN)((bits >> 16 & 0x8000u) | (size - 0x38000000u) >> 13) : (COLUMN)0x7e00u;
}
#else
typedef REAL COLUMN;
__device__ __forceinline__ COLUMN column(REAL value) { return value; }
#endif

extern "C" __global__ void unfold(const INPUT* __restrict__ x, COLUMN* __restrict__ columns, INDEX begin, INDEX rows,
                                  const __grid_constant__ Places p)
{
    const int runs = p.channels / RUN, taps = p.kernel[0] * p.kernel[1] * p.kernel[2];
    for (INDEX j = first(); j < rows * taps * runs; j += stride()) {
        const int channel = (int)(j % runs) * RUN;
        INDEX at = 0, scale = p.channels, position = begin + j / runs / taps;
        int tap = (int)(j / runs % taps);
        bool inside = true;
        #pragma unroll
        for (int d = 2; d >= 0; --d) {
            const int place = (int)(position % p.out[d]) * p.stride[d] - p.low[d] + tap % p.kernel[d] * p.dilation[d];
            inside = inside && place >= 0 && place < p.in[d];
            at += place * scale;
            scale *= p.in[d];
            position /= p.out[d];
            tap /= p.kernel[d];
        }
        Run<COLUMN, RUN> to = {};
        if (inside) {
            const Run<INPUT, RUN> from = load<RUN>(x + position * scale + at + channel);
            #pragma unroll
            for (int l = 0; l < RUN; ++l) to.at[l] = column(from.at[l]);
        }
        store<RUN>(columns + j * RUN, to);
    }
}
