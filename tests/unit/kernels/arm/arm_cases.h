/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One kernel of src/kernels/arm called directly, with what layers seldom have: scales of all 256 bytes (negative, NaN), x quantised by the caller in every scale layout, strides, addresses
 * that are odd, and memory that ends where x and the caller's codes end. Skips where the kernel cannot run.
 */
#ifndef NVFP4_TESTS_ARM_CASES_H
#define NVFP4_TESTS_ARM_CASES_H

#include <math.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/alloc.h"
#include "format/activation.h"
#include "format/half.h"
#include "format/scale_layout.h"
#include "kernels/ref/spec.h"
#include "kernels/registry.h"
#include "layer/context.h"
#include "ref_kernel_cases.h"

enum { ARM_M = 11, ARM_N = 19, ARM_K = 80, ARM_BLOCKS = ARM_K / NVFP4_BLOCK, ARM_Y_STRIDE = ARM_N + 3 };

static inline const nvfp4_kernel *arm_kernel(const char *id) {
  size_t count;
  const nvfp4_registry_entry *entries = nvfp4_registry(&count);
  for (size_t i = 0; i < count; i++) {
    if (strcmp(entries[i].id, id) == 0) {
      return entries[i].kernel;
    }
  }
  return NULL;
}

/* A copy of `bytes` bytes that ends where readable memory ends; never freed: a few pages a test. */
static inline uint8_t *arm_at_the_edge(const void *from, size_t bytes) {
  size_t page = (size_t)sysconf(_SC_PAGESIZE), pages = (bytes + page - 1) / page;
  uint8_t *map = mmap(NULL, (pages + 1) * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  assert_true(map != MAP_FAILED);
  assert_int_equal(mprotect(map + pages * page, page, PROT_NONE), 0);
  return memcpy(map + pages * page - bytes, from, bytes);
}

/* A caller with flush-to-zero for f32 and f16, default NaNs, and f16 without infinities and NaNs (FPCR's FZ, FZ16, DN, AHP). */
static inline void arm_other_fp_env(bool on) {
#if defined(__aarch64__)
  uint64_t control, bits = 0x7080000u;
  __asm__ volatile("mrs %0, fpcr" : "=r"(control));
  control = on ? control | bits : control & ~bits;
  __asm__ volatile("msr fpcr, %0" : : "r"(control) : "memory");
#else
  (void)on;
#endif
}

typedef struct arm_problem {
  nvfp4_context *context;
  const nvfp4_kernel *kernel;
  nvfp4_packed packed;
  uint8_t w_codes[ARM_N * ARM_K / 2], w_scales[ARM_N * ARM_BLOCKS], x_codes[ARM_M * ARM_K / 2], x_scales[ARM_M * ARM_BLOCKS];
  float x[ARM_M * ARM_K], alpha[ARM_N], bias[ARM_N];
  float s_a;
} arm_problem;

static inline void arm_expect(const arm_problem *p, const uint8_t *y, nvfp4_dtype dtype, int64_t m, bool with_bias) {
  size_t size = dtype == NVFP4_DTYPE_F32 ? 4 : 2;
  for (int64_t i = 0; i < m; i++) {
    for (int64_t n = 0; n < ARM_Y_STRIDE; n++) {
      uint8_t want[4] = {0xA5, 0xA5, 0xA5, 0xA5};
      if (n < ARM_N) {
        nvfp4_spec_row w = {p->w_codes + n * ARM_K / 2, p->w_scales + n * ARM_BLOCKS};
        float acc = p->kernel->numerics.mode == NVFP4_MODE_W4A4
                        ? nvfp4_spec_w4a4((nvfp4_spec_row){p->x_codes + i * ARM_K / 2, p->x_scales + i * ARM_BLOCKS}, w, ARM_K)
                        : nvfp4_spec_w4a16(p->x + i * ARM_K, w, ARM_K);
        float v = nvfp4_spec_finish(acc, p->alpha[n], with_bias ? &p->bias[n] : NULL);
        nvfp4_from_f32(&v, dtype, want, 1);
      } else if (i == m - 1) {
        break; /* the last row ends y */
      }
      assert_memory_equal(y + (size_t)(i * ARM_Y_STRIDE + n) * size, want, size);
    }
  }
}

/* The first m rows; x of x_dtype, or codes with their scales in `layout` if quantised. */
static inline void arm_run(arm_problem *p, int64_t m, nvfp4_dtype dtype, bool quantised, nvfp4_scale_layout layout, bool with_bias) {
  enum { LDX = ARM_K + 1 };
  nvfp4_layer_desc desc = {
      .struct_size = sizeof desc, .n = ARM_N, .k = ARM_K, .mode = p->kernel->numerics.mode, .x_dtype = dtype, .y_dtype = dtype};
  size_t size = dtype == NVFP4_DTYPE_F32 ? 4 : 2, y_bytes = (size_t)((m - 1) * ARM_Y_STRIDE + ARM_N) * size;
  uint8_t x[ARM_M * LDX * 4], scales[1024];
  for (int64_t i = 0; i < m; i++) {
    nvfp4_from_f32(p->x + i * ARM_K, dtype, x + (size_t)(i * LDX) * size, ARM_K);
  }
  nvfp4_scales_from_linear(layout, p->x_scales, ARM_BLOCKS, m, ARM_BLOCKS, scales);
  nvfp4_quantised_x q = {.codes = arm_at_the_edge(p->x_codes, (size_t)m * ARM_K / 2),
                         .codes_stride_bytes = ARM_K / 2,
                         .scales = arm_at_the_edge(scales, nvfp4_scales_bytes(layout, m, ARM_BLOCKS)),
                         .scale_layout = layout,
                         .scales_stride_bytes = layout == NVFP4_SCALES_LINEAR ? ARM_BLOCKS : 0};
  size_t workspace_bytes = p->kernel->workspace_bytes(&desc, m);
  uint8_t *workspace = aligned_alloc(64, (size_t)nvfp4_round_up((int64_t)workspace_bytes + 1, 64));
  uint8_t *y = malloc(y_bytes + 2);
  memset(y, 0xA5, y_bytes + 2);
  nvfp4_kernel_args args = {.struct_size = sizeof args,
                            .m = m,
                            .n = ARM_N,
                            .k = ARM_K,
                            .x = quantised ? NULL : arm_at_the_edge(x, (size_t)((m - 1) * LDX + ARM_K) * size),
                            .ldx_elems = LDX,
                            .x_dtype = dtype,
                            .quantised_x = quantised ? &q : NULL,
                            .s_a = p->s_a,
                            .alpha = (const float *)(void *)arm_at_the_edge(p->alpha, sizeof p->alpha),
                            .bias = with_bias ? arm_at_the_edge(p->bias, sizeof p->bias) : NULL,
                            .bias_dtype = NVFP4_DTYPE_F32,
                            .y = y + 1,
                            .ldy_elems = ARM_Y_STRIDE,
                            .y_dtype = dtype,
                            .workspace = workspace,
                            .workspace_bytes = workspace_bytes};
  nvfp4_reason reason = {0};
  memset(workspace, 0xFF, workspace_bytes + 1); /* what a caller left there must not matter */
  workspace[workspace_bytes] = 0x5A;
  arm_other_fp_env(true);
  nvfp4_status status = p->kernel->apply_weights(&p->context->host, &p->packed, &args, &reason);
  arm_other_fp_env(false);
  assert_ok(status, reason);
  assert_int_equal(workspace[workspace_bytes], 0x5A);
  assert_int_equal(y[0], 0xA5);
  assert_int_equal(y[y_bytes + 1], 0xA5);
  arm_expect(p, y + 1, dtype, m, with_bias);
  free(y);
  free(workspace);
}

static inline void arm_make_problem(arm_problem *p, uint64_t seed) {
  test_random random = {seed};
  for (int i = 0; i < ARM_N * ARM_K / 2; i++) {
    p->w_codes[i] = (uint8_t)(test_random_u64(&random) >> 9);
  }
  for (int i = 0; i < ARM_N * ARM_BLOCKS; i++) {
    p->w_scales[i] = (uint8_t)(test_random_u64(&random) >> 9);
  }
  for (int i = 0; i < ARM_M * ARM_K; i++) {
    uint64_t kind = test_random_u64(&random) % 256;
    float rare = kind == 0 ? NAN : kind == 1 ? -INFINITY : kind == 2 ? -0.0f : 0x1.8p-140f;
    p->x[i] = kind < 4 ? rare : test_random_gauss(&random) * ldexpf(1.0f, (int)kind % 16 - 8);
  }
  for (int n = 0; n < ARM_N; n++) {
    p->alpha[n] = test_random_gauss(&random) * 0x1p-6f;
    p->bias[n] = test_random_gauss(&random);
  }
  p->s_a = 31.0f;
}

static inline void check_directly(const char *id) {
  skip_unless_supported(id);
  static const nvfp4_dtype dtypes[] = {NVFP4_DTYPE_F32, NVFP4_DTYPE_F16, NVFP4_DTYPE_BF16};
  static arm_problem p;
  nvfp4_reason reason = {0};
  assert_ok(nvfp4_context_create(NULL, &p.context, &reason), reason);
  p.kernel = arm_kernel(id);
  for (uint64_t seed = 1; seed <= 12; seed++) {
    arm_make_problem(&p, seed);
    nvfp4_weights weights = {.struct_size = sizeof weights,
                             .n = ARM_N,
                             .k = ARM_K,
                             .codes = p.w_codes,
                             .codes_stride_bytes = ARM_K / 2,
                             .scales = p.w_scales,
                             .scales_stride_bytes = ARM_BLOCKS};
    nvfp4_process_args process = {sizeof process, &weights, p.alpha, p.alpha, NULL};
    assert_ok(p.kernel->layout->process_weights_after_loading(&p.context->host, &process, &p.packed, &reason), reason);
    for (int64_t m = p.kernel->m_first > 1 ? p.kernel->m_first : 1; m <= ARM_M; m++) {
      nvfp4_dtype dtype = dtypes[((uint64_t)m + seed) % 3];
      for (int i = 0; i < ARM_M; i++) { /* x as the kernel sees it */
        uint8_t narrow[ARM_K * 4];
        nvfp4_from_f32(p.x + i * ARM_K, dtype, narrow, ARM_K);
        nvfp4_to_f32(narrow, dtype, p.x + i * ARM_K, ARM_K);
        nvfp4_quantise_activation_row(p.x + i * ARM_K, ARM_K, p.s_a, p.x_codes + i * ARM_K / 2, p.x_scales + i * ARM_BLOCKS);
      }
      arm_run(&p, m, dtype, false, NVFP4_SCALES_LINEAR, seed % 2 == 0);
      for (int layout = NVFP4_SCALES_LINEAR; p.kernel->numerics.mode == NVFP4_MODE_W4A4 && layout <= NVFP4_SCALES_8X4; layout++) {
        for (int i = 0; i < ARM_M * ARM_BLOCKS; i++) {
          p.x_scales[i] = (uint8_t)((uint64_t)i * 37 + seed * 11 + (uint64_t)m);
        }
        arm_run(&p, m, dtype, true, (nvfp4_scale_layout)layout, seed % 2 == 1);
      }
    }
    p.kernel->layout->free_packed(&p.context->host, &p.packed);
  }
  nvfp4_context_destroy(p.context);
}

#endif
