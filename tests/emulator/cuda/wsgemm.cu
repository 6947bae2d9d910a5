// A warp-specialised persistent product on sm_90a: one producer warp of the first warpgroup loads tiles with tensor copies
// into a ring of stages, two consumer warpgroups multiply them with wgmma, registers move with setmaxnreg, and results leave
// through stmatrix and tensor stores. With CLUSTER 2, two blocks share the tile of B by multicast.
// C[M, N] = A[M, K] B[N, K]^T in bf16, sums in f32. Tiles 128 x 128 x 64.
#include <cstdint>
#include <cuda_bf16.h>
struct alignas(64) Map { char data[128]; };
__device__ unsigned address(const void *p) { return (unsigned)__cvta_generic_to_shared(p); }
__device__ void wait(unsigned bar, int parity) {
    asm volatile("{ .reg .pred P1; LAB_WAIT: mbarrier.try_wait.parity.shared::cta.b64 P1, [%0], %1; @P1 bra.uni DONE; bra.uni LAB_WAIT; DONE: }"
                 ::"r"(bar), "r"(parity) : "memory");
}
__device__ uint64_t descriptor(unsigned at) {
    return (uint64_t)((at & 0x3FFFF) >> 4) | (uint64_t)1 << 16 | (uint64_t)(1024 >> 4) << 32 | (uint64_t)1 << 62;
}
__device__ void multiply(float (&d)[64], uint64_t a, uint64_t b) {
    asm volatile(
        "wgmma.mma_async.sync.aligned.m64n128k16.f32.bf16.bf16 {%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15,%16,%17,%18,%19,%20,%21,%22,%23,%24,%25,%26,%27,%28,%29,%30,%31,"
        "%32,%33,%34,%35,%36,%37,%38,%39,%40,%41,%42,%43,%44,%45,%46,%47,%48,%49,%50,%51,%52,%53,%54,%55,%56,%57,%58,%59,%60,%61,%62,%63}, %64, %65, 1, 1, 1, 0, 0;"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3]), "+f"(d[4]), "+f"(d[5]), "+f"(d[6]), "+f"(d[7]), "+f"(d[8]), "+f"(d[9]), "+f"(d[10]), "+f"(d[11]),
          "+f"(d[12]), "+f"(d[13]), "+f"(d[14]), "+f"(d[15]), "+f"(d[16]), "+f"(d[17]), "+f"(d[18]), "+f"(d[19]), "+f"(d[20]), "+f"(d[21]), "+f"(d[22]), "+f"(d[23]),
          "+f"(d[24]), "+f"(d[25]), "+f"(d[26]), "+f"(d[27]), "+f"(d[28]), "+f"(d[29]), "+f"(d[30]), "+f"(d[31]), "+f"(d[32]), "+f"(d[33]), "+f"(d[34]), "+f"(d[35]),
          "+f"(d[36]), "+f"(d[37]), "+f"(d[38]), "+f"(d[39]), "+f"(d[40]), "+f"(d[41]), "+f"(d[42]), "+f"(d[43]), "+f"(d[44]), "+f"(d[45]), "+f"(d[46]), "+f"(d[47]),
          "+f"(d[48]), "+f"(d[49]), "+f"(d[50]), "+f"(d[51]), "+f"(d[52]), "+f"(d[53]), "+f"(d[54]), "+f"(d[55]), "+f"(d[56]), "+f"(d[57]), "+f"(d[58]), "+f"(d[59]),
          "+f"(d[60]), "+f"(d[61]), "+f"(d[62]), "+f"(d[63])
        : "l"(a), "l"(b));
}
constexpr int BM = 128, BN = 128, BK = 64, STAGES = 3, A_BYTES = BM * BK * 2, B_BYTES = BN * BK * 2;
extern __shared__ __align__(1024) char memory[];
__device__ unsigned rank() { unsigned r; asm volatile("mov.u32 %0, %%cluster_ctarank;" : "=r"(r)); return r; }
template <int CLUSTER>
__device__ void gemm(const Map *map_a, const Map *map_b, const Map *map_c, int m, int n, int k) {
    __shared__ uint64_t full[STAGES], empty[STAGES];
    unsigned tiles_a = address(memory), tiles_b = tiles_a + STAGES * A_BYTES, tile_c = tiles_b + STAGES * B_BYTES;
    int warpgroup = threadIdx.x / 128, steps = k / BK, columns = n / BN, tiles = m / BM * columns;
    if (threadIdx.x == 0) {
        for (int i = 0; i < STAGES; i++) {
            asm volatile("mbarrier.init.shared::cta.b64 [%0], 1;" ::"r"(address(&full[i])));
            asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(address(&empty[i])), "r"(2 * CLUSTER));
        }
        asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
        asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
    }
    if (CLUSTER > 1) asm volatile("barrier.cluster.arrive.release.aligned; barrier.cluster.wait.acquire.aligned;" ::: "memory");
    else __syncthreads();
    int stage = 0, phase = 0;
    if (warpgroup == 0) {
        asm volatile("setmaxnreg.dec.sync.aligned.u32 40;");
        unsigned elected = 0;
        if (threadIdx.x < 32)
            asm volatile("{ .reg .pred p; elect.sync _|p, -1; selp.b32 %0, 1, 0, p; }" : "=r"(elected));
        if (elected) {
            for (int tile = blockIdx.x; tile < tiles; tile += gridDim.x)
                for (int step = 0; step < steps; step++) {
                    int row = (CLUSTER > 1 ? tile / CLUSTER / columns * CLUSTER + tile % CLUSTER : tile / columns) * BM;
                    int column = (CLUSTER > 1 ? tile / CLUSTER % columns : tile % columns) * BN;
                    unsigned bar = address(&full[stage]);
                    wait(address(&empty[stage]), phase ^ 1);
                    asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(bar), "r"(A_BYTES + B_BYTES) : "memory");
                    asm volatile("cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1, {%3, %4}], [%2];"
                                 ::"r"(tiles_a + stage * A_BYTES), "l"(map_a), "r"(bar), "r"(step * BK), "r"(row) : "memory");
                    if (CLUSTER > 1) {
                        // Each block loads its half of the rows of B for both.
                        unsigned half = B_BYTES / CLUSTER * rank();
                        asm volatile("cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes.multicast::cluster [%0], [%1, {%3, %4}], [%2], %5;"
                                     ::"r"(tiles_b + stage * B_BYTES + half), "l"(map_b), "r"(bar), "r"(step * BK), "r"(column + BN / CLUSTER * (int)rank()),
                                       "h"((short)((1 << CLUSTER) - 1)) : "memory");
                    } else
                        asm volatile("cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1, {%3, %4}], [%2];"
                                     ::"r"(tiles_b + stage * B_BYTES), "l"(map_b), "r"(bar), "r"(step * BK), "r"(column) : "memory");
                    if (++stage == STAGES) stage = 0, phase ^= 1;
                }
        }
    } else {
        asm volatile("setmaxnreg.inc.sync.aligned.u32 232;");
        int half = warpgroup - 1, thread = threadIdx.x % 128, warp = thread / 32, lane = thread % 32;
        for (int tile = blockIdx.x; tile < tiles; tile += gridDim.x) {
            float d[64];
            for (int i = 0; i < 64; i++) d[i] = 0;
            for (int step = 0; step < steps; step++) {
                wait(address(&full[stage]), phase);
                unsigned a = tiles_a + stage * A_BYTES + half * 64 * BK * 2, b = tiles_b + stage * B_BYTES;
                asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
#pragma unroll
                for (int inner = 0; inner < BK / 16; inner++) multiply(d, descriptor(a + 32 * inner), descriptor(b + 32 * inner));
                asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
                asm volatile("wgmma.wait_group.sync.aligned 0;" ::: "memory");
                if (thread < CLUSTER) {
                    unsigned remote;
                    asm volatile("mapa.shared::cluster.u32 %0, %1, %2;" : "=r"(remote) : "r"(address(&empty[stage])), "r"(thread));
                    if (CLUSTER > 1) asm volatile("mbarrier.arrive.release.cluster.shared::cluster.b64 _, [%0];" ::"r"(remote) : "memory");
                    else asm volatile("mbarrier.arrive.release.cta.shared::cta.b64 _, [%0];" ::"r"(address(&empty[stage])) : "memory");
                }
                if (++stage == STAGES) stage = 0, phase ^= 1;
            }
            // The previous store of this warpgroup must have read its tile.
            if (thread == 0) asm volatile("cp.async.bulk.wait_group.read 0;" ::: "memory");
            asm volatile("bar.sync %0, 128;" ::"r"(1 + half) : "memory");
            unsigned out = tile_c + half * 64 * BN * 2;
            for (int j = 0; j < 8; j++) {
                unsigned r[4];
                for (int q = 0; q < 4; q++) {
                    __nv_bfloat162 pair = __floats2bfloat162_rn(d[8 * j + 2 * q], d[8 * j + 2 * q + 1]);
                    r[q] = *(unsigned *)&pair;
                }
                // Panels of 64 columns, swizzled by 128 bytes: matrix q holds rows 8 * (q % 2), columns 16 j + 8 * (q / 2).
                int row = warp * 16 + lane % 16, column = 16 * j + lane / 16 * 8;
                unsigned at = out + column / 64 * 64 * 128 + row * 128 + column % 64 * 2;
                at ^= (at >> 7 & 7) << 4;
                asm volatile("stmatrix.sync.aligned.m8n8.x4.shared.b16 [%0], {%1, %2, %3, %4};" ::"r"(at), "r"(r[0]), "r"(r[1]), "r"(r[2]), "r"(r[3]) : "memory");
            }
            asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
            asm volatile("bar.sync %0, 128;" ::"r"(1 + half) : "memory");
            if (thread == 0) {
                int row = (CLUSTER > 1 ? tile / CLUSTER / columns * CLUSTER + tile % CLUSTER : tile / columns) * BM + half * 64;
                int column = (CLUSTER > 1 ? tile / CLUSTER % columns : tile % columns) * BN;
                for (int panel = 0; panel < 2; panel++)
                    asm volatile("cp.async.bulk.tensor.2d.global.shared::cta.bulk_group [%0, {%2, %3}], [%1];"
                                 ::"l"(map_c), "r"(out + panel * 64 * 128), "r"(column + panel * 64), "r"(row) : "memory");
                asm volatile("cp.async.bulk.commit_group;" ::: "memory");
            }
        }
        if (thread == 0) asm volatile("cp.async.bulk.wait_group 0;" ::: "memory");
    }
    if (CLUSTER > 1) asm volatile("barrier.cluster.arrive.aligned; barrier.cluster.wait.aligned;" ::: "memory");
}
extern "C" __global__ void __launch_bounds__(384, 1)
wsgemm(const __grid_constant__ Map a, const __grid_constant__ Map b, const __grid_constant__ Map c, int m, int n, int k) { gemm<1>(&a, &b, &c, m, n, k); }
extern "C" __global__ void __cluster_dims__(2, 1, 1) __launch_bounds__(384, 1)
wsgemm_cluster(const __grid_constant__ Map a, const __grid_constant__ Map b, const __grid_constant__ Map c, int m, int n, int k) { gemm<2>(&a, &b, &c, m, n, k); }
