// Cooperative patterns: groups smaller than a warp, diverged groups, warp-aggregated atomics, block scans, decoupled look-back.
#include <cooperative_groups.h>
#include <cooperative_groups/reduce.h>
#include <cooperative_groups/scan.h>
#include <cuda_fp16.h>
namespace cg = cooperative_groups;
template <int N> __device__ void sums(const int *x, int *out) {
    auto tile = cg::tiled_partition<N>(cg::this_thread_block());
    int v = x[threadIdx.x];
    out[threadIdx.x * 3] = cg::reduce(tile, v, cg::plus<int>());
    out[threadIdx.x * 3 + 1] = cg::inclusive_scan(tile, v, cg::greater<int>());
    out[threadIdx.x * 3 + 2] = tile.shfl(v, tile.size() - 1 - tile.thread_rank()) + 1000 * tile.meta_group_rank();
}
extern "C" __global__ void tiles8(const int *x, int *out) { sums<8>(x, out); }
extern "C" __global__ void tiles32(const int *x, int *out) { sums<32>(x, out); }
// Shuffles with a width, in halves of a warp that take different branches.
extern "C" __global__ void halves(const float *x, float *out) {
    int lane = threadIdx.x % 32;
    float v = x[threadIdx.x];
    if (lane < 16) {
        for (int d = 8; d; d /= 2) v += __shfl_xor_sync(0x0000FFFFu, v, d, 16);
    } else {
        for (int d = 1; d < 16; d *= 2) {
            float w = __shfl_up_sync(0xFFFF0000u, v, d, 16);
            if (lane % 16 >= d) v += w;
        }
    }
    out[threadIdx.x] = v;
}
// Filter: the active lanes of each warp take one slot with a single atomic.
extern "C" __global__ void filter(const int *x, int n, int *count, int *out) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= n || x[i] % 3) return;
    auto active = cg::coalesced_threads();
    int base;
    if (active.thread_rank() == 0) base = atomicAdd(count, active.size());
    out[active.shfl(base, 0) + active.thread_rank()] = x[i];
}
// Groups of equal keys in a warp.
extern "C" __global__ void labels(const int *key, const int *x, int *out) {
    auto group = cg::labeled_partition(cg::coalesced_threads(), key[threadIdx.x]);
    out[threadIdx.x] = cg::reduce(group, x[threadIdx.x], cg::plus<int>()) * 100 + group.size();
}
// Inclusive scan of a whole array in one pass: each block waits for the sum of those before it (decoupled look-back).
extern "C" __global__ void scan(const int *x, int *y, volatile int *sums, volatile int *ready, int *ticket) {
    __shared__ int warp_sums[8], before, me;
    if (threadIdx.x == 0) me = atomicAdd(ticket, 1);
    __syncthreads();
    int i = me * 256 + threadIdx.x, lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    int v = x[i];
    for (int d = 1; d < 32; d *= 2) { int w = __shfl_up_sync(~0u, v, d); if (lane >= d) v += w; }
    if (lane == 31) warp_sums[warp] = v;
    __syncthreads();
    for (int w = 0; w < warp; w++) v += warp_sums[w];
    if (threadIdx.x == 255) {
        if (me) { while (!ready[me - 1]) {} __threadfence(); before = sums[me - 1]; } else before = 0;
        sums[me] = before + v;
        __threadfence();
        ready[me] = 1;
    }
    __syncthreads();
    y[i] = v + before;
}
// Half arithmetic in pairs, with the intrinsics of the header.
extern "C" __global__ void half_pairs(const half2 *a, const half2 *b, half2 *out) {
    half2 x = a[threadIdx.x], y = b[threadIdx.x];
    half2 r = __hfma2(x, y, __hneg2(x));
    r = __hmax2(r, __hmul2(__float2half2_rn(0.5f), y));
    out[threadIdx.x] = __hadd2_sat(r, __habs2(x));
}
