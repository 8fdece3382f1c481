/* SPDX-License-Identifier: Apache-2.0 */
/*
 * nvfp4 verify: every kernel that can run here, those of GPUs on cuda:0, on every NVFP4 or dense layer of a checkpoint, its real weights and random x, against the ref kernel of the mode. Kernels of class canonical
 * must give the same bits. Bounded ones may differ by (gamma(K + 8) + gamma(n)) A, n = K/16 + 17, or K + 1 of dense layers (docs/numerics.md, "The bound"), where A, the sum of the terms' magnitudes, is what the ref kernel
 * gives for |x| and |w|.
 */
#define _ISOC11_SOURCE          /* aligned_alloc */
#define _POSIX_C_SOURCE 200809L /* fnmatch */
#include <fnmatch.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "common.h"

enum { PASSED, FAILED, SKIPPED, OUTCOMES };
static const char *const outcome_names[OUTCOMES] = {"passed", "failed", "skipped"};

typedef struct verification {
  cli *run;
  const char *path, *layer, *kernel;
  int64_t seed, m;
  cli_selection selection;
  nvfp4_context *context;
  nvfp4_checkpoint *checkpoint;
  size_t counts[OUTCOMES], layers;
  json_t *list;
  /* Of the layer and mode at hand. */
  const nvfp4_layer_info *info;
  nvfp4_layer_desc desc;
  nvfp4_weights weights, magnitudes; /* codes or dense values without their signs */
  uint8_t *unsigned_weights;
  float *x, *absolute_x;              /* [m, k] */
  float *expected, *absolute, *found; /* [m, n] */
  json_t *results;
} verification;

static void *get(size_t bytes) { return aligned_alloc(64, (bytes + 64) / 64 * 64); }

/* y of one kernel; what it fails of is in *reason, and *broken tells a failed self-test from a refusal. */
static bool apply_kernel(const verification *v, const char *kernel, const nvfp4_weights *weights, const float *x, float *y, bool *broken,
                         nvfp4_reason *reason) {
  nvfp4_policy policy = {.struct_size = sizeof policy, .kernel = kernel};
  nvfp4_plan *plan = NULL;
  nvfp4_report *report = NULL;
  nvfp4_layer *layer = NULL;
  nvfp4_status status = nvfp4_init_linear_kernel(v->context, &v->desc, &policy, &plan, &report, reason);
  *broken = status == NVFP4_OK;
  for (size_t i = 0; report != NULL && i < report->row_count; i++) {
    *broken = *broken || (strcmp(report->rows[i].id, kernel) == 0 && report->rows[i].stage == NVFP4_STAGE_FAILED_SELF_TEST);
  }
  if (status == NVFP4_OK) {
    status = nvfp4_layer_create(v->context, plan, weights, &layer, reason);
  }
  if (status == NVFP4_OK) {
    const nvfp4_apply_args args = {.struct_size = sizeof args, .m = v->m, .x = x, .ldx_elems = v->desc.k, .y = y, .ldy_elems = v->desc.n};
    memset(y, 0xFF, (size_t)(v->m * v->desc.n) * sizeof *y); /* NaN: what is not written shows */
    status = nvfp4_layer_apply_host(layer, &args, reason);
  }
  nvfp4_layer_destroy(layer);
  nvfp4_plan_free(plan);
  nvfp4_report_free(report);
  return status == NVFP4_OK;
}

static double gamma_of(double n) { return n * 0x1p-24 / (1 - n * 0x1p-24); }

/* Whether the kernels of dense layers serve it. */
static bool is_dense(nvfp4_mode mode) { return mode == NVFP4_MODE_UNQUANTISED || mode == NVFP4_MODE_FP8; }

/* Compares found with expected; false: text says where they differ. */
static bool same(const verification *v, nvfp4_class numerics_class, char *text, size_t size) {
  double k = (double)v->desc.k, n = is_dense(v->desc.mode) ? k + 1 : k / 16 + 17;
  double factor = (gamma_of(k + 8) + gamma_of(n)) * (1 + gamma_of(k));
  int64_t wrong = 0, first = 0;
  for (int64_t i = 0; i < v->m * v->desc.n; i++) {
    bool good = memcmp(&v->found[i], &v->expected[i], sizeof v->found[i]) == 0;
    if (!good && numerics_class == NVFP4_CLASS_BOUNDED) {
      good = fabs((double)v->found[i] - (double)v->expected[i]) <= factor * (double)v->absolute[i]; /* false for NaN */
    }
    first = good || wrong > 0 ? first : i;
    wrong += !good;
  }
  if (wrong > 0) {
    snprintf(text, size, "row %lld, column %lld: found %a, needs %a (%lld of %lld values are wrong)", (long long)(first / v->desc.n),
             (long long)(first % v->desc.n), (double)v->found[first], (double)v->expected[first], (long long)wrong,
             (long long)(v->m * v->desc.n));
  }
  return wrong == 0;
}

static void note(verification *v, const char *kernel, int outcome, const char *text) {
  v->counts[outcome]++;
  if (v->run->json) {
    json_array_append_new(
        v->results, json_pack("{s:o, s:s, s:s, s:o}", "kernel", cli_json_text(kernel), "mode", nvfp4_mode_name(v->desc.mode), "result",
                              outcome_names[outcome], "reason", cli_json_text(text)));
  } else if (outcome == FAILED) {
    printf("FAILED  %s, %s\n", kernel, v->info->name);
    cli_print_wrapped(stdout, 4, 4, text);
  }
}

/* The layer in one mode: the ref kernel, then all others of that mode. */
static bool verify_mode(verification *v, nvfp4_mode mode, int *code) {
  const char *ref = is_dense(mode) ? "ref_w16a16" : mode == NVFP4_MODE_W4A4 ? "ref_w4a4" : "ref_w4a16";
  nvfp4_reason reason = {0};
  bool broken;
  v->desc.mode = mode;
  v->desc.device = (nvfp4_device){NVFP4_DEVICE_CPU, 0};
  if (!apply_kernel(v, ref, &v->weights, v->x, v->expected, &broken, &reason) ||
      !apply_kernel(v, ref, &v->magnitudes, v->absolute_x, v->absolute, &broken, &reason)) {
    *code = cli_fail_reason(v->run, &reason);
    return false;
  }
  for (size_t i = 0; i < nvfp4_kernel_count(v->context); i++) {
    nvfp4_kernel_info kernel;
    nvfp4_reason why = {0};
    char text[256] = "";
    if (nvfp4_kernel_get(v->context, i, NULL, &kernel, &why) != NVFP4_OK || kernel.stage != NVFP4_STAGE_ELIGIBLE ||
        kernel.mode != (is_dense(mode) ? NVFP4_MODE_UNQUANTISED : mode) || (v->kernel != NULL && fnmatch(v->kernel, kernel.id, 0) != 0)) {
      continue;
    }
    v->desc.device = (nvfp4_device){kernel.device, 0};
    if (!apply_kernel(v, kernel.id, &v->weights, v->x, v->found, &broken, &why)) {
      note(v, kernel.id, broken ? FAILED : SKIPPED, why.text);
    } else {
      note(v, kernel.id, same(v, kernel.numerics_class, text, sizeof text) ? PASSED : FAILED, text);
    }
  }
  return true;
}

/* Bytes of an element, and of a row of the weights' codes or values. */
static int64_t element_bytes(const nvfp4_weights *w) { return w->dtype == NVFP4_DTYPE_F32 ? 4 : w->dtype == NVFP4_DTYPE_F8_E4M3 ? 1 : 2; }

static int64_t row_bytes(const nvfp4_weights *w) { return w->dtype == NVFP4_DTYPE_NONE ? w->k / 2 : w->k * element_bytes(w); }

static void take_signs(const nvfp4_weights *w, uint8_t *to, nvfp4_weights *out) {
  int64_t bytes = row_bytes(w), stride = w->values != NULL ? w->values_stride_bytes : w->codes_stride_bytes;
  const uint8_t *from = w->values != NULL ? w->values : w->codes;
  int64_t width = element_bytes(w); /* of an element, whose last byte has the sign */
  *out = *w;
  *(w->values != NULL ? &out->values_stride_bytes : &out->codes_stride_bytes) = bytes;
  out->codes = w->values != NULL ? NULL : to;
  out->values = w->values != NULL ? to : NULL;
  for (int64_t n = 0; n < w->n; n++) {
    for (int64_t i = 0; i < bytes; i++) {
      uint8_t mask = w->values == NULL ? 0x77 : i % width == width - 1 ? 0x7F : 0xFF;
      to[n * bytes + i] = from[n * stride + i] & mask;
    }
  }
}

/* Random x of the size that the layer's input scale is made for, and the magnitudes of x and w. */
static void fill_inputs(verification *v) {
  nvfp4_global input = v->desc.partition_count > 0 ? v->desc.partitions[0].input : (nvfp4_global){0};
  double largest = v->desc.mode == NVFP4_MODE_FP8 && input.value != 0 ? 448.0 * (double)input.value
                   : input.value == 0                                 ? 4
                   : input.kind == NVFP4_GLOBAL_MULTIPLIER            ? 2688.0 * (double)input.value
                   : input.kind == NVFP4_GLOBAL_DIVISOR               ? 2688.0 / (double)input.value
                                                                      : (double)input.value;
  uint64_t state = (uint64_t)v->seed;
  for (int64_t i = 0; i < v->m * v->desc.k; i++) {
    double sum = 0; /* of six uniform numbers: bell-shaped, at most `largest` */
    for (int j = 0; j < 6; j++) {
      state = state * 6364136223846793005u + 1442695040888963407u; /* Knuth's MMIX generator */
      sum += (double)(state >> 40) * 0x1p-24 - 0.5;
    }
    v->x[i] = (float)(sum / 3 * largest);
    v->absolute_x[i] = fabsf(v->x[i]);
  }
  take_signs(&v->weights, v->unsigned_weights, &v->magnitudes);
}

static bool verify_layer(verification *v, int *code) {
  nvfp4_reason reason = {0};
  void *owned = NULL;
  v->desc = (nvfp4_layer_desc){.struct_size = sizeof v->desc};
  v->weights = (nvfp4_weights){.struct_size = sizeof v->weights};
  if (nvfp4_layer_desc_from_checkpoint(v->info, &v->desc, &reason) != NVFP4_OK ||
      nvfp4_checkpoint_weights(v->checkpoint, v->info, &v->weights, &owned, &reason) != NVFP4_OK) {
    *code = cli_fail_reason(v->run, &reason);
    return false;
  }
  nvfp4_mode own = v->desc.mode;
  v->desc.x_dtype = v->desc.y_dtype = NVFP4_DTYPE_F32;
  v->desc.bias_dtype = NVFP4_DTYPE_NONE;
  v->desc.m_first = v->desc.m_last = v->m;
  size_t x_bytes = (size_t)(v->m * v->desc.k) * sizeof(float), y_bytes = (size_t)(v->m * v->desc.n) * sizeof(float);
  v->x = get(x_bytes);
  v->absolute_x = get(x_bytes);
  v->unsigned_weights = get((size_t)(v->desc.n * row_bytes(&v->weights)));
  v->expected = get(y_bytes);
  v->absolute = get(y_bytes);
  v->found = get(y_bytes);
  v->results = json_array();
  bool sound = v->x != NULL && v->absolute_x != NULL && v->unsigned_weights != NULL && v->expected != NULL && v->absolute != NULL &&
               v->found != NULL;
  if (!sound) {
    *code = cli_fail(v->run, NVFP4_E_NOMEM, "out of memory for layer %s", v->info->name);
  } else {
    fill_inputs(v);
    sound = is_dense(own) ? verify_mode(v, own, code)
                          : (own != NVFP4_MODE_W4A4 || verify_mode(v, NVFP4_MODE_W4A4, code)) && verify_mode(v, NVFP4_MODE_W4A16, code);
  }
  json_array_append_new(v->list, json_pack("{s:o, s:I, s:I, s:o}", "name", cli_json_text(v->info->name), "N", (json_int_t)v->info->n, "K",
                                           (json_int_t)v->info->k, "results", v->results));
  v->layers++;
  free(v->x);
  free(v->absolute_x);
  free(v->unsigned_weights);
  free(v->expected);
  free(v->absolute);
  free(v->found);
  nvfp4_weights_free(owned);
  return sound;
}

static int verify(verification *v) {
  int code = CLI_DONE;
  bool sound = cli_open(v->run, v->path, 0, &v->checkpoint, &code) && cli_context(v->run, &v->selection, &v->context, &code);
  v->list = json_array();
  for (size_t i = 0; sound && i < nvfp4_checkpoint_layer_count(v->checkpoint); i++) {
    v->info = nvfp4_checkpoint_layer(v->checkpoint, i);
    nvfp4_layer_desc desc;
    bool ours = !v->info->lookup && nvfp4_layer_desc_from_checkpoint(v->info, &desc, NULL) == NVFP4_OK;
    if (ours && (v->layer == NULL || fnmatch(v->layer, v->info->name, 0) == 0)) {
      sound = verify_layer(v, &code);
    }
  }
  if (sound && v->counts[PASSED] + v->counts[FAILED] + v->counts[SKIPPED] == 0) {
    code = cli_fail(v->run, NVFP4_E_ARG, "%s: no layer and kernel to verify%s", v->path,
                    v->layer != NULL || v->kernel != NULL ? " with such names (`nvfp4 inspect` and `nvfp4 kernels` list them)" : "");
  } else if (sound) {
    if (v->run->json) {
      cli_print_json(json_pack("{s:O, s:I, s:I, s:I}", "layers", v->list, "passed", (json_int_t)v->counts[PASSED], "failed",
                               (json_int_t)v->counts[FAILED], "skipped", (json_int_t)v->counts[SKIPPED]));
    } else {
      printf("%zu layers; kernels on layers: %zu passed, %zu failed, %zu skipped\n", v->layers, v->counts[PASSED], v->counts[FAILED],
             v->counts[SKIPPED]);
    }
    code = v->counts[FAILED] > 0 ? CLI_CHECK_FAILED : CLI_DONE;
  }
  json_decref(v->list);
  nvfp4_context_destroy(v->context);
  nvfp4_checkpoint_close(v->checkpoint);
  return code;
}

static int run_verify(cli *run, int argc, char **argv) {
  verification v = {.run = run, .seed = 1, .m = 17, .selection = {.untuned = true}};
  const cli_option options[] = {
      {"layer", "GLOB", "only layers of such names (default: every NVFP4, FP8 and dense layer)", CLI_TEXT, &v.layer, 0, 0},
      {"kernel", "GLOB", "only these kernels (default: all that can run here)", CLI_TEXT, &v.kernel, 0, 0},
      {"m", "N", "rows of x (default 17)", CLI_INTEGER, &v.m, 1, 65536},
      {"seed", "N", "of the random x (default 1)", CLI_INTEGER, &v.seed, 0, INT64_MAX},
      {"threads", "N", "threads (default: NVFP4_THREADS, or one a processor)", CLI_INTEGER, &v.selection.threads, 1, 4096},
      {"plugins", "LIST", "plug-ins to open: paths, comma-separated (default: NVFP4_PLUGINS)", CLI_TEXT, &v.selection.plugins, 0, 0},
  };
  const cli_syntax syntax = {
      .options = options, .option_count = sizeof options / sizeof options[0], .operands = &v.path, .least = 1, .most = 1};
  int code;
  return cli_parse(run, argc, argv, &syntax, &code) ? verify(&v) : code;
}

const cli_command cli_verify = {
    .name = "verify",
    .operands = "CKPT",
    .summary = "every kernel that can run here, on every layer, against the reference",
    .description =
        "Each layer's real weights with random x, in fp32, without bias; w4a4 layers in both modes. Kernels of class canonical must give "
        "the bits of the reference, bounded ones "
        "keep the bound of docs/numerics.md. Exit code 1 if one does not.",
    .examples =
        "  nvfp4 verify model/\n"
        "  nvfp4 verify model/ --layer '*.mlp.*' --kernel 'x86_*' --m 1 --json\n",
    .run = run_verify,
};
