/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One layer in memory, from floats to y = x W^T + bias:
 * quantise the weights, describe the layer, choose a kernel and read the report, pack, apply, compare with a double loop.
 */
#include <float.h>
#include <math.h>
#include <nvfp4/nvfp4.h>
#include <nvfp4/quantize.h>
#include <stdio.h>
#include <stdlib.h>

enum { M = 3, N = 40, K = 128 };

static nvfp4_reason reason;

static void must(nvfp4_status status) {
  if (status != NVFP4_OK) {
    fprintf(stderr, "%s: %s\n", nvfp4_status_name(status), reason.text);
    exit(1);
  }
}

/* Uniform in [-1, 1). */
static float noise(void) {
  static uint32_t state = 1;
  state = state * 1664525u + 1013904223u;
  return (float)(state >> 8) * 0x1p-23f - 1.0f;
}

static void print_report(const nvfp4_report *report) {
  printf("%-16s %-20s %s\n", "kernel", "stage", "reason");
  for (size_t i = 0; i < report->row_count; i++) {
    printf("%-16s %-20s %s\n", report->rows[i].id, nvfp4_stage_name(report->rows[i].stage), report->rows[i].reason);
  }
  printf("chosen for M = %lld: %s, decided by: %s\n", (long long)report->m, report->chosen, report->decided_by);
}

int main(void) {
  static float w[N * K], x[M * K], bias[N], y[M * N], dequantised[N * K];
  for (int i = 0; i < N * K; i++) {
    w[i] = 0.05f * noise();
  }
  for (int i = 0; i < M * K; i++) {
    x[i] = noise();
  }
  for (int i = 0; i < N; i++) {
    bias[i] = noise();
  }

  /* Quantise: one global for the matrix, one E4M3 scale for each 16 weights. */
  static uint8_t codes[N * K / 2], scales[N * K / NVFP4_BLOCK];
  float amax = 0;
  for (int i = 0; i < N * K; i++) {
    amax = fmaxf(amax, fabsf(w[i]));
  }
  float global = nvfp4_global_from_amax(amax);
  double error[2];
  must(nvfp4_quantise_matrix(w, N, K, global, NVFP4_SCALES_SWEEP, NULL, codes, scales, error, &reason));
  printf("relative squared error of the weights: %.4f\n\n", error[0] / error[1]);

  /* Describe. W4A16: the activations stay as they are, so there is no input scale. */
  const nvfp4_partition partition = {.n_first = 0, .n_rows = N, .weight = {.value = global, .kind = NVFP4_GLOBAL_MULTIPLIER}};
  const nvfp4_layer_desc desc = {.struct_size = sizeof desc,
                                 .name = "example",
                                 .n = N,
                                 .k = K,
                                 .mode = NVFP4_MODE_W4A16,
                                 .x_dtype = NVFP4_DTYPE_F32,
                                 .y_dtype = NVFP4_DTYPE_F32,
                                 .bias_dtype = NVFP4_DTYPE_F32,
                                 .partitions = &partition,
                                 .partition_count = 1};

  /* Choose. */
  nvfp4_context *context;
  nvfp4_plan *plan;
  nvfp4_report *report;
  must(nvfp4_context_create(NULL, &context, &reason));
  must(nvfp4_init_linear_kernel(context, &desc, NULL, &plan, &report, &reason));
  print_report(report);
  nvfp4_report_free(report);

  /* Pack. */
  const nvfp4_weights weights = {.struct_size = sizeof weights,
                                 .n = N,
                                 .k = K,
                                 .codes = codes,
                                 .codes_stride_bytes = K / 2,
                                 .scales = scales,
                                 .scales_stride_bytes = K / NVFP4_BLOCK};
  nvfp4_layer *layer;
  must(nvfp4_layer_create(context, plan, &weights, &layer, &reason));
  nvfp4_plan_free(plan);

  /* Apply. The workspace is the caller's: apply allocates nothing. */
  size_t bytes = nvfp4_layer_workspace_bytes(layer, M);
  void *workspace = aligned_alloc(64, (bytes + 64) / 64 * 64);
  const nvfp4_apply_args args = {.struct_size = sizeof args,
                                 .m = M,
                                 .x = x,
                                 .ldx_elems = K,
                                 .bias = bias,
                                 .y = y,
                                 .ldy_elems = N,
                                 .workspace = workspace,
                                 .workspace_bytes = bytes};
  must(nvfp4_layer_apply(layer, &args, &reason));

  /* Compare with the same sum in double. The bound is that of docs/numerics.md: K/16 + 17 roundings to fp32 on the way of a
   * term, and one in the dequantised weight. */
  must(nvfp4_weights_dequantise(&weights, &partition, 1, 0, N, dequantised, &reason));
  const double n = K / NVFP4_BLOCK + 18, u = FLT_EPSILON / 2;
  double worst = 0;
  for (int m = 0; m < M; m++) {
    for (int j = 0; j < N; j++) {
      double sum = bias[j], absolute = fabs((double)bias[j]);
      for (int k = 0; k < K; k++) {
        double term = (double)x[m * K + k] * (double)dequantised[j * K + k];
        sum += term;
        absolute += fabs(term);
      }
      worst = fmax(worst, fabs((double)y[m * N + j] - sum) / (n * u / (1 - n * u) * absolute));
    }
  }
  printf("\nlargest difference from the double loop: %.4f of what is allowed\n", worst);

  free(workspace);
  nvfp4_layer_destroy(layer);
  nvfp4_context_destroy(context);
  return !(worst <= 1.0);
}
