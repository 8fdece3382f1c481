/* SPDX-License-Identifier: Apache-2.0 */
/* The files: safetensors, in one file or in shards with an index, or GGUF; and the configs beside them. */
#define _POSIX_C_SOURCE 200809L
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/reason.h"
#include "checkpoint/config_text.h"
#include "checkpoint/gguf.h"
#include "checkpoint/safetensors_writer.h"
#include "converter/converter.h"

static bool ends_with(const char *text, const char *end) {
  size_t length = strlen(text), end_length = strlen(end);
  return length >= end_length && strcmp(text + length - end_length, end) == 0;
}

static nvfp4_status no_memory(nvfp4_reason *reason) { return nvfp4_reject(reason, NVFP4_E_NOMEM, "no memory for the configs"); }

/* ------------------------------------------------------------------------------------------------------------------- sinks */

typedef struct file_sink {
  nvfp4_convert_job *job;
  nvfp4_safetensors_writer *safetensors;
  nvfp4_gguf_writer *gguf;
} file_sink;

static nvfp4_status put(void *cookie, const void *data, size_t bytes, nvfp4_reason *reason) {
  file_sink *sink = cookie;
  nvfp4_convert_job *job = sink->job;
  NVFP4_TRY(sink->gguf != NULL ? nvfp4_gguf_writer_write(sink->gguf, data, bytes, reason)
                               : nvfp4_safetensors_writer_write(sink->safetensors, data, bytes, reason));
  job->done += bytes;
  if (job->options.progress != NULL) {
    job->options.progress(job->options.cookie, job->done, job->stats.output_bytes);
  }
  return NVFP4_OK;
}

/* ------------------------------------------------------------------------------------------------------------- safetensors */

/* The source's own metadata, but for what is said of the file itself and what we say anew. */
static nvfp4_status keep_metadata(const nvfp4_convert_job *job, nvfp4_safetensors_writer *writer, nvfp4_reason *reason) {
  const char *key;
  json_t *value;
  json_object_foreach(job->source->metadata, key, value) {
    if (strcmp(key, "format") != 0 && strncmp(key, "nvfp4.", 6) != 0) {
      NVFP4_TRY(nvfp4_safetensors_writer_metadata(writer, key, json_string_value(value), reason));
    }
  }
  return NVFP4_OK;
}

static nvfp4_status fill_safetensors(nvfp4_convert_job *job, size_t shard, nvfp4_safetensors_writer *writer, nvfp4_reason *reason) {
  /* transformers refuses files without it; mlx-lm takes "mlx" as "nothing to transpose or rename" */
  const char *format = job->options.layout == NVFP4_LAYOUT_MLX ? "mlx" : "pt";
  NVFP4_TRY(nvfp4_safetensors_writer_metadata(writer, "format", format, reason));
  NVFP4_TRY(keep_metadata(job, writer, reason));
  for (size_t i = 0; i < job->entry_count; i++) {
    const nvfp4_metadata_entry *entry = &job->entries[i];
    if (entry->item->shard == shard) {
      NVFP4_TRY(nvfp4_safetensors_writer_metadata(writer, entry->key, entry->value, reason));
    }
  }
  for (size_t i = 0; i < job->made_count; i++) {
    const nvfp4_made_tensor *tensor = &job->made[i];
    if (tensor->item->shard == shard) {
      NVFP4_TRY(nvfp4_safetensors_writer_declare(writer, tensor->name, tensor->dtype, tensor->rank, tensor->shape, reason));
    }
  }
  NVFP4_TRY(nvfp4_safetensors_writer_begin(writer, reason));
  file_sink sink = {.job = job, .safetensors = writer};
  for (size_t i = 0; i < job->made_count; i++) {
    if (job->made[i].item->shard == shard) {
      NVFP4_TRY(nvfp4_convert_rows(job, &job->made[i], put, &sink, reason));
    }
  }
  return nvfp4_safetensors_writer_finish(writer, reason);
}

static nvfp4_status write_safetensors(nvfp4_convert_job *job, size_t shard, const char *path, nvfp4_reason *reason) {
  nvfp4_safetensors_writer *writer = NULL;
  NVFP4_TRY(nvfp4_safetensors_writer_create(path, &writer, reason));
  nvfp4_status status = fill_safetensors(job, shard, writer, reason);
  nvfp4_safetensors_writer_destroy(writer);
  return status;
}

static void shard_name(const nvfp4_convert_job *job, size_t shard, char name[64]) {
  if (job->shard_count == 1) {
    snprintf(name, 64, "model.safetensors");
  } else {
    snprintf(name, 64, "model-%05zu-of-%05zu.safetensors", shard + 1, job->shard_count);
  }
}

static nvfp4_status add_index(const nvfp4_convert_job *job, nvfp4_output *output, nvfp4_reason *reason) {
  json_t *map = json_object();
  int failed = map == NULL;
  for (size_t i = 0; i < job->made_count && !failed; i++) {
    char name[64];
    shard_name(job, job->made[i].item->shard, name);
    failed = json_object_set_new(map, job->made[i].name, json_string(name));
  }
  json_t *index = json_pack("{s:{s:I}, s:o}", "metadata", "total_size", (json_int_t)job->stats.output_bytes, "weight_map", map);
  char *text = NULL;
  if (failed != 0 || index == NULL) {
    json_decref(index);
    return no_memory(reason);
  }
  NVFP4_TRY(nvfp4_json_text(index, &text, reason));
  nvfp4_status status = nvfp4_output_add(output, "model.safetensors.index.json", text, strlen(text), reason);
  free(text);
  return status;
}

/* ------------------------------------------------------------------------------------------------------------------ configs */

/* What the configs say of the output; frees with free(layers), free(excluded). */
typedef struct description {
  nvfp4_model_description model;
  nvfp4_config_layer *layers;
  char **excluded;
} description;

static bool says_fp8(const json_t *scheme) {
  return json_integer_value(json_object_get(scheme, "num_bits")) == 8 &&
         strcmp(json_string_value(json_object_get(scheme, "type")) != NULL ? json_string_value(json_object_get(scheme, "type")) : "",
                "float") == 0;
}

/* Whether the source's configs ask for an FP8 cache of keys and values. */
static bool kv_cache_is_fp8(const nvfp4_checkpoint *source) {
  json_error_t error;
  json_t *config = source->config != NULL ? nvfp4_config_load(source->config, &error) : NULL;
  json_t *quant = source->quant_config != NULL ? nvfp4_config_load(source->quant_config, &error) : NULL;
  const char *algo = json_string_value(json_object_get(json_object_get(quant, "quantization"), "kv_cache_quant_algo"));
  bool fp8 = says_fp8(json_object_get(json_object_get(config, "quantization_config"), "kv_cache_scheme")) ||
             (algo != NULL && strcmp(algo, "FP8") == 0);
  json_decref(config);
  json_decref(quant);
  return fp8;
}

/* Layers with a 2-D weight that is not quantised; the last entry is lm_head where the model has no tensor of it. */
static void exclude(const nvfp4_item *item, description *out) {
  static const char suffix[] = ".weight";
  bool weight = item->kind == ITEM_OTHER && item->source->rank == 2 && ends_with(item->name, suffix);
  if (item->dense || weight) {
    size_t length = strlen(item->name) - (weight && !item->dense ? sizeof suffix - 1 : 0);
    char *name = strndup(item->name, length);
    if (name != NULL) {
      out->excluded[out->model.excluded_count++] = name;
    }
  }
}

static nvfp4_status describe(const nvfp4_convert_job *job, description *out, nvfp4_reason *reason) {
  *out = (description){.layers = calloc(job->item_count + 1, sizeof *out->layers),
                       .excluded = calloc(job->item_count + 1, sizeof *out->excluded)};
  if (out->layers == NULL || out->excluded == NULL) {
    free(out->layers);
    free(out->excluded);
    return no_memory(reason);
  }
  nvfp4_model_description *model = &out->model;
  bool head = false;
  for (size_t i = 0; i < job->item_count; i++) {
    const nvfp4_item *item = &job->items[i];
    head = head || strcmp(item->module != NULL ? item->module : item->name, "lm_head") == 0 || strcmp(item->name, "lm_head.weight") == 0;
    model->attention_bias = model->attention_bias || strcmp(item->name, "model.layers.0.self_attn.q_proj.bias") == 0;
    model->mlp_bias = model->mlp_bias || strcmp(item->name, "model.layers.0.mlp.up_proj.bias") == 0;
    exclude(item, out);
    if (item->kind == ITEM_OTHER || item->dense) {
      continue;
    }
    bool fp8 = item->kind == ITEM_FP8;
    out->layers[model->layer_count++] = (nvfp4_config_layer){.name = item->name,
                                                             .mode = fp8          ? NVFP4_MODE_FP8
                                                                     : item->w4a4 ? NVFP4_MODE_W4A4
                                                                                  : NVFP4_MODE_W4A16,
                                                             .fp8_channels = fp8 && item->fp8_scales > 1,
                                                             .fp8_dynamic = fp8 && item->input.count == 0};
  }
  if (!head && (out->excluded[model->excluded_count] = strdup("lm_head")) != NULL) {
    model->excluded_count++;
  }
  model->source = job->source;
  model->layout = job->options.layout;
  model->tool = job->options.tool;
  model->layers = out->layers;
  model->excluded = out->excluded;
  model->own_lm_head = head;
  model->kv_cache_fp8 = kv_cache_is_fp8(job->source);
  return NVFP4_OK;
}

static void description_free(description *d) {
  for (size_t i = 0; i < d->model.excluded_count; i++) {
    free(d->excluded[i]);
  }
  free(d->excluded);
  free(d->layers);
}

typedef nvfp4_status (*make_text_fn)(const nvfp4_model_description *model, char **out, nvfp4_reason *reason);

static nvfp4_status add_texts(const nvfp4_convert_job *job, const nvfp4_model_description *model, nvfp4_output *output,
                              nvfp4_reason *reason) {
  static const struct {
    const char *name;
    make_text_fn make;
    bool gguf_only;
  } texts[] = {{"tokenizer.json", nvfp4_hf_tokenizer, true},
               {"tokenizer_config.json", nvfp4_hf_tokenizer_config, true},
               {"generation_config.json", nvfp4_hf_generation_config, true},
               {"hf_quant_config.json", nvfp4_hf_quant_config, false},
               {"config.json", nvfp4_hf_config, false}};
  if (job->source->config != NULL) { /* a folder; what stands beside a lone file is not its own */
    NVFP4_TRY(nvfp4_output_add_companions(output, job->source, reason));
  }
  for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
    char *text = NULL;
    if (texts[i].gguf_only && !(job->from_gguf && job->translated)) {
      continue;
    }
    NVFP4_TRY(texts[i].make(model, &text, reason));
    nvfp4_status status = text != NULL ? nvfp4_output_add(output, texts[i].name, text, strlen(text), reason) : NVFP4_OK;
    free(text);
    NVFP4_TRY(status);
  }
  return NVFP4_OK;
}

/* The weights and their index first of all renames, config.json, whose name makes the folder a checkpoint, last; but it is made first: what
 * can be refused is refused before the long work. */
static nvfp4_status fill_folder(nvfp4_convert_job *job, nvfp4_output *output, nvfp4_reason *reason) {
  description d;
  NVFP4_TRY(describe(job, &d, reason));
  nvfp4_status status = add_texts(job, &d.model, output, reason);
  description_free(&d);
  NVFP4_TRY(status);
  for (size_t shard = 0; shard < job->shard_count; shard++) {
    char name[64];
    nvfp4_reason why = {0};
    shard_name(job, shard, name);
    const char *path = nvfp4_output_claim(output, name, &why);
    if (path == NULL) {
      return nvfp4_reject(reason, why.status, "%s", why.text);
    }
    NVFP4_TRY(write_safetensors(job, shard, path, reason));
  }
  NVFP4_TRY(job->shard_count > 1 ? add_index(job, output, reason) : NVFP4_OK);
  return nvfp4_output_commit(output, reason);
}

static nvfp4_status write_folder(nvfp4_convert_job *job, const char *path, nvfp4_reason *reason) {
  nvfp4_output *output = NULL;
  NVFP4_TRY(nvfp4_output_refuse_source(job->source, path, reason));
  NVFP4_TRY(nvfp4_output_create(path, &output, reason));
  nvfp4_status status = fill_folder(job, output, reason);
  nvfp4_output_destroy(output);
  return status;
}

/* --------------------------------------------------------------------------------------------------------------------- GGUF */

static bool begins(nvfp4_gguf_string key, const char *with) {
  return key.bytes >= strlen(with) && memcmp(key.text, with, strlen(with)) == 0;
}

/* Pairs of another GGUF file, but for what we say anew. */
static void keep_pairs(const nvfp4_convert_job *job, nvfp4_gguf_writer *writer) {
  nvfp4_gguf_string key, stored;
  for (size_t i = 0; nvfp4_gguf_pair(job->source->gguf, i, &key, &stored); i++) {
    bool still_true = !begins(key, "nvfp4.") || begins(key, NVFP4_METADATA_CONFIG) || begins(key, "nvfp4.dtype.");
    if (still_true && !begins(key, "general.alignment")) {
      nvfp4_gguf_writer_pair(writer, key, stored);
    }
  }
}

static const char *last_part(const char *path) {
  const char *slash = strrchr(path, '/');
  return slash != NULL && slash[1] != '\0' ? slash + 1 : path;
}

static nvfp4_status put_metadata(const nvfp4_convert_job *job, nvfp4_gguf_writer *writer, nvfp4_reason *reason) {
  if (job->from_gguf) {
    keep_pairs(job, writer);
  } else {
    nvfp4_gguf_model_write(&job->gguf_model, last_part(nvfp4_checkpoint_path(job->source)), writer);
    if (job->translated) {
      if (job->no_tokenizer) {
        nvfp4_gguf_writer_string(writer, "tokenizer.ggml.model", "none");
      } else {
        NVFP4_TRY(nvfp4_gguf_tokenizer(job->source, &job->gguf_model, writer, reason));
      }
      nvfp4_gguf_writer_string(writer, NVFP4_METADATA_CONFIG, nvfp4_checkpoint_config(job->source));
    }
  }
  for (size_t i = 0; i < job->entry_count; i++) {
    nvfp4_gguf_writer_string(writer, job->entries[i].key, job->entries[i].value);
  }
  return NVFP4_OK;
}

static nvfp4_status fill_gguf(nvfp4_convert_job *job, nvfp4_gguf_writer *writer, nvfp4_reason *reason) {
  NVFP4_TRY(put_metadata(job, writer, reason));
  for (size_t i = 0; i < job->made_count; i++) {
    const nvfp4_made_tensor *t = &job->made[i];
    NVFP4_TRY(nvfp4_gguf_writer_declare(writer, t->name, t->gguf_type, t->rank, t->shape, reason));
  }
  NVFP4_TRY(nvfp4_gguf_writer_begin(writer, reason));
  file_sink sink = {.job = job, .gguf = writer};
  for (size_t i = 0; i < job->made_count; i++) {
    NVFP4_TRY(nvfp4_convert_rows(job, &job->made[i], put, &sink, reason));
  }
  return nvfp4_gguf_writer_finish(writer, reason);
}

static nvfp4_status write_gguf(nvfp4_convert_job *job, const char *path, nvfp4_reason *reason) {
  nvfp4_gguf_writer *writer = NULL;
  NVFP4_TRY(nvfp4_gguf_writer_create(path, &writer, reason));
  nvfp4_status status = fill_gguf(job, writer, reason);
  nvfp4_gguf_writer_destroy(writer);
  return status;
}

nvfp4_status nvfp4_convert_write(nvfp4_convert_job *job, const char *output, nvfp4_reason *reason) {
  struct stat existing;
  bool file = job->to_gguf || ends_with(output, ".safetensors");
  if (!file) {
    return write_folder(job, output, reason);
  }
  if (stat(output, &existing) == 0) {
    return nvfp4_reject(reason, NVFP4_E_IO, "%s exists already; name a new file, or remove it first", output);
  }
  if (job->shard_count > 1) {
    return nvfp4_reject(reason, NVFP4_E_ARG, "%s is one file; name a folder for the %zu that the shard size asks for", output,
                        job->shard_count);
  }
  return job->to_gguf ? write_gguf(job, output, reason) : write_safetensors(job, 0, output, reason);
}
