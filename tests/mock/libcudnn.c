/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A cuDNN that knows one graph, that of kernels/vendor/cudnn_plan.h, and computes it in the memory of the mock CUDA driver. Descriptors are lists of attributes; a graph that is not what the
 * documentation of block-scaled products says (types, dimensions, strides, the order of operations) has no engine. MOCK_CUDNN says what to play: "version=90700", "refuse" (no engine for this GPU),
 * "random" (all engines are non-deterministic), "fail" (execution fails).
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fp4_product.h"
#include "kernels/vendor/cudnn_plan.h"

enum { BAD_PARAM = 2000, NOT_FINALIZED = 2004, EXECUTION_FAILED = 5000, MOST_ATTRIBUTES = 12, MOST_BYTES = 64 };

struct nvfp4_dnn_handle {
  void *stream;
};

typedef struct attribute {
  int name, type;
  int64_t count;
  uint8_t bytes[MOST_BYTES];
} attribute;

struct nvfp4_dnn_desc {
  int type;
  bool finalized;
  int count;
  attribute attributes[MOST_ATTRIBUTES];
};

static bool plays(const char *what) {
  const char *text = getenv("MOCK_CUDNN");
  return text != NULL && strstr(text, what) != NULL;
}

static size_t get_version(void) {
  size_t version = 91900;
  const char *text = getenv("MOCK_CUDNN"), *at = text != NULL ? strstr(text, "version=") : NULL;
  if (at != NULL) {
    sscanf(at, "version=%zu", &version);
  }
  return version;
}

static const char *get_error_string(int status) {
  return status == BAD_PARAM          ? "CUDNN_STATUS_BAD_PARAM"
         : status == EXECUTION_FAILED ? "CUDNN_STATUS_EXECUTION_FAILED"
                                      : "CUDNN_STATUS_OTHER";
}

static void get_last_error(char *text, size_t bytes) { snprintf(text, bytes, "in the mock"); }

static int create(nvfp4_dnn_handle **handle) {
  *handle = calloc(1, sizeof **handle);
  return NVFP4_DNN_SUCCESS;
}

static int destroy(nvfp4_dnn_handle *handle) {
  free(handle);
  return NVFP4_DNN_SUCCESS;
}

static int set_stream(nvfp4_dnn_handle *handle, void *stream) {
  handle->stream = stream;
  return NVFP4_DNN_SUCCESS;
}

static int desc_create(int type, nvfp4_dnn_desc **desc) {
  *desc = calloc(1, sizeof **desc);
  (*desc)->type = type;
  return NVFP4_DNN_SUCCESS;
}

static int desc_destroy(nvfp4_dnn_desc *desc) {
  free(desc);
  return NVFP4_DNN_SUCCESS;
}

/* -------------------------------------------------------------------------------------------------------------------- attributes */

static size_t width(int type) {
  return type == NVFP4_DNN_TYPE_BOOLEAN || type == NVFP4_DNN_TYPE_CHAR ? 1
         : type == NVFP4_DNN_TYPE_INT64 || type == NVFP4_DNN_TYPE_VOID_PTR || type == NVFP4_DNN_TYPE_HANDLE ||
                 type == NVFP4_DNN_TYPE_DESCRIPTOR
             ? 8
             : 4;
}

static int desc_set(nvfp4_dnn_desc *desc, int name, int type, int64_t count, const void *values) {
  if (desc->finalized || desc->count == MOST_ATTRIBUTES || count < 1 || (size_t)count * width(type) > MOST_BYTES || values == NULL) {
    return BAD_PARAM;
  }
  attribute *a = &desc->attributes[desc->count++];
  *a = (attribute){.name = name, .type = type, .count = count};
  memcpy(a->bytes, values, (size_t)count * width(type));
  return NVFP4_DNN_SUCCESS;
}

static const attribute *find(const nvfp4_dnn_desc *desc, int name, int type) {
  for (int i = 0; desc != NULL && i < desc->count; i++) {
    if (desc->attributes[i].name == name && desc->attributes[i].type == type) {
      return &desc->attributes[i];
    }
  }
  return NULL;
}

static nvfp4_dnn_desc *desc_at(const nvfp4_dnn_desc *desc, int name, int64_t index) {
  const attribute *a = find(desc, name, NVFP4_DNN_TYPE_DESCRIPTOR);
  nvfp4_dnn_desc *found = NULL;
  if (a != NULL && index < a->count) {
    memcpy(&found, a->bytes + 8 * index, 8);
  }
  return found;
}

static int32_t int_of(const nvfp4_dnn_desc *desc, int name, int type) {
  const attribute *a = find(desc, name, type);
  int32_t value = -1;
  if (a != NULL) {
    memcpy(&value, a->bytes, 4);
  }
  return value;
}

/* A tensor as a value. */
typedef struct tensor {
  int64_t id, dimensions[3], strides[3], alignment;
  int32_t type, reordering;
  bool is_virtual;
} tensor;

static tensor tensor_of(const nvfp4_dnn_desc *desc, int name) {
  tensor t = {.id = -1};
  const nvfp4_dnn_desc *d = desc_at(desc, name, 0);
  const struct {
    int name;
    void *to;
    size_t bytes;
  } parts[] = {{NVFP4_DNN_TENSOR_UNIQUE_ID, &t.id, 8},
               {NVFP4_DNN_TENSOR_DIMENSIONS, t.dimensions, 24},
               {NVFP4_DNN_TENSOR_STRIDES, t.strides, 24},
               {NVFP4_DNN_TENSOR_BYTE_ALIGNMENT, &t.alignment, 8}};
  for (size_t i = 0; i < 4; i++) {
    const attribute *a = find(d, parts[i].name, NVFP4_DNN_TYPE_INT64);
    if (a != NULL) {
      memcpy(parts[i].to, a->bytes, parts[i].bytes);
    }
  }
  const attribute *v = find(d, NVFP4_DNN_TENSOR_IS_VIRTUAL, NVFP4_DNN_TYPE_BOOLEAN);
  t.is_virtual = v != NULL && v->bytes[0] != 0;
  t.type = int_of(d, NVFP4_DNN_TENSOR_DATA_TYPE, NVFP4_DNN_TYPE_DATA_TYPE);
  t.reordering = int_of(d, NVFP4_DNN_TENSOR_REORDERING_MODE, NVFP4_DNN_TYPE_TENSOR_REORDERING);
  return t;
}

static bool has_shape(const tensor *t, int64_t rows, int64_t columns, bool column_major, int type, bool is_virtual) {
  return t->dimensions[0] == 1 && t->dimensions[1] == rows && t->dimensions[2] == columns && t->strides[0] == rows * columns &&
         t->strides[1] == (column_major ? 1 : columns) && t->strides[2] == (column_major ? rows : 1) && t->type == type &&
         t->is_virtual == is_virtual;
}

/* ------------------------------------------------------------------------------------------------------------------------ graphs */

typedef struct product {
  int64_t m, n, k;
  tensor y, bias;
  bool scaled, biased;
} product;

static int64_t up(int64_t x, int64_t to) { return (x + to - 1) / to * to; }

static bool dequantises(const nvfp4_dnn_desc *op, int64_t rows, int64_t k, bool is_weight) {
  const tensor codes = tensor_of(op, NVFP4_DNN_DEQUANTIZE_X), scales = tensor_of(op, NVFP4_DNN_DEQUANTIZE_SCALE),
               y = tensor_of(op, NVFP4_DNN_DEQUANTIZE_Y);
  const attribute *blocks = find(op, NVFP4_DNN_DEQUANTIZE_BLOCK_SIZE, NVFP4_DNN_TYPE_INT32);
  const int32_t want[2] = {is_weight ? 16 : 1, is_weight ? 1 : 16};
  const int64_t columns = up(k / 16, 4);
  return op->type == NVFP4_DNN_OPERATION_BLOCK_SCALE_DEQUANTIZE && blocks != NULL && blocks->count == 2 &&
         memcmp(blocks->bytes, want, 8) == 0 && scales.reordering == NVFP4_DNN_REORDERING_F8_128X4 && codes.alignment == 16 &&
         scales.alignment == 16 && codes.id == (is_weight ? CUDNN_W : CUDNN_X) &&
         scales.id == (is_weight ? CUDNN_W_SCALES : CUDNN_X_SCALES) &&
         int_of(op, NVFP4_DNN_DEQUANTIZE_MATH_PREC, NVFP4_DNN_TYPE_DATA_TYPE) == NVFP4_DNN_FLOAT &&
         (is_weight
              ? has_shape(&codes, k, rows, true, NVFP4_DNN_FP4_E2M1, false) && has_shape(&y, k, rows, true, NVFP4_DNN_FLOAT, true) &&
                    has_shape(&scales, columns, up(rows, 128), true, NVFP4_DNN_FP8_E4M3, false)
              : has_shape(&codes, rows, k, false, NVFP4_DNN_FP4_E2M1, false) && has_shape(&y, rows, k, false, NVFP4_DNN_FLOAT, true) &&
                    has_shape(&scales, up(rows, 128), columns, false, NVFP4_DNN_FP8_E4M3, false));
}

static bool is_pointwise(const nvfp4_dnn_desc *op, int mode, int64_t x_id) {
  const nvfp4_dnn_desc *pw = desc_at(op, NVFP4_DNN_OPERATION_POINTWISE_PW, 0);
  return op != NULL && op->type == NVFP4_DNN_OPERATION_POINTWISE &&
         int_of(pw, NVFP4_DNN_POINTWISE_MODE, NVFP4_DNN_TYPE_POINTWISE_MODE) == mode &&
         int_of(pw, NVFP4_DNN_POINTWISE_MATH_PREC, NVFP4_DNN_TYPE_DATA_TYPE) == NVFP4_DNN_FLOAT &&
         tensor_of(op, NVFP4_DNN_OPERATION_POINTWISE_X).id == x_id;
}

static bool understand(const nvfp4_dnn_desc *graph, product *p) {
  const nvfp4_dnn_desc *ops[5];
  for (int i = 0; i < 5; i++) {
    ops[i] = desc_at(graph, NVFP4_DNN_OPERATIONGRAPH_OPS, i);
  }
  if (ops[2] == NULL || ops[2]->type != NVFP4_DNN_OPERATION_MATMUL) {
    return false;
  }
  const tensor a = tensor_of(ops[2], NVFP4_DNN_OPERATION_MATMUL_A), b = tensor_of(ops[2], NVFP4_DNN_OPERATION_MATMUL_B);
  tensor y = tensor_of(ops[2], NVFP4_DNN_OPERATION_MATMUL_C);
  *p = (product){.m = a.dimensions[1], .n = b.dimensions[2], .k = a.dimensions[2], .scaled = ops[3] != NULL, .biased = ops[4] != NULL};
  bool good =
      p->k % 32 == 0 && a.id == tensor_of(ops[0], NVFP4_DNN_DEQUANTIZE_Y).id && b.id == tensor_of(ops[1], NVFP4_DNN_DEQUANTIZE_Y).id &&
      dequantises(ops[0], p->m, p->k, false) && dequantises(ops[1], p->n, p->k, true) &&
      int_of(desc_at(ops[2], NVFP4_DNN_OPERATION_MATMUL_DESC, 0), NVFP4_DNN_MATMUL_COMP_TYPE, NVFP4_DNN_TYPE_DATA_TYPE) == NVFP4_DNN_FLOAT;
  if (p->scaled) {
    const tensor scale = tensor_of(ops[3], NVFP4_DNN_OPERATION_POINTWISE_B);
    good = good && has_shape(&y, p->m, p->n, false, NVFP4_DNN_FLOAT, true) && is_pointwise(ops[3], NVFP4_DNN_POINTWISE_MUL, y.id) &&
           scale.id == CUDNN_SCALE && has_shape(&scale, 1, 1, false, NVFP4_DNN_FLOAT, false) && scale.alignment == 4;
    y = tensor_of(ops[3], NVFP4_DNN_OPERATION_POINTWISE_Y);
  }
  if (p->biased) {
    p->bias = tensor_of(ops[4], NVFP4_DNN_OPERATION_POINTWISE_B);
    good = good && has_shape(&y, p->m, p->n, false, NVFP4_DNN_FLOAT, true) && is_pointwise(ops[4], NVFP4_DNN_POINTWISE_ADD, y.id) &&
           p->bias.id == CUDNN_BIAS && has_shape(&p->bias, 1, p->n, false, p->bias.type, false);
    y = tensor_of(ops[4], NVFP4_DNN_OPERATION_POINTWISE_Y);
  }
  p->y = y;
  return good && y.id == CUDNN_Y && y.alignment == 16 && has_shape(&y, p->m, p->n, false, y.type, false);
}

static int desc_finalize(nvfp4_dnn_desc *desc) {
  for (int i = 0; i < desc->count; i++) { /* what it is made of is finished; configurations come so from the heuristic */
    for (int64_t j = 0; desc->attributes[i].type == NVFP4_DNN_TYPE_DESCRIPTOR && j < desc->attributes[i].count; j++) {
      const nvfp4_dnn_desc *part = desc_at(desc, desc->attributes[i].name, j);
      if (part == NULL || !part->finalized) {
        return NOT_FINALIZED;
      }
    }
  }
  if (desc->type == NVFP4_DNN_EXECUTION_PLAN && find(desc, NVFP4_DNN_PLAN_HANDLE, NVFP4_DNN_TYPE_HANDLE) == NULL) {
    return BAD_PARAM;
  }
  desc->finalized = true;
  return NVFP4_DNN_SUCCESS;
}

/* The heuristic's one configuration keeps the graph as its "engine". */
static int desc_get(nvfp4_dnn_desc *desc, int name, int type, int64_t wanted, int64_t *count, void *values) {
  product p;
  nvfp4_dnn_desc *first = NULL;
  if (!desc->finalized && name != NVFP4_DNN_ENGINE_NUMERICAL_NOTE) {
    return NOT_FINALIZED;
  }
  *count = 1;
  switch (name) {
    case NVFP4_DNN_ENGINEHEUR_RESULTS:
      first = desc_at(desc, NVFP4_DNN_ENGINEHEUR_OPERATION_GRAPH, 0);
      *count = understand(first, &p) && !plays("refuse") ? 1 : 0;
      if (*count == 1 && wanted >= 1) {
        memcpy(&desc, values, 8);
        desc_set(desc, NVFP4_DNN_ENGINECFG_ENGINE, NVFP4_DNN_TYPE_DESCRIPTOR, 1, (const void *)&first);
        desc->finalized = true;
      }
      return NVFP4_DNN_SUCCESS;
    case NVFP4_DNN_ENGINECFG_ENGINE:
      return type == NVFP4_DNN_TYPE_DESCRIPTOR ? NVFP4_DNN_SUCCESS : BAD_PARAM;
    case NVFP4_DNN_ENGINE_NUMERICAL_NOTE:
      *(int32_t *)values = plays("random") ? NVFP4_DNN_NOTE_NONDETERMINISTIC : 0;
      return NVFP4_DNN_SUCCESS;
    case NVFP4_DNN_PLAN_WORKSPACE_SIZE:
      *(int64_t *)values = 4096;
      return NVFP4_DNN_SUCCESS;
    default:
      return BAD_PARAM;
  }
}

/* --------------------------------------------------------------------------------------------------------------------- execution */

static nvfp4_dtype dtype_of(int type) {
  return type == NVFP4_DNN_FLOAT ? NVFP4_DTYPE_F32 : type == NVFP4_DNN_HALF ? NVFP4_DTYPE_F16 : NVFP4_DTYPE_BF16;
}

static void *address_of(const nvfp4_dnn_desc *pack, int64_t id) {
  const attribute *ids = find(pack, NVFP4_DNN_VARIANT_PACK_UNIQUE_IDS, NVFP4_DNN_TYPE_INT64),
                  *addresses = find(pack, NVFP4_DNN_VARIANT_PACK_DATA_POINTERS, NVFP4_DNN_TYPE_VOID_PTR);
  void *address = NULL;
  for (int64_t i = 0; ids != NULL && addresses != NULL && ids->count == addresses->count && i < ids->count; i++) {
    if (memcmp(ids->bytes + 8 * i, &id, 8) == 0) {
      memcpy(&address, addresses->bytes + 8 * i, 8);
    }
  }
  return address;
}

static int execute(nvfp4_dnn_handle *handle, nvfp4_dnn_desc *plan, nvfp4_dnn_desc *pack) {
  product p;
  const attribute *own = find(pack, NVFP4_DNN_VARIANT_PACK_WORKSPACE, NVFP4_DNN_TYPE_VOID_PTR);
  if (!plan->finalized || !pack->finalized || own == NULL ||
      !understand(desc_at(desc_at(plan, NVFP4_DNN_PLAN_ENGINE_CONFIG, 0), NVFP4_DNN_ENGINECFG_ENGINE, 0), &p)) {
    return BAD_PARAM;
  }
  mock_fp4_product job = {.m = p.m,
                          .n = p.n,
                          .k = p.k,
                          .x = address_of(pack, CUDNN_X),
                          .w = address_of(pack, CUDNN_W),
                          .x_scales = address_of(pack, CUDNN_X_SCALES),
                          .w_scales = address_of(pack, CUDNN_W_SCALES),
                          .alpha = 1.0f,
                          .alpha_there = p.scaled ? address_of(pack, CUDNN_SCALE) : NULL,
                          .bias = p.biased ? address_of(pack, CUDNN_BIAS) : NULL,
                          .y = address_of(pack, CUDNN_Y),
                          .ldy_elems = p.n,
                          .y_dtype = dtype_of(p.y.type),
                          .bias_dtype = dtype_of(p.bias.type),
                          .workspace_bytes = 4096};
  memcpy(&job.workspace, own->bytes, 8);
  const void *const needed[] = {job.x, job.w, job.x_scales, job.w_scales, job.y, job.workspace};
  for (size_t i = 0; i < sizeof needed / sizeof needed[0]; i++) {
    if (needed[i] == NULL || (uintptr_t)needed[i] % 16 != 0) {
      return BAD_PARAM;
    }
  }
  if ((p.scaled && job.alpha_there == NULL) || (p.biased && job.bias == NULL)) {
    return BAD_PARAM;
  }
  void *arguments[] = {&job};
  return !plays("fail") && mock_cuda_launch(&mock_fp4_kernel, handle->stream, arguments) == 0 ? NVFP4_DNN_SUCCESS : EXECUTION_FAILED;
}

/* The exported names. */
#define EXPORT(member, symbol, result, arguments) \
  extern __typeof__(member) export_##member __asm__(symbol) __attribute__((alias(#member), visibility("default")));
NVFP4_DNN_FUNCTIONS(EXPORT)
