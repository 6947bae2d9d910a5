// Divergence: data-dependent loops, early exits inside loops, switches, calls, local arrays, warp votes.
extern "C" __global__ void collatz(const int *start, int *steps, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= n) return;
    int x = start[i], count = 0;
    while (x != 1) {
        x = x % 2 ? 3 * x + 1 : x / 2;
        if (++count > 100) { count = -1; break; }
    }
    steps[i] = count;
}
extern "C" __global__ void dispatch(const int *kind, const float *x, float *y, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= n) return;
    float v = x[i];
    switch (kind[i]) {
    case 0: v = v + 1; break;
    case 1: v = v * v; break;
    case 2: v = -v; break;
    case 3: v = fabsf(v); break;
    case 4: v = 7; break;
    case 5: v = v - 3; break;
    case 6: for (int j = 0; j < i % 5; j++) v = v * 0.5f + j; break;
    default: y[i] = 0; return;
    }
    y[i] = v;
}
__device__ __noinline__ int helper(int a, int b) { return a > b ? a * 3 : b - a; }
extern "C" __global__ void calls(const int *a, const int *b, int *out) {
    int i = threadIdx.x;
    int r = helper(a[i], b[i]);
    if (r % 2) r += helper(b[i], r);
    out[i] = r;
}
extern "C" __global__ void local_sort(const int *in, int *out) {
    int keys[8];
    for (int i = 0; i < 8; i++) keys[i] = in[threadIdx.x * 8 + i];
    for (int i = 0; i < 8; i++)
        for (int j = 0; j < 7 - i; j++)
            if (keys[j] > keys[j + 1]) { int t = keys[j]; keys[j] = keys[j + 1]; keys[j + 1] = t; }
    int pick = in[threadIdx.x * 8] & 7;
    out[threadIdx.x * 9 + 8] = keys[pick];
    for (int i = 0; i < 8; i++) out[threadIdx.x * 9 + i] = keys[i];
}
extern "C" __global__ void votes(const int *x, unsigned *out) {
    int i = threadIdx.x;
    out[i * 6 + 0] = __ballot_sync(~0u, x[i] > 0);
    out[i * 6 + 1] = __any_sync(~0u, x[i] > 90) + 2 * __all_sync(~0u, x[i] < 99);
    out[i * 6 + 2] = __match_any_sync(~0u, x[i] & 3);
    out[i * 6 + 3] = __reduce_add_sync(~0u, x[i]);
    out[i * 6 + 4] = __reduce_max_sync(~0u, x[i]);
    out[i * 6 + 5] = x[i] > 0 ? __activemask() : 0;
}
extern "C" __global__ void reduce_by_barrier(const int *x, int *out) {
    int odd = __syncthreads_count(x[blockIdx.x * blockDim.x + threadIdx.x] & 1);
    int any = __syncthreads_or(x[blockIdx.x * blockDim.x + threadIdx.x] > 95);
    out[blockIdx.x * blockDim.x + threadIdx.x] = odd * 2 + (any != 0);
}
__constant__ int table[5] = {10, 20, 30, 40, 50};
__device__ float scale[2] = {1.5f, -2.0f};
extern "C" __global__ void constants(float *out) { out[threadIdx.x] = table[threadIdx.x % 5] * scale[threadIdx.x % 2]; }
