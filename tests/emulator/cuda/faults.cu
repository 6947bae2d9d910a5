// Kernels that are wrong on purpose.
extern "C" __global__ void overrun(float *x, int shift) { x[(int)(blockIdx.x * blockDim.x + threadIdx.x) + shift] = 1.0f; }
extern "C" __global__ void read_overrun(const float *x, float *y, int shift) { y[threadIdx.x] = x[(int)threadIdx.x + shift]; }
extern "C" __global__ void misaligned(const char *x, float *y) { y[threadIdx.x] = *(const float *)(x + 4 * threadIdx.x + (threadIdx.x == 5) * 2); }
extern "C" __global__ void shared_overrun(float *y, int shift) {
    __shared__ float s[64];
    s[threadIdx.x + shift] = 1.0f;
    __syncthreads();
    y[threadIdx.x] = s[63 - threadIdx.x];
}
extern "C" __global__ void partial_barrier(float *y, int limit) {
    __shared__ float s[128];
    s[threadIdx.x] = threadIdx.x;
    if (threadIdx.x < limit) { y[0] = 2; __syncthreads(); }
    y[threadIdx.x] = s[127 - threadIdx.x];
}
extern "C" __global__ void exits_before_barrier(float *y, int limit) {
    __shared__ float s[128];
    if (threadIdx.x >= limit) return;
    s[threadIdx.x] = threadIdx.x;
    __syncthreads();
    y[threadIdx.x] = s[0];
}
extern "C" __global__ void two_barriers(float *y) {
    if (threadIdx.x < 32) { asm volatile("bar.sync 1, 64;"); y[0] = 1; }
    else { asm volatile("bar.sync 2, 64;"); y[1] = 1; }
}
extern "C" __global__ void trapped(int *x) { if (x[threadIdx.x] == 3) __trap(); }
extern "C" __global__ void null_read(float *y) { y[threadIdx.x] = *(volatile float *)(size_t)(16 * threadIdx.x); }
