// One warp computes a 16x8 tile in tf32 by mma.m16n8k8, operands from global memory through cvt.rna. K a multiple of 8.
extern "C" __global__ void tf32gemm(const float *a, const float *b, float *c, int n, int k) {
    int lane = threadIdx.x, g = lane / 4, t = lane % 4;
    a += (size_t)blockIdx.y * 16 * k, b += blockIdx.x * 8, c += (size_t)blockIdx.y * 16 * n + blockIdx.x * 8;
    float sum[4] = {};
    for (int start = 0; start < k; start += 8) {
        float raw[6] = {a[g * k + start + t], a[(g + 8) * k + start + t], a[g * k + start + t + 4], a[(g + 8) * k + start + t + 4],
                        b[(start + t) * n + g], b[(start + t + 4) * n + g]};
        unsigned r[6];
        for (int i = 0; i < 6; i++) asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(r[i]) : "f"(raw[i]));
        asm volatile("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
                     : "+f"(sum[0]), "+f"(sum[1]), "+f"(sum[2]), "+f"(sum[3])
                     : "r"(r[0]), "r"(r[1]), "r"(r[2]), "r"(r[3]), "r"(r[4]), "r"(r[5]));
    }
    c[g * n + 2 * t] = sum[0], c[g * n + 2 * t + 1] = sum[1];
    c[(g + 8) * n + 2 * t] = sum[2], c[(g + 8) * n + 2 * t + 1] = sum[3];
}
