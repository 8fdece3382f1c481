/* SPDX-License-Identifier: Apache-2.0 */
/* A conversion: open, plan, emit; then write. */
#include <string.h>

#include "base/reason.h"
#include "base/sized.h"
#include "converter/converter.h"

static nvfp4_status complete_options(const nvfp4_convert_options *options, nvfp4_convert_options *out, nvfp4_reason *reason) {
  nvfp4_convert_options complete;
  NVFP4_TRY(nvfp4_sized_read(options, "nvfp4_convert_options", &complete, sizeof complete, reason));
  if (complete.layout < NVFP4_LAYOUT_MODELOPT || complete.layout > NVFP4_LAYOUT_COMFY) {
    return nvfp4_reject(reason, NVFP4_E_ARG, "layout %d; choose modelopt, compressed-tensors, gguf, mlx or comfy", (int)complete.layout);
  }
  if (complete.one_level && complete.layout != NVFP4_LAYOUT_GGUF && complete.layout != NVFP4_LAYOUT_MLX) {
    return nvfp4_reject(reason, NVFP4_E_ARG, "one_level is for gguf and mlx; %s always has global scales",
                        nvfp4_layout_kind_name(complete.layout));
  }
  if (complete.max_shard_bytes > 0 && complete.layout == NVFP4_LAYOUT_GGUF) {
    return nvfp4_reject(reason, NVFP4_E_ARG, "GGUF is written as one file; llama-gguf-split cuts it");
  }
  complete.tool = complete.tool != NULL ? complete.tool : "libnvfp4";
  *out = complete;
  return NVFP4_OK;
}

/* What a whole conversion comes to, beside the losses of single tensors. */
static nvfp4_status tell_remarks(nvfp4_convert_job *job, nvfp4_reason *reason) {
  const nvfp4_convert_stats *stats = &job->stats;
  const char *path = nvfp4_checkpoint_path(job->source);
  int64_t inputs = 0, unused = 0;
  const char *warning;
  for (size_t i = 0; (warning = nvfp4_checkpoint_warning(job->source, i)) != NULL; i++) {
    nvfp4_convert_tell(job, false, path, "%s", warning);
  }
  for (size_t i = 0; i < job->item_count; i++) {
    const nvfp4_item *item = &job->items[i];
    const char *suffix = item->kind == ITEM_NVFP4 ? nvfp4_conventions[item->layer->layout].input : NULL;
    inputs += item->kind == ITEM_NVFP4 && item->input.count > 0;
    unused += suffix != NULL && item->input.count == 0 && nvfp4_checkpoint_companion(job->source, item->layer->name, suffix) != NULL;
  }
  if (unused > 0) {
    nvfp4_convert_tell(job, false, path, "%lld input scales that the config says are not used (W4A16) are left out", (long long)unused);
  }
  if (stats->globals > 0) {
    nvfp4_convert_tell(
        job, false, path,
        "%lld global scales change their kind; of %lld other readers see a number that is 1 ulp (6e-8) from the source's. The "
        "exact ones are kept as metadata, for the way back",
        (long long)stats->globals, (long long)stats->inexact_globals);
  }
  if (job->options.layout == NVFP4_LAYOUT_MLX && inputs > 0) {
    nvfp4_convert_tell(job, false, path,
                       "MLX has no input scales: other readers see %lld W4A4 layers as weight-only. They are kept as metadata",
                       (long long)inputs);
  }
  if (job->options.layout == NVFP4_LAYOUT_MLX && !job->options.one_level) {
    nvfp4_convert_tell(
        job, false, path,
        "mlx-lm 0.32 reads layers with a global_scale only of mixtures of experts; for its dense layers fold it in (--one-level)");
  }
  if (strcmp(job->gguf_model.arch, "qwen2") == 0 && !job->options.one_level) {
    nvfp4_convert_tell(
        job, false, path,
        "llama.cpp (llama-cpp-python 0.3.36) leaves the .scale tensors of a Qwen2 model out of its graph and computes garbage; for it fold "
        "them in (--one-level)");
  }
  if (job->to_gguf && !job->translated && !job->from_gguf) {
    nvfp4_convert_tell(job, false, path,
                       "no config.json of a language model: tensors keep their names, and llama.cpp has no use for the file");
  }
  if (job->to_gguf && job->translated && !job->from_gguf) {
    nvfp4_reason why = {0};
    if (nvfp4_gguf_tokenizer(job->source, &job->gguf_model, NULL, &why) != NVFP4_OK) {
      if (why.status != NVFP4_E_UNSUPPORTED) {
        return nvfp4_reject(reason, why.status, "%s", why.text);
      }
      nvfp4_convert_tell(job, true, path, "%s: the file gets no tokenizer", why.text);
      job->no_tokenizer = true;
    }
  }
  return NVFP4_OK;
}

static nvfp4_status refuse_losses(const nvfp4_convert_job *job, nvfp4_reason *reason) {
  if (job->stats.losses > 0 && !job->options.allow_lossy && !job->options.dry_run) {
    return nvfp4_reject(reason, NVFP4_E_UNSUPPORTED,
                        "%lld thing%s would be lost (%s); allow it (--allow-lossy), or choose another layout; --dry-run lists them all",
                        (long long)job->stats.losses, job->stats.losses == 1 ? "" : "s", job->first_loss);
  }
  return NVFP4_OK;
}

static nvfp4_status run(nvfp4_convert_job *job, const char *output, nvfp4_reason *reason) {
  NVFP4_TRY(nvfp4_convert_plan(job, reason));
  NVFP4_TRY(nvfp4_convert_emit(job, reason));
  NVFP4_TRY(tell_remarks(job, reason));
  NVFP4_TRY(refuse_losses(job, reason));
  return job->options.dry_run ? NVFP4_OK : nvfp4_convert_write(job, output, reason);
}

nvfp4_status nvfp4_convert_checkpoint(const char *input, const char *output, const nvfp4_convert_options *options,
                                      nvfp4_convert_stats *stats, nvfp4_reason *reason) {
  if (input == NULL || output == NULL || output[0] == '\0' || options == NULL) {
    return nvfp4_reject(reason, NVFP4_E_ARG, "input, output and options are needed, one is missing: pass them all");
  }
  NVFP4_TRY(nvfp4_sized_check(stats, "nvfp4_convert_stats", reason));
  nvfp4_convert_job job = {.shard_count = 0};
  NVFP4_TRY(complete_options(options, &job.options, reason));
  nvfp4_checkpoint *source = NULL;
  NVFP4_TRY(nvfp4_checkpoint_open(input, 0, &source, reason));
  job.source = source;
  nvfp4_status status = run(&job, output, reason);
  if (status == NVFP4_OK) {
    nvfp4_sized_write(stats, &job.stats, sizeof job.stats);
  }
  nvfp4_convert_free(&job);
  nvfp4_checkpoint_close(source);
  return status;
}
