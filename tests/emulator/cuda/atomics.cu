// Atomics with many collisions, with and without their results.
#include <cuda_fp16.h>
extern "C" __global__ void histogram(const int *x, int *bins, int n) {
    __shared__ int local[16];
    if (threadIdx.x < 16) local[threadIdx.x] = 0;
    __syncthreads();
    for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < n; i += gridDim.x * blockDim.x) atomicAdd(&local[x[i] & 15], 1);
    __syncthreads();
    if (threadIdx.x < 16) atomicAdd(&bins[threadIdx.x], local[threadIdx.x]);
}
extern "C" __global__ void tickets(int *counter, int *out) { out[atomicAdd(counter, 2)] = 1; }
extern "C" __global__ void extremes(const int *x, int *out, float *sum, unsigned long long *wide) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    atomicMin(&out[0], x[i]); atomicMax(&out[1], x[i]); atomicXor(&out[2], x[i]); atomicAnd(&out[3], x[i]); atomicOr(&out[4], x[i]);
    atomicAdd(sum, 0.5f * x[i]); atomicAdd(wide, (unsigned long long)x[i]);
    atomicInc((unsigned *)&out[5], 6); atomicDec((unsigned *)&out[6], 4);
    if (atomicCAS(&out[7], 0, i + 1) == 0) out[8] = i;
    atomicExch(&out[9], 77);
}
extern "C" __global__ void float_max(const float *x, int *best) {
    float v = x[blockIdx.x * blockDim.x + threadIdx.x];
    int old = *best;
    while (__int_as_float(old) < v) { int seen = atomicCAS(best, old, __float_as_int(v)); if (seen == old) break; old = seen; }
}
extern "C" __global__ void half_add(half2 *target, const half2 *x) { atomicAdd(&target[threadIdx.x % 2], x[threadIdx.x]); }
extern "C" __global__ void last_block(const float *x, float *partial, int *done, float *out) {
    __shared__ bool last;
    atomicAdd(&partial[blockIdx.x], x[blockIdx.x * blockDim.x + threadIdx.x]);
    __threadfence();
    __syncthreads();
    if (threadIdx.x == 0) last = atomicAdd(done, 1) == gridDim.x - 1;
    __syncthreads();
    if (last && threadIdx.x == 0) { float s = 0; for (int b = 0; b < gridDim.x; b++) s += ((volatile float *)partial)[b]; *out = s; }
}
