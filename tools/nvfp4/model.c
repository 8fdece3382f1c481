/* SPDX-License-Identifier: Apache-2.0 */
#include "model.h"

#include <string.h>

bool cli_model_open(const cli *run, const char *path, const cli_selection *selection, cli_model *out, int *code) {
  nvfp4_reason reason = {0};
  *out = (cli_model){0};
  if (!cli_open(run, path, 0, &out->checkpoint, code)) {
    return false;
  }
  if (nvfp4_tokenizer_create(out->checkpoint, &out->tokenizer, &reason) != NVFP4_OK) {
    *code = cli_fail_reason(run, &reason);
    return false;
  }
  return cli_context(run, selection, &out->context, code);
}

static bool check_mode(const cli *run, const nvfp4_checkpoint *checkpoint, int mode, int *code) {
  for (size_t i = 0; mode == 0 && nvfp4_checkpoint_layer(checkpoint, i) != NULL; i++) {
    const nvfp4_layer_info *info = nvfp4_checkpoint_layer(checkpoint, i);
    if (info->mode == NVFP4_MODE_W4A16) {
      *code = cli_fail(run, NVFP4_E_ARG, "--mode w4a4: layer %s has no input scale; it can run as w4a16 only", info->name);
      return false;
    }
  }
  return true;
}

bool cli_model_create(const cli *run, cli_model *model, int mode, nvfp4_device device, int64_t context_tokens, int *code) {
  enum { DEFAULT_CONTEXT = 2048 };
  if (!check_mode(run, model->checkpoint, mode, code)) {
    return false;
  }
  const nvfp4_model_options options = {.struct_size = sizeof options,
                                       .device = device,
                                       .mode = mode == 1 ? NVFP4_MODE_W4A16 : NVFP4_MODE_UNQUANTISED,
                                       .context_tokens = context_tokens > DEFAULT_CONTEXT ? context_tokens : 0,
                                       .batch_tokens = CLI_BATCH_TOKENS};
  nvfp4_reason reason = {0};
  double start = cli_seconds();
  nvfp4_status status = nvfp4_model_create(model->context, model->checkpoint, &options, &model->model, &reason);
  if (status != NVFP4_OK && options.context_tokens != 0) {
    *code = cli_fail(run, status, "room for %lld tokens is asked for: %s", (long long)context_tokens, reason.text);
    return false;
  }
  if (status != NVFP4_OK) {
    *code = cli_fail_reason(run, &reason);
    return false;
  }
  model->load_seconds = cli_seconds() - start;
  return true;
}

void cli_model_close(cli_model *model) {
  nvfp4_model_destroy(model->model);
  nvfp4_context_destroy(model->context);
  nvfp4_tokenizer_destroy(model->tokenizer);
  nvfp4_checkpoint_close(model->checkpoint);
}

/* Adds one to the kernel's count; kernels in order of appearance. */
static void count_kernel(json_t *kernels, const char *id) {
  for (size_t i = 0; i < json_array_size(kernels); i++) {
    json_t *kernel = json_array_get(kernels, i);
    if (strcmp(json_string_value(json_object_get(kernel, "id")), id) == 0) {
      json_object_set_new(kernel, "layers", json_integer(json_integer_value(json_object_get(kernel, "layers")) + 1));
      return;
    }
  }
  json_array_append_new(kernels, json_pack("{s:s, s:i}", "id", id, "layers", 1));
}

static bool serves_any(const nvfp4_plan_range *range, const int64_t *rows, size_t count) {
  for (size_t i = 0; i < count; i++) {
    if (rows[i] >= range->m_first && rows[i] <= range->m_last) {
      return true;
    }
  }
  return false;
}

json_t *cli_model_kernels(const cli_model *model, const int64_t *rows, size_t count) {
  json_t *kernels = json_array();
  const nvfp4_report *report = NULL;
  for (size_t i = 0; nvfp4_model_linear(model->model, i, &report) != NULL; i++) {
    for (size_t j = 0; j < report->range_count; j++) {
      const nvfp4_plan_range *range = &report->ranges[j];
      bool counted = false; /* a kernel may serve two ranges of one layer */
      for (size_t before = 0; before < j; before++) {
        counted =
            counted || (strcmp(report->ranges[before].kernel, range->kernel) == 0 && serves_any(&report->ranges[before], rows, count));
      }
      if (!counted && serves_any(range, rows, count)) {
        count_kernel(kernels, range->kernel);
      }
    }
  }
  return kernels;
}

void cli_print_kernels(FILE *out, json_t *kernels) {
  for (size_t i = 0; i < json_array_size(kernels); i++) {
    const json_t *kernel = json_array_get(kernels, i);
    long long layers = json_integer_value(json_object_get(kernel, "layers"));
    cli_print_field(out, i == 0 ? "kernels" : "", "%s (%lld layer%s)", json_string_value(json_object_get(kernel, "id")), layers,
                    layers == 1 ? "" : "s");
  }
  json_decref(kernels);
}
