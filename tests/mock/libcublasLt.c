/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A cuBLASLt that knows one product, NVFP4 with VEC16_UE4M3 scales, and computes it in the memory of the mock CUDA driver. It is strict about how it is asked: every attribute that the manual
 * wants must have been set, with its size, before the heuristic; pointers and strides must be aligned as the preference says; an algorithm serves the kind of product that it was found for. What is
 * wrong gives INVALID_VALUE.
 *
 * MOCK_CUBLASLT says what to play: "version=120800", and "refuse=status", "refuse=count" or "refuse=state", the three ways to say that something is unsupported; "refuse=bias" refuses products with
 * bias alone, "refuse=matmul" every product when it is to be computed.
 */
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fp4_product.h"
#include "kernels/vendor/cublaslt.h"

enum { INVALID_VALUE = 7, EXECUTION_FAILED = 13, MAGIC = 0x4C74 };

struct nvfp4_lt_handle {
  uint64_t magic;
};
struct nvfp4_lt_desc {
  int32_t transa, transb, a_scale_mode, b_scale_mode, bias_type;
  uint32_t epilogue;
  const void *a_scale, *b_scale, *bias;
};
struct nvfp4_lt_layout {
  int type;
  uint64_t rows, columns;
  int64_t ld;
};
struct nvfp4_lt_preference {
  uint64_t workspace;
  uint32_t alignment[4]; /* A, B, C, D */
};

static bool plays(const char *what) {
  const char *text = getenv("MOCK_CUBLASLT");
  return text != NULL && strstr(text, what) != NULL;
}

static size_t get_version(void) {
  size_t version = 130100;
  const char *text = getenv("MOCK_CUBLASLT"), *at = text != NULL ? strstr(text, "version=") : NULL;
  if (at != NULL) {
    sscanf(at, "version=%zu", &version);
  }
  return version;
}

static const char *get_status_name(int status) {
  return status == INVALID_VALUE      ? "CUBLAS_STATUS_INVALID_VALUE"
         : status == EXECUTION_FAILED ? "CUBLAS_STATUS_EXECUTION_FAILED"
                                      : "CUBLAS_STATUS_OTHER";
}

static int create(nvfp4_lt_handle **handle) {
  *handle = malloc(sizeof **handle);
  (*handle)->magic = MAGIC;
  return NVFP4_LT_SUCCESS;
}

static int destroy(nvfp4_lt_handle *handle) {
  free(handle);
  return NVFP4_LT_SUCCESS;
}

static int desc_create(nvfp4_lt_desc **desc, int compute_type, int scale_type) {
  *desc = calloc(1, sizeof **desc);
  (*desc)->bias_type = -1;
  return compute_type == NVFP4_LT_COMPUTE_32F && scale_type == NVFP4_LT_R_32F ? NVFP4_LT_SUCCESS : INVALID_VALUE;
}

static int desc_destroy(nvfp4_lt_desc *desc) {
  free(desc);
  return NVFP4_LT_SUCCESS;
}

static int desc_set(nvfp4_lt_desc *desc, int attribute, const void *value, size_t bytes) {
  const struct {
    int attribute;
    void *to;
    size_t bytes;
  } known[] = {{NVFP4_LT_DESC_TRANSA, &desc->transa, 4},
               {NVFP4_LT_DESC_TRANSB, &desc->transb, 4},
               {NVFP4_LT_DESC_A_SCALE_MODE, &desc->a_scale_mode, 4},
               {NVFP4_LT_DESC_B_SCALE_MODE, &desc->b_scale_mode, 4},
               {NVFP4_LT_DESC_EPILOGUE, &desc->epilogue, 4},
               {NVFP4_LT_DESC_BIAS_DATA_TYPE, &desc->bias_type, 4},
               {NVFP4_LT_DESC_A_SCALE_POINTER, &desc->a_scale, 8},
               {NVFP4_LT_DESC_B_SCALE_POINTER, &desc->b_scale, 8},
               {NVFP4_LT_DESC_BIAS_POINTER, &desc->bias, 8}};
  for (size_t i = 0; i < sizeof known / sizeof known[0]; i++) {
    if (known[i].attribute == attribute && known[i].bytes == bytes) {
      memcpy(known[i].to, value, bytes);
      sched_yield(); /* threads that share a descriptor without a lock shall meet */
      return NVFP4_LT_SUCCESS;
    }
  }
  return INVALID_VALUE;
}

static int layout_create(nvfp4_lt_layout **layout, int type, uint64_t rows, uint64_t columns, int64_t ld) {
  *layout = malloc(sizeof **layout);
  **layout = (nvfp4_lt_layout){type, rows, columns, ld};
  return NVFP4_LT_SUCCESS;
}

static int layout_destroy(nvfp4_lt_layout *layout) {
  free(layout);
  return NVFP4_LT_SUCCESS;
}

static int layout_set(nvfp4_lt_layout *layout, int attribute, const void *value, size_t bytes) {
  void *to = attribute == NVFP4_LT_LAYOUT_COLS ? (void *)&layout->columns : attribute == NVFP4_LT_LAYOUT_LD ? (void *)&layout->ld : NULL;
  if (to == NULL || bytes != 8) {
    return INVALID_VALUE;
  }
  memcpy(to, value, bytes);
  return NVFP4_LT_SUCCESS;
}

static int preference_create(nvfp4_lt_preference **preference) {
  *preference = malloc(sizeof **preference);
  **preference = (nvfp4_lt_preference){0, {256, 256, 256, 256}};
  return NVFP4_LT_SUCCESS;
}

static int preference_destroy(nvfp4_lt_preference *preference) {
  free(preference);
  return NVFP4_LT_SUCCESS;
}

static int preference_set(nvfp4_lt_preference *preference, int attribute, const void *value, size_t bytes) {
  if (attribute == NVFP4_LT_PREF_MAX_WORKSPACE_BYTES && bytes == 8) {
    memcpy(&preference->workspace, value, bytes);
    return NVFP4_LT_SUCCESS;
  }
  if (attribute < NVFP4_LT_PREF_MIN_ALIGNMENT_A_BYTES || attribute > NVFP4_LT_PREF_MIN_ALIGNMENT_D_BYTES || bytes != 4) {
    return INVALID_VALUE;
  }
  memcpy(&preference->alignment[attribute - NVFP4_LT_PREF_MIN_ALIGNMENT_A_BYTES], value, bytes);
  return NVFP4_LT_SUCCESS;
}

/* What the manual says of 4-bit products. */
static bool well_asked(const nvfp4_lt_handle *handle, const nvfp4_lt_desc *desc, const nvfp4_lt_layout *a, const nvfp4_lt_layout *b,
                       const nvfp4_lt_layout *c, const nvfp4_lt_layout *d) {
  const bool with_bias = desc->epilogue == NVFP4_LT_EPILOGUE_BIAS;
  const int64_t elem = d->type == NVFP4_LT_R_32F ? 4 : 2;
  const void *const scales[] = {desc->a_scale, desc->b_scale};
  bool good = handle != NULL && handle->magic == MAGIC && desc->transa == NVFP4_LT_OP_T && desc->transb == NVFP4_LT_OP_N &&
              desc->a_scale_mode == NVFP4_LT_SCALE_VEC16_UE4M3 && desc->b_scale_mode == NVFP4_LT_SCALE_VEC16_UE4M3 &&
              a->type == NVFP4_LT_R_4F_E2M1 && b->type == NVFP4_LT_R_4F_E2M1 && a->rows == b->rows && a->ld == (int64_t)a->rows &&
              b->ld == (int64_t)b->rows && a->ld % 32 == 0 && d->rows == a->columns && d->columns == b->columns && d->columns > 0 &&
              d->ld >= (int64_t)d->rows && d->ld * elem % 16 == 0 && (int64_t)d->rows * elem % 16 == 0 && c->type == d->type &&
              c->rows == d->rows && c->columns == d->columns && c->ld == d->ld &&
              (d->type == NVFP4_LT_R_32F || d->type == NVFP4_LT_R_16F || d->type == NVFP4_LT_R_16BF);
  for (int i = 0; i < 2; i++) {
    good = good && scales[i] != NULL && (uintptr_t)scales[i] % 16 == 0;
  }
  return good && (desc->epilogue == 0 || with_bias) && (!with_bias || (desc->bias != NULL && desc->bias_type >= 0));
}

/* What an algorithm of the mock's says: what it was found for. */
static nvfp4_lt_algo algo_of(const nvfp4_lt_desc *desc, const nvfp4_lt_layout *a, const nvfp4_lt_layout *d, uint64_t workspace,
                             uint32_t alignment) {
  return (nvfp4_lt_algo){{MAGIC, a->rows, a->columns, (uint64_t)d->type, desc->epilogue, workspace, alignment, 0}};
}

static int get_heuristic(nvfp4_lt_handle *handle, nvfp4_lt_desc *desc, nvfp4_lt_layout *a, nvfp4_lt_layout *b, nvfp4_lt_layout *c,
                         nvfp4_lt_layout *d, nvfp4_lt_preference *preference, int requested, nvfp4_lt_heuristic *results, int *returned) {
  *returned = 0;
  if (requested < 1 || !well_asked(handle, desc, a, b, c, d) || preference->workspace == 0) {
    return INVALID_VALUE;
  }
  if (plays("refuse=status") || (plays("refuse=bias") && desc->epilogue != 0)) {
    return NVFP4_LT_NOT_SUPPORTED;
  }
  if (plays("refuse=count")) {
    return NVFP4_LT_SUCCESS;
  }
  *results = (nvfp4_lt_heuristic){.algo = algo_of(desc, a, d, preference->workspace / 2, preference->alignment[3]),
                                  .workspace_bytes = preference->workspace / 2,
                                  .state = plays("refuse=state") ? NVFP4_LT_NOT_SUPPORTED : NVFP4_LT_SUCCESS};
  *returned = 1;
  return NVFP4_LT_SUCCESS;
}

static nvfp4_dtype dtype_of(int type) {
  return type == NVFP4_LT_R_32F ? NVFP4_DTYPE_F32 : type == NVFP4_LT_R_16F ? NVFP4_DTYPE_F16 : NVFP4_DTYPE_BF16;
}

static int matmul(nvfp4_lt_handle *handle, nvfp4_lt_desc *desc, const void *alpha, const void *a, nvfp4_lt_layout *a_layout, const void *b,
                  nvfp4_lt_layout *b_layout, const void *beta, const void *c, nvfp4_lt_layout *c_layout, void *d, nvfp4_lt_layout *d_layout,
                  const nvfp4_lt_algo *algo, void *workspace, size_t workspace_bytes, void *stream) {
  const nvfp4_lt_algo want = algo_of(desc, a_layout, d_layout, algo->data[5], (uint32_t)algo->data[6]);
  float factors[2];
  memcpy(&factors[0], alpha, 4);
  memcpy(&factors[1], beta, 4);
  if (!well_asked(handle, desc, a_layout, b_layout, c_layout, d_layout) || c != d || factors[1] != 0 ||
      memcmp(&want, algo, sizeof want) != 0 || workspace_bytes < algo->data[5] || (uintptr_t)workspace % 256 != 0 ||
      (uintptr_t)a % 256 != 0 || (uintptr_t)b % 256 != 0 || (uintptr_t)d % algo->data[6] != 0 || (uintptr_t)desc->bias % 16 != 0) {
    return INVALID_VALUE;
  }
  mock_fp4_product product = {.m = (int64_t)d_layout->columns,
                              .n = (int64_t)d_layout->rows,
                              .k = (int64_t)a_layout->rows,
                              .x = b,
                              .w = a,
                              .x_scales = desc->b_scale,
                              .w_scales = desc->a_scale,
                              .alpha = factors[0],
                              .bias = desc->epilogue != 0 ? desc->bias : NULL,
                              .y = d,
                              .ldy_elems = d_layout->ld,
                              .y_dtype = dtype_of(d_layout->type),
                              .bias_dtype = dtype_of(desc->bias_type),
                              .workspace = workspace,
                              .workspace_bytes = algo->data[5]};
  void *arguments[] = {&product};
  return !plays("refuse=matmul") && mock_cuda_launch(&mock_fp4_kernel, stream, arguments) == 0 ? NVFP4_LT_SUCCESS : EXECUTION_FAILED;
}

/* The exported names. */
#define EXPORT(member, symbol, result, arguments) \
  extern __typeof__(member) export_##member __asm__(symbol) __attribute__((alias(#member), visibility("default")));
NVFP4_LT_FUNCTIONS(EXPORT)
