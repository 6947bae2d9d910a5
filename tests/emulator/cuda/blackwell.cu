// One warp, one product or one matrix: mma.sync with sparse A, with floats of 4 to 8 bits, with scaled blocks; ldmatrix and stmatrix
// of bytes. Fragments are filled from plain matrices by the formulas of the PTX ISA.
#include <cstdint>
using word = uint32_t;
__device__ int quad() { return threadIdx.x >> 2; }
__device__ int inner() { return threadIdx.x & 3; }
// Words of A by rows, of B by columns: register r of A has row g + 8 (r % 2), and both have word t + 4 (r / 2), or t + 4 r, of k.
template <int N> __device__ void left(const word *a, word (&r)[N]) {
    for (int i = 0; i < N; i++) r[i] = a[(quad() + 8 * (i & 1)) * (2 * N) + inner() + 4 * (i >> 1)];
}
template <int N> __device__ void right(const word *b, word (&r)[N]) {
    for (int i = 0; i < N; i++) r[i] = b[quad() * (4 * N) + inner() + 4 * i];
}
template <typename T> __device__ void sums(const T *c, T (&r)[4]) {
    for (int i = 0; i < 4; i++) r[i] = c[(quad() + 8 * (i >> 1)) * 8 + 2 * inner() + (i & 1)];
}
template <typename T> __device__ void results(T *d, const T (&r)[4]) {
    for (int i = 0; i < 4; i++) d[(quad() + 8 * (i >> 1)) * 8 + 2 * inner() + (i & 1)] = r[i];
}
// Metadata of 16 rows with `parts` words each, of 16 bits (units of 16 bits) or 32 (bytes), each for the k in order.
__device__ word halves(const uint16_t *e, int parts, int selector) {
    int part = inner() - parts * selector;
    return part < 0 || part >= parts ? 0xdeadbeef : e[quad() * parts + part] | word(e[(quad() + 8) * parts + part]) << 16;
}
__device__ word words(const word *e, int parts, int selector) {
    int place = inner() - 2 * parts * selector;
    return place < 0 || place >= 2 * parts ? 0xdeadbeef : e[(quad() + 8 * (place & 1)) * parts + (place >> 1)];
}
#define SPARSE(name, N, T, letter, Stored, meta, parts, selector, form) \
    extern "C" __global__ void name(const word *a, const word *b, const T *c, const Stored *e, T *d) { \
        word x[N], y[N]; T z[4]; left(a, x); right(b, y); sums(c, z); \
        asm volatile("mma." form " {%0, %1, %2, %3}, {%4, %5" A##N "}, " B##N ", {%0, %1, %2, %3}, " E##N ", " #selector ";" \
            : "+" letter(z[0]), "+" letter(z[1]), "+" letter(z[2]), "+" letter(z[3]) : OPERANDS##N, "r"(meta(e, parts, selector))); \
        results(d, z); \
    }
#define A2 ""
#define B2 "{%6, %7}"
#define E2 "%8"
#define OPERANDS2 "r"(x[0]), "r"(x[1]), "r"(y[0]), "r"(y[1])
#define A4 ", %6, %7"
#define B4 "{%8, %9, %10, %11}"
#define E4 "%12"
#define OPERANDS4 "r"(x[0]), "r"(x[1]), "r"(x[2]), "r"(x[3]), "r"(y[0]), "r"(y[1]), "r"(y[2]), "r"(y[3])
SPARSE(sparse_f16, 2, float, "f", uint16_t, halves, 1, 3, "sp::ordered_metadata.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32")
SPARSE(sparse_f16_deep, 4, float, "f", uint16_t, halves, 2, 1, "sp::ordered_metadata.sync.aligned.m16n8k32.row.col.f32.f16.f16.f32")
SPARSE(sparse_bf16_any_order, 4, float, "f", uint16_t, halves, 2, 0, "sp.sync.aligned.m16n8k32.row.col.f32.bf16.bf16.f32")
SPARSE(sparse_tf32, 2, float, "f", uint16_t, halves, 1, 1, "sp::ordered_metadata.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32")
SPARSE(sparse_tf32_deep, 4, float, "f", uint16_t, halves, 2, 0, "sp::ordered_metadata.sync.aligned.m16n8k16.row.col.f32.tf32.tf32.f32")
SPARSE(sparse_s8, 2, int, "r", word, words, 1, 1, "sp::ordered_metadata.sync.aligned.m16n8k32.row.col.s32.s8.u8.s32")
SPARSE(sparse_s8_deep, 4, int, "r", word, words, 2, 0, "sp::ordered_metadata.sync.aligned.m16n8k64.row.col.satfinite.s32.s8.s8.s32")
SPARSE(sparse_s4, 4, int, "r", word, words, 2, 0, "sp::ordered_metadata.sync.aligned.m16n8k128.row.col.s32.s4.u4.s32")
SPARSE(sparse_e4m3, 4, float, "f", word, words, 2, 0, "sp::ordered_metadata.sync.aligned.m16n8k64.row.col.f32.e4m3.e5m2.f32")
SPARSE(sparse_e2m1, 4, float, "f", word, words, 2, 0, "sp::ordered_metadata.sync.aligned.m16n8k64.row.col.kind::f8f6f4.f32.e2m1.e3m2.f32")

#define SMALL(name, form) \
    extern "C" __global__ void name(const word *a, const word *b, const float *c, float *d) { \
        word x[4], y[2]; float z[4]; left(a, x); right(b, y); sums(c, z); \
        asm volatile("mma.sync.aligned.m16n8k32.row.col.kind::f8f6f4.f32." form ".f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};" \
            : "+f"(z[0]), "+f"(z[1]), "+f"(z[2]), "+f"(z[3]) : "r"(x[0]), "r"(x[1]), "r"(x[2]), "r"(x[3]), "r"(y[0]), "r"(y[1])); \
        results(d, z); \
    }
SMALL(small_e2m1_e3m2, "e2m1.e3m2")
SMALL(small_e2m3_e2m1, "e2m3.e2m1")
SMALL(small_e4m3_e5m2, "e4m3.e5m2")

// Scales: a word for each row of A, and for each column of B, of which the bytes from `byte` on count.
#define SCALED(name, form) \
    extern "C" __global__ void name(const word *a, const word *b, const float *c, const word *of_a, const word *of_b, float *d, \
                                    uint16_t byte_a, uint16_t thread_a, uint16_t byte_b, uint16_t thread_b) { \
        word x[4], y[2]; float z[4]; left(a, x); right(b, y); sums(c, z); \
        word p = inner() >> 1 == thread_a ? of_a[quad() + 8 * (inner() & 1)] : 0xdeadbeef; \
        word q = inner() == thread_b ? of_b[quad()] : 0xdeadbeef; \
        asm volatile("mma.sync.aligned." form " {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3}, %10, {%11, %12}, %13, {%14, %15};" \
            : "+f"(z[0]), "+f"(z[1]), "+f"(z[2]), "+f"(z[3]) : "r"(x[0]), "r"(x[1]), "r"(x[2]), "r"(x[3]), "r"(y[0]), "r"(y[1]), \
              "r"(p), "h"(byte_a), "h"(thread_a), "r"(q), "h"(byte_b), "h"(thread_b)); \
        results(d, z); \
    }
SCALED(scaled_mxf8, "kind::mxf8f6f4.block_scale.scale_vec::1X.m16n8k32.row.col.f32.e4m3.e2m1.f32.ue8m0")
SCALED(scaled_mxf4, "kind::mxf4.block_scale.scale_vec::2X.m16n8k64.row.col.f32.e2m1.e2m1.f32.ue8m0")
SCALED(scaled_nvf4, "kind::mxf4nvf4.block_scale.scale_vec::4X.m16n8k64.row.col.f32.e2m1.e2m1.f32.ue4m3")

// Both: a sparse A with scaled blocks.
extern "C" __global__ void sparse_scaled(const word *a, const word *b, const float *c, const word *e, const word *of_a, const word *of_b, float *d) {
    word x[4], y[4]; float z[4]; left(a, x); right(b, y); sums(c, z);
    word p = inner() < 2 ? of_a[quad() + 8 * inner()] : 0xdeadbeef, q = inner() ? 0xdeadbeef : of_b[quad()];
    asm volatile("mma.sp::ordered_metadata.sync.aligned.m16n8k128.row.col.kind::mxf4.block_scale.scale_vec::2X.f32.e2m1.e2m1.f32.ue8m0 "
                 "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9, %10, %11}, {%0, %1, %2, %3}, %12, 0, %13, {0, 0}, %14, {0, 0};"
                 : "+f"(z[0]), "+f"(z[1]), "+f"(z[2]), "+f"(z[3]) : OPERANDS4, "r"(words(e, 2, 0)), "r"(p), "r"(q));
    results(d, z);
}

// Rows of 16 bytes, in shared memory in reverse, each written by another lane than names it; register r of a lane goes to out[r][lane].
#define LOAD(name, rows, N, form, list, ...) \
    extern "C" __global__ void name(const uint4 *in, word *out) { \
        __shared__ uint4 s[32]; \
        s[threadIdx.x] = 31 - threadIdx.x < rows ? in[31 - threadIdx.x] : uint4{}; \
        __syncwarp(); \
        word r[N], at = (word)__cvta_generic_to_shared(&s[31 - threadIdx.x % rows]); \
        asm volatile("ldmatrix.sync.aligned." form " " list ", [%" #N "];" : __VA_ARGS__ : "r"(at)); \
        for (int i = 0; i < N; i++) out[32 * i + threadIdx.x] = r[i]; \
    }
#define ONE "=r"(r[0])
#define TWO ONE, "=r"(r[1])
#define FOUR TWO, "=r"(r[2]), "=r"(r[3])
LOAD(load_b8, 16, 2, "m16n16.x1.trans.shared.b8", "{%0, %1}", TWO)
LOAD(load_b8_twice, 32, 4, "m16n16.x2.trans.shared.b8", "{%0, %1, %2, %3}", FOUR)
LOAD(load_b6_square, 16, 2, "m16n16.x1.trans.shared.b8x16.b6x16_p32", "{%0, %1}", TWO)
LOAD(load_b4_square, 32, 4, "m16n16.x2.trans.shared.b8x16.b4x16_p64", "{%0, %1, %2, %3}", FOUR)
LOAD(load_b6, 32, 4, "m8n16.x4.shared.b8x16.b6x16_p32", "{%0, %1, %2, %3}", FOUR)
LOAD(load_b4, 16, 2, "m8n16.x2.shared.b8x16.b4x16_p64", "{%0, %1}", TWO)
// Sums of two products, as bytes, stored transposed: out has their 8 columns each, of 16 bytes.
extern "C" __global__ void store_b8(const word *in, uint4 *out) {
    __shared__ uint4 s[16];
    word at = (word)__cvta_generic_to_shared(&s[threadIdx.x % 16]);
    asm volatile("stmatrix.sync.aligned.m16n8.x2.trans.shared.b8 [%0], {%1, %2};" ::"r"(at), "r"(in[threadIdx.x]), "r"(in[32 + threadIdx.x]) : "memory");
    __syncwarp();
    if (threadIdx.x < 16) out[15 - threadIdx.x] = s[15 - threadIdx.x];
}
// A cluster whose size the launch gives: each block adds up what the blocks of its cluster hold.
extern "C" __global__ void launched_in_clusters(int *out) {
    __shared__ int mine;
    unsigned size, at = (unsigned)__cvta_generic_to_shared(&mine), sum = 0;
    asm("mov.u32 %0, %%cluster_nctarank;" : "=r"(size));
    mine = 1 + blockIdx.x;
    asm volatile("barrier.cluster.arrive.aligned; barrier.cluster.wait.aligned;" ::: "memory");
    for (unsigned other = 0; other < size; other++) {
        unsigned there, value;
        asm volatile("mapa.shared::cluster.u32 %0, %1, %2;" : "=r"(there) : "r"(at), "r"(other));
        asm volatile("ld.shared::cluster.u32 %0, [%1];" : "=r"(value) : "r"(there));
        sum += value;
    }
    asm volatile("barrier.cluster.arrive.aligned; barrier.cluster.wait.aligned;" ::: "memory");
    out[2 * blockIdx.x] = sum;
    out[2 * blockIdx.x + 1] = size;
}
