// Register-blocked single-precision product: 128x128 tiles, 8x8 per thread, from shared memory. M, N, K multiples of 128, 128, 8.
extern "C" __global__ void __launch_bounds__(256) sgemm(const float *a, const float *b, float *c, int m, int n, int k) {
    __shared__ float tile_a[8][128], tile_b[8][128];
    int thread = threadIdx.x, row = thread / 16 * 8, column = thread % 16 * 8;
    const float *block_a = a + (size_t)blockIdx.y * 128 * k, *block_b = b + blockIdx.x * 128;
    float sum[8][8] = {};
    for (int start = 0; start < k; start += 8) {
        float4 left = *(const float4 *)(block_a + (size_t)(thread / 2) * k + start + thread % 2 * 4);
        float4 right = *(const float4 *)(block_b + (size_t)(start + thread / 32) * n + thread % 32 * 4);
        int part = thread % 2 * 4;
        tile_a[part][thread / 2] = left.x, tile_a[part + 1][thread / 2] = left.y;
        tile_a[part + 2][thread / 2] = left.z, tile_a[part + 3][thread / 2] = left.w;
        *(float4 *)&tile_b[thread / 32][thread % 32 * 4] = right;
        __syncthreads();
#pragma unroll
        for (int inner = 0; inner < 8; inner++) {
            float x[8], y[8];
            *(float4 *)x = *(float4 *)&tile_a[inner][row], *(float4 *)(x + 4) = *(float4 *)&tile_a[inner][row + 4];
            *(float4 *)y = *(float4 *)&tile_b[inner][column], *(float4 *)(y + 4) = *(float4 *)&tile_b[inner][column + 4];
#pragma unroll
            for (int i = 0; i < 8; i++)
#pragma unroll
                for (int j = 0; j < 8; j++) sum[i][j] = fmaf(x[i], y[j], sum[i][j]);
        }
        __syncthreads();
    }
    for (int i = 0; i < 8; i++)
        for (int j = 0; j < 8; j += 4)
            *(float4 *)(c + (size_t)(blockIdx.y * 128 + row + i) * n + blockIdx.x * 128 + column + j) = *(float4 *)&sum[i][j];
}
