/* SPDX-License-Identifier: Apache-2.0 */
/* nvfp4 apply: y = x W^T (+ bias) of one layer, from file to file. */
#define _ISOC11_SOURCE /* aligned_alloc */
#include <stdlib.h>
#include <string.h>

#include "common.h"

typedef struct application {
  cli *run;
  const char *paths[2]; /* checkpoint, layer */
  const char *input, *output, *device;
  int mode;      /* -1: as the checkpoint says, 0 w4a4, 1 w4a16 */
  int out_dtype; /* -1: x's, 0 f32, 1 f16, 2 bf16 */
  cli_selection selection;
  const nvfp4_layer_info *info;
  nvfp4_checkpoint *checkpoint, *input_file;
  nvfp4_context *context;
  nvfp4_plan *plan;
  nvfp4_report *report;
  nvfp4_layer *layer;
  nvfp4_device where;
  nvfp4_layer_desc desc;
  void *weights_owned;
  int64_t m;
  void *x, *y, *bias;
} application;

static const char *tensor_name(const void *checkpoint, size_t index) {
  const nvfp4_tensor *tensor = nvfp4_checkpoint_tensor(checkpoint, index);
  return tensor != NULL ? tensor->name : NULL;
}

/* The bytes at an address that every kernel may read from: a file's tensors may lie anywhere. NULL: no memory. */
static void *aligned_copy(const void *data, size_t bytes) {
  void *copy = aligned_alloc(64, (bytes + 64) / 64 * 64);
  if (copy != NULL && data != NULL) {
    memcpy(copy, data, bytes);
  }
  return copy;
}

static size_t element_bytes(nvfp4_dtype dtype) { return dtype == NVFP4_DTYPE_F32 ? 4 : 2; }

static bool is_activation(nvfp4_dtype dtype) { return dtype == NVFP4_DTYPE_F32 || dtype == NVFP4_DTYPE_F16 || dtype == NVFP4_DTYPE_BF16; }

static int fail_nomem(const application *a) { return cli_fail(a->run, NVFP4_E_NOMEM, "out of memory for %lld rows", (long long)a->m); }

static bool find_layer(application *a, int *code) {
  const char *name = a->paths[1];
  a->info = nvfp4_checkpoint_find_layer(a->checkpoint, name);
  char hint[256];
  if (a->info == NULL) {
    *code = cli_fail(a->run, NVFP4_E_ARG, "%s has no layer %s (`nvfp4 inspect` lists them)%s", a->paths[0], name,
                     cli_did_you_mean(name, cli_layer_name, a->checkpoint, hint, sizeof hint));
    return false;
  }
  bool w4a4 = a->info->mode == NVFP4_MODE_W4A4, w4a16 = a->info->mode == NVFP4_MODE_W4A16;
  if (a->info->lookup) {
    *code = cli_fail(a->run, NVFP4_E_UNSUPPORTED, "%s is an embedding, whose rows are looked up; needs a linear layer", name);
    return false;
  }
  if (a->mode >= 0 && !w4a4 && !w4a16) {
    *code = cli_fail(a->run, NVFP4_E_ARG, "--mode is for NVFP4 layers; layer %s is %s", name, nvfp4_mode_name(a->info->mode));
    return false;
  }
  if (a->mode == 0 && w4a16) {
    *code = cli_fail(a->run, NVFP4_E_ARG, "--mode w4a4: layer %s has no input scale; it can run as w4a16 only", name);
    return false;
  }
  return true;
}

/* Reads x [M, K] and fills the description's types. */
static bool read_input(application *a, int *code) {
  static const nvfp4_dtype dtypes[] = {NVFP4_DTYPE_F32, NVFP4_DTYPE_F16, NVFP4_DTYPE_BF16};
  if (!cli_open(a->run, a->input, 0, &a->input_file, code)) {
    return false;
  }
  const nvfp4_tensor *x = nvfp4_checkpoint_find(a->input_file, "x");
  if (x == NULL) {
    const char *other = tensor_name(a->input_file, 0);
    *code = cli_fail(a->run, NVFP4_E_FORMAT, "%s has no tensor x (but %s); needs x [M, %lld] of F32, F16 or BF16", a->input,
                     other != NULL ? other : "none at all", (long long)a->info->k);
    return false;
  }
  if (!is_activation(x->dtype)) {
    *code = cli_fail(a->run, NVFP4_E_DTYPE, "%s: x is %s; needs F32, F16 or BF16", a->input, x->dtype_name);
    return false;
  }
  if (x->rank != 2) {
    *code = cli_fail(a->run, NVFP4_E_SHAPE, "%s: x has %d dimensions; needs 2: [M, %lld]", a->input, x->rank, (long long)a->info->k);
    return false;
  }
  if (x->shape[1] != a->info->k) {
    *code = cli_fail(a->run, NVFP4_E_SHAPE, "%s: x is [%lld, %lld]; layer %s needs [M, %lld]", a->input, (long long)x->shape[0],
                     (long long)x->shape[1], a->info->name, (long long)a->info->k);
    return false;
  }
  a->m = x->shape[0];
  a->desc.x_dtype = x->dtype;
  a->desc.y_dtype = a->out_dtype >= 0 ? dtypes[a->out_dtype] : x->dtype;
  a->x = aligned_copy(x->data, x->bytes);
  if (a->x == NULL) {
    *code = fail_nomem(a);
    return false;
  }
  return true;
}

/* Chooses kernels for these M rows and packs the weights. */
static bool make_layer(application *a, int *code) {
  nvfp4_reason reason = {0};
  nvfp4_dtype x_dtype = a->desc.x_dtype, y_dtype = a->desc.y_dtype;
  nvfp4_weights weights = {.struct_size = sizeof weights};
  bool sound = nvfp4_layer_desc_from_checkpoint(a->info, &a->desc, &reason) == NVFP4_OK;
  a->desc.x_dtype = x_dtype;
  a->desc.y_dtype = y_dtype;
  a->desc.mode = a->mode == 1 ? NVFP4_MODE_W4A16 : a->desc.mode;
  a->desc.m_first = a->desc.m_last = a->m > 0 ? a->m : 1;
  a->desc.device = a->where;
  sound = sound && nvfp4_init_linear_kernel(a->context, &a->desc, NULL, &a->plan, &a->report, &reason) == NVFP4_OK &&
          nvfp4_checkpoint_weights(a->checkpoint, a->info, &weights, &a->weights_owned, &reason) == NVFP4_OK &&
          nvfp4_layer_create(a->context, a->plan, &weights, &a->layer, &reason) == NVFP4_OK;
  if (!sound) {
    *code = cli_fail_reason(a->run, &reason);
  }
  return sound;
}

static bool compute(application *a, int *code) {
  const nvfp4_tensor *bias = a->info->bias;
  a->y = aligned_copy(NULL, (size_t)a->m * (size_t)a->info->n * element_bytes(a->desc.y_dtype));
  a->bias = bias != NULL ? aligned_copy(bias->data, bias->bytes) : NULL;
  if (a->y == NULL || (bias != NULL && a->bias == NULL)) {
    *code = fail_nomem(a);
    return false;
  }
  const nvfp4_apply_args args = {
      .struct_size = sizeof args, .m = a->m, .x = a->x, .ldx_elems = a->info->k, .bias = a->bias, .y = a->y, .ldy_elems = a->info->n};
  nvfp4_reason reason = {0};
  const int64_t shape[] = {a->m, a->info->n};
  if (nvfp4_layer_apply_host(a->layer, &args, &reason) != NVFP4_OK ||
      nvfp4_save_tensor(a->output, "y", a->desc.y_dtype, 2, shape, a->y, &reason) != NVFP4_OK) {
    *code = cli_fail_reason(a->run, &reason);
    return false;
  }
  return true;
}

static void tell(const application *a) {
  const char *kernel = nvfp4_plan_kernel(a->plan, a->m > 0 ? a->m : 1);
  const char *why = "";
  for (size_t i = 0; i < a->report->row_count; i++) {
    if (strcmp(a->report->rows[i].id, kernel) == 0) {
      why = a->report->rows[i].reason;
    }
  }
  if (a->run->json) {
    cli_print_json(json_pack("{s:o, s:I, s:I, s:I, s:s, s:s, s:s, s:o, s:o, s:o, s:o}", "layer", cli_json_text(a->info->name), "M",
                             (json_int_t)a->m, "N", (json_int_t)a->info->n, "K", (json_int_t)a->info->k, "mode",
                             nvfp4_mode_name(a->desc.mode), "x_dtype", nvfp4_dtype_name(a->desc.x_dtype), "y_dtype",
                             nvfp4_dtype_name(a->desc.y_dtype), "kernel", cli_json_text(kernel), "decided_by",
                             cli_json_text(a->report->decided_by), "reason", cli_json_text(why), "output", cli_json_text(a->output)));
    return;
  }
  fprintf(stderr, "%s ran layer %s, %s, M %lld, N %lld, K %lld: %s\n", kernel, a->info->name, nvfp4_mode_name(a->desc.mode),
          (long long)a->m, (long long)a->info->n, (long long)a->info->k, why);
}

static int apply(application *a) {
  int code = CLI_DONE;
  if (cli_open(a->run, a->paths[0], 0, &a->checkpoint, &code) && find_layer(a, &code) && read_input(a, &code) &&
      cli_context(a->run, &a->selection, &a->context, &code) && make_layer(a, &code) && compute(a, &code)) {
    tell(a);
  }
  nvfp4_layer_destroy(a->layer);
  nvfp4_weights_free(a->weights_owned);
  nvfp4_plan_free(a->plan);
  nvfp4_report_free(a->report);
  nvfp4_context_destroy(a->context);
  nvfp4_checkpoint_close(a->input_file);
  nvfp4_checkpoint_close(a->checkpoint);
  free(a->x);
  free(a->y);
  free(a->bias);
  return code;
}

static int run_apply(cli *run, int argc, char **argv) {
  application a = {.run = run, .mode = -1, .out_dtype = -1, .device = "auto"};
  const cli_option options[] = {
      {"input", "FILE", "safetensors file with x [M, K] of F32, F16 or BF16 (needed)", CLI_TEXT, &a.input, 0, 0},
      {"output", "FILE", "safetensors file to write y [M, N] into (needed); replaced at the end, at once", CLI_TEXT, &a.output, 0, 0},
      {"mode", "w4a4|w4a16", "activations in 4 or 16 bits (default: as the checkpoint says)", CLI_CHOICE, &a.mode, 0, 0},
      {"out-dtype", "f32|f16|bf16", "type of y (default: that of x)", CLI_CHOICE, &a.out_dtype, 0, 0},
      {"device", "cpu|cuda:N|auto", "where to compute (default auto: cpu)", CLI_TEXT, &a.device, 0, 0},
  };
  const cli_syntax syntax = {.options = options,
                             .option_count = sizeof options / sizeof options[0],
                             .selection = &a.selection,
                             .threads = true,
                             .operands = a.paths,
                             .least = 2,
                             .most = 2};
  int code;
  if (!cli_parse(run, argc, argv, &syntax, &code) || !cli_device(run, a.device, &a.where, &code)) {
    return code;
  }
  if (a.input == NULL || a.output == NULL) {
    return cli_fail(run, NVFP4_E_ARG, "--%s FILE is missing", a.input == NULL ? "input" : "output");
  }
  return cli_output_is_new(run, "output", a.output, a.input, a.paths[0], &code) ? apply(&a) : code;
}

const cli_command cli_apply = {
    .name = "apply",
    .operands = "CKPT LAYER",
    .summary = "y = x W^T (+ bias) of one layer, from file to file",
    .description =
        "LAYER is a name as `nvfp4 inspect` lists it; its bias is taken from the checkpoint. Which kernel ran, and why, is said on stderr.",
    .examples =
        "  nvfp4 apply model/ model.layers.0.mlp.down_proj --input x.safetensors --output y.safetensors\n"
        "  nvfp4 apply model/ lm_head --input x.safetensors --output y.safetensors --mode w4a16\n",
    .run = run_apply,
};
