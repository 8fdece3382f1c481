/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A CUDA driver without a GPU, for tests: libcuda.so.1 in a folder of its own, put in front by LD_LIBRARY_PATH. It does what the library asks of a driver: devices, contexts, memory,
 * streams, graphs, and the kernels that kernels.c knows, which it computes on the CPU. It is stricter than a real one:
 *
 *   - memory of the device is inaccessible but during a call, so that a host that reads it crashes; new memory holds no zeros (in its first 256 KiB)
 *   - work without a current context, memory that is freed twice, allocation or waiting while a stream is captured are errors
 *
 * The environment says what to play, when cuInit is called: MOCK_CUDA="devices=2,sm=90,multiprocessors=132,shared=232448,driver=13000,absent=cuLaunchKernelEx,fail=cuMemAlloc:2". `fail` is of all calls of that function; 100 from
 * cuInit is "no device". fail=7:700 is of the seventh call alone, cuInit being the first; those that give something back do not count, nor do they fail.
 */
#define _GNU_SOURCE /* MAP_ANONYMOUS */
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "cuda/api.h"
#include "mock.h"

enum {
  OK = 0,
  INVALID_VALUE = 1,
  OUT_OF_MEMORY = 2,
  INVALID_IMAGE = 200,
  INVALID_CONTEXT = 201,
  INVALID_HANDLE = 400,
  NOT_FOUND = 500,
  CAPTURING = 900
};
enum { MOST_DEVICES = 20, MOST_NODES = 1024, DEEP = 16, MOST_FILLED = 256 << 10 };

struct CUctx_st {
  int device, retained;
  unsigned long long id;
};
struct CUlib_st {
  const void *image;
};
struct CUkern_st {
  const mock_kernel *kernel;
  struct CUkern_st *next;
};
struct CUevent_st {
  int recorded;
};
typedef struct node {
  const mock_kernel *kernel;
  void *arguments[MOCK_ARGUMENTS];
  unsigned grid, block;
  mock_shape shape;
} node;
struct CUgraph_st {
  size_t count;
  node nodes[MOST_NODES];
};
struct CUstream_st {
  struct CUgraph_st *capture; /* NULL: not capturing */
};
struct CUgraphExec_st {
  struct CUgraph_st graph;
};

typedef struct block {
  struct block *next;
  uint8_t *data;
  size_t bytes; /* whole pages */
} block;

static struct {
  int devices, sm, multiprocessors, shared, driver; /* shared: bytes that a thread block may have */
  char absent[64], failing[64];
  int error, calls_to_failure; /* 0: none fails by its number */
  pthread_mutex_t lock;
  block *blocks;
  size_t live;  /* allocations and streams, events, graphs */
  size_t loads; /* of kernels */
  unsigned long long contexts;
  size_t bytes, most_bytes; /* of memory: now, and at most since mock_cuda_most_bytes */
  int capturing;            /* streams */
  struct CUctx_st primary[MOST_DEVICES];
  struct CUkern_st *kernels;
} mock = {.devices = 1, .sm = 90, .multiprocessors = 132, .shared = 227 << 10, .driver = 13000, .lock = PTHREAD_MUTEX_INITIALIZER};

static _Thread_local struct {
  struct CUctx_st *stack[DEEP];
  int depth, capture_mode;
} own;

mock_shape mock_launched;

static int failure(const char *function) {
  bool now = mock.calls_to_failure > 0 && --mock.calls_to_failure == 0;
  return now || strcmp(mock.failing, function) == 0 ? mock.error : OK;
}

static struct CUctx_st *current(void) { return own.depth > 0 ? own.stack[own.depth - 1] : NULL; }

#define NEEDS_CONTEXT(function)     \
  do {                              \
    int failed = failure(function); \
    if (failed != OK)               \
      return failed;                \
    if (current() == NULL)          \
      return INVALID_CONTEXT;       \
  } while (0)

size_t mock_cuda_live(void) { return mock.live; }

size_t mock_cuda_loads(void) { return mock.loads; }

size_t mock_cuda_most_bytes(void) {
  size_t most = mock.most_bytes;
  mock.most_bytes = mock.bytes;
  return most;
}

static int mock_init(unsigned flags) {
  const char *text = getenv("MOCK_CUDA");
  mock.devices = 1;
  mock.sm = 90;
  mock.multiprocessors = 132;
  mock.shared = 227 << 10;
  mock.driver = 13000;
  mock.failing[0] = '\0';
  for (; text != NULL && *text != '\0'; text += strcspn(text, ","), text += *text == ',') {
    sscanf(text, "devices=%d", &mock.devices);
    sscanf(text, "sm=%d", &mock.sm);
    sscanf(text, "multiprocessors=%d", &mock.multiprocessors);
    sscanf(text, "shared=%d", &mock.shared);
    sscanf(text, "driver=%d", &mock.driver);
    sscanf(text, "fail=%63[^:]:%d", mock.failing, &mock.error);
  }
  mock.calls_to_failure = atoi(mock.failing);
  return flags == 0 ? failure("cuInit") : INVALID_VALUE;
}

static int mock_driver_get_version(int *version) {
  *version = mock.driver;
  return failure("cuDriverGetVersion");
}

static int mock_get_error_string(int error, const char **text) {
  *text = error == 100                                       ? "no CUDA-capable device is detected"
          : error == OUT_OF_MEMORY                           ? "out of memory"
          : error == CAPTURING                               ? "operation not permitted when stream is capturing"
          : error == INVALID_CONTEXT                         ? "invalid device context"
          : error == INVALID_IMAGE || error == INVALID_VALUE ? "device kernel image is invalid"
                                                             : NULL;
  return *text != NULL ? OK : INVALID_VALUE;
}

/* --------------------------------------------------------------------------------------------------------------------- devices */

static int mock_device_get_count(int *count) {
  *count = mock.devices;
  return failure("cuDeviceGetCount");
}

static int mock_device_get(nvfp4_cu_device *device, int ordinal) {
  *device = ordinal;
  return ordinal >= 0 && ordinal < mock.devices ? failure("cuDeviceGet") : 101;
}

static int mock_device_get_name(char *name, int size, nvfp4_cu_device device) {
  snprintf(name, (size_t)size, "Mock GPU %d", device);
  return failure("cuDeviceGetName");
}

static int mock_device_get_attribute(int *value, int attribute, nvfp4_cu_device device) {
  (void)device;
  switch (attribute) {
    case NVFP4_CU_ATTRIBUTE_MULTIPROCESSOR_COUNT:
      *value = mock.multiprocessors;
      break;
    case NVFP4_CU_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR:
      *value = mock.sm / 10;
      break;
    case NVFP4_CU_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR:
      *value = mock.sm % 10;
      break;
    case NVFP4_CU_ATTRIBUTE_L2_CACHE_BYTES:
      *value = 50 << 20;
      break;
    case NVFP4_CU_ATTRIBUTE_MOST_SHARED_BYTES_OF_BLOCK:
      *value = mock.shared;
      break;
    default:
      return INVALID_VALUE;
  }
  return failure("cuDeviceGetAttribute");
}

static int mock_device_total_mem(size_t *bytes, nvfp4_cu_device device) {
  (void)device;
  *bytes = (size_t)16 << 30;
  return failure("cuDeviceTotalMem");
}

/* -------------------------------------------------------------------------------------------------------------------- contexts */

static int mock_primary_context_retain(nvfp4_cu_context *context, nvfp4_cu_device device) {
  *context = &mock.primary[device];
  (*context)->device = device;
  (*context)->retained++;
  (*context)->id = (*context)->id != 0 ? (*context)->id : ++mock.contexts;
  return failure("cuDevicePrimaryCtxRetain");
}

static int mock_primary_context_release(nvfp4_cu_device device) { return --mock.primary[device].retained >= 0 ? OK : INVALID_CONTEXT; }

int cuCtxCreate_v2(nvfp4_cu_context *context, unsigned flags, nvfp4_cu_device device) {
  (void)flags;
  *context = calloc(1, sizeof **context);
  (*context)->device = device;
  (*context)->id = ++mock.contexts;
  own.stack[own.depth++] = *context;
  return OK;
}

int cuCtxDestroy_v2(nvfp4_cu_context context) {
  own.depth -= current() == context;
  free(context);
  return OK;
}

static int mock_context_get_current(nvfp4_cu_context *context) {
  *context = current();
  return failure("cuCtxGetCurrent");
}

static int mock_context_get_device(nvfp4_cu_device *device) {
  NEEDS_CONTEXT("cuCtxGetDevice");
  *device = current()->device;
  return OK;
}

static int mock_context_get_id(nvfp4_cu_context context, unsigned long long *id) {
  *id = context->id;
  return failure("cuCtxGetId");
}

static int mock_context_push(nvfp4_cu_context context) {
  int failed = failure("cuCtxPushCurrent");
  if (context == NULL || own.depth == DEEP) {
    return INVALID_CONTEXT;
  }
  if (failed == OK) {
    own.stack[own.depth++] = context;
  }
  return failed;
}

static int mock_context_pop(nvfp4_cu_context *context) {
  if (current() == NULL) {
    return INVALID_CONTEXT;
  }
  *context = own.stack[--own.depth];
  return OK;
}

static int mock_exchange_capture_mode(int *mode) {
  int before = own.capture_mode;
  own.capture_mode = *mode;
  *mode = before;
  return OK;
}

/* ---------------------------------------------------------------------------------------------------------------------- memory */

/* What a capturing stream forbids to threads that have not said that they know what they do. */
static int forbidden(void) { return mock.capturing > 0 && own.capture_mode != NVFP4_CU_CAPTURE_RELAXED; }

/* The lock is held. */
static void open_memory(int access) {
  for (block *b = mock.blocks; b != NULL; b = b->next) {
    mprotect(b->data, b->bytes, access);
  }
}

static int mock_alloc(nvfp4_cu_address *address, size_t bytes) {
  NEEDS_CONTEXT("cuMemAlloc");
  if (forbidden()) {
    return CAPTURING;
  }
  block *b = calloc(1, sizeof *b);
  b->bytes = (bytes + 4095) / 4096 * 4096;
  b->data = mmap(NULL, b->bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (b->data == MAP_FAILED) {
    free(b);
    return OUT_OF_MEMORY;
  }
  memset(b->data, 0xCB, b->bytes < MOST_FILLED ? b->bytes : MOST_FILLED);
  mprotect(b->data, b->bytes, PROT_NONE);
  pthread_mutex_lock(&mock.lock);
  b->next = mock.blocks;
  mock.blocks = b;
  mock.live++;
  mock.bytes += b->bytes;
  mock.most_bytes = mock.bytes > mock.most_bytes ? mock.bytes : mock.most_bytes;
  pthread_mutex_unlock(&mock.lock);
  *address = (nvfp4_cu_address)(uintptr_t)b->data;
  return OK;
}

static int mock_free(nvfp4_cu_address address) {
  int result = INVALID_VALUE;
  if (current() == NULL || forbidden()) {
    return current() == NULL ? INVALID_CONTEXT : CAPTURING;
  }
  pthread_mutex_lock(&mock.lock);
  for (block **b = &mock.blocks; *b != NULL; b = &(*b)->next) {
    if ((nvfp4_cu_address)(uintptr_t)(*b)->data == address) {
      block *found = *b;
      *b = found->next;
      munmap(found->data, found->bytes);
      mock.bytes -= found->bytes;
      free(found);
      mock.live--;
      result = OK;
      break;
    }
  }
  pthread_mutex_unlock(&mock.lock);
  return result;
}

static void count_live(int change) { /* by many threads */
  pthread_mutex_lock(&mock.lock);
  mock.live += (size_t)change;
  pthread_mutex_unlock(&mock.lock);
}

static void *made(size_t bytes) {
  count_live(1);
  return calloc(1, bytes);
}

static int unmade(void *object) {
  count_live(-1);
  free(object);
  return OK;
}

/* Pinned memory of the host, which kernels may write. */
static int mock_alloc_host(void **memory, size_t bytes) {
  NEEDS_CONTEXT("cuMemAllocHost");
  *memory = made(bytes);
  return forbidden() ? CAPTURING : OK;
}

static int mock_free_host(void *memory) { return current() == NULL ? INVALID_CONTEXT : forbidden() ? CAPTURING : unmade(memory); }

static void *pointer(nvfp4_cu_address address) { return (void *)(uintptr_t)address; }

/* Copies and fills are captured as kernels are. */
static void copy_rows(void *const *arguments, unsigned blocks, unsigned threads) {
  const nvfp4_cu_copy_2d *copy = arguments[0];
  (void)blocks, (void)threads;
  for (size_t row = 0; row < copy->height; row++) {
    memcpy((char *)pointer(copy->target_device) + row * copy->target_pitch,
           (const char *)pointer(copy->source_device) + row * copy->source_pitch, copy->width_bytes);
  }
}

static int mock_copy_2d(const nvfp4_cu_copy_2d *copy, nvfp4_cu_stream stream) {
  static const mock_kernel kernel = {"copy", {sizeof *copy}, copy_rows};
  nvfp4_cu_copy_2d kept = *copy;
  NEEDS_CONTEXT("cuMemcpy2DAsync");
  return copy->source_type != NVFP4_CU_MEMORY_UNIFIED || copy->target_type != NVFP4_CU_MEMORY_UNIFIED ||
                 copy->width_bytes > copy->source_pitch || copy->width_bytes > copy->target_pitch
             ? INVALID_VALUE
             : mock_cuda_launch(&kernel, stream, (void *[]){&kept});
}

static int mock_copy(nvfp4_cu_address to, nvfp4_cu_address from, size_t bytes, nvfp4_cu_stream stream) {
  NEEDS_CONTEXT("cuMemcpyAsync");
  const nvfp4_cu_copy_2d copy = {.source_type = NVFP4_CU_MEMORY_UNIFIED,
                                 .source_device = from,
                                 .source_pitch = bytes,
                                 .target_type = NVFP4_CU_MEMORY_UNIFIED,
                                 .target_device = to,
                                 .target_pitch = bytes,
                                 .width_bytes = bytes,
                                 .height = 1};
  return mock_copy_2d(&copy, stream);
}

static void fill_bytes(void *const *arguments, unsigned blocks, unsigned threads) {
  (void)blocks, (void)threads;
  memset(pointer(*(nvfp4_cu_address *)arguments[0]), *(unsigned char *)arguments[1], *(size_t *)arguments[2]);
}

static int mock_fill(nvfp4_cu_address to, unsigned char value, size_t bytes, nvfp4_cu_stream stream) {
  static const mock_kernel kernel = {"fill", {sizeof to, sizeof value, sizeof bytes}, fill_bytes};
  NEEDS_CONTEXT("cuMemsetD8Async");
  return mock_cuda_launch(&kernel, stream, (void *[]){&to, &value, &bytes});
}

static void fill_words(void *const *arguments, unsigned blocks, unsigned threads) {
  uint32_t *to = pointer(*(nvfp4_cu_address *)arguments[0]);
  (void)blocks, (void)threads;
  for (size_t i = 0; i < *(size_t *)arguments[2]; i++) {
    to[i] = *(unsigned *)arguments[1];
  }
}

static int mock_fill_words(nvfp4_cu_address to, unsigned value, size_t words, nvfp4_cu_stream stream) {
  static const mock_kernel kernel = {"fill words", {sizeof to, sizeof value, sizeof words}, fill_words};
  NEEDS_CONTEXT("cuMemsetD32Async");
  return to % sizeof value == 0 ? mock_cuda_launch(&kernel, stream, (void *[]){&to, &value, &words}) : INVALID_VALUE;
}

/* ------------------------------------------------------------------------------------------------------------- streams, graphs */

static int mock_stream_create(nvfp4_cu_stream *stream, unsigned flags) {
  NEEDS_CONTEXT("cuStreamCreate");
  *stream = made(sizeof **stream);
  return flags <= 1 ? OK : INVALID_VALUE;
}

static int mock_stream_synchronize(nvfp4_cu_stream stream) {
  NEEDS_CONTEXT("cuStreamSynchronize");
  return (stream != NULL && stream->capture != NULL) || forbidden() ? CAPTURING : OK;
}

static int mock_stream_destroy(nvfp4_cu_stream stream) { return forbidden() ? CAPTURING : unmade(stream); }

static int mock_stream_begin_capture(nvfp4_cu_stream stream, int mode) {
  (void)mode;
  stream->capture = made(sizeof *stream->capture);
  mock.capturing++;
  return failure("cuStreamBeginCapture");
}

static int mock_stream_end_capture(nvfp4_cu_stream stream, nvfp4_cu_graph *graph) {
  *graph = stream->capture;
  stream->capture = NULL;
  mock.capturing--;
  return OK;
}

static void free_nodes(struct CUgraph_st *graph) {
  for (size_t i = 0; i < graph->count; i++) {
    for (int j = 0; j < MOCK_ARGUMENTS; j++) {
      free(graph->nodes[i].arguments[j]);
    }
  }
}

/* The executable graph takes the nodes. */
static int mock_graph_instantiate(nvfp4_cu_graph_exec *exec, nvfp4_cu_graph graph, unsigned long long flags) {
  (void)flags;
  *exec = made(sizeof **exec);
  (*exec)->graph = *graph;
  graph->count = 0;
  return OK;
}

/* One after the other; the memory is opened once for all of them. */
static void run(const node *nodes, size_t count) {
  pthread_mutex_lock(&mock.lock);
  open_memory(PROT_READ | PROT_WRITE);
  for (size_t i = 0; i < count; i++) {
    mock_launched = nodes[i].shape;
    nodes[i].kernel->compute(nodes[i].arguments, nodes[i].grid, nodes[i].block);
  }
  open_memory(PROT_NONE);
  pthread_mutex_unlock(&mock.lock);
}

static int mock_graph_launch(nvfp4_cu_graph_exec exec, nvfp4_cu_stream stream) {
  (void)stream;
  NEEDS_CONTEXT("cuGraphLaunch");
  run(exec->graph.nodes, exec->graph.count);
  return OK;
}

static int mock_graph_exec_destroy(nvfp4_cu_graph_exec exec) {
  free_nodes(&exec->graph);
  return unmade(exec);
}

static int mock_graph_destroy(nvfp4_cu_graph graph) {
  free_nodes(graph);
  return unmade(graph);
}

static int mock_event_create(nvfp4_cu_event *event, unsigned flags) {
  (void)flags;
  NEEDS_CONTEXT("cuEventCreate");
  *event = made(sizeof **event);
  return OK;
}

static int mock_event_record(nvfp4_cu_event event, nvfp4_cu_stream stream) {
  (void)stream;
  event->recorded = 1;
  return OK;
}

static int mock_event_synchronize(nvfp4_cu_event event) { return event->recorded ? OK : INVALID_HANDLE; }

static int mock_event_elapsed(float *milliseconds, nvfp4_cu_event first, nvfp4_cu_event last) {
  *milliseconds = 1.0f;
  return first->recorded && last->recorded ? OK : INVALID_HANDLE;
}

static int mock_event_destroy(nvfp4_cu_event event) { return unmade(event); }

/* --------------------------------------------------------------------------------------------------------------------- kernels */

static int mock_library_load(nvfp4_cu_library *library, const void *image, int *jit_options, void **jit_values, unsigned jit_count,
                             int *options, void **values, unsigned count) {
  (void)jit_options, (void)jit_values, (void)jit_count, (void)options, (void)values, (void)count;
  int failed = failure("cuLibraryLoadData");
  if (failed != OK) {
    return failed;
  }
  *library = made(sizeof **library);
  (*library)->image = image;
  return OK;
}

static int mock_library_unload(nvfp4_cu_library library) { return unmade(library); }

static int mock_library_get_kernel(nvfp4_cu_kernel *kernel, nvfp4_cu_library library, const char *name) {
  (void)library;
  const mock_kernel *known = mock_kernels;
  while (known->name != NULL && strcmp(known->name, name) != 0) {
    known++;
  }
  if (known->name == NULL) {
    return NOT_FOUND;
  }
  pthread_mutex_lock(&mock.lock);
  struct CUkern_st *k = mock.kernels;
  while (k != NULL && k->kernel != known) {
    k = k->next;
  }
  if (k == NULL) { /* never freed: as long as the driver */
    k = calloc(1, sizeof *k);
    *k = (struct CUkern_st){known, mock.kernels};
    mock.kernels = k;
  }
  pthread_mutex_unlock(&mock.lock);
  *kernel = k;
  return failure("cuLibraryGetKernel");
}

static int mock_library_get_kernel_count(unsigned *count, nvfp4_cu_library library) {
  (void)library; /* any has all */
  *count = 0;
  while (mock_kernels[*count].name != NULL) {
    ++*count;
  }
  return OK;
}

static int mock_library_enumerate_kernels(nvfp4_cu_kernel *kernels, unsigned count, nvfp4_cu_library library) {
  for (unsigned i = 0; i < count; i++) {
    int failed = mock_library_get_kernel(&kernels[i], library, mock_kernels[i].name);
    if (failed != OK) {
      return failed;
    }
  }
  return OK;
}

static int mock_kernel_get_function(nvfp4_cu_function *function, nvfp4_cu_kernel kernel) {
  NEEDS_CONTEXT("cuKernelGetFunction");
  *function = (nvfp4_cu_function)(void *)kernel;
  mock.loads++;
  return forbidden() ? CAPTURING : OK;
}

static int mock_kernel_set_attribute(int attribute, int value, nvfp4_cu_kernel kernel, nvfp4_cu_device device) {
  (void)kernel, (void)device;
  return attribute == NVFP4_CU_FUNCTION_MAX_DYNAMIC_SHARED_BYTES && value <= mock.shared ? OK : INVALID_VALUE;
}

static int enqueue(node n, nvfp4_cu_stream stream, void **parameters) {
  const mock_kernel *kernel = n.kernel;
  for (int i = 0; i < MOCK_ARGUMENTS && kernel->sizes[i] != 0; i++) {
    n.arguments[i] = malloc(kernel->sizes[i]);
    memcpy(n.arguments[i], parameters[i], kernel->sizes[i]);
  }
  if (stream != NULL && stream->capture != NULL) {
    struct CUgraph_st *graph = stream->capture;
    if (graph->count == MOST_NODES) {
      return OUT_OF_MEMORY;
    }
    graph->nodes[graph->count++] = n;
    return OK;
  }
  run(&n, 1);
  for (int i = 0; i < MOCK_ARGUMENTS; i++) {
    free(n.arguments[i]);
  }
  return OK;
}

static int mock_launch(const nvfp4_cu_launch *launch, nvfp4_cu_function function, void **parameters, void **extra) {
  const mock_kernel *kernel = ((nvfp4_cu_kernel)(void *)function)->kernel;
  NEEDS_CONTEXT("cuLaunchKernelEx");
  if (extra != NULL || launch->grid_x == 0 || launch->block_x == 0 || launch->block_x > 1024) {
    return INVALID_VALUE;
  }
  node n = {.kernel = kernel, .grid = launch->grid_x, .block = launch->block_x, .shape = {1, launch->shared_bytes}};
  for (unsigned i = 0; i < launch->attribute_count; i++) {
    if (launch->attributes[i].id == NVFP4_CU_LAUNCH_CLUSTER_DIMENSION) {
      n.shape.cluster = launch->attributes[i].value.cluster.x;
    }
  }
  if (launch->grid_x % n.shape.cluster != 0) {
    return INVALID_VALUE;
  }
  return enqueue(n, launch->stream, parameters);
}

int mock_cuda_launch(const mock_kernel *kernel, nvfp4_cu_stream stream, void **arguments) {
  NEEDS_CONTEXT("mock_cuda_launch");
  return enqueue((node){.kernel = kernel, .grid = 1, .block = 1, .shape = {1, 0}}, stream, arguments);
}

/* ---------------------------------------------------------------------------------------------------------------- the entrance */

static int mock_get_error_name(int error, const char **text) { return mock_get_error_string(error, text); }

static int mock_tensor_map_encode_tiled(nvfp4_cu_tensor_map *map, int data_type, uint32_t rank, void *address, const uint64_t *sizes,
                                        const uint64_t *strides_bytes, const uint32_t *box, const uint32_t *element_strides, int interleave,
                                        int swizzle, int l2_promotion, int out_of_bounds) {
  (void)element_strides, (void)interleave, (void)l2_promotion, (void)out_of_bounds;
  const uint32_t box_bytes = box[0] * (data_type == NVFP4_CU_TENSOR_MAP_UINT8 ? 1 : 2);
  if (rank != 2 || (uintptr_t)address % 16 != 0 || strides_bytes[0] % 16 != 0 || box[0] > 256 || box[1] > 256 || box_bytes % 16 != 0 ||
      (swizzle == NVFP4_CU_TENSOR_MAP_SWIZZLE_128B && box_bytes > 128)) {
    return INVALID_VALUE;
  }
  *map = (nvfp4_cu_tensor_map){
      {(uintptr_t)address, sizes[0], sizes[1], strides_bytes[0], box[0], box[1], (uint64_t)data_type, (uint64_t)swizzle}};
  return OK;
}

int cuGetProcAddress_v2(const char *symbol, void **function, int version, uint64_t flags, int *status) {
  static const struct {
    const char *symbol;
    int version;
    void *function;
  } table[] = {
#define ROW(member, name, since, arguments) {name, since, (void *)mock_##member},
      NVFP4_CU_FUNCTIONS(ROW)
#undef ROW
  };
  const char *text = getenv("MOCK_CUDA"), *absent = text != NULL ? strstr(text, "absent=") : NULL;
  char name[64] = "";
  if (absent != NULL) {
    sscanf(absent, "absent=%63[^,]", name);
  }
  (void)flags, (void)status;
  *function = NULL;
  for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
    if (strcmp(table[i].symbol, symbol) == 0 && strcmp(name, symbol) != 0) {
      *function = version == table[i].version ? table[i].function : NULL;
    }
  }
  return *function != NULL ? OK : NOT_FOUND;
}
