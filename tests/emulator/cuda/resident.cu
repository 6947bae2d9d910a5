// Blocks that wait for each other: a barrier of the whole grid, a chain from the last block to the first, one lane's wait.
__device__ void meet(int *count, int round) {
    __syncthreads();
    if (threadIdx.x == 0) {
        __threadfence();
        atomicAdd(count, 1);
        while (*(volatile int *)count < (int)gridDim.x * round) {}
        __threadfence();
    }
    __syncthreads();
}
// Each element becomes the sum of its neighbours, `rounds` times; a and b are used in turn.
extern "C" __global__ void neighbours(int *a, int *b, int rounds, int *count) {
    int n = gridDim.x * blockDim.x, i = blockIdx.x * blockDim.x + threadIdx.x;
    for (int round = 1; round <= rounds; round++) {
        b[i] = a[(i + 1) % n] + a[(i + n - 1) % n];
        meet(count, round);
        int *other = a; a = b; b = other;
    }
}
// Lane 0 waits for the block behind it; the other lanes of its warp wait for lane 0.
extern "C" __global__ void chain(volatile int *value, int *out) {
    int lane = threadIdx.x % 32, got = 0;
    if (lane == 0) {
        while ((got = value[blockIdx.x + 1]) == 0) {}
        __threadfence();
    }
    got = __shfl_sync(0xFFFFFFFFu, got, 0);
    out[blockIdx.x * 32 + lane] = got + lane;
    if (lane == 0) value[blockIdx.x] = got + 1;
}
// Nobody ever writes what all blocks wait for.
extern "C" __global__ void forgotten(volatile int *flag) {
    if (threadIdx.x == 5) while (!flag[blockIdx.x]) {}
    __syncthreads();
}
