// Clusters: ranks, distributed shared memory through cooperative groups and by instruction, st.async, remote arrivals, multicast.
#include <cooperative_groups.h>
#include <cstdint>
namespace cg = cooperative_groups;
__device__ unsigned address(const void *p) { return (unsigned)__cvta_generic_to_shared(p); }
__device__ unsigned map(unsigned at, unsigned rank) { unsigned r; asm volatile("mapa.shared::cluster.u32 %0, %1, %2;" : "=r"(r) : "r"(at), "r"(rank)); return r; }
__device__ void init(uint64_t *b, int n) {
    asm volatile("mbarrier.init.shared::cta.b64 [%0], %1; fence.mbarrier_init.release.cluster;" ::"r"(address(b)), "r"(n) : "memory");
}
__device__ void wait(uint64_t *b, int parity) {
    asm volatile("{ .reg .pred P1; LAB_WAIT: mbarrier.try_wait.parity.acquire.cluster.shared::cta.b64 P1, [%0], %1; @P1 bra.uni DONE; bra.uni LAB_WAIT; DONE: }"
                 ::"r"(address(b)), "r"(parity) : "memory");
}
__device__ void expect(uint64_t *b, int bytes) {
    asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(address(b)), "r"(bytes) : "memory");
}
// What each block knows of itself: 12 numbers a block.
extern "C" __global__ void __cluster_dims__(2, 2, 1) identity(int *out) {
    unsigned v[12];
    asm volatile("mov.u32 %0, %%clusterid.x;" : "=r"(v[0]));
    asm volatile("mov.u32 %0, %%clusterid.y;" : "=r"(v[1]));
    asm volatile("mov.u32 %0, %%nclusterid.x;" : "=r"(v[2]));
    asm volatile("mov.u32 %0, %%cluster_ctaid.x;" : "=r"(v[3]));
    asm volatile("mov.u32 %0, %%cluster_ctaid.y;" : "=r"(v[4]));
    asm volatile("mov.u32 %0, %%cluster_nctaid.y;" : "=r"(v[5]));
    asm volatile("mov.u32 %0, %%cluster_ctarank;" : "=r"(v[6]));
    asm volatile("mov.u32 %0, %%cluster_nctarank;" : "=r"(v[7]));
    asm volatile("{ .reg .pred p; mov.pred p, %%is_explicit_cluster; selp.u32 %0, 1, 0, p; }" : "=r"(v[8]));
    __shared__ int s;
    unsigned away = map(address(&s), v[6] ^ 3);
    asm volatile("getctarank.shared::cluster.u32 %0, %1;" : "=r"(v[9]) : "r"(away));
    asm volatile("getctarank.shared::cluster.u32 %0, %1;" : "=r"(v[10]) : "r"(address(&s)));
    v[11] = blockIdx.y;
    if (threadIdx.x == 0) for (int i = 0; i < 12; i++) out[(blockIdx.y * gridDim.x + blockIdx.x) * 12 + i] = v[i];
}
// A histogram whose bins are spread over the blocks of a cluster: generic atomics on remote shared memory.
extern "C" __global__ void __cluster_dims__(4, 1, 1) histogram(const int *x, int *bins, int n) {
    __shared__ int mine[16];
    cg::cluster_group cluster = cg::this_cluster();
    if (threadIdx.x < 16) mine[threadIdx.x] = 0;
    cluster.sync();
    for (int i = cluster.thread_rank(); i < n; i += cluster.num_threads())
        atomicAdd(cluster.map_shared_rank(&mine[x[i] % 16], x[i] / 16), 1);
    cluster.sync();
    if (threadIdx.x < 16) bins[cluster.block_rank() * 16 + threadIdx.x] = mine[threadIdx.x];
}
// Blocks pass numbers around a ring by ld and st on shared::cluster addresses, with a barrier in two halves.
extern "C" __global__ void __cluster_dims__(4, 1, 1) exchange(int *out) {
    __shared__ int box[64], seen[64];
    cg::cluster_group cluster = cg::this_cluster();
    int rank = cluster.block_rank(), t = threadIdx.x;
    asm volatile("st.shared::cluster.u32 [%0], %1;" ::"r"(map(address(&box[t]), (rank + 1) % 4)), "r"(100 * rank + t) : "memory");
    asm volatile("barrier.cluster.arrive.release.aligned;" ::: "memory");
    seen[t] = t * t;
    asm volatile("barrier.cluster.wait.acquire.aligned;" ::: "memory");
    int other;
    asm volatile("ld.shared::cluster.u32 %0, [%1];" : "=r"(other) : "r"(map(address(&box[63 - t]), (rank + 2) % 4)) : "memory");
    cluster.sync();
    if (rank != 0 || t == 0) asm volatile("red.shared::cluster.add.u32 [%0], 1;" ::"r"(map(address(&seen[0]), 0)) : "memory");
    cluster.sync();
    out[(blockIdx.x * 64 + t) * 3] = box[t], out[(blockIdx.x * 64 + t) * 3 + 1] = other, out[(blockIdx.x * 64 + t) * 3 + 2] = seen[t];
    cluster.sync();
}
// Block 0 sends to the others with st.async, red.async and a bulk copy of shared memory; each completes on the receiver's barrier.
extern "C" __global__ void __cluster_dims__(2, 1, 1) send(int *out) {
    __shared__ __align__(16) int box[32], source[16];
    __shared__ uint64_t full;
    cg::cluster_group cluster = cg::this_cluster();
    int rank = cluster.block_rank(), t = threadIdx.x;
    box[t] = 1000;
    if (t < 16) source[t] = 7 * t;
    if (t == 0) init(&full, 1);
    asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
    cluster.sync();
    if (rank == 0) {
        unsigned to = map(address(box), 1), bar = map(address(&full), 1);
        if (t == 0) asm volatile("cp.async.bulk.shared::cluster.shared::cta.mbarrier::complete_tx::bytes [%0], [%1], 64, [%2];" ::"r"(to), "r"(address(source)), "r"(bar) : "memory");
        if (t == 1) asm volatile("st.async.shared::cluster.mbarrier::complete_tx::bytes.v2.b32 [%0], {%1, %2}, [%3];" ::"r"(to + 64), "r"(1), "r"(2), "r"(bar) : "memory");
        if (t == 2) asm volatile("red.async.relaxed.cluster.shared::cluster.mbarrier::complete_tx::bytes.add.u32 [%0], %1, [%2];" ::"r"(to + 72), "r"(5), "r"(bar) : "memory");
    } else {
        if (t == 0) expect(&full, 64 + 8 + 4);
        wait(&full, 0);
        out[t] = box[t];
    }
    cluster.sync();
}
// One block loads for all with a multicast of a plain run; consumers arrive on the loader's barrier from afar.
extern "C" __global__ void __cluster_dims__(4, 1, 1) multicast(const int *x, int *y, int rounds) {
    __shared__ __align__(16) int tile[64];
    __shared__ uint64_t full, empty;
    cg::cluster_group cluster = cg::this_cluster();
    int rank = cluster.block_rank(), t = threadIdx.x;
    if (t == 0) init(&full, 1), init(&empty, 2);
    cluster.sync();
    for (int i = 0; i < rounds; i++) {
        if (t == 0) expect(&full, rank % 2 ? 256 : 0);
        if (rank == 0 && t == 0) {
            wait(&empty, i % 2 ^ 1);
            asm volatile("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes.multicast::cluster [%0], [%1], 256, [%2], %3;"
                         ::"r"(address(tile)), "l"(x + 64 * i), "r"(address(&full)), "h"((short)10) : "memory");
        }
        wait(&full, i % 2);
        if (rank % 2) y[(i * 4 + rank) * 64 + t] = tile[t] + rank;
        __syncthreads();
        if (rank % 2 && t == 0)
            asm volatile("mbarrier.arrive.release.cluster.shared::cluster.b64 _, [%0];" ::"r"(map(address(&empty), 0)) : "memory");
    }
    cluster.sync();
}
// Wrong on purpose: a rank beyond the cluster; only some arrive.
extern "C" __global__ void __cluster_dims__(2, 1, 1) beyond(int *out) {
    __shared__ int s;
    asm volatile("st.shared::cluster.u32 [%0], %1;" ::"r"(map(address(&s), 2)), "r"(1) : "memory");
    out[0] = s;
}
extern "C" __global__ void __cluster_dims__(2, 1, 1) stuck(int *out) {
    __shared__ uint64_t b;
    if (threadIdx.x == 0) init(&b, 1);
    __syncthreads();
    if (blockIdx.x == 0) wait(&b, 0);
    cg::this_cluster().sync();
    out[0] = 1;
}
