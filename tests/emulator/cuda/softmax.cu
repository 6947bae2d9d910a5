// One row a warp, shuffles within the warp; and one row a block, shared memory between warps.
extern "C" __global__ void softmax_warp(const float *x, float *y, int rows, int columns) {
    int row = (blockIdx.x * blockDim.x + threadIdx.x) / 32, lane = threadIdx.x % 32;
    if (row >= rows) return;
    float best = -INFINITY, sum = 0.0f;
    for (int c = lane; c < columns; c += 32) best = fmaxf(best, x[row * columns + c]);
    for (int step = 16; step; step /= 2) best = fmaxf(best, __shfl_xor_sync(~0u, best, step));
    for (int c = lane; c < columns; c += 32) sum += expf(x[row * columns + c] - best);
    for (int step = 16; step; step /= 2) sum += __shfl_xor_sync(~0u, sum, step);
    for (int c = lane; c < columns; c += 32) y[row * columns + c] = expf(x[row * columns + c] - best) / sum;
}
extern "C" __global__ void softmax_block(const float *x, float *y, int columns) {
    extern __shared__ float scratch[];
    int lane = threadIdx.x % 32, warp = threadIdx.x / 32, warps = blockDim.x / 32;
    x += (size_t)blockIdx.x * columns, y += (size_t)blockIdx.x * columns;
    float best = -INFINITY, sum = 0.0f;
    for (int c = threadIdx.x; c < columns; c += blockDim.x) best = fmaxf(best, x[c]);
    for (int step = 16; step; step /= 2) best = fmaxf(best, __shfl_xor_sync(~0u, best, step));
    if (lane == 0) scratch[warp] = best;
    __syncthreads();
    best = scratch[0];
    for (int w = 1; w < warps; w++) best = fmaxf(best, scratch[w]);
    __syncthreads();
    for (int c = threadIdx.x; c < columns; c += blockDim.x) sum += expf(x[c] - best);
    for (int step = 16; step; step /= 2) sum += __shfl_down_sync(~0u, sum, step);
    if (lane == 0) scratch[warp] = sum;
    __syncthreads();
    if (threadIdx.x == 0) { for (int w = 1; w < warps; w++) sum += scratch[w]; scratch[0] = sum; }
    __syncthreads();
    for (int c = threadIdx.x; c < columns; c += blockDim.x) y[c] = expf(x[c] - best) / scratch[0];
}
