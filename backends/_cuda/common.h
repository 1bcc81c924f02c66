// What the kernels of the CuPy backend share: neurons, indices, and runs of neighbours that are moved 128 bits at a time.
//
// Compiled by NVRTC after lif_step.h, with -DREAL=float|double (numbers), -DINPUT=type (frames), -DSPIKE=bool|REAL (spikes),
// -DINDEX="int" where 31 bits count everything and "long long" elsewhere, and -DRUN=n, how many neighbours a thread takes: more
// than one only where the rows of every array are whole runs, 16 bytes apart or divisors of that. The tests compile the
// same texts for a CPU, so they keep to extern "C" kernels, one-dimensional blocks and dynamic shared memory.
// Arrays are contiguous with channels last.

#define AHEAD ((int)(16 / sizeof(REAL)))     // loads over time that are under way at once

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

template <class T, int N> struct alignas(N * sizeof(T) < 16 ? N * sizeof(T) : 16) Run { T at[N]; };

template <int N, class T> __device__ __forceinline__ Run<T, N> load(const T* from)
{
    return *reinterpret_cast<const Run<T, N>*>(from);
}

template <int N, class T> __device__ __forceinline__ void store(T* to, const Run<T, N>& run)
{
    *reinterpret_cast<Run<T, N>*>(to) = run;
}

__device__ __forceinline__ void write(bool* to, bool fired, REAL) { *to = fired; }
__device__ __forceinline__ void write(REAL* to, bool, REAL spike) { *to = spike; }

__device__ __forceinline__ INDEX first() { return (INDEX)blockIdx.x * blockDim.x + threadIdx.x; }
__device__ __forceinline__ INDEX stride() { return (INDEX)gridDim.x * blockDim.x; }

__device__ __forceinline__ void step(REAL& u, REAL current, bool resting, REAL decay, REAL threshold, REAL poison,
                                     const Neurons& n, SPIKE* spike_out)
{
    const Stepped after = lif_step(u, current, resting, decay, threshold, poison, n.reset, n.rounded != 0);
    write(spike_out, after.fired, after.spike);
    u = after.membrane;
}
