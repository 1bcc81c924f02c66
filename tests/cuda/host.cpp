// What CUDA C++ kernels need to run on a CPU: compiled before the text of a kernel file, with launchers after it.
//
// Blocks run one after the other; the threads of a block too, unless the kernel meets at a barrier, when each is a
// thread of the system. Dynamic shared memory has the bytes that a launch asks for, and starts each block as garbage.
#include <bit>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <pthread.h>
#include <type_traits>
#include <utility>
#include <vector>

#define __global__
#define __device__ static
#define __forceinline__ inline
#define __grid_constant__

struct Index { unsigned x, y, z; };
static thread_local Index threadIdx, blockIdx;
static Index blockDim, gridDim;
static pthread_barrier_t meeting;

[[maybe_unused]] static void __syncthreads() { pthread_barrier_wait(&meeting); }
[[maybe_unused]] static int min(int a, int b) { return a < b ? a : b; }
[[maybe_unused]] static unsigned __float_as_uint(float x) { return std::bit_cast<unsigned>(x); }
using std::fma, std::floor, std::rint;
#define ROUNDED(type, letter) \
    [[maybe_unused]] static type __##letter##mul_rn(type a, type b) { return a * b; } \
    [[maybe_unused]] static type __##letter##add_rn(type a, type b) { return a + b; } \
    [[maybe_unused]] static type __##letter##sub_rn(type a, type b) { return a - b; }
ROUNDED(float, f)
ROUNDED(double, d)

namespace host {

[[maybe_unused]] static void* shared;  // of the block that runs

// One word per parameter: *f or +f (pointer to what is read or written, and the type's letter), f, or V and a size.
template <class T> constexpr char letter()
{
    if constexpr (std::is_same_v<T, bool>) return '?';
    else if constexpr (std::is_floating_point_v<T>) return sizeof(T) == 4 ? 'f' : 'd';
    else if constexpr (std::is_integral_v<T>) return (std::is_signed_v<T> ? "bhiq" : "BHIQ")[sizeof(T) / 2 - sizeof(T) / 8];
    else return 'V';
}

template <class T> int describe(char* to)
{
    using To = std::remove_pointer_t<T>;
    const char kind = letter<std::remove_cv_t<To>>();
    if constexpr (std::is_pointer_v<T>) return std::sprintf(to, "%c%c ", std::is_const_v<To> ? '*' : '+', kind);
    else return kind == 'V' ? std::sprintf(to, "V%zu ", sizeof(T)) : std::sprintf(to, "%c ", kind);
}

template <class... A> void signature(void (*)(A...), char* to) { ((to += describe<A>(to)), ...); }

template <class... A, std::size_t... I> void call(void (*kernel)(A...), void** given, std::index_sequence<I...>)
{
    kernel(*static_cast<std::remove_cv_t<A>*>(given[I])...);
}

template <class... A> struct Thread {
    void (*kernel)(A...);
    void** given;
    Index block, thread;
    void run() const
    {
        blockIdx = block, threadIdx = thread;
        call(kernel, given, std::index_sequence_for<A...>{});
    }
};

// shape: grid, block and bytes of shared memory; blocks first:last run, backwards if asked for
template <class... A>
void launch(void (*kernel)(A...), const unsigned* shape, long long first, long long last, int backwards, int meets, void** given)
{
    if (posix_memalign(&shared, 16, shape[4])) std::abort();
    gridDim = {shape[0], shape[1], shape[2]}, blockDim = {shape[3], 1, 1};
    for (long long n = first; n < last; ++n) {
        const long long b = backwards ? first + last - 1 - n : n;
        const Index block = {unsigned(b % shape[0]), unsigned(b / shape[0] % shape[1]), unsigned(b / shape[0] / shape[1])};
        if (shape[4]) std::memset(shared, 0xff, shape[4]);
        std::vector<Thread<A...>> threads;
        for (unsigned t = 0; t < shape[3]; ++t)
            threads.push_back({kernel, given, block, {backwards ? shape[3] - 1 - t : t, 0, 0}});
        if (!meets) {
            for (const auto& thread : threads) thread.run();
            continue;
        }
        pthread_barrier_init(&meeting, nullptr, shape[3]);
        std::vector<pthread_t> running(threads.size());
        for (std::size_t t = 0; t < threads.size(); ++t)
            pthread_create(&running[t], nullptr,
                           [](void* thread) -> void* { static_cast<Thread<A...>*>(thread)->run(); return nullptr; }, &threads[t]);
        for (pthread_t thread : running) pthread_join(thread, nullptr);
        pthread_barrier_destroy(&meeting);
    }
    std::free(shared);
}

}  // namespace host
