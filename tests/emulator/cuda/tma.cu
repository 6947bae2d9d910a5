// Tensor copies in every rank and swizzle, im2col, stores, reductions; bulk copies of plain runs; prefetches and fences.
#include <cstdint>
struct alignas(64) Map { char data[128]; };
__device__ unsigned address(const void *p) { return (unsigned)__cvta_generic_to_shared(p); }
__device__ void init(uint64_t *b, int n) {
    asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(address(b)), "r"(n));
    asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
    asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
}
__device__ void expect(uint64_t *b, int bytes) {
    asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(address(b)), "r"(bytes) : "memory");
}
__device__ void wait(uint64_t *b, int parity) {
    asm volatile("{ .reg .pred P1; LAB_WAIT: mbarrier.try_wait.parity.shared::cta.b64 P1, [%0], %1; @P1 bra.uni DONE; bra.uni LAB_WAIT; DONE: }"
                 ::"r"(address(b)), "r"(parity) : "memory");
}
extern __shared__ __align__(1024) char tile[];
// Shared memory starts as 0xEE; one thread loads a box; all bytes of shared memory go out.
template <class Issue> __device__ void load(int expected, int words, unsigned *out, Issue issue) {
    __shared__ uint64_t full;
    for (int i = threadIdx.x; i < words; i += blockDim.x) ((unsigned *)tile)[i] = 0xEEEEEEEE;
    if (threadIdx.x == 0) init(&full, 1);
    asm volatile("fence.proxy.async;" ::: "memory");
    __syncthreads();
    if (threadIdx.x == 0) { expect(&full, expected); issue(address(tile), address(&full)); }
    wait(&full, 0);
    for (int i = threadIdx.x; i < words; i += blockDim.x) out[i] = ((unsigned *)tile)[i];
}
#define LOAD(rank, list, ...)                                                                                           \
    extern "C" __global__ void load_##rank(const __grid_constant__ Map map, int expected, int words, unsigned *out, int a, int b, int c, int d, int e) { \
        load(expected, words, out, [&](unsigned to, unsigned bar) {                                                     \
            asm volatile("cp.async.bulk.tensor." #rank ".shared::cluster.global.tile.mbarrier::complete_tx::bytes [%0], [%1, {" list "}], [%2];" \
                         ::"r"(to), "l"(&map), "r"(bar), __VA_ARGS__ : "memory"); });                                   \
    }
LOAD(1d, "%3", "r"(a))
LOAD(2d, "%3, %4", "r"(a), "r"(b))
LOAD(3d, "%3, %4, %5", "r"(a), "r"(b), "r"(c))
LOAD(4d, "%3, %4, %5, %6", "r"(a), "r"(b), "r"(c), "r"(d))
LOAD(5d, "%3, %4, %5, %6, %7", "r"(a), "r"(b), "r"(c), "r"(d), "r"(e))
extern "C" __global__ void load_im2col_4d(const __grid_constant__ Map map, int expected, int words, unsigned *out, int c, int w, int h, int n, int dw, int dh) {
    load(expected, words, out, [&](unsigned to, unsigned bar) {
        asm volatile("cp.async.bulk.tensor.4d.shared::cluster.global.im2col.mbarrier::complete_tx::bytes [%0], [%1, {%3, %4, %5, %6}], [%2], {%7, %8};"
                     ::"r"(to), "l"(&map), "r"(bar), "r"(c), "r"(w), "r"(h), "r"(n), "h"((short)dw), "h"((short)dh) : "memory"); });
}
// The map lies in global memory, with a cache hint.
extern "C" __global__ void load_by_pointer(const Map *map, int expected, int words, unsigned *out, int a, int b) {
    asm volatile("prefetch.tensormap [%0];" ::"l"(map) : "memory");
    load(expected, words, out, [&](unsigned to, unsigned bar) {
        asm volatile("cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes.L2::cache_hint [%0], [%1, {%3, %4}], [%2], %5;"
                     ::"r"(to), "l"(map), "r"(bar), "r"(a), "r"(b), "l"(0x1000000000000000ull) : "memory"); });
}
// Shared memory is filled from `in`; one thread stores or reduces a box.
template <class Issue> __device__ void store(int words, const unsigned *in, Issue issue) {
    for (int i = threadIdx.x; i < words; i += blockDim.x) ((unsigned *)tile)[i] = in[i];
    asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
    __syncthreads();
    if (threadIdx.x == 0) {
        issue(address(tile));
        asm volatile("cp.async.bulk.commit_group;");
        asm volatile("cp.async.bulk.wait_group.read 0;" ::: "memory");
        asm volatile("cp.async.bulk.wait_group 0;" ::: "memory");
    }
}
#define STORE(name, instruction)                                                                                        \
    extern "C" __global__ void name(const __grid_constant__ Map map, int words, const unsigned *in, int a, int b) {     \
        store(words, in, [&](unsigned from) {                                                                           \
            asm volatile(instruction " [%0, {%2, %3}], [%1];" ::"l"(&map), "r"(from), "r"(a), "r"(b) : "memory"); });   \
    }
STORE(store_2d, "cp.async.bulk.tensor.2d.global.shared::cta.bulk_group")
STORE(reduce_add, "cp.reduce.async.bulk.tensor.2d.global.shared::cta.add.tile.bulk_group")
STORE(reduce_min, "cp.reduce.async.bulk.tensor.2d.global.shared::cta.min.bulk_group")
STORE(reduce_max, "cp.reduce.async.bulk.tensor.2d.global.shared::cta.max.bulk_group")
STORE(reduce_xor, "cp.reduce.async.bulk.tensor.2d.global.shared::cta.xor.bulk_group")
STORE(reduce_inc, "cp.reduce.async.bulk.tensor.2d.global.shared::cta.inc.bulk_group")
// Plain runs: global to shared, shared to shared of the same block, shared to global, reductions of two kinds.
extern "C" __global__ void runs(const float *x, float *y, float *sum, unsigned *most, int bytes) {
    __shared__ __align__(128) float one[256], two[256];
    __shared__ __align__(16) unsigned numbers[4];
    __shared__ uint64_t full, moved;
    if (threadIdx.x == 0) init(&full, 1), init(&moved, 1);
    if (threadIdx.x < 4) numbers[threadIdx.x] = 10 * threadIdx.x;
    asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
    __syncthreads();
    if (threadIdx.x == 0) {
        asm volatile("cp.async.bulk.prefetch.L2.global [%0], %1;" ::"l"(x), "r"(bytes));
        expect(&full, bytes);
        asm volatile("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];"
                     ::"r"(address(one)), "l"(x), "r"(bytes), "r"(address(&full)) : "memory");
        wait(&full, 0);
        expect(&moved, bytes);
        asm volatile("cp.async.bulk.shared::cluster.shared::cta.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];"
                     ::"r"(address(two)), "r"(address(one)), "r"(bytes), "r"(address(&moved)) : "memory");
        wait(&moved, 0);
        asm volatile("cp.async.bulk.global.shared::cta.bulk_group [%0], [%1], %2;" ::"l"(y), "r"(address(two)), "r"(bytes) : "memory");
        asm volatile("cp.reduce.async.bulk.global.shared::cta.bulk_group.add.f32 [%0], [%1], %2;" ::"l"(sum), "r"(address(two)), "r"(bytes) : "memory");
        asm volatile("cp.reduce.async.bulk.global.shared::cta.bulk_group.max.u32 [%0], [%1], 16;" ::"l"(most), "r"(address(numbers)) : "memory");
        asm volatile("cp.async.bulk.commit_group; cp.async.bulk.wait_group 0;" ::: "memory");
    }
}
