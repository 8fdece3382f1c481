/* SPDX-License-Identifier: Apache-2.0 */
#include "kernels/vendor/cudnn_plan.h"

#include <stdlib.h>

#include "base/alloc.h"
#include "base/library.h"
#include "base/reason.h"

enum { MOST_DESCRIPTORS = 64, MOST_OPERATIONS = 5, MOST_CONFIGS = 16 };
enum { VIRTUAL_X = 100, VIRTUAL_W, VIRTUAL_SUMS, VIRTUAL_SCALED }; /* unique ids without addresses */

struct cudnn_plan {
  nvfp4_dnn_desc *descriptors[MOST_DESCRIPTORS]; /* all that it is made of, in the order in which they were made */
  size_t count;
  nvfp4_dnn_desc *plan;
};

nvfp4_status cudnn_open(nvfp4_dnn_api *api, nvfp4_reason *reason) {
  static const char *const names[] = {"libcudnn.so.9", NULL};
  const nvfp4_symbol symbols[] = {
#define SYMBOL(member, symbol, result, arguments) {symbol, &api->member},
      NVFP4_DNN_FUNCTIONS(SYMBOL)
#undef SYMBOL
  };
  NVFP4_TRY(nvfp4_library_open("cuDNN", names, symbols, sizeof symbols / sizeof symbols[0], reason));
  const size_t version = api->get_version();
  if (version < NVFP4_DNN_LEAST_VERSION) {
    return nvfp4_reject(reason, NVFP4_E_MACHINE, "cuDNN is %zu.%zu; needs 9.13 or newer: install that, where the loader finds it first",
                        version / 10000, version / 100 % 100);
  }
  return NVFP4_OK;
}

nvfp4_status cudnn_check(const nvfp4_dnn_api *api, const char *call, int status, nvfp4_reason *reason) {
  char text[256] = "";
  if (status == NVFP4_DNN_SUCCESS) {
    return NVFP4_OK;
  }
  api->get_last_error(text, sizeof text);
  return nvfp4_reject(reason, NVFP4_E_DEVICE, "cuDNN: %s: %s%s%s", call, api->get_error_string(status), text[0] != '\0' ? ": " : "", text);
}

/* ------------------------------------------------------------------------------------------------------------------- descriptors */

/* A graph in the making. The first error stays; nothing is done after it. */
typedef struct builder {
  const nvfp4_dnn_api *api;
  cudnn_plan *plan;
  nvfp4_reason *reason;
  nvfp4_status status;
} builder;

static void check(builder *b, const char *call, int status) {
  if (b->status == NVFP4_OK) {
    b->status = cudnn_check(b->api, call, status, b->reason);
  }
}

static nvfp4_dnn_desc *make(builder *b, int type) {
  nvfp4_dnn_desc *desc = NULL;
  if (b->status == NVFP4_OK && b->plan->count == MOST_DESCRIPTORS) {
    b->status = nvfp4_reject(b->reason, NVFP4_E_INTERNAL, "cuDNN: a graph of more than %d descriptors", MOST_DESCRIPTORS);
  }
  if (b->status == NVFP4_OK) {
    check(b, "cudnnBackendCreateDescriptor", b->api->desc_create(type, &desc));
    if (desc != NULL) {
      b->plan->descriptors[b->plan->count++] = desc;
    }
  }
  return desc;
}

static void set(builder *b, nvfp4_dnn_desc *desc, int name, int type, int64_t count, const void *values) {
  if (b->status == NVFP4_OK) {
    check(b, "cudnnBackendSetAttribute", b->api->desc_set(desc, name, type, count, values));
  }
}

static void set_desc(builder *b, nvfp4_dnn_desc *desc, int name, nvfp4_dnn_desc *value) {
  set(b, desc, name, NVFP4_DNN_TYPE_DESCRIPTOR, 1, (const void *)&value);
}

static void set_data_type(builder *b, nvfp4_dnn_desc *desc, int name, int32_t type) {
  set(b, desc, name, NVFP4_DNN_TYPE_DATA_TYPE, 1, &type);
}

static void finalize(builder *b, nvfp4_dnn_desc *desc, const char *what) {
  if (b->status == NVFP4_OK) {
    check(b, what, b->api->desc_finalize(desc));
  }
}

static int dnn_type(nvfp4_dtype dtype) {
  return dtype == NVFP4_DTYPE_F32 ? NVFP4_DNN_FLOAT : dtype == NVFP4_DTYPE_F16 ? NVFP4_DNN_HALF : NVFP4_DNN_BFLOAT16;
}

/* [1, rows, columns]; column_major: a row's elements are `rows` apart. */
typedef struct shape {
  int64_t rows, columns;
  bool column_major;
} shape;

static nvfp4_dnn_desc *tensor(builder *b, int64_t id, int type, shape s, int64_t alignment) {
  const int64_t dimensions[] = {1, s.rows, s.columns},
                strides[] = {s.rows * s.columns, s.column_major ? 1 : s.columns, s.column_major ? s.rows : 1};
  const bool is_virtual = id >= VIRTUAL_X;
  const int32_t reordering = NVFP4_DNN_REORDERING_F8_128X4;
  nvfp4_dnn_desc *desc = make(b, NVFP4_DNN_TENSOR);
  set(b, desc, NVFP4_DNN_TENSOR_UNIQUE_ID, NVFP4_DNN_TYPE_INT64, 1, &id);
  set_data_type(b, desc, NVFP4_DNN_TENSOR_DATA_TYPE, type);
  set(b, desc, NVFP4_DNN_TENSOR_DIMENSIONS, NVFP4_DNN_TYPE_INT64, 3, dimensions);
  set(b, desc, NVFP4_DNN_TENSOR_STRIDES, NVFP4_DNN_TYPE_INT64, 3, strides);
  set(b, desc, NVFP4_DNN_TENSOR_BYTE_ALIGNMENT, NVFP4_DNN_TYPE_INT64, 1, &alignment);
  set(b, desc, NVFP4_DNN_TENSOR_IS_VIRTUAL, NVFP4_DNN_TYPE_BOOLEAN, 1, &is_virtual);
  if (type == NVFP4_DNN_FP8_E4M3) {
    set(b, desc, NVFP4_DNN_TENSOR_REORDERING_MODE, NVFP4_DNN_TYPE_TENSOR_REORDERING, 1, &reordering);
  }
  finalize(b, desc, "tensor");
  return desc;
}

/* An operand: codes and scales -> a virtual tensor in fp32. blocks: elements that share a scale, by rows and columns. */
static nvfp4_dnn_desc *dequantise(builder *b, int64_t codes_id, shape codes, int64_t scales_id, shape scales, int64_t id,
                                  const int32_t blocks[2], nvfp4_dnn_desc **operation) {
  nvfp4_dnn_desc *x = tensor(b, codes_id, NVFP4_DNN_FP4_E2M1, codes, CUDNN_ALIGNMENT),
                 *s = tensor(b, scales_id, NVFP4_DNN_FP8_E4M3, scales, CUDNN_ALIGNMENT),
                 *y = tensor(b, id, NVFP4_DNN_FLOAT, codes, CUDNN_ALIGNMENT);
  *operation = make(b, NVFP4_DNN_OPERATION_BLOCK_SCALE_DEQUANTIZE);
  set_desc(b, *operation, NVFP4_DNN_DEQUANTIZE_X, x);
  set_desc(b, *operation, NVFP4_DNN_DEQUANTIZE_SCALE, s);
  set_desc(b, *operation, NVFP4_DNN_DEQUANTIZE_Y, y);
  set_data_type(b, *operation, NVFP4_DNN_DEQUANTIZE_MATH_PREC, NVFP4_DNN_FLOAT);
  set(b, *operation, NVFP4_DNN_DEQUANTIZE_BLOCK_SIZE, NVFP4_DNN_TYPE_INT32, 2, blocks);
  finalize(b, *operation, "block-scale dequantise");
  return y;
}

static nvfp4_dnn_desc *multiply(builder *b, nvfp4_dnn_desc *x, nvfp4_dnn_desc *w, nvfp4_dnn_desc *y) {
  nvfp4_dnn_desc *matmul = make(b, NVFP4_DNN_MATMUL);
  set_data_type(b, matmul, NVFP4_DNN_MATMUL_COMP_TYPE, NVFP4_DNN_FLOAT);
  finalize(b, matmul, "matmul");
  nvfp4_dnn_desc *operation = make(b, NVFP4_DNN_OPERATION_MATMUL);
  set_desc(b, operation, NVFP4_DNN_OPERATION_MATMUL_A, x);
  set_desc(b, operation, NVFP4_DNN_OPERATION_MATMUL_B, w);
  set_desc(b, operation, NVFP4_DNN_OPERATION_MATMUL_C, y);
  set_desc(b, operation, NVFP4_DNN_OPERATION_MATMUL_DESC, matmul);
  finalize(b, operation, "matmul operation");
  return operation;
}

static nvfp4_dnn_desc *pointwise(builder *b, int32_t mode, nvfp4_dnn_desc *x, nvfp4_dnn_desc *with, nvfp4_dnn_desc *y) {
  nvfp4_dnn_desc *desc = make(b, NVFP4_DNN_POINTWISE);
  set(b, desc, NVFP4_DNN_POINTWISE_MODE, NVFP4_DNN_TYPE_POINTWISE_MODE, 1, &mode);
  set_data_type(b, desc, NVFP4_DNN_POINTWISE_MATH_PREC, NVFP4_DNN_FLOAT);
  finalize(b, desc, "pointwise");
  nvfp4_dnn_desc *operation = make(b, NVFP4_DNN_OPERATION_POINTWISE);
  set_desc(b, operation, NVFP4_DNN_OPERATION_POINTWISE_PW, desc);
  set_desc(b, operation, NVFP4_DNN_OPERATION_POINTWISE_X, x);
  set_desc(b, operation, NVFP4_DNN_OPERATION_POINTWISE_B, with);
  set_desc(b, operation, NVFP4_DNN_OPERATION_POINTWISE_Y, y);
  finalize(b, operation, "pointwise operation");
  return operation;
}

static nvfp4_dnn_desc *graph(builder *b, nvfp4_dnn_handle *handle, const cudnn_product *p) {
  static const int32_t x_blocks[] = {1, NVFP4_BLOCK}, w_blocks[] = {NVFP4_BLOCK, 1};
  const bool with_bias = p->bias_dtype != NVFP4_DTYPE_NONE;
  const int64_t columns = nvfp4_round_up(p->k / NVFP4_BLOCK, 4);
  const shape y_shape = {p->m, p->n, false}, one = {1, 1, false}, row = {1, p->n, false};
  nvfp4_dnn_desc *operations[MOST_OPERATIONS];
  int64_t count = 2;
  nvfp4_dnn_desc *x = dequantise(b, CUDNN_X, (shape){p->m, p->k, false}, CUDNN_X_SCALES, (shape){nvfp4_round_up(p->m, 128), columns, false},
                                 VIRTUAL_X, x_blocks, &operations[0]);
  nvfp4_dnn_desc *w = dequantise(b, CUDNN_W, (shape){p->k, p->n, true}, CUDNN_W_SCALES, (shape){columns, nvfp4_round_up(p->n, 128), true},
                                 VIRTUAL_W, w_blocks, &operations[1]);
  nvfp4_dnn_desc *y = tensor(b, CUDNN_Y, dnn_type(p->y_dtype), y_shape, CUDNN_ALIGNMENT);
  nvfp4_dnn_desc *sums = p->with_scale ? tensor(b, VIRTUAL_SUMS, NVFP4_DNN_FLOAT, y_shape, CUDNN_ALIGNMENT) : y;
  operations[count++] = multiply(b, x, w, sums);
  if (p->with_scale) {
    nvfp4_dnn_desc *scaled = with_bias ? tensor(b, VIRTUAL_SCALED, NVFP4_DNN_FLOAT, y_shape, CUDNN_ALIGNMENT) : y;
    operations[count++] = pointwise(b, NVFP4_DNN_POINTWISE_MUL, sums, tensor(b, CUDNN_SCALE, NVFP4_DNN_FLOAT, one, sizeof(float)), scaled);
    if (with_bias) {
      nvfp4_dnn_desc *bias = tensor(b, CUDNN_BIAS, dnn_type(p->bias_dtype), row, p->bias_dtype == NVFP4_DTYPE_F32 ? 4 : 2);
      operations[count++] = pointwise(b, NVFP4_DNN_POINTWISE_ADD, scaled, bias, y);
    }
  }
  nvfp4_dnn_desc *desc = make(b, NVFP4_DNN_OPERATIONGRAPH);
  set(b, desc, NVFP4_DNN_OPERATIONGRAPH_OPS, NVFP4_DNN_TYPE_DESCRIPTOR, count, (const void *)operations);
  if (handle != NULL) {
    set(b, desc, NVFP4_DNN_OPERATIONGRAPH_HANDLE, NVFP4_DNN_TYPE_HANDLE, 1, (const void *)&handle);
  }
  finalize(b, desc, "operation graph");
  return desc;
}

/* ------------------------------------------------------------------------------------------------------------------------ plans */

static bool unsupported(int status) { return status >= NVFP4_DNN_NOT_SUPPORTED && status <= NVFP4_DNN_NOT_SUPPORTED_LAST; }

static bool is_deterministic(const nvfp4_dnn_api *api, nvfp4_dnn_desc *config) {
  nvfp4_dnn_desc *engine = NULL;
  int32_t notes[NVFP4_DNN_NOTE_COUNT] = {0};
  int64_t count = 0, notes_count = 0;
  if (api->desc_create(NVFP4_DNN_ENGINE, &engine) != NVFP4_DNN_SUCCESS) {
    return false;
  }
  bool good =
      api->desc_get(config, NVFP4_DNN_ENGINECFG_ENGINE, NVFP4_DNN_TYPE_DESCRIPTOR, 1, &count, (void *)&engine) == NVFP4_DNN_SUCCESS &&
      api->desc_get(engine, NVFP4_DNN_ENGINE_NUMERICAL_NOTE, NVFP4_DNN_TYPE_NUMERICAL_NOTE, NVFP4_DNN_NOTE_COUNT, &notes_count, notes) ==
          NVFP4_DNN_SUCCESS;
  for (int64_t i = 0; i < notes_count && i < NVFP4_DNN_NOTE_COUNT; i++) {
    good = good && notes[i] != NVFP4_DNN_NOTE_NONDETERMINISTIC;
  }
  api->desc_destroy(engine);
  return good;
}

/* b->plan->plan stays NULL if cuDNN cannot make a plan of the configuration. */
static void try_config(builder *b, nvfp4_dnn_handle *handle, nvfp4_dnn_desc *properties, nvfp4_dnn_desc *config) {
  int64_t count = 0, bytes = 0;
  if (b->status != NVFP4_OK || !is_deterministic(b->api, config)) {
    return;
  }
  nvfp4_dnn_desc *plan = make(b, NVFP4_DNN_EXECUTION_PLAN);
  set_desc(b, plan, NVFP4_DNN_PLAN_ENGINE_CONFIG, config);
  if (handle != NULL) {
    set(b, plan, NVFP4_DNN_PLAN_HANDLE, NVFP4_DNN_TYPE_HANDLE, 1, (const void *)&handle);
  } else {
    set_desc(b, plan, NVFP4_DNN_PLAN_DEVICEPROP, properties);
  }
  if (b->status == NVFP4_OK && b->api->desc_finalize(plan) == NVFP4_DNN_SUCCESS) {
    check(b, "workspace size", b->api->desc_get(plan, NVFP4_DNN_PLAN_WORKSPACE_SIZE, NVFP4_DNN_TYPE_INT64, 1, &count, &bytes));
    b->plan->plan = bytes <= CUDNN_WORKSPACE_BYTES ? plan : NULL;
  }
}

/* Tries what the heuristic names, the best first. */
static void find_plan(builder *b, nvfp4_dnn_handle *handle, nvfp4_dnn_desc *properties, nvfp4_dnn_desc *operations, int32_t mode) {
  nvfp4_dnn_desc *configs[MOST_CONFIGS] = {NULL};
  int64_t count = 0;
  nvfp4_dnn_desc *heuristic = make(b, NVFP4_DNN_ENGINEHEUR);
  set_desc(b, heuristic, NVFP4_DNN_ENGINEHEUR_OPERATION_GRAPH, operations);
  set(b, heuristic, NVFP4_DNN_ENGINEHEUR_MODE, NVFP4_DNN_TYPE_HEUR_MODE, 1, &mode);
  if (handle == NULL) {
    set_desc(b, heuristic, NVFP4_DNN_ENGINEHEUR_DEVICEPROP, properties);
  }
  const int finalized = b->status == NVFP4_OK ? b->api->desc_finalize(heuristic) : NVFP4_DNN_SUCCESS;
  if (b->status != NVFP4_OK || unsupported(finalized)) {
    return;
  }
  check(b, "heuristic", finalized);
  for (int i = 0; i < MOST_CONFIGS && b->status == NVFP4_OK; i++) { /* not of the plan's: destroyed below */
    check(b, "cudnnBackendCreateDescriptor", b->api->desc_create(NVFP4_DNN_ENGINECFG, &configs[i]));
  }
  if (b->status == NVFP4_OK) {
    check(b, "heuristic results",
          b->api->desc_get(heuristic, NVFP4_DNN_ENGINEHEUR_RESULTS, NVFP4_DNN_TYPE_DESCRIPTOR, MOST_CONFIGS, &count, (void *)configs));
  }
  int chosen = -1;
  for (int i = 0; i < MOST_CONFIGS && i < count && b->plan->plan == NULL; i++) {
    try_config(b, handle, properties, configs[i]);
    chosen = i;
  }
  for (int i = 0; i < MOST_CONFIGS; i++) {
    if (configs[i] != NULL && i == chosen && b->plan->plan != NULL) {
      b->plan->descriptors[b->plan->count++] = configs[i]; /* lives as long as its plan */
    } else if (configs[i] != NULL) {
      b->api->desc_destroy(configs[i]);
    }
  }
}

nvfp4_status cudnn_plan_make(const nvfp4_dnn_api *api, nvfp4_dnn_handle *handle, nvfp4_dnn_desc *properties, const cudnn_product *product,
                             cudnn_plan **out, nvfp4_reason *reason) {
  cudnn_plan *plan = calloc(1, sizeof *plan);
  if (plan == NULL) {
    return nvfp4_reject(reason, NVFP4_E_NOMEM, "out of memory for cuDNN");
  }
  builder b = {.api = api, .plan = plan, .reason = reason};
  nvfp4_dnn_desc *operations = graph(&b, handle, product);
  find_plan(&b, handle, properties, operations, NVFP4_DNN_HEUR_MODE_A);
  if (plan->plan == NULL) {
    find_plan(&b, handle, properties, operations, NVFP4_DNN_HEUR_MODE_FALLBACK);
  }
  if (b.status == NVFP4_OK && plan->plan == NULL) {
    const size_t version = api->get_version();
    b.status = nvfp4_reject(reason, NVFP4_E_MACHINE,
                            "cuDNN %zu.%zu.%zu has no NVFP4 product for this GPU (N = %lld, K = %lld, M = %lld); needs one of compute "
                            "capability 10.0 or newer that it knows, and NVRTC beside it: a newer cuDNN may, or another kernel serves",
                            version / 10000, version / 100 % 100, version % 100, (long long)product->n, (long long)product->k,
                            (long long)product->m);
  }
  if (b.status != NVFP4_OK) {
    cudnn_plan_free(api, plan);
    return b.status;
  }
  *out = plan;
  return NVFP4_OK;
}

void cudnn_plan_free(const nvfp4_dnn_api *api, cudnn_plan *plan) {
  while (plan != NULL && plan->count > 0) {
    api->desc_destroy(plan->descriptors[--plan->count]);
  }
  free(plan);
}

nvfp4_dnn_desc *cudnn_plan_descriptor(const cudnn_plan *plan) { return plan->plan; }
