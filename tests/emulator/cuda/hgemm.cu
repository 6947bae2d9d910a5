// Half-precision product on tensor cores: 64x64 tiles, 4 warps of 32x32, cp.async in two stages, ldmatrix, mma.m16n8k16.
// A is row-major MxK, B row-major KxN, C float. M, N multiples of 64; K a multiple of 32. Rows are padded by 8 halves.
#include <cuda_fp16.h>
__device__ unsigned address(const void *p) { return (unsigned)__cvta_generic_to_shared(p); }
extern "C" __global__ void __launch_bounds__(128) hgemm(const half *a, const half *b, float *c, int m, int n, int k) {
    __shared__ __align__(16) half tile_a[2][64][40], tile_b[2][32][72];
    int thread = threadIdx.x, lane = thread % 32, warp = thread / 32, wm = warp / 2 * 32, wn = warp % 2 * 32;
    const half *block_a = a + (size_t)blockIdx.y * 64 * k, *block_b = b + blockIdx.x * 64;
    float sum[2][4][4] = {};
    auto fetch = [&](int stage, int start) {
        for (int i = 0; i < 2; i++) {
            int chunk = thread + 128 * i;
            asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(address(&tile_a[stage][chunk / 4][chunk % 4 * 8])),
                         "l"(block_a + (size_t)(chunk / 4) * k + start + chunk % 4 * 8));
            asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(address(&tile_b[stage][chunk / 8][chunk % 8 * 8])),
                         "l"(block_b + (size_t)(start + chunk / 8) * n + chunk % 8 * 8));
        }
        asm volatile("cp.async.commit_group;");
    };
    fetch(0, 0);
    for (int start = 0, stage = 0; start < k; start += 32, stage ^= 1) {
        if (start + 32 < k) { fetch(stage ^ 1, start + 32); asm volatile("cp.async.wait_group 1;"); }
        else asm volatile("cp.async.wait_group 0;");
        __syncthreads();
        for (int inner = 0; inner < 32; inner += 16) {
            unsigned fa[2][4], fb[2][4];
            for (int i = 0; i < 2; i++) {
                asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
                             : "=r"(fa[i][0]), "=r"(fa[i][1]), "=r"(fa[i][2]), "=r"(fa[i][3])
                             : "r"(address(&tile_a[stage][wm + 16 * i + lane % 16][inner + lane / 16 * 8])));
                asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
                             : "=r"(fb[i][0]), "=r"(fb[i][1]), "=r"(fb[i][2]), "=r"(fb[i][3])
                             : "r"(address(&tile_b[stage][inner + lane % 16][wn + 16 * i + lane / 16 * 8])));
            }
            for (int i = 0; i < 2; i++)
                for (int j = 0; j < 4; j++)
                    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
                                 : "+f"(sum[i][j][0]), "+f"(sum[i][j][1]), "+f"(sum[i][j][2]), "+f"(sum[i][j][3])
                                 : "r"(fa[i][0]), "r"(fa[i][1]), "r"(fa[i][2]), "r"(fa[i][3]), "r"(fb[j / 2][j % 2 * 2]), "r"(fb[j / 2][j % 2 * 2 + 1]));
        }
        __syncthreads();
    }
    for (int i = 0; i < 2; i++)
        for (int j = 0; j < 4; j++)
            for (int h = 0; h < 2; h++) {
                float *p = c + (size_t)(blockIdx.y * 64 + wm + 16 * i + lane / 4 + 8 * h) * n + blockIdx.x * 64 + wn + 8 * j + lane % 4 * 2;
                *(float2 *)p = make_float2(sum[i][j][2 * h], sum[i][j][2 * h + 1]);
            }
}
