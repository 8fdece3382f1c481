/* SPDX-License-Identifier: Apache-2.0 */
/* A run: open, plan, measure, calibrate; then write. */
#include "quantizer/quantizer.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/reason.h"
#include "checkpoint/checkpoint.h"
#include "layer/context.h"

static nvfp4_status complete_options(const nvfp4_quantize_options *options, nvfp4_quantize_options *out, nvfp4_reason *reason) {
  nvfp4_quantize_options complete = {.struct_size = sizeof complete};
  if (options != NULL) {
    if (options->struct_size < offsetof(nvfp4_quantize_options, progress)) {
      return nvfp4_reject(reason, NVFP4_E_ARG, "nvfp4_quantize_options.struct_size is %u; set it to sizeof the struct",
                          options->struct_size);
    }
    memcpy(&complete, options, options->struct_size < sizeof complete ? options->struct_size : sizeof complete);
  }
  if (complete.layout == NVFP4_LAYOUT_NONE) {
    complete.layout = NVFP4_LAYOUT_MODELOPT;
  }
  if (complete.layout < NVFP4_LAYOUT_MODELOPT || complete.layout > NVFP4_LAYOUT_COMFY) {
    return nvfp4_reject(reason, NVFP4_E_ARG, "layout %d; choose modelopt, compressed-tensors, gguf, mlx or comfy", (int)complete.layout);
  }
  if (complete.scales != NVFP4_SCALES_RTN && complete.scales != NVFP4_SCALES_SWEEP) {
    return nvfp4_reject(reason, NVFP4_E_ARG, "scale search %d; choose NVFP4_SCALES_RTN (0) or NVFP4_SCALES_SWEEP (1)",
                        (int)complete.scales);
  }
  if (complete.calibration_tokens < 0) {
    return nvfp4_reject(reason, NVFP4_E_ARG, "calibration_tokens is %lld; needs 1 or more, or 0 for the default",
                        (long long)complete.calibration_tokens);
  }
  if (complete.tool == NULL) {
    complete.tool = "libnvfp4";
  }
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

static nvfp4_status run(nvfp4_quantize_job *job, const char *folder, nvfp4_reason *reason) {
  NVFP4_TRY(nvfp4_quantize_plan(job, reason));
  NVFP4_TRY(nvfp4_output_refuse_source(job->source, folder, reason));
  nvfp4_output *output = NULL;
  NVFP4_TRY(nvfp4_output_create(folder, &output, reason));
  nvfp4_status status = nvfp4_quantize_measure(job, reason);
  if (status == NVFP4_OK && job->options.calibration != NULL) {
    status = nvfp4_quantize_calibrate(job, reason);
  }
  if (status == NVFP4_OK) {
    status = write_output(job, output, reason);
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
  if (stats != NULL && stats->struct_size < sizeof stats->struct_size) {
    return nvfp4_reject(reason, NVFP4_E_ARG, "nvfp4_quantize_stats.struct_size is %u; set it to sizeof the struct", stats->struct_size);
  }
  nvfp4_quantize_job job = {.context = context, .threads = nvfp4_context_pool(context)};
  NVFP4_TRY(complete_options(options, &job.options, reason));
  nvfp4_checkpoint *source = NULL;
  NVFP4_TRY(nvfp4_checkpoint_open(input, 0, &source, reason));
  job.source = source;
  nvfp4_status status = run_into(&job, output, reason);
  if (status == NVFP4_OK && stats != NULL) {
    uint32_t size = stats->struct_size < sizeof job.stats ? stats->struct_size : (uint32_t)sizeof job.stats;
    job.stats.struct_size = stats->struct_size;
    memcpy(stats, &job.stats, size);
  }
  nvfp4_quantize_plan_free(&job);
  nvfp4_checkpoint_close(source);
  return status;
}
