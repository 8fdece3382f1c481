/* SPDX-License-Identifier: Apache-2.0 */
#define _POSIX_C_SOURCE 200809L /* setenv */
#include "cuda_support.h"

#include <dlfcn.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "format/half.h"

extern const nvfp4_kernel nvfp4_kernel_cuda_emulation_w4a4, nvfp4_kernel_cuda_emulation_w4a16, nvfp4_kernel_cuda_sm80_w4a16,
    nvfp4_kernel_cuda_sm90_w4a16, nvfp4_kernel_cuda_sm90_prefill_w4a16, nvfp4_kernel_cuda_sm90_w4a4, nvfp4_kernel_vendor_cublaslt_w4a4,
    nvfp4_kernel_vendor_cudnn_w4a4, nvfp4_kernel_cuda_sm100_w4a4, nvfp4_kernel_cuda_sm120_w4a4;

static void *mock_symbol(const char *name) {
  void *library = dlopen(NVFP4_CUDA_DRIVER, RTLD_NOW | RTLD_LOCAL);
  return library != NULL ? dlsym(library, name) : NULL;
}

bool test_cuda_is_mock(void) { return mock_symbol("mock_cuda_live") != NULL; }

static size_t ask_mock(const char *name) {
  size_t (*ask)(void);
  void *symbol = mock_symbol(name);
  memcpy(&ask, &symbol, sizeof symbol);
  return ask != NULL ? ask() : 0;
}

size_t test_cuda_live(void) { return ask_mock("mock_cuda_live"); }

size_t test_cuda_most_bytes(void) { return ask_mock("mock_cuda_most_bytes"); }

size_t test_cuda_loads(void) { return ask_mock("mock_cuda_loads"); }

nvfp4_context *test_cuda_context(const char *mock) {
  static const nvfp4_kernel *const kernels[] = {&nvfp4_kernel_cuda_emulation_w4a4,     &nvfp4_kernel_cuda_emulation_w4a16,
                                                &nvfp4_kernel_cuda_sm80_w4a16,         &nvfp4_kernel_cuda_sm90_w4a16,
                                                &nvfp4_kernel_cuda_sm90_prefill_w4a16, &nvfp4_kernel_cuda_sm90_w4a4,
                                                &nvfp4_kernel_vendor_cublaslt_w4a4,    &nvfp4_kernel_vendor_cudnn_w4a4,
                                                &nvfp4_kernel_cuda_sm100_w4a4,         &nvfp4_kernel_cuda_sm120_w4a4};
  nvfp4_options options = {.struct_size = sizeof options, .threads = 2};
  nvfp4_context *context;
  nvfp4_reason reason = {0};
  setenv("MOCK_CUDA", mock, 1);
  assert_ok(nvfp4_context_create(&options, &context, &reason), reason);
  if (nvfp4_context_machine(context)->gpu_count == 0 && !test_cuda_is_mock()) {
    nvfp4_context_destroy(context);
    skip();
  }
  for (size_t i = 0; i < context->kernel_count; i++) {
    nvfp4_known_kernel *known = &context->kernels[i];
    for (size_t j = 0; j < sizeof kernels / sizeof kernels[0]; j++) {
      known->kernel = known->kernel == NULL && strcmp(known->id, kernels[j]->id) == 0 ? kernels[j] : known->kernel;
    }
  }
  return context;
}

void *test_cuda_run(nvfp4_context *context, const char *kernel, const test_layer *test, nvfp4_layer_desc desc, const void *x,
                    const nvfp4_quantised_x *quantised_x, int64_t m) {
  nvfp4_reason reason = {0};
  nvfp4_plan *plan = NULL;
  nvfp4_layer *layer = NULL;
  nvfp4_weights weights = test_layer_weights(test);
  nvfp4_policy policy = {.struct_size = sizeof policy, .kernel = kernel};
  desc.device = (nvfp4_device){NVFP4_DEVICE_CUDA, 0};
  assert_ok(nvfp4_init_linear_kernel(context, &desc, &policy, &plan, NULL, &reason), reason);
  assert_ok(nvfp4_layer_create(context, plan, &weights, &layer, &reason), reason);
  size_t y_bytes = (size_t)(m * desc.n) * (desc.y_dtype == NVFP4_DTYPE_F32 ? 4 : 2);
  void *y = malloc(y_bytes), *bias = malloc((size_t)desc.n * sizeof(float));
  memset(y, 0xFF, y_bytes);
  if (desc.bias_dtype != NVFP4_DTYPE_NONE) {
    nvfp4_from_f32(test->bias, desc.bias_dtype, bias, desc.n);
  }
  nvfp4_apply_args args = {.struct_size = sizeof args,
                           .m = m,
                           .x = x,
                           .ldx_elems = desc.k,
                           .quantised_x = quantised_x,
                           .bias = desc.bias_dtype != NVFP4_DTYPE_NONE ? bias : NULL,
                           .y = y,
                           .ldy_elems = desc.n};
  assert_ok(nvfp4_layer_apply_host(layer, &args, &reason), reason);
  nvfp4_layer_destroy(layer);
  nvfp4_plan_free(plan);
  free(bias);
  return y;
}

void test_cuda_exact(nvfp4_context *context, const char *kernel, const test_cuda_case *c) {
  const bool with_bias = c->bias_dtype != NVFP4_DTYPE_NONE;
  const size_t y_bytes = (size_t)(c->m * c->n) * (c->y_dtype == NVFP4_DTYPE_F32 ? 4 : 2);
  test_layer test = test_layer_make(c->n, c->k, (uint64_t)(c->n + c->k));
  test_random random = {(uint64_t)c->m};
  float *x = malloc((size_t)(c->m * c->k) * sizeof *x), *want = malloc((size_t)(c->m * c->n) * sizeof *want);
  uint8_t *typed_want = malloc(y_bytes);
  uint16_t *half = malloc((size_t)(c->m * c->k) * sizeof *half);
  for (int64_t j = 0; j < c->m * c->k; j++) {
    x[j] = test_random_gauss(&random);
  }
  nvfp4_from_f32(x, NVFP4_DTYPE_BF16, half, c->m * c->k);
  nvfp4_to_f32(half, NVFP4_DTYPE_BF16, x, c->m * c->k);
  if (c->two_alphas) {
    test.partitions[0].n_rows = c->n / 2;
    test.partitions[1] = (nvfp4_partition){c->n / 2, c->n - c->n / 2, {0x1.234p-8f, NVFP4_GLOBAL_MULTIPLIER}, test.partitions[0].input};
    test.partition_count = 2;
  }
  if (with_bias) {
    uint8_t *typed = malloc((size_t)c->n * 4);
    nvfp4_from_f32(test.bias, c->bias_dtype, typed, c->n);
    nvfp4_to_f32(typed, c->bias_dtype, test.bias, c->n);
    free(typed);
  }
  nvfp4_layer_desc desc = test_layer_desc(&test, NVFP4_MODE_W4A4);
  desc.x_dtype = NVFP4_DTYPE_BF16;
  desc.y_dtype = c->y_dtype;
  desc.bias_dtype = c->bias_dtype;
  desc.m_first = 1;
  desc.m_last = c->m;
  void *y = test_cuda_run(context, kernel, &test, desc, half, NULL, c->m);
  test_layer_reference(&test, NVFP4_MODE_W4A4, x, c->m, with_bias, want);
  nvfp4_from_f32(want, c->y_dtype, typed_want, c->m * c->n);
  assert_memory_equal(y, typed_want, y_bytes);
  free(y);
  free(x);
  free(want);
  free(typed_want);
  free(half);
  test_layer_free(&test);
}

/* A context for the kernel: what is for Blackwell says so in its id. Skips the test on a GPU of another kind. */
static nvfp4_context *context_for(const char *kernel) {
  char mock[16] = "";
  int sm = 0;
  if (sscanf(kernel, "cuda_sm%d_", &sm) == 1 && sm >= 100) {
    snprintf(mock, sizeof mock, "sm=%d", sm);
  }
  nvfp4_context *context = test_cuda_context(mock);
  if (mock[0] != '\0' && nvfp4_context_machine(context)->gpus[0].sm / 10 != sm / 10) {
    nvfp4_context_destroy(context);
    skip();
  }
  return context;
}

/* sum of |x w sx sw| |alpha| in A of docs/numerics.md: the reference with all signs cleared. */
void test_cuda_bound(const char *kernel, nvfp4_mode mode, nvfp4_dtype x_dtype, int64_t m_first) {
  static const int64_t shapes[][3] = {{1, 1, 16},     {3, 37, 80},   {12, 40, 64},   {16, 300, 1040}, {17, 65, 192},
                                      {30, 150, 112}, {70, 130, 48}, {129, 64, 128}, {260, 70, 144}};
  nvfp4_context *context = context_for(kernel);
  for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++) {
    int64_t m = shapes[i][0], n = shapes[i][1], k = shapes[i][2];
    if (m < m_first) {
      continue;
    }
    test_layer test = test_layer_make(n, k, i + 3);
    test_random random = {i + 1};
    float *x = malloc((size_t)(m * k) * sizeof *x), *want = malloc((size_t)(m * n) * sizeof *want),
          *sizes = malloc((size_t)(m * n) * sizeof *want);
    uint16_t *half = malloc((size_t)(m * k) * sizeof *half);
    for (int64_t j = 0; j < m * k; j++) {
      x[j] = test_random_gauss(&random);
    }
    if (x_dtype != NVFP4_DTYPE_F32) {
      nvfp4_from_f32(x, x_dtype, half, m * k);
      nvfp4_to_f32(half, x_dtype, x, m * k);
    }
    nvfp4_layer_desc desc = test_layer_desc(&test, mode);
    desc.x_dtype = x_dtype;
    desc.m_first = m_first;
    desc.m_last = NVFP4_M_MAX;
    float *y = test_cuda_run(context, kernel, &test, desc, x_dtype == NVFP4_DTYPE_F32 ? (const void *)x : half, NULL, m);
    test_layer_reference(&test, mode, x, m, false, want);
    for (int64_t j = 0; j < m * k; j++) {
      x[j] = fabsf(x[j]);
    }
    for (int64_t j = 0; j < n * k / 2; j++) {
      test.codes[j] &= 0x77;
    }
    test_layer_reference(&test, mode, x, m, false, sizes);
    for (int64_t j = 0; j < m * n; j++) {
      assert_true(fabs((double)y[j] - (double)want[j]) <= (double)(k + 8) * 0x1p-23 * (double)sizes[j]);
    }
    free(y);
    free(x);
    free(half);
    free(want);
    free(sizes);
    test_layer_free(&test);
  }
  nvfp4_context_destroy(context);
  assert_int_equal(test_cuda_live(), 0);
}

void test_cuda_reference(const char *kernel, nvfp4_mode mode) {
  static const int64_t shapes[][3] = {{1, 1, 16}, {3, 37, 80}, {16, 64, 128}, {17, 65, 192}, {70, 130, 48}};
  nvfp4_context *context = context_for(kernel);
  for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++) {
    int64_t m = shapes[i][0], n = shapes[i][1], k = shapes[i][2];
    test_layer test = test_layer_make(n, k, i + 3);
    test_random random = {i + 1};
    float *x = malloc((size_t)(m * k) * sizeof *x), *want = malloc((size_t)(m * n) * sizeof *want);
    for (int64_t j = 0; j < m * k; j++) {
      x[j] = test_random_gauss(&random);
    }
    if (n > 2) { /* with other globals: two runs in W4A4 */
      test.partitions[0].n_rows = n / 2;
      test.partitions[1] = (nvfp4_partition){n / 2, n - n / 2, {0x1.234p-8f, NVFP4_GLOBAL_MULTIPLIER}, {97.0f, NVFP4_GLOBAL_DIVISOR}};
      test.partition_count = 2;
    }
    nvfp4_layer_desc desc = test_layer_desc(&test, mode);
    for (int with_bias = 0; with_bias <= 1; with_bias++) {
      desc.bias_dtype = with_bias ? NVFP4_DTYPE_F32 : NVFP4_DTYPE_NONE;
      float *y = test_cuda_run(context, kernel, &test, desc, x, NULL, m);
      test_layer_reference(&test, mode, x, m, with_bias != 0, want);
      assert_memory_equal(y, want, (size_t)(m * n) * sizeof *y);
      free(y);
    }
    free(x);
    free(want);
    test_layer_free(&test);
  }
  nvfp4_context_destroy(context);
  assert_int_equal(test_cuda_live(), 0);
}
