/* SPDX-License-Identifier: Apache-2.0 */
/* A run: open, plan, measure, calibrate, choose; then write. */
#define _POSIX_C_SOURCE 200809L
#include "quantizer/quantizer.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/reason.h"
#include "base/sized.h"
#include "checkpoint/checkpoint.h"
#include "layer/context.h"

static nvfp4_status check_choices(const nvfp4_quantize_options *options, nvfp4_reason *reason) {
  if (options->layout < NVFP4_LAYOUT_MODELOPT || options->layout > NVFP4_LAYOUT_COMFY) {
    return nvfp4_reject(reason, NVFP4_E_ARG, "layout %d; choose modelopt, compressed-tensors, gguf, mlx or comfy", (int)options->layout);
  }
  if (options->scales != NVFP4_SCALES_RTN && options->scales != NVFP4_SCALES_SWEEP && options->scales != NVFP4_SCALES_FOUR_OVER_SIX) {
    return nvfp4_reject(reason, NVFP4_E_ARG,
                        "scale search %d; choose NVFP4_SCALES_RTN (0), NVFP4_SCALES_SWEEP (1) or NVFP4_SCALES_FOUR_OVER_SIX (2)",
                        (int)options->scales);
  }
  if (options->rounding != NVFP4_ROUNDING_NEAREST && options->rounding != NVFP4_ROUNDING_GPTQ) {
    return nvfp4_reject(reason, NVFP4_E_ARG, "rounding %d; choose NVFP4_ROUNDING_NEAREST (0) or NVFP4_ROUNDING_GPTQ (1)",
                        (int)options->rounding);
  }
  if (options->input_range != NVFP4_INPUT_AMAX && options->input_range != NVFP4_INPUT_MSE) {
    return nvfp4_reject(reason, NVFP4_E_ARG, "input range %d; choose NVFP4_INPUT_AMAX (0) or NVFP4_INPUT_MSE (1)",
                        (int)options->input_range);
  }
  if (options->mode != NVFP4_MODE_W4A4 && options->mode != NVFP4_MODE_W4A16) {
    return nvfp4_reject(reason, NVFP4_E_ARG, "mode %s cannot be made; choose w4a4 or w4a16", nvfp4_mode_name(options->mode));
  }
  if (options->calibration_tokens < 0) {
    return nvfp4_reject(reason, NVFP4_E_ARG, "calibration_tokens is %lld; needs 1 or more, or 0 for the default",
                        (long long)options->calibration_tokens);
  }
  if (options->globals != NVFP4_GLOBALS_FUSED && options->globals != NVFP4_GLOBALS_AMAX && options->globals != NVFP4_GLOBALS_SEARCH) {
    return nvfp4_reject(reason, NVFP4_E_ARG,
                        "globals %d; choose NVFP4_GLOBALS_FUSED (0), NVFP4_GLOBALS_AMAX (1) or NVFP4_GLOBALS_SEARCH (2)",
                        (int)options->globals);
  }
  if (!(options->damping > 0 && options->damping <= 1)) {
    return nvfp4_reject(reason, NVFP4_E_ARG, "damping %g; needs a number above 0 and at most 1, or 0 for 0.01", options->damping);
  }
  if (options->bits_per_weight != 0 && !(options->bits_per_weight >= 4.5 && options->bits_per_weight <= 16)) {
    return nvfp4_reject(reason, NVFP4_E_ARG, "%g bits a weight; NVFP4 takes 4.5, give 4.5 to 16, or 0 for no choice of layers",
                        options->bits_per_weight);
  }
  return NVFP4_OK;
}

/* What the options ask of a calibration text. */
static nvfp4_status check_needs(const nvfp4_quantize_options *options, nvfp4_reason *reason) {
  const char *needs = options->mode == NVFP4_MODE_W4A4           ? "the input scales of W4A4"
                      : options->importance                      ? "the importance of columns"
                      : options->rounding == NVFP4_ROUNDING_GPTQ ? "GPTQ's Hessian"
                      : options->input_range == NVFP4_INPUT_MSE  ? "the range of inputs"
                                                                 : NULL;
  if (needs != NULL && options->calibration == NULL) {
    return nvfp4_reject(reason, NVFP4_E_ARG, "no calibration text, the source of %s: give one of some thousand words", needs);
  }
  return NVFP4_OK;
}

static nvfp4_status complete_options(const nvfp4_quantize_options *options, nvfp4_quantize_options *out, nvfp4_reason *reason) {
  nvfp4_quantize_options complete;
  NVFP4_TRY(nvfp4_sized_read(options, "nvfp4_quantize_options", &complete, sizeof complete, reason));
  if (complete.layout == NVFP4_LAYOUT_NONE) {
    complete.layout = NVFP4_LAYOUT_MODELOPT;
  }
  if (complete.mode == NVFP4_MODE_UNQUANTISED) {
    complete.mode = complete.calibration != NULL ? NVFP4_MODE_W4A4 : NVFP4_MODE_W4A16;
  }
  if (complete.damping == 0) {
    complete.damping = 0.01;
  }
  if (complete.tool == NULL) {
    complete.tool = "libnvfp4";
  }
  NVFP4_TRY(check_choices(&complete, reason));
  NVFP4_TRY(check_needs(&complete, reason));
  *out = complete;
  return NVFP4_OK;
}

typedef nvfp4_status (*make_text_fn)(const nvfp4_model_description *model, char **out, nvfp4_reason *reason);

static nvfp4_status add_text(const nvfp4_model_description *model, nvfp4_output *output, const char *name, make_text_fn make,
                             nvfp4_reason *reason) {
  char *text = NULL;
  NVFP4_TRY(make(model, &text, reason));
  nvfp4_status status = text != NULL ? nvfp4_output_add(output, name, text, strlen(text), reason) : NVFP4_OK;
  free(text);
  return status;
}

static nvfp4_status write_weights(nvfp4_quantize_job *job, nvfp4_output *output, nvfp4_reason *reason) {
  nvfp4_reason why = {0};
  const char *path = nvfp4_output_claim(output, "model.safetensors", &why);
  if (path == NULL) {
    return nvfp4_reject(reason, why.status, "%s", why.text);
  }
  nvfp4_safetensors_writer *writer = NULL;
  NVFP4_TRY(nvfp4_safetensors_writer_create(path, &writer, reason));
  nvfp4_status status = nvfp4_quantize_write(job, writer, reason);
  if (status == NVFP4_OK) {
    status = nvfp4_safetensors_writer_finish(writer, reason);
  }
  nvfp4_safetensors_writer_destroy(writer);
  return status;
}

/* The small files first: they fail soonest. config.json last: its name makes the folder a checkpoint. */
static nvfp4_status write_texts(const nvfp4_model_description *model, nvfp4_output *output, nvfp4_reason *reason) {
  if (model->source->gguf != NULL) {
    NVFP4_TRY(add_text(model, output, "tokenizer.json", nvfp4_hf_tokenizer, reason));
    NVFP4_TRY(add_text(model, output, "tokenizer_config.json", nvfp4_hf_tokenizer_config, reason));
    NVFP4_TRY(add_text(model, output, "generation_config.json", nvfp4_hf_generation_config, reason));
  } else {
    NVFP4_TRY(nvfp4_output_add_companions(output, model->source, reason));
  }
  NVFP4_TRY(add_text(model, output, "hf_quant_config.json", nvfp4_hf_quant_config, reason));
  return add_text(model, output, "config.json", nvfp4_hf_config, reason);
}

static nvfp4_status write_output(nvfp4_quantize_job *job, nvfp4_output *output, nvfp4_reason *reason) {
  nvfp4_model_description model;
  NVFP4_TRY(nvfp4_quantize_describe(job, &model, reason));
  NVFP4_TRY(write_texts(&model, output, reason));
  NVFP4_TRY(write_weights(job, output, reason));
  return nvfp4_output_commit(output, reason);
}

/* A file in the output's folder that nobody else sees. */
static nvfp4_status open_rounded(nvfp4_quantize_job *job, const char *folder, nvfp4_reason *reason) {
  char path[4096];
  int length = snprintf(path, sizeof path, "%s/.nvfp4-rounded-XXXXXX", folder);
  if (length >= (int)sizeof path || (job->rounded = mkstemp(path)) < 0) {
    return nvfp4_reject(reason, NVFP4_E_IO, "no file can be made in %s: %s", folder, strerror(errno));
  }
  unlink(path);
  return NVFP4_OK;
}

static nvfp4_status calibrate(nvfp4_quantize_job *job, const char *folder, nvfp4_reason *reason) {
  if (job->options.calibration == NULL) {
    return NVFP4_OK;
  }
  if (job->options.rounding == NVFP4_ROUNDING_GPTQ) {
    NVFP4_TRY(open_rounded(job, folder, reason));
  }
  return nvfp4_quantize_calibrate(job, reason);
}

static nvfp4_status choose(nvfp4_quantize_job *job, nvfp4_reason *reason) {
  for (size_t i = 0; i < job->tensor_count; i++) {
    if (job->tensors[i].quantise && job->tensors[i].rounded_at < 0) {
      NVFP4_TRY(nvfp4_quantize_choose_global(job, &job->tensors[i], reason));
    }
  }
  return job->options.bits_per_weight != 0 ? nvfp4_quantize_choose_layers(job, reason) : NVFP4_OK;
}

/* ------------------------------------------------------------------------------------------------------------------- report */

/* A layer as the caller is told of it. Only layers that were to be quantised have been measured. */
static nvfp4_quantized_layer layer_of(const nvfp4_quantize_job *job, const nvfp4_planned_tensor *tensor) {
  return (nvfp4_quantized_layer){
      .name = tensor->name,
      .n = tensor->rows,
      .k = tensor->columns,
      .mode = tensor->quantise ? job->options.mode : NVFP4_MODE_UNQUANTISED,
      .relative_squared_error = nvfp4_relative_error(tensor->error.weight),
      .relative_output_error = tensor->input != NULL ? nvfp4_relative_error(tensor->error.output) : -1,
  };
}

static void add_layer(nvfp4_quantize_stats *stats, const nvfp4_quantized_layer *layer) {
  if (stats->worst_layer[0] == '\0' || layer->relative_squared_error > stats->worst_relative_squared_error) {
    size_t length = strnlen(layer->name, sizeof stats->worst_layer - 1);
    stats->worst_relative_squared_error = layer->relative_squared_error;
    memcpy(stats->worst_layer, layer->name, length);
    stats->worst_layer[length] = '\0';
  }
  stats->weights += (uint64_t)(layer->n * layer->k);
  stats->relative_output_error += layer->relative_output_error;
}

void nvfp4_quantize_report(nvfp4_quantize_job *job) {
  nvfp4_quantize_stats *stats = &job->stats;
  double errors[2] = {0, 0}, bits = 0, elements = 0;
  for (size_t i = 0; i < job->tensor_count; i++) {
    const nvfp4_planned_tensor *tensor = &job->tensors[i];
    stats->copied_tensors += !tensor->quantise;
    if (!tensor->measured) {
      continue;
    }
    nvfp4_quantized_layer layer = layer_of(job, tensor);
    if (job->options.layer != NULL) {
      char module[1024]; /* a tensor that was left has the name of its weight again */
      snprintf(module, sizeof module, "%.*s", (int)(strlen(tensor->name) - (tensor->quantise ? 0 : strlen(".weight"))), tensor->name);
      nvfp4_quantized_layer told = layer;
      told.name = module;
      job->options.layer(job->options.layer_cookie, &told);
    }
    double size = (double)tensor->rows * (double)tensor->columns;
    uint64_t row_bytes = 0;
    nvfp4_dtype_bytes(tensor->dtype, (uint64_t)tensor->columns, &row_bytes);
    bits += tensor->quantise ? 4.5 * size : 8.0 * (double)row_bytes * (double)tensor->rows;
    elements += size;
    if (tensor->quantise) {
      add_layer(stats, &layer);
      errors[0] += tensor->error.weight[0];
      errors[1] += tensor->error.weight[1];
    }
  }
  const nvfp4_tensor *source;
  for (size_t i = 0; (source = nvfp4_checkpoint_tensor(job->source, i)) != NULL; i++) { /* a tied lm_head has no tensor of its own */
    stats->input_bytes += source->bytes;
  }
  stats->relative_squared_error = nvfp4_relative_error(errors);
  stats->relative_output_error = job->options.calibration != NULL ? stats->relative_output_error / (double)stats->layers : -1;
  stats->bits_per_weight = bits / elements;
}

static nvfp4_status run(nvfp4_quantize_job *job, const char *folder, nvfp4_reason *reason) {
  NVFP4_TRY(nvfp4_quantize_plan(job, reason));
  NVFP4_TRY(nvfp4_output_refuse_source(job->source, folder, reason));
  nvfp4_output *output = NULL;
  NVFP4_TRY(nvfp4_output_create(folder, &output, reason));
  nvfp4_status status = nvfp4_quantize_measure(job, reason);
  if (status == NVFP4_OK) {
    status = nvfp4_quantize_fuse_globals(job, reason);
  }
  if (status == NVFP4_OK) {
    status = calibrate(job, folder, reason);
  }
  if (status == NVFP4_OK) {
    status = choose(job, reason);
  }
  if (status == NVFP4_OK) {
    status = write_output(job, output, reason);
  }
  if (status == NVFP4_OK) {
    nvfp4_quantize_report(job);
  }
  if (job->rounded >= 0) {
    close(job->rounded);
  }
  nvfp4_output_destroy(output);
  return status;
}

static nvfp4_status run_into(nvfp4_quantize_job *job, const char *output, nvfp4_reason *reason) {
  nvfp4_layout_kind layout = job->options.layout;
  job->k_multiple = layout == NVFP4_LAYOUT_GGUF ? GGUF_BLOCK_ELEMS : NVFP4_BLOCK;
  if (!nvfp4_quantize_relayouts(layout)) {
    return run(job, output, reason);
  }
  struct stat existing;
  if (layout == NVFP4_LAYOUT_GGUF && stat(output, &existing) == 0) { /* soonest: the conversion would find out last */
    return nvfp4_reject(reason, NVFP4_E_IO, "%s exists already; name a new file, or remove it first", output);
  }
  job->options.layout = NVFP4_LAYOUT_MODELOPT;
  nvfp4_reason why = {0};
  char *folder = nvfp4_quantize_folder_beside(output, &why);
  if (folder == NULL) {
    return nvfp4_reject(reason, why.status, "%s", why.text);
  }
  nvfp4_status status = run(job, folder, reason);
  if (status == NVFP4_OK) {
    status = nvfp4_quantize_relayout(folder, output, layout, job->options.tool, reason);
  }
  free(folder);
  return status;
}

nvfp4_status nvfp4_quantize_checkpoint(nvfp4_context *context, const char *input, const char *output, const nvfp4_quantize_options *options,
                                       nvfp4_quantize_stats *stats, nvfp4_reason *reason) {
  if (context == NULL || input == NULL || output == NULL || output[0] == '\0') {
    return nvfp4_reject(reason, NVFP4_E_ARG, "context, input and output are needed, one is missing: pass them all");
  }
  NVFP4_TRY(nvfp4_sized_check(stats, "nvfp4_quantize_stats", reason));
  nvfp4_quantize_job job = {.context = context, .threads = nvfp4_context_pool(context), .rounded = -1};
  NVFP4_TRY(complete_options(options, &job.options, reason));
  if (job.options.rounding == NVFP4_ROUNDING_GPTQ) {
    NVFP4_TRY(nvfp4_blas_open(NULL, &job.blas, reason));
  }
  nvfp4_checkpoint *source = NULL;
  NVFP4_TRY(nvfp4_checkpoint_open(input, 0, &source, reason));
  job.source = source;
  nvfp4_status status = run_into(&job, output, reason);
  if (status == NVFP4_OK) {
    nvfp4_sized_write(stats, &job.stats, sizeof job.stats);
  }
  nvfp4_quantize_plan_free(&job);
  nvfp4_checkpoint_close(source);
  return status;
}
