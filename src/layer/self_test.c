/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The self-test of a kernel: a small problem with every E2M1 code, many scales (zero, subnormal, 448), a row of zeros, ragged N; once without and once with bias, if the kernel takes one; on a GPU with several M and a K
 * of two sizes, as its kernels have code of their own for few and for many rows and cut a deep K into slices, and with an even N, one alpha and y in bf16, too: what a library would rather write by itself. CANONICAL kernels must give the bits of the
 * reference, BOUNDED ones keep the bound of docs/numerics.md. A kernel for dense layers gets weights of each type that it takes, zero, subnormal and of many exponents, and an odd K.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/fp_env.h"
#include "base/reason.h"
#include "format/activation.h"
#include "format/e2m1.h"
#include "format/e4m3.h"
#include "format/half.h"
#include "kernels/plugin.h"
#include "kernels/ref/spec.h"
#include "layer/context.h"
#include "layer/place.h"

enum {
  TEST_M = 3,
  TEST_M_MAX = 300,
  TEST_M_EVEN = 40,
  TEST_N = 37,
  TEST_N_EVEN = 32,
  TEST_K = 80,
  TEST_K_DENSE = TEST_K - 1,
  TEST_K_DEEP = 528, /* more than eight slices of two blocks each, and one block more */
  TEST_BLOCKS = TEST_K_DEEP / NVFP4_BLOCK,
  DEEP_ROW_STEP = 13 /* of a deep problem not every row is compared */
};

typedef struct problem {
  uint8_t codes[TEST_N][TEST_K_DEEP / 2], scales[TEST_N][TEST_BLOCKS];
  float x[TEST_M_MAX][TEST_K_DEEP], alpha[TEST_N], bias[TEST_N];
  float s_a;
  int m, n, k; /* what is used: rows that the kernel serves, near those of the test; TEST_N or TEST_N_EVEN; TEST_K, .._DEEP or .._DENSE */
  nvfp4_dtype y_dtype;                                          /* of y and bias */
  nvfp4_dtype x_dtype;                                          /* F32, or else the first that the kernel takes */
  bool one_alpha;                                               /* the kernel takes no more */
  uint32_t x_typed[TEST_M_MAX * TEST_K_DEEP];                   /* x in that type; x above holds what it became by rounding */
  nvfp4_dtype dtype;                                            /* of dense weights; NONE: NVFP4 */
  float w[TEST_N][TEST_K_DENSE], values[TEST_N * TEST_K_DENSE]; /* dense: what the weights are, and as they are stored */
} problem;

static size_t elem_bytes(nvfp4_dtype dtype) { return dtype == NVFP4_DTYPE_F32 ? 4 : 2; }

static uint32_t next_random(uint64_t *state) { /* Knuth's MMIX generator: enough for a test problem */
  *state = *state * 6364136223846793005u + 1442695040888963407u;
  return (uint32_t)(*state >> 33);
}

static void make_problem(problem *p) {
  uint64_t state = 20;
  for (int n = 0; n < TEST_N; n++) {
    for (int i = 0; i < TEST_K_DEEP / 2; i++) {
      p->codes[n][i] = (uint8_t)next_random(&state);
    }
    for (int b = 0; b < TEST_BLOCKS; b++) {
      p->scales[n][b] = (uint8_t)(next_random(&state) % 0x7F); /* 0 .. 0x7E = 448 */
    }
    p->alpha[n] = n < TEST_N / 2 && !p->one_alpha ? 0x1.8p-7f : 0x1.23456p-5f;
    p->bias[n] = ((float)(next_random(&state) % 256) - 128.0f) * 0.5f; /* a bf16 number */
  }
  for (int m = 0; m < TEST_M_MAX; m++) {
    for (int i = 0; i < TEST_K_DEEP; i++) {
      p->x[m][i] = m == 1 ? 0.0f : ((float)(next_random(&state) % 65536) - 32768.0f) * 0x1p-12f;
    }
  }
  nvfp4_from_f32(p->x[0], p->x_dtype, p->x_typed, TEST_M_MAX * TEST_K_DEEP);
  nvfp4_to_f32(p->x_typed, p->x_dtype, p->x[0], TEST_M_MAX * TEST_K_DEEP);
  p->s_a = 96.0f;
}

static void make_dense_weights(problem *p, nvfp4_dtype dtype) {
  uint64_t state = 30;
  p->dtype = dtype;
  for (int n = 0; n < TEST_N; n++) {
    for (int k = 0; k < TEST_K_DENSE; k++) {
      float value = ((float)(next_random(&state) % 65536) - 32768.0f) * 0x1p-12f;
      p->w[n][k] = n == 1 ? 0.0f : k % 16 == n % 16 ? value * 0x1p-130f : ldexpf(value, -(int)(next_random(&state) % 20));
    }
  }
  nvfp4_from_f32(p->w[0], dtype, p->values, TEST_N * TEST_K_DENSE);
  nvfp4_to_f32(p->values, dtype, p->w[0], TEST_N * TEST_K_DENSE);
}

/* The reference result and, for BOUNDED kernels, the sum of the terms' magnitudes. */
static float expected(const problem *p, nvfp4_mode mode, int m, int n, bool with_bias, double *absolute) {
  nvfp4_spec_row w = {p->codes[n], p->scales[n]};
  const float *bias = with_bias ? &p->bias[n] : NULL;
  float acc;
  double sum = 0;
  if (mode == NVFP4_MODE_UNQUANTISED) {
    acc = nvfp4_spec_w16a16(p->x[m], p->w[n], p->k);
    for (int k = 0; k < p->k; k++) {
      sum += fabs((double)p->x[m][k] * p->w[n][k]);
    }
  } else if (mode == NVFP4_MODE_W4A4) {
    uint8_t codes[TEST_K_DEEP / 2], scales[TEST_BLOCKS];
    uint64_t magnitude;
    nvfp4_quantise_activation_row(p->x[m], p->k, p->s_a, codes, scales);
    nvfp4_spec_row x = {codes, scales};
    acc = nvfp4_spec_w4a4(x, w, p->k);
    nvfp4_oracle_w4a4(x, w, p->k, &magnitude);
    sum = (double)magnitude * 0x1p-20;
  } else {
    acc = nvfp4_spec_w4a16(p->x[m], w, p->k);
    for (int k = 0; k < p->k; k++) {
      uint8_t code = (k & 1) != 0 ? w.codes[k / 2] >> 4 : w.codes[k / 2] & 15;
      sum += fabs((double)p->x[m][k] * nvfp4_e2m1_to_f32(code) * nvfp4_e4m3_to_f32(w.scales[k / NVFP4_BLOCK]));
    }
  }
  *absolute = fabs(p->alpha[n]) * sum + (with_bias ? fabs(p->bias[n]) : 0);
  return nvfp4_spec_finish(acc, p->alpha[n], bias);
}

/* y as it was read back, of p->y_dtype without gaps. */
static nvfp4_status compare(const nvfp4_kernel *kernel, const problem *p, const void *y, bool with_bias, nvfp4_reason *reason) {
  const size_t elem = elem_bytes(p->y_dtype);
  const double u_out = p->y_dtype == NVFP4_DTYPE_F32 ? 0 : 0x1p-8;
  for (int m = 0; m < p->m; m += p->k == TEST_K_DEEP ? DEEP_ROW_STEP : 1) {
    for (int n = 0; n < p->n; n++) {
      double absolute;
      float want = expected(p, kernel->numerics.mode, m, n, with_bias, &absolute), got;
      nvfp4_to_f32((const char *)y + (size_t)(m * p->n + n) * elem, p->y_dtype, &got, 1);
      bool good;
      if (kernel->numerics.numerics_class == NVFP4_CLASS_BOUNDED) {
        double bound = (p->k + 8) * 0x1p-23 * absolute;
        good = fabs((double)got - want) <= bound + u_out * (fabs((double)want) + bound); /* a NaN fails; no number here is subnormal */
      } else {
        uint32_t typed = 0;
        nvfp4_from_f32(&want, p->y_dtype, &typed, 1);
        good = memcmp(&typed, (const char *)y + (size_t)(m * p->n + n) * elem, elem) == 0;
      }
      if (!good) {
        return nvfp4_reject(reason, NVFP4_E_INTERNAL,
                            "%s failed its self-test at M=%d N=%d K=%d, y %s%s, row %d, column %d: found %a, needs %a; the kernel is not "
                            "used: please report it",
                            kernel->id, p->m, p->n, p->k, nvfp4_dtype_name(p->y_dtype), with_bias ? " with bias" : "", m, n, (double)got,
                            (double)want);
      }
    }
  }
  return NVFP4_OK;
}

static nvfp4_weights weights_of(const problem *p) {
  nvfp4_weights weights = {.struct_size = sizeof weights, .n = p->n, .k = p->k, .dtype = p->dtype};
  if (p->dtype != NVFP4_DTYPE_NONE) {
    weights.values = p->values;
    weights.values_stride_bytes = p->k * (int64_t)elem_bytes(p->dtype);
  } else {
    weights.codes = p->codes[0];
    weights.codes_stride_bytes = TEST_K_DEEP / 2;
    weights.scales = p->scales[0];
    weights.scales_stride_bytes = TEST_BLOCKS;
  }
  return weights;
}

static nvfp4_layer_desc desc_of(const nvfp4_kernel *kernel, const problem *p, nvfp4_device device, bool with_bias) {
  static const nvfp4_partition two[] = {
      {.n_rows = TEST_N / 2, .weight.value = 1, .input.value = 1},
      {.n_first = TEST_N / 2, .n_rows = TEST_N - TEST_N / 2, .weight.value = 2, .input.value = 1},
  };
  static const nvfp4_partition one = {.n_rows = TEST_N, .weight.value = 1, .input.value = 1};
  static const nvfp4_partition even = {.n_rows = TEST_N_EVEN, .weight.value = 1, .input.value = 1};
  static const nvfp4_partition dense = {.n_rows = TEST_N, .weight.value = 1};
  return (nvfp4_layer_desc){.struct_size = sizeof(nvfp4_layer_desc),
                            .name = "self-test",
                            .n = p->n,
                            .k = p->k,
                            .m_first = p->m,
                            .m_last = p->m,
                            .mode = kernel->numerics.mode,
                            .x_dtype = p->x_dtype,
                            .y_dtype = p->y_dtype,
                            .bias_dtype = with_bias ? p->y_dtype : NVFP4_DTYPE_NONE,
                            .device = device,
                            .partitions = p->dtype != NVFP4_DTYPE_NONE ? &dense
                                          : p->n != TEST_N             ? &even
                                          : p->one_alpha               ? &one
                                                                       : two,
                            .partition_count = p->dtype != NVFP4_DTYPE_NONE || p->n != TEST_N || p->one_alpha ? 1 : 2,
                            .weight_dtype = p->dtype};
}

/* The problem where the kernel works: its inputs, y poisoned with NaN, workspace. */
typedef struct placed {
  void *x, *alpha, *bias, *y, *workspace, *uploaded;
  nvfp4_weights weights;
  nvfp4_packed packed;
} placed;

static nvfp4_status place_problem(const nvfp4_visit *visit, const problem *p, size_t workspace_bytes, placed *out, nvfp4_reason *reason) {
  const nvfp4_weights weights = weights_of(p);
  const size_t x_bytes = (size_t)p->m * TEST_K_DEEP * elem_bytes(p->x_dtype), y_bytes = (size_t)(p->m * p->n) * elem_bytes(p->y_dtype);
  uint32_t bias[TEST_N];
  void *poison = malloc(y_bytes);
  if (poison == NULL) {
    return nvfp4_reject(reason, NVFP4_E_NOMEM, "out of memory for a self-test");
  }
  memset(poison, 0xFF, y_bytes);
  nvfp4_status status = nvfp4_place_copy(visit, poison, y_bytes, &out->y, reason);
  free(poison);
  NVFP4_TRY(status);
  NVFP4_TRY(nvfp4_place_copy(visit, p->x_typed, x_bytes, &out->x, reason));
  NVFP4_TRY(nvfp4_place_copy(visit, p->alpha, sizeof p->alpha, &out->alpha, reason));
  nvfp4_from_f32(p->bias, p->y_dtype, bias, TEST_N);
  NVFP4_TRY(nvfp4_place_copy(visit, bias, sizeof bias, &out->bias, reason));
  NVFP4_TRY(nvfp4_place_alloc(visit->place, workspace_bytes, &out->workspace, reason));
  return nvfp4_place_weights(visit, &weights, &out->weights, &out->uploaded, reason);
}

static void free_placed(const nvfp4_host *host, const nvfp4_kernel *kernel, const nvfp4_place *place, placed *there) {
  if (there->packed.data != NULL) {
    kernel->layout->free_packed(host, &there->packed);
  }
  void *const memory[] = {there->x, there->alpha, there->bias, there->y, there->workspace, there->uploaded};
  for (size_t i = 0; i < sizeof memory / sizeof memory[0]; i++) {
    nvfp4_place_free(place, memory[i]);
  }
}

/* Packs, prepares and applies; y [p->m, p->n] of p->y_dtype. */
static nvfp4_status run_kernel(const nvfp4_host *host, const nvfp4_kernel *kernel, const nvfp4_visit *visit, const problem *p,
                               const nvfp4_layer_desc *desc, placed *there, void *y, nvfp4_reason *reason) {
  bool with_bias = desc->bias_dtype != NVFP4_DTYPE_NONE;
  size_t workspace_bytes = kernel->workspace_bytes(desc, p->m), y_bytes = (size_t)(p->m * p->n) * elem_bytes(p->y_dtype);
  NVFP4_TRY(place_problem(visit, p, workspace_bytes, there, reason));
  nvfp4_process_args process = {sizeof process, &there->weights, there->alpha, there->alpha, visit->stream};
  NVFP4_TRY(kernel->layout->process_weights_after_loading(host, &process, &there->packed, reason));
  NVFP4_TRY(nvfp4_kernel_prepare(kernel, host, desc, &there->packed, reason));
  nvfp4_kernel_args args = {.struct_size = sizeof args,
                            .m = p->m,
                            .n = p->n,
                            .k = p->k,
                            .x = there->x,
                            .ldx_elems = TEST_K_DEEP,
                            .x_dtype = p->x_dtype,
                            .s_a = kernel->numerics.mode == NVFP4_MODE_W4A4 ? p->s_a : 0,
                            .alpha = there->alpha,
                            .bias = with_bias ? there->bias : NULL,
                            .bias_dtype = desc->bias_dtype,
                            .y = there->y,
                            .ldy_elems = p->n,
                            .y_dtype = p->y_dtype,
                            .workspace = there->workspace,
                            .workspace_bytes = workspace_bytes,
                            .stream = visit->stream};
  NVFP4_TRY(kernel->apply_weights(host, &there->packed, &args, reason));
  if (visit->place->cuda == NULL) {
    memcpy(y, there->y, y_bytes);
    return NVFP4_OK;
  }
  NVFP4_TRY(nvfp4_cuda_copy_rows(visit->place->cuda, y, y_bytes, there->y, y_bytes, y_bytes, 1, visit->stream, reason));
  return nvfp4_place_wait(visit, reason);
}

/* Without bias and, if the kernel takes one, with it; p->m rows. */
static nvfp4_status test_problem(const nvfp4_host *host, const nvfp4_kernel *kernel, nvfp4_device device, const nvfp4_visit *visit,
                                 const problem *p, void *y, nvfp4_reason *reason) {
  for (int with_bias = 0; with_bias <= 1; with_bias++) {
    const nvfp4_layer_desc desc = desc_of(kernel, p, device, with_bias != 0);
    if (with_bias != 0 && kernel->can_implement(&desc, NULL) != NVFP4_OK) {
      break;
    }
    placed there = {0};
    nvfp4_status status = run_kernel(host, kernel, visit, p, &desc, &there, y, reason);
    free_placed(host, kernel, visit->place, &there);
    NVFP4_TRY(status);
    NVFP4_TRY(compare(kernel, p, y, with_bias != 0, reason));
  }
  return NVFP4_OK;
}

/* A dense kernel with each type of weights that it takes. */
static nvfp4_status test_rows(const nvfp4_host *host, const nvfp4_kernel *kernel, nvfp4_device device, const nvfp4_visit *visit, problem *p,
                              void *y, nvfp4_reason *reason) {
  static const nvfp4_dtype dtypes[] = {NVFP4_DTYPE_BF16, NVFP4_DTYPE_F16, NVFP4_DTYPE_F32};
  if (kernel->numerics.mode != NVFP4_MODE_UNQUANTISED) {
    return test_problem(host, kernel, device, visit, p, y, reason);
  }
  for (int i = 0; i < 3; i++) {
    make_dense_weights(p, dtypes[i]);
    nvfp4_layer_desc desc = desc_of(kernel, p, device, false);
    if (kernel->can_implement(&desc, NULL) == NVFP4_OK) {
      NVFP4_TRY(test_problem(host, kernel, device, visit, p, y, reason));
    }
  }
  return NVFP4_OK;
}

/* The first types that the kernel takes, and two alphas if it takes those: tensor cores do not take f32 x, and some libraries write 16 bits for one alpha alone. */
static void choose_types(const nvfp4_kernel *kernel, nvfp4_device device, problem *p) {
  static const struct {
    nvfp4_dtype x, y;
  } types[] = {{NVFP4_DTYPE_F32, NVFP4_DTYPE_F32},
               {NVFP4_DTYPE_BF16, NVFP4_DTYPE_F32},
               {NVFP4_DTYPE_F16, NVFP4_DTYPE_F32},
               {NVFP4_DTYPE_F32, NVFP4_DTYPE_BF16},
               {NVFP4_DTYPE_BF16, NVFP4_DTYPE_BF16}};
  for (int one_alpha = 0; one_alpha <= 1; one_alpha++) {
    for (size_t i = 0; i < sizeof types / sizeof types[0]; i++) {
      p->x_dtype = types[i].x;
      p->y_dtype = types[i].y;
      p->one_alpha = one_alpha != 0;
      const nvfp4_layer_desc desc = desc_of(kernel, p, device, false);
      if (kernel->can_implement(&desc, NULL) == NVFP4_OK) {
        return;
      }
    }
  }
}

/* A number of rows near `m` that the kernel serves; 0: none that the test has. */
static int served_near(const nvfp4_kernel *kernel, int m) {
  int64_t served = kernel->m_last != 0 && kernel->m_last < m ? kernel->m_last : kernel->m_first > m ? kernel->m_first : m;
  return served <= TEST_M_MAX ? (int)served : 0;
}

/* Shape and alpha with which a library writes y itself, in fp32 and in bf16. */
static nvfp4_status test_even(const nvfp4_host *host, const nvfp4_kernel *kernel, nvfp4_device device, const nvfp4_visit *visit, problem *p,
                              void *y, nvfp4_reason *reason) {
  static const nvfp4_dtype dtypes[] = {NVFP4_DTYPE_F32, NVFP4_DTYPE_BF16};
  p->m = served_near(kernel, TEST_M_EVEN);
  p->n = TEST_N_EVEN;
  p->k = TEST_K;
  for (int n = 0; n < TEST_N; n++) {
    p->alpha[n] = 0x1.8p-7f;
  }
  for (int i = 0; i < 2 && p->m != 0; i++) {
    p->y_dtype = dtypes[i];
    nvfp4_layer_desc desc = desc_of(kernel, p, device, false);
    if (kernel->can_implement(&desc, NULL) == NVFP4_OK) {
      NVFP4_TRY(test_problem(host, kernel, device, visit, p, y, reason));
    }
  }
  return NVFP4_OK;
}

static nvfp4_status test_all(const nvfp4_host *host, const nvfp4_kernel *kernel, nvfp4_device device, const nvfp4_visit *visit, problem *p,
                             void *y, nvfp4_reason *reason) {
  static const int rows[] = {TEST_M, 40, TEST_M_MAX};
  bool dense = kernel->numerics.mode == NVFP4_MODE_UNQUANTISED;
  p->m = served_near(kernel, rows[0]);
  p->n = TEST_N;
  p->k = dense ? TEST_K_DENSE : TEST_K;
  p->dtype = dense ? NVFP4_DTYPE_BF16 : NVFP4_DTYPE_NONE;
  choose_types(kernel, device, p);
  make_problem(p);
  if (p->m == 0) {
    return nvfp4_reject(reason, NVFP4_E_UNSUPPORTED, "%s serves %lld rows at least; its self-test has %d at most", kernel->id,
                        (long long)kernel->m_first, TEST_M_MAX);
  }
  if (device.kind == NVFP4_DEVICE_CPU || dense) {
    return test_rows(host, kernel, device, visit, p, y, reason);
  }
  for (int deep = 0; deep <= 1; deep++) {
    p->k = deep != 0 ? TEST_K_DEEP : TEST_K;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
      int before = i == 0 ? 0 : p->m;
      p->m = served_near(kernel, rows[i]);
      if (p->m != 0 && p->m != before) {
        NVFP4_TRY(test_rows(host, kernel, device, visit, p, y, reason));
      }
    }
  }
  return test_even(host, kernel, device, visit, p, y, reason);
}

nvfp4_status nvfp4_self_test_kernel(const nvfp4_host *host, const nvfp4_kernel *kernel, nvfp4_device device, nvfp4_reason *reason) {
  nvfp4_place place;
  nvfp4_visit visit;
  NVFP4_TRY(nvfp4_place_find(host->cuda, device, &place, reason));
  NVFP4_TRY(nvfp4_place_enter(&place, true, &visit, reason));
  problem *p = calloc(1, sizeof *p);
  float *y = malloc(TEST_M_MAX * TEST_N * sizeof *y);
  nvfp4_status status = NVFP4_OK;
  if (p == NULL || y == NULL) {
    status = nvfp4_reject(reason, NVFP4_E_NOMEM, "out of memory for a self-test");
  } else {
    nvfp4_fp_env before = nvfp4_fp_env_enter();
    status = test_all(host, kernel, device, &visit, p, y, reason);
    nvfp4_fp_env_leave(before);
  }
  nvfp4_status left = nvfp4_place_leave(&visit, status == NVFP4_OK ? reason : NULL);
  free(p);
  free(y);
  return status != NVFP4_OK ? status : left;
}
