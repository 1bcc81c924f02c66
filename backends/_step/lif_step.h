// One step of leaky integrate-and-fire neurons, for CUDA, Metal, and the C++ compiler of the tests.
//
// It is put before the kernels' own text, and needs REAL, the type of numbers (Metal has float alone). It takes values
// and returns values, since pointers have an address space in Metal and none in CUDA.
//
// mul, add and sub round once each and are never contracted into a fused multiply-add, whatever the compiler's options:
// the step does the core's operations (tacops/_core/neurons.py) in the core's order.
#ifdef __METAL_VERSION__
#define STEP inline
#define APART _Pragma("clang fp contract(off)")
STEP float mul(float a, float b) { APART return a * b; }
STEP float add(float a, float b) { APART return a + b; }
STEP float sub(float a, float b) { APART return a - b; }
#else
#define STEP __device__ __forceinline__
STEP float mul(float a, float b) { return __fmul_rn(a, b); }
STEP float add(float a, float b) { return __fadd_rn(a, b); }
STEP float sub(float a, float b) { return __fsub_rn(a, b); }
STEP double mul(double a, double b) { return __dmul_rn(a, b); }
STEP double add(double a, double b) { return __dadd_rn(a, b); }
STEP double sub(double a, double b) { return __dsub_rn(a, b); }
#endif

enum Reset { NONE, SUBTRACT, ZERO, LATE };  // as in tacops/_backend/steps.py

struct Stepped {
    REAL membrane;
    REAL spike;   // 0 or 1, or NaN where poison is
    bool fired;
};

// LIFStep.__call__, operation by operation:
//     v = decay u + i (late: - threshold [u >= threshold])   s = [v >= threshold] + poison
//     u = v - s threshold  |  0 where s, else v  |  v
// resting: there was no membrane before, and nothing decays. rounded: reproducible mode, where the decayed membrane is
// rounded to an integer. reset is one of enum Reset.
STEP Stepped lif_step(REAL u, REAL current, bool resting, REAL decay, REAL threshold, REAL poison, int reset, bool rounded)
{
    REAL v = current;
    if (!resting) {
        const REAL decayed = mul(decay, u);
        v = add(rounded ? rint(decayed) : decayed, current);
        if (reset == LATE) v = sub(v, mul(add(u >= threshold ? (REAL)1 : (REAL)0, poison), threshold));
    }
    Stepped after;
    after.fired = v >= threshold;
    after.spike = add(after.fired ? (REAL)1 : (REAL)0, poison);
    after.membrane = reset == SUBTRACT ? sub(v, mul(after.spike, threshold)) : reset == ZERO && after.fired ? (REAL)0 : v;
    return after;
}
