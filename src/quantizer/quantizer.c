/* SPDX-License-Identifier: Apache-2.0 */
/* A run: open, plan, measure, calibrate; then write. */
#define _POSIX_C_SOURCE 200809L
#include "quantizer/quantizer.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/reason.h"
#include "checkpoint/checkpoint.h"
#include "layer/context.h"

/* Files of a source folder that stand beside the weights and are taken over as they are. */
static const char *const companions[] = {
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "tokenizer.model",
    "chat_template.jinja",
    "chat_template.json",
    "generation_config.json",
    "preprocessor_config.json",
    "processor_config.json",
};

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
  if (complete.layout != NVFP4_LAYOUT_MODELOPT && complete.layout != NVFP4_LAYOUT_COMPRESSED_TENSORS) {
    return nvfp4_reject(reason, NVFP4_E_UNSUPPORTED, "layout %s cannot be written; choose modelopt or compressed-tensors",
                        nvfp4_layout_kind_name(complete.layout));
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

static nvfp4_status refuse_same_folder(const nvfp4_checkpoint *source, const char *output, nvfp4_reason *reason) {
  struct stat from, to;
  if (source->gguf == NULL && stat(source->folder, &from) == 0 && stat(output, &to) == 0 && from.st_dev == to.st_dev &&
      from.st_ino == to.st_ino) {
    return nvfp4_reject(reason, NVFP4_E_ARG, "%s is the folder of the input; name another one for the output", output);
  }
  return NVFP4_OK;
}

/* The whole file; *data = NULL and NVFP4_OK if there is none. */
static nvfp4_status read_companion(const char *folder, const char *name, char **data, size_t *bytes, nvfp4_reason *reason) {
  char path[4096];
  *data = NULL;
  if (snprintf(path, sizeof path, "%s/%s", folder, name) >= (int)sizeof path) {
    return NVFP4_OK;
  }
  FILE *file = fopen(path, "rb");
  if (file == NULL) {
    return errno == ENOENT ? NVFP4_OK : nvfp4_reject(reason, NVFP4_E_IO, "%s cannot be opened: %s", path, strerror(errno));
  }
  struct stat info;
  nvfp4_status status = NVFP4_OK;
  if (fstat(fileno(file), &info) != 0 || !S_ISREG(info.st_mode)) {
    status = nvfp4_reject(reason, NVFP4_E_IO, "%s is not a file; remove it or put a file there", path);
  } else if ((*data = malloc((size_t)info.st_size + 1)) == NULL) {
    status = nvfp4_reject(reason, NVFP4_E_NOMEM, "out of memory for %s of %lld bytes", path, (long long)info.st_size);
  } else if (fread(*data, 1, (size_t)info.st_size, file) != (size_t)info.st_size) {
    status = nvfp4_reject(reason, NVFP4_E_IO, "%s cannot be read: %s", path, strerror(errno));
    free(*data);
    *data = NULL;
  }
  *bytes = (size_t)info.st_size;
  fclose(file);
  return status;
}

static nvfp4_status copy_companions(const nvfp4_quantize_job *job, nvfp4_output *output, nvfp4_reason *reason) {
  for (size_t i = 0; i < sizeof companions / sizeof companions[0]; i++) {
    char *data;
    size_t bytes = 0;
    NVFP4_TRY(read_companion(job->source->folder, companions[i], &data, &bytes, reason));
    if (data != NULL) {
      nvfp4_status status = nvfp4_output_add(output, companions[i], data, bytes, reason);
      free(data);
      NVFP4_TRY(status);
    }
  }
  return NVFP4_OK;
}

typedef nvfp4_status (*make_text_fn)(const nvfp4_quantize_job *job, char **out, nvfp4_reason *reason);

static nvfp4_status add_text(const nvfp4_quantize_job *job, nvfp4_output *output, const char *name, make_text_fn make,
                             nvfp4_reason *reason) {
  char *text = NULL;
  NVFP4_TRY(make(job, &text, reason));
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
static nvfp4_status write_output(nvfp4_quantize_job *job, nvfp4_output *output, nvfp4_reason *reason) {
  if (job->source->gguf != NULL) {
    NVFP4_TRY(add_text(job, output, "tokenizer.json", nvfp4_hf_tokenizer, reason));
    NVFP4_TRY(add_text(job, output, "tokenizer_config.json", nvfp4_hf_tokenizer_config, reason));
    NVFP4_TRY(add_text(job, output, "generation_config.json", nvfp4_hf_generation_config, reason));
  } else {
    NVFP4_TRY(copy_companions(job, output, reason));
  }
  NVFP4_TRY(add_text(job, output, "hf_quant_config.json", nvfp4_hf_quant_config, reason));
  NVFP4_TRY(add_text(job, output, "config.json", nvfp4_hf_config, reason));
  NVFP4_TRY(write_weights(job, output, reason));
  return nvfp4_output_commit(output, reason);
}

static nvfp4_status run(nvfp4_quantize_job *job, const char *folder, nvfp4_reason *reason) {
  NVFP4_TRY(nvfp4_quantize_plan(job, reason));
  NVFP4_TRY(refuse_same_folder(job->source, folder, reason));
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
  nvfp4_status status = run(&job, output, reason);
  if (status == NVFP4_OK && stats != NULL) {
    uint32_t size = stats->struct_size < sizeof job.stats ? stats->struct_size : (uint32_t)sizeof job.stats;
    job.stats.struct_size = stats->struct_size;
    memcpy(stats, &job.stats, size);
  }
  nvfp4_quantize_plan_free(&job);
  nvfp4_checkpoint_close(source);
  return status;
}
