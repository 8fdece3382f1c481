/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Opens the plug-in of example_plugin.c, asks for its kernel by name, prints the report, and shows that its bits are those of ref_w4a16:
 *   04_use_a_plugin PATH/example_plugin.so
 */
#include <nvfp4/nvfp4.h>
#include <nvfp4/quantize.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { M = 5, N = 24, K = 160 };

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

/* y = x W^T with the kernel of that id and no other; the report is printed. */
static void apply_with(nvfp4_context *context, const char *kernel, const nvfp4_layer_desc *desc, const nvfp4_weights *weights,
                       const float *x, float *y) {
  const nvfp4_policy policy = {.struct_size = sizeof policy, .kernel = kernel};
  nvfp4_plan *plan;
  nvfp4_report *report;
  must(nvfp4_init_linear_kernel(context, desc, &policy, &plan, &report, &reason));
  printf("policy.kernel = \"%s\"\n", kernel);
  for (size_t i = 0; i < report->row_count; i++) {
    printf("  %-22s %-20s %s\n", report->rows[i].id, nvfp4_stage_name(report->rows[i].stage), report->rows[i].reason);
  }
  nvfp4_report_free(report);

  nvfp4_layer *layer;
  must(nvfp4_layer_create(context, plan, weights, &layer, &reason));
  nvfp4_plan_free(plan);
  size_t bytes = nvfp4_layer_workspace_bytes(layer, M);
  void *workspace = aligned_alloc(64, (bytes + 64) / 64 * 64);
  const nvfp4_apply_args args = {
      .struct_size = sizeof args, .m = M, .x = x, .ldx_elems = K, .y = y, .ldy_elems = N, .workspace = workspace, .workspace_bytes = bytes};
  must(nvfp4_layer_apply(layer, &args, &reason));
  free(workspace);
  nvfp4_layer_destroy(layer);
}

int main(int argc, char **argv) {
  if (argc != 2) {
    fprintf(stderr, "usage: %s PATH/example_plugin.so\n", argv[0]);
    return 2;
  }
  static float w[N * K], x[M * K], y_reference[M * N], y_plugin[M * N];
  for (int i = 0; i < N * K; i++) {
    w[i] = noise();
  }
  for (int i = 0; i < M * K; i++) {
    x[i] = noise();
  }
  static uint8_t codes[N * K / 2], scales[N * K / NVFP4_BLOCK];
  float global = nvfp4_global_from_amax(1.0f);
  must(nvfp4_quantise_matrix(w, N, K, global, NVFP4_SCALES_RTN, NULL, codes, scales, NULL, &reason));
  const nvfp4_weights weights = {.struct_size = sizeof weights,
                                 .n = N,
                                 .k = K,
                                 .codes = codes,
                                 .codes_stride_bytes = K / 2,
                                 .scales = scales,
                                 .scales_stride_bytes = K / NVFP4_BLOCK};
  const nvfp4_partition partition = {.n_first = 0, .n_rows = N, .weight = {.value = global, .kind = NVFP4_GLOBAL_MULTIPLIER}};
  const nvfp4_layer_desc desc = {.struct_size = sizeof desc,
                                 .name = "example",
                                 .n = N,
                                 .k = K,
                                 .mode = NVFP4_MODE_W4A16,
                                 .x_dtype = NVFP4_DTYPE_F32,
                                 .y_dtype = NVFP4_DTYPE_F32,
                                 .partitions = &partition,
                                 .partition_count = 1};

  nvfp4_context *context;
  const nvfp4_options options = {.struct_size = sizeof options, .plugins = argv[1]};
  must(nvfp4_context_create(&options, &context, &reason));
  apply_with(context, "ref_w4a16", &desc, &weights, x, y_reference);
  apply_with(context, "plugin_example_w4a16", &desc, &weights, x, y_plugin);
  nvfp4_context_destroy(context);

  bool same = memcmp(y_reference, y_plugin, sizeof y_plugin) == 0;
  printf("the bits of both results: %s\n", same ? "the same" : "different");
  return !same;
}
