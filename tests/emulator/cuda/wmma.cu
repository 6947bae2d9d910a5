// Products through CUDA's own header: one warp, one tile, `depth` along k; every type, shape and layout of nvcuda::wmma.
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <mma.h>
using namespace nvcuda;
using rows = wmma::row_major;
using columns = wmma::col_major;
template <typename Layout> constexpr bool by_rows = std::is_same<Layout, rows>::value;
// A is [M, depth], B [depth, N], C and D [M, N], each by rows or by columns without gaps.
template <int M, int N, int K, typename T, typename Sum, typename OfA, typename OfB, typename Stored>
__device__ void tile(const Stored *a, const Stored *b, const Sum *c, Sum *d, int depth, wmma::layout_t of_c) {
    wmma::fragment<wmma::matrix_a, M, N, K, T, OfA> left;
    wmma::fragment<wmma::matrix_b, M, N, K, T, OfB> right;
    wmma::fragment<wmma::accumulator, M, N, K, Sum> sums;
    int pitch = of_c == wmma::mem_row_major ? N : M;
    wmma::load_matrix_sync(sums, c, pitch, of_c);
    for (int k = 0; k < depth; k += K) {
        wmma::load_matrix_sync(left, a + (by_rows<OfA> ? k : k * M), by_rows<OfA> ? depth : M);
        wmma::load_matrix_sync(right, b + (by_rows<OfB> ? k * N : k), by_rows<OfB> ? N : depth);
        if (std::is_same<T, wmma::precision::tf32>::value) {
            for (int i = 0; i < left.num_elements; i++) left.x[i] = wmma::__float_to_tf32(left.x[i]);
            for (int i = 0; i < right.num_elements; i++) right.x[i] = wmma::__float_to_tf32(right.x[i]);
        }
        wmma::mma_sync(sums, left, right, sums);
    }
    for (int i = 0; i < sums.num_elements; i++) sums.x[i] = sums.x[i] + sums.x[i];
    wmma::store_matrix_sync(d, sums, pitch, of_c);
}
#define KERNEL(name, M, N, K, T, Stored, Sum, OfA, OfB, OfC) \
    extern "C" __global__ void name(const Stored *a, const Stored *b, const Sum *c, Sum *d, int depth) { \
        tile<M, N, K, T, Sum, OfA, OfB>(a, b, c, d, depth, wmma::mem_##OfC##_major); \
    }
KERNEL(f16_f32, 16, 16, 16, half, half, float, rows, rows, row)
KERNEL(f16_f16_tall, 32, 8, 16, half, half, half, columns, rows, col)
KERNEL(f16_f32_wide, 8, 32, 16, half, half, float, rows, columns, row)
KERNEL(bf16_f32, 16, 16, 16, __nv_bfloat16, __nv_bfloat16, float, columns, columns, row)
KERNEL(bf16_f32_wide, 8, 32, 16, __nv_bfloat16, __nv_bfloat16, float, columns, rows, col)
KERNEL(tf32_f32, 16, 16, 8, wmma::precision::tf32, float, float, rows, columns, col)
KERNEL(tf32_f32_turned, 16, 16, 8, wmma::precision::tf32, float, float, columns, rows, row)
KERNEL(s8_s32, 16, 16, 16, signed char, signed char, int, rows, columns, row)
KERNEL(u8_s32_tall, 32, 8, 16, unsigned char, unsigned char, int, columns, rows, row)
KERNEL(f64_f64, 8, 8, 4, double, double, double, rows, columns, row)
KERNEL(f64_f64_turned, 8, 8, 4, double, double, double, columns, rows, col)
// The shared-memory way: a product of 64 x 64 x depth by four warps, epilogue in registers.
extern "C" __global__ void __launch_bounds__(128) product(const half *a, const half *b, float *d, int n, int depth) {
    __shared__ half tile_a[64][24], tile_b[16][72];
    wmma::fragment<wmma::accumulator, 16, 16, 16, float> sums[4];
    for (auto &sum : sums) wmma::fill_fragment(sum, 0.0f);
    int warp = threadIdx.x / 32, row = blockIdx.y * 64, column = blockIdx.x * 64;
    for (int k = 0; k < depth; k += 16) {
        for (int i = threadIdx.x; i < 1024; i += 128) {
            tile_a[i / 16][i % 16] = a[(row + i / 16) * depth + k + i % 16];
            tile_b[i / 64][i % 64] = b[(k + i / 64) * n + column + i % 64];
        }
        __syncthreads();
        wmma::fragment<wmma::matrix_a, 16, 16, 16, half, rows> left;
        wmma::load_matrix_sync(left, &tile_a[warp * 16][0], 24);
        for (int i = 0; i < 4; i++) {
            wmma::fragment<wmma::matrix_b, 16, 16, 16, half, rows> right;
            wmma::load_matrix_sync(right, &tile_b[0][i * 16], 72);
            wmma::mma_sync(sums[i], left, right, sums[i]);
        }
        __syncthreads();
    }
    for (int i = 0; i < 4; i++)
        wmma::store_matrix_sync(d + (row + warp * 16) * n + column + i * 16, sums[i], n, wmma::mem_row_major);
}
// Four-bit integers and single bits.
template <typename T, int K> __device__ void packed(const int *a, const int *b, int *d, bool exclusive) {
    wmma::fragment<wmma::matrix_a, 8, 8, K, T, rows> left;
    wmma::fragment<wmma::matrix_b, 8, 8, K, T, columns> right;
    wmma::fragment<wmma::accumulator, 8, 8, K, int> sums;
    wmma::fill_fragment(sums, 3);
    wmma::load_matrix_sync(left, a, K);
    wmma::load_matrix_sync(right, b, K);
    if constexpr (std::is_same<T, wmma::experimental::precision::b1>::value) {
        if (exclusive) wmma::bmma_sync(sums, left, right, sums, wmma::experimental::bmmaBitOpXOR);
        else wmma::bmma_sync(sums, left, right, sums, wmma::experimental::bmmaBitOpAND);
    } else
        wmma::mma_sync(sums, left, right, sums);
    wmma::store_matrix_sync(d, sums, 8, wmma::mem_row_major);
}
using namespace wmma::experimental::precision;
extern "C" __global__ void nibbles(const int *a, const int *b, int *d) { packed<s4, 32>(a, b, d, false); }
extern "C" __global__ void unsigned_nibbles(const int *a, const int *b, int *d) { packed<u4, 32>(a, b, d, false); }
extern "C" __global__ void bits(const int *a, const int *b, int *d) { packed<b1, 128>(a, b, d, true); }
extern "C" __global__ void common_bits(const int *a, const int *b, int *d) { packed<b1, 128>(a, b, d, false); }
