/* A stand-in for libcuda.so.1 over host memory: what cuda.bindings passes to C is checked where there is no GPU.
   It has the driver functions the runtime calls, runs kernels called "add" and "scale", and records captures; "peek"
   copies its first parameter, 128 bytes by value, to where its second points. A tensor map is a list of its parameters. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct { char kind; char name[16]; uint64_t values[4]; size_t bytes; } Step;
typedef struct { int count; Step steps[64]; } Graph;

static int live, pushed, capturing, early, stream_storage, context_storage, largest_shared = 49152;
static Graph recorded;

static void run(const Step *step) {
    const uint64_t *v = step->values;
    if (step->kind == 'c') { memcpy((void *)v[0], (void *)v[1], step->bytes); return; }
    const float *x = (float *)v[0], *y = (float *)v[1];
    float *z = (float *)v[2];
    int count = (int)v[3];
    if (!strcmp(step->name, "add"))
        for (int i = 0; i < count; i++) z[i] = x[i] + y[i];
    else
        for (int i = 0; i < 4 * count; i++) z[i] = x[i] * y[i % 4];
}

static int take(Step step) {
    if (capturing) recorded.steps[recorded.count++] = step; else run(&step);
    return 0;
}

static int cuInit_(unsigned flags) { return flags; }
static int cuDriverGetVersion_(int *version) { *version = 13000; return 0; }
static int cuDeviceGetCount_(int *count) { *count = 1; return 0; }
static int cuDeviceGet_(int *device, int ordinal) { *device = ordinal; return 0; }
static int cuDeviceGetAttribute_(int *value, int attribute, int device) {
    *value = attribute == 75 ? 9 : attribute == 76 ? 0 : -1;
    return device;
}
static int cuDeviceGetName_(char *name, int length, int device) { snprintf(name, length, "Stand-in"); return device; }
static int cuDeviceTotalMem_(size_t *bytes, int device) { *bytes = 1ull << 33; return device; }
static int cuDevicePrimaryCtxRetain_(void **context, int device) { *context = &context_storage; live++; return device; }
static int cuDevicePrimaryCtxRelease_(int device) { live--; return device; }
static int cuCtxPushCurrent_(void *context) { pushed++; return context == &context_storage ? 0 : 201; }
static int cuCtxPopCurrent_(void **context) { pushed--; *context = &context_storage; return 0; }
static int cuCtxSynchronize_(void) { return 0; }
static int cuStreamCreate_(void **stream, unsigned flags) { *stream = &stream_storage; live++; return flags == 1 ? 0 : 1; }
static int cuStreamSynchronize_(void *stream) { return stream == &stream_storage && !capturing ? 0 : 400; }
static int cuStreamDestroy_(void *stream) { live--; return cuStreamSynchronize_(stream); }
static int cuMemAlloc_(uint64_t *address, size_t bytes) {
    if (bytes > 1u << 30) return 2;
    *address = (uint64_t)aligned_alloc(256, (bytes + 255) / 256 * 256);
    live++;
    return 0;
}
static int cuMemFree_(uint64_t address) { free((void *)address); live--; return 0; }
static int cuMemHostAlloc_(void **address, size_t bytes, unsigned flags) {
    *address = malloc(bytes);
    live++;
    return (int)flags;
}
static int cuMemFreeHost_(void *address) { free(address); live--; return 0; }
static int cuMemcpyHtoDAsync_(uint64_t target, const void *source, size_t bytes, void *stream) {
    memcpy((void *)target, source, bytes);
    return cuStreamSynchronize_(stream);
}
static int cuMemcpyDtoHAsync_(void *target, uint64_t source, size_t bytes, void *stream) {
    memcpy(target, (void *)source, bytes);
    return cuStreamSynchronize_(stream);
}
static int cuMemcpyDtoDAsync_(uint64_t target, uint64_t source, size_t bytes, void *stream) {
    Step step = {'c', "", {target, source}, bytes};
    return stream == &stream_storage ? take(step) : 400;
}
static int cuMemsetD8Async_(uint64_t address, unsigned char byte, size_t bytes, void *stream) {
    memset((void *)address, byte, bytes);
    return cuStreamSynchronize_(stream);
}
static int cuModuleLoadDataEx_(void **module, const char *image, unsigned count, int *options, void **values) {
    if (count != 2 || options[0] != 5 || options[1] != 6 || (uintptr_t)values[1] != 8192) return 1;
    if (strstr(image, "bad")) { strcpy(values[0], "ptxas error : this PTX is bad"); return 218; }
    *module = strdup(image);
    live++;
    return 0;
}
static int cuModuleGetFunction_(void **function, void *module, const char *name) {
    if (!strstr(module, name)) return 500;
    *function = strcmp(name, "add") ? strcmp(name, "peek") ? "scale" : "peek" : "add";
    return 0;
}
static int cuModuleUnload_(void *module) { free(module); live--; return 0; }
static int cuFuncSetAttribute_(void *function, int attribute, int value) {
    if (attribute == 8) largest_shared = value;
    return function && (attribute == 8 || (attribute == 9 && value == 100)) ? 0 : 1;
}
static int cuLaunchKernel_(void *function, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz,
                           unsigned shared, void *stream, void **parameters, void **extra) {
    if (!gx || gy != 1 || gz != 1 || bx != 128 || by != 1 || bz != 1 || extra || (int)shared > largest_shared) return 1;
    if (!strcmp(function, "peek")) {
        memcpy(*(void **)parameters[1], parameters[0], 128);
        return 0;
    }
    Step step = {'k', "", {0}, 0};
    strcpy(step.name, function);
    for (int i = 0; i < 3; i++) step.values[i] = *(uint64_t *)parameters[i];
    step.values[3] = *(int32_t *)parameters[3];
    return stream == &stream_storage ? take(step) : 400;
}
/* A CUlaunchConfig with one attribute: what it is (6: programmatic stream serialisation), padding, its value. */
typedef struct { int id, padding, value[16]; } Attribute;
typedef struct { unsigned grid[3], block[3], shared; void *stream; Attribute *attributes; unsigned count; } Configuration;
static int cuLaunchKernelEx_(const Configuration *given, void *function, void **parameters, void **extra) {
    if (given->count != 1 || given->attributes->id != 6 || given->attributes->value[0] != 1) return 1;
    early++;
    return cuLaunchKernel_(function, given->grid[0], given->grid[1], given->grid[2], given->block[0], given->block[1],
                           given->block[2], given->shared, given->stream, parameters, extra);
}
typedef struct { uint64_t words[16]; } Map;
static void describe(Map *map, int type, unsigned rank, void *address, const uint64_t *shape, const uint64_t *strides,
                     const unsigned *steps, const int *rest) {
    uint64_t head[] = {type, rank, (uint64_t)address, rest[0], rest[1], rest[2], rest[3]};
    memset(map, 0, sizeof *map);
    for (int i = 0; i < 7; i++) map->words[i] = head[i];
    for (unsigned i = 0; i < rank; i++) map->words[7 + i] = shape[i] | (uint64_t)steps[i] << 32;
    for (unsigned i = 0; i + 1 < rank; i++) map->words[7 + i] |= strides[i] << 40;
}
static int cuTensorMapEncodeTiled_(Map *map, int type, unsigned rank, void *address, const uint64_t *shape, const uint64_t *strides,
                                   const unsigned *box, const unsigned *steps, int interleave, int swizzle, int l2, int fill) {
    int rest[] = {interleave, swizzle, l2, fill};
    if ((uintptr_t)map % 64) return 1;
    describe(map, type, rank, address, shape, strides, steps, rest);
    for (unsigned i = 0; i < rank; i++) map->words[12] |= (uint64_t)box[i] << 16 * i;
    return 0;
}
static int cuTensorMapEncodeIm2col_(Map *map, int type, unsigned rank, void *address, const uint64_t *shape, const uint64_t *strides,
                                    const int *lower, const int *upper, unsigned channels, unsigned pixels, const unsigned *steps,
                                    int interleave, int swizzle, int l2, int fill) {
    int rest[] = {interleave, swizzle, l2, fill};
    if ((uintptr_t)map % 64) return 1;
    describe(map, type, rank, address, shape, strides, steps, rest);
    for (unsigned i = 0; i + 2 < rank; i++) map->words[13] |= (uint64_t)(lower[i] & 255) << 16 * i | (uint64_t)(upper[i] & 255) << (16 * i + 8);
    map->words[14] = channels | (uint64_t)pixels << 32;
    return 0;
}
static int cuStreamBeginCapture_(void *stream, int mode) {
    int status = cuStreamSynchronize_(stream);
    capturing = 1;
    recorded.count = 0;
    return mode == 2 ? status : 1;
}
static int cuStreamEndCapture_(void *stream, void **graph) {
    capturing = 0;
    *graph = malloc(sizeof recorded);
    memcpy(*graph, &recorded, sizeof recorded);
    live++;
    return cuStreamSynchronize_(stream);
}
static int cuGraphInstantiateWithFlags_(void **executable, void *graph, unsigned long long flags) {
    *executable = malloc(sizeof recorded);
    memcpy(*executable, graph, sizeof recorded);
    live++;
    return (int)flags;
}
static int cuGraphLaunch_(Graph *executable, void *stream) {
    for (int i = 0; i < executable->count; i++) run(&executable->steps[i]);
    return cuStreamSynchronize_(stream);
}
static int cuGraphDestroy_(void *graph) { free(graph); live--; return 0; }
static int cuGetErrorString_(int status, const char **text) { *text = status == 2 ? "out of memory" : "some error"; return 0; }

typedef struct { void *stream; } Event;
static int cuEventCreate_(Event **event, unsigned flags) {
    *event = calloc(1, sizeof(Event));
    live++;
    return (int)flags;
}
static int cuEventRecord_(Event *event, void *stream) {
    event->stream = stream;
    return stream == &stream_storage ? 0 : 400;
}
static int cuStreamWaitEvent_(void *stream, Event *event, unsigned flags) {
    return flags || event->stream != &stream_storage ? 400 : cuStreamSynchronize_(stream);
}
static int cuEventSynchronize_(Event *event) { return event->stream ? cuStreamSynchronize_(event->stream) : 0; }
static int cuEventElapsedTime_(float *milliseconds, Event *first, Event *last) {
    *milliseconds = 0.25f;
    return first != last && first->stream && last->stream ? 0 : 400;
}
static int cuEventDestroy_(Event *event) { free(event); live--; return 0; }

/* What is still alive, for the test. */
int stand_in_early(void) { return early; }
int stand_in_live(void) { return live * 1000 + pushed; }

int cuGetProcAddress_v2(const char *name, void **function, int version, uint64_t flags, int *status);

#define ENTRY(name) {#name, (void *)name##_}
static const struct { const char *name; void *function; } table[] = {
    ENTRY(cuInit), ENTRY(cuDriverGetVersion), ENTRY(cuDeviceGetCount), ENTRY(cuDeviceGet), ENTRY(cuDeviceGetAttribute),
    ENTRY(cuDeviceGetName), ENTRY(cuDeviceTotalMem), ENTRY(cuDevicePrimaryCtxRetain), ENTRY(cuDevicePrimaryCtxRelease),
    ENTRY(cuCtxPushCurrent), ENTRY(cuCtxPopCurrent), ENTRY(cuCtxSynchronize), ENTRY(cuStreamCreate),
    ENTRY(cuStreamSynchronize), ENTRY(cuStreamDestroy), ENTRY(cuMemAlloc), ENTRY(cuMemFree), ENTRY(cuMemcpyHtoDAsync),
    ENTRY(cuMemcpyDtoHAsync), ENTRY(cuMemcpyDtoDAsync), ENTRY(cuModuleLoadDataEx), ENTRY(cuModuleGetFunction),
    ENTRY(cuModuleUnload), ENTRY(cuFuncSetAttribute), ENTRY(cuLaunchKernel), ENTRY(cuLaunchKernelEx), ENTRY(cuStreamBeginCapture),
    ENTRY(cuStreamEndCapture), ENTRY(cuGraphInstantiateWithFlags), ENTRY(cuGraphLaunch), ENTRY(cuGraphDestroy),
    ENTRY(cuEventCreate), ENTRY(cuEventRecord), ENTRY(cuEventSynchronize), ENTRY(cuEventElapsedTime), ENTRY(cuEventDestroy),
    ENTRY(cuMemHostAlloc), ENTRY(cuMemFreeHost), ENTRY(cuStreamWaitEvent), ENTRY(cuMemsetD8Async),
    ENTRY(cuTensorMapEncodeTiled), ENTRY(cuTensorMapEncodeIm2col),
    {"cuGraphExecDestroy", (void *)cuGraphDestroy_}, ENTRY(cuGetErrorString),
    {"cuGetProcAddress", (void *)cuGetProcAddress_v2},
};

int cuGetProcAddress_v2(const char *name, void **function, int version, uint64_t flags, int *status) {
    *function = NULL;
    for (size_t i = 0; i < sizeof table / sizeof *table; i++)
        if (!strcmp(table[i].name, name)) *function = table[i].function;
    if (status) *status = *function ? 0 : 1;
    return *function ? 0 : 500;
}
int cuGetProcAddress(const char *name, void **function, int version, uint64_t flags) {
    return cuGetProcAddress_v2(name, function, version, flags, NULL);
}
