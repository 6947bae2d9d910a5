// mbarriers in every form, pipelines of producers and consumers, spins on flags, named barriers, warp-level waits.
#include <cstdint>
__device__ unsigned address(const void *p) { return (unsigned)__cvta_generic_to_shared(p); }
__device__ void init(uint64_t *b, int n) { asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(address(b)), "r"(n)); }
__device__ void arrive(uint64_t *b) { asm volatile("mbarrier.arrive.release.cta.shared::cta.b64 _, [%0];" ::"r"(address(b)) : "memory"); }
__device__ void wait(uint64_t *b, int parity) {
    asm volatile("{ .reg .pred P1; LAB_WAIT: mbarrier.try_wait.parity.shared::cta.b64 P1, [%0], %1; @P1 bra.uni DONE; bra.uni LAB_WAIT; DONE: }"
                 ::"r"(address(b)), "r"(parity) : "memory");
}
// Warp 0 produces, the others consume, through a ring of 4 stages. y[i] = x[i] * 2 + 1.
extern "C" __global__ void ring(const float *x, float *y, int steps) {
    __shared__ float stage[4][96];
    __shared__ uint64_t full[4], empty[4];
    int thread = threadIdx.x;
    x += (size_t)blockIdx.x * steps * 96;
    y += (size_t)blockIdx.x * steps * 96;
    if (thread == 0)
        for (int i = 0; i < 4; i++) init(&full[i], 32), init(&empty[i], 96);
    __syncthreads();
    if (thread < 32) {
        for (int step = 0; step < steps; step++) {
            wait(&empty[step % 4], step / 4 % 2 ^ 1);
            for (int i = thread; i < 96; i += 32) stage[step % 4][i] = x[step * 96 + i];
            arrive(&full[step % 4]);
        }
    } else {
        for (int step = 0; step < steps; step++) {
            wait(&full[step % 4], step / 4 % 2);
            y[step * 96 + thread - 32] = stage[step % 4][95 - (thread - 32)] * 2 + 1;
            arrive(&empty[step % 4]);
        }
    }
}
// One lane waits, __syncwarp brings the warp together again; shuffles need all lanes.
extern "C" __global__ void one_lane_waits(int *out) {
    __shared__ uint64_t ready;
    __shared__ int value;
    int lane = threadIdx.x % 32;
    if (threadIdx.x == 0) init(&ready, 1);
    __syncthreads();
    if (threadIdx.x < 32) {
        if (lane == 0) wait(&ready, 0);
        __syncwarp();
        int got = value;
        out[threadIdx.x] = __shfl_sync(~0u, got + lane, 31 - lane);
    } else if (threadIdx.x == 32) {
        value = 100;
        arrive(&ready);
    }
}
// Spins: on a shared flag, on test_wait, on a lock in global memory.
extern "C" __global__ void spins(int *lock, int *sum) {
    __shared__ volatile int flag;
    __shared__ uint64_t ready;
    if (threadIdx.x == 0) { flag = 0; init(&ready, 32); }
    __syncthreads();
    if (threadIdx.x < 32) {
        while (flag == 0) {}
        uint64_t token;
        asm volatile("mbarrier.arrive.shared::cta.b64 %0, [%1];" : "=l"(token) : "r"(address(&ready)) : "memory");
        int done = 0;
        while (!done)
            asm volatile("{ .reg .pred p; mbarrier.test_wait.shared::cta.b64 p, [%1], %2; selp.b32 %0, 1, 0, p; }"
                         : "=r"(done) : "r"(address(&ready)), "l"(token) : "memory");
        if (threadIdx.x == 0) {
            while (atomicCAS(lock, 0, 1) != 0) {}
            *(volatile int *)sum = *(volatile int *)sum + blockIdx.x + 1;
            __threadfence();
            atomicExch(lock, 0);
        }
    } else if (threadIdx.x == 63) {
        for (volatile int i = 0; i < 200; i++) {}
        flag = 1;
    }
}
// Every thread of a warp takes the lock in turn: needs progress of diverged lanes.
extern "C" __global__ void lanes_lock(int *lock, int *sum) {
    bool done = false;
    while (!done) {
        if (atomicCAS(lock, 0, 1) == 0) {
            *(volatile int *)sum = *(volatile int *)sum + 1;
            __threadfence();
            atomicExch(lock, 0);
            done = true;
        }
    }
}
// Tokens, counts, drops, expected bytes. out[i] by one thread.
extern "C" __global__ void forms(int *out) {
    __shared__ uint64_t b;
    unsigned a = address(&b);
    uint64_t token, later;
    int r;
    asm volatile("mbarrier.init.shared.b64 [%0], 5;" ::"r"(a));
    asm volatile("mbarrier.arrive.noComplete.shared.b64 %0, [%1], 2;" : "=l"(token) : "r"(a));
    asm volatile("mbarrier.pending_count.b64 %0, %1;" : "=r"(r) : "l"(token)); out[0] = r;
    asm volatile("mbarrier.arrive_drop.shared.b64 %0, [%1];" : "=l"(later) : "r"(a));
    asm volatile("mbarrier.pending_count.b64 %0, %1;" : "=r"(r) : "l"(later)); out[1] = r;
    asm volatile("mbarrier.expect_tx.relaxed.cta.shared::cta.b64 [%0], 64;" ::"r"(a));
    asm volatile("mbarrier.arrive.expect_tx.shared.b64 %0, [%1], 36;" : "=l"(later) : "r"(a));
    asm volatile("mbarrier.arrive.b64 %0, [%1], 1;" : "=l"(later) : "l"(&b));
    asm volatile("{ .reg .pred p; mbarrier.test_wait.shared.b64 p, [%1], %2; selp.b32 %0, 1, 0, p; }" : "=r"(r) : "r"(a), "l"(token)); out[2] = r;
    asm volatile("mbarrier.complete_tx.relaxed.cta.shared::cta.b64 [%0], 100;" ::"r"(a));
    asm volatile("{ .reg .pred p; mbarrier.test_wait.shared.b64 p, [%1], %2; selp.b32 %0, 1, 0, p; }" : "=r"(r) : "r"(a), "l"(token)); out[3] = r;
    asm volatile("{ .reg .pred p; mbarrier.test_wait.parity.shared.b64 p, [%1], 1; selp.b32 %0, 1, 0, p; }" : "=r"(r) : "r"(a)); out[4] = r;
    asm volatile("mbarrier.arrive.shared.b64 %0, [%1], 4;" : "=l"(later) : "r"(a));
    asm volatile("mbarrier.pending_count.b64 %0, %1;" : "=r"(r) : "l"(later)); out[5] = r;
    asm volatile("{ .reg .pred p; mbarrier.try_wait.shared.b64 p, [%1], %2, 1000; selp.b32 %0, 1, 0, p; }" : "=r"(r) : "r"(a), "l"(later)); out[6] = r;
    asm volatile("mbarrier.inval.shared.b64 [%0];" ::"r"(a));
}
// cp.async that arrives on an mbarrier when it is done.
extern "C" __global__ void copies_arrive(const int4 *x, int4 *y) {
    __shared__ int4 tile[64];
    __shared__ uint64_t with, without;
    int i = threadIdx.x;
    if (i == 0) init(&with, 64), init(&without, 64);
    __syncthreads();
    asm volatile("cp.async.ca.shared.global [%0], [%1], 16;" ::"r"(address(&tile[i])), "l"(x + i));
    asm volatile("cp.async.mbarrier.arrive.shared.b64 [%0];" ::"r"(address(&with)) : "memory");
    asm volatile("cp.async.mbarrier.arrive.noinc.shared::cta.b64 [%0];" ::"r"(address(&without)) : "memory");
    arrive(&with);
    wait(&with, 0);
    wait(&without, 0);
    y[i] = tile[63 - i];
}
// Named barriers with counts, the number chosen at run time; an arrival without a wait.
extern "C" __global__ void named(int *out) {
    __shared__ int s[128];
    int t = threadIdx.x, half = t / 64;
    s[t] = t;
    asm volatile("barrier.cta.sync.aligned %0, 64;" ::"r"(1 + half) : "memory");
    int other = s[half * 64 + 63 - t % 64];
    if (half == 0) asm volatile("bar.arrive 5, 128;" ::: "memory");
    else { asm volatile("bar.sync 5, 128;" ::: "memory"); other += s[t - 64] * 1000; }
    out[t] = other;
}
// Wrong on purpose: nobody arrives; never initialised; too many arrivals; a flag that nobody sets.
extern "C" __global__ void never(int *out) {
    __shared__ uint64_t b;
    if (threadIdx.x == 0) {
        init(&b, 2);
        asm volatile("mbarrier.arrive.expect_tx.shared.b64 _, [%0], 512;" ::"r"(address(&b)));
    }
    __syncthreads();
    wait(&b, 0);
    out[0] = 1;
}
extern "C" __global__ void uninitialised(int *out) {
    __shared__ uint64_t b;
    arrive(&b);
    wait(&b, 0);
    out[0] = 1;
}
extern "C" __global__ void too_many(int *out) {
    __shared__ uint64_t b;
    if (threadIdx.x == 0) {
        init(&b, 1);
        asm volatile("mbarrier.expect_tx.relaxed.cta.shared::cta.b64 [%0], 64;" ::"r"(address(&b)));
        arrive(&b);
        arrive(&b);
        out[0] = 1;
    }
}
extern "C" __global__ void no_flag(volatile int *flag) {
    while (flag[0] == 0) {}
    flag[1] = 1;
}
