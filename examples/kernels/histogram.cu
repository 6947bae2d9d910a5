// How many elements of x, in [0, 1), fall into each of `bins` equal parts. A block counts in shared memory, then adds.
// histogram.ptx is what `nvcc -ptx -arch=sm_80 histogram.cu` gives, with .version 8.0: it uses nothing newer, and so older
// drivers take it.
extern "C" __global__ void histogram(const float* x, int* counts, int elements, int bins) {
    extern __shared__ int own[];
    for (int bin = threadIdx.x; bin < bins; bin += blockDim.x) own[bin] = 0;
    __syncthreads();
    for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < elements; i += gridDim.x * blockDim.x) {
        atomicAdd(&own[min(max(int(x[i] * bins), 0), bins - 1)], 1);
    }
    __syncthreads();
    for (int bin = threadIdx.x; bin < bins; bin += blockDim.x) atomicAdd(&counts[bin], own[bin]);
}
