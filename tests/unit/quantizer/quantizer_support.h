/* SPDX-License-Identifier: Apache-2.0 */
/* What the tests of this room share: temporary folders, safetensors and GGUF files made on the spot, a job without the public function. */
#ifndef NVFP4_TESTS_QUANTIZER_SUPPORT_H
#define NVFP4_TESTS_QUANTIZER_SUPPORT_H

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "checkpoint/checkpoint.h"
#include "checkpoint/safetensors_writer.h"
#include "quantizer/quantizer.h"
#include "support.h"

#define TINY GOLDEN "tiny"

/* ------------------------------------------------------------------------------------------------------------------ folders */

static inline char *make_folder(char path[256]) {
  strcpy(path, "/tmp/nvfp4-quantizer-XXXXXX");
  assert_non_null(mkdtemp(path));
  return path;
}

static inline char *path_in(const char *folder, const char *name, char path[512]) {
  int length = snprintf(path, 512, "%s/%s", folder, name);
  assert_true(length > 0 && length < 512);
  return path;
}

static inline size_t count_files(const char *folder) {
  size_t count = 0;
  DIR *entries = opendir(folder);
  assert_non_null(entries);
  for (struct dirent *entry = readdir(entries); entry != NULL; entry = readdir(entries)) {
    count += entry->d_name[0] != '.';
  }
  closedir(entries);
  return count;
}

static inline void remove_folder(const char *folder) {
  DIR *entries = opendir(folder);
  if (entries == NULL) {
    return;
  }
  for (struct dirent *entry = readdir(entries); entry != NULL; entry = readdir(entries)) {
    char path[512];
    if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0 && unlink(path_in(folder, entry->d_name, path)) != 0) {
      remove_folder(path);
    }
  }
  closedir(entries);
  rmdir(folder);
}

static inline void write_text(const char *folder, const char *name, const char *text) {
  char path[512];
  FILE *file = fopen(path_in(folder, name, path), "wb");
  assert_non_null(file);
  assert_int_equal(fwrite(text, 1, strlen(text), file), strlen(text));
  assert_int_equal(fclose(file), 0);
}

static inline json_t *read_json(const char *folder, const char *name) {
  char path[512];
  json_t *value = json_load_file(path_in(folder, name, path), 0, NULL);
  if (value == NULL) {
    fail_msg("%s is no JSON", path);
  }
  return value;
}

/* -------------------------------------------------------------------------------------------------------------- safetensors */

typedef struct test_tensor {
  const char *name;
  nvfp4_dtype dtype;
  int rank;
  int64_t shape[3];
  const void *data;
} test_tensor;

static inline uint64_t test_tensor_bytes(const test_tensor *tensor) {
  uint64_t elements = 1, bytes = 0;
  for (int d = 0; d < tensor->rank; d++) {
    elements *= (uint64_t)tensor->shape[d];
  }
  assert_true(nvfp4_dtype_bytes(tensor->dtype, elements, &bytes));
  return bytes;
}

static inline void write_tensors(const char *folder, const char *name, const test_tensor *tensors, size_t count) {
  char path[512];
  nvfp4_reason reason = {0};
  nvfp4_safetensors_writer *writer = NULL;
  assert_ok(nvfp4_safetensors_writer_create(path_in(folder, name, path), &writer, &reason), reason);
  for (size_t i = 0; i < count; i++) {
    assert_ok(nvfp4_safetensors_writer_declare(writer, tensors[i].name, tensors[i].dtype, tensors[i].rank, tensors[i].shape, &reason),
              reason);
  }
  assert_ok(nvfp4_safetensors_writer_begin(writer, &reason), reason);
  for (size_t i = 0; i < count; i++) {
    assert_ok(nvfp4_safetensors_writer_write(writer, tensors[i].data, (size_t)test_tensor_bytes(&tensors[i]), &reason), reason);
  }
  assert_ok(nvfp4_safetensors_writer_finish(writer, &reason), reason);
  nvfp4_safetensors_writer_destroy(writer);
}

/* --------------------------------------------------------------------------------------------------------------------- GGUF */

enum { GGUF_F32 = 0, GGUF_F16 = 1, GGUF_Q8_0 = 8, GGUF_Q4_K = 12, GGUF_BF16 = 30 };

typedef struct byte_list {
  uint8_t *data;
  size_t count;
} byte_list;

static inline void put(byte_list *to, const void *data, size_t count) {
  to->data = realloc(to->data, to->count + count + 1);
  assert_non_null(to->data);
  memcpy(to->data + to->count, data, count);
  to->count += count;
}

static inline void put_u32(byte_list *to, uint32_t value) { put(to, &value, sizeof value); }
static inline void put_u64(byte_list *to, uint64_t value) { put(to, &value, sizeof value); }
static inline void put_string(byte_list *to, const char *text) {
  put_u64(to, strlen(text));
  put(to, text, strlen(text));
}

static inline void pad32(byte_list *to) {
  while (to->count % 32 != 0) {
    put(to, "", 1);
  }
}

/* A GGUF file in the making. */
typedef struct gguf_file {
  byte_list pairs, infos, data;
  uint64_t pair_count, tensor_count;
} gguf_file;

static inline void gguf_u32(gguf_file *file, const char *key, uint32_t value) {
  put_string(&file->pairs, key);
  put_u32(&file->pairs, 4);
  put_u32(&file->pairs, value);
  file->pair_count++;
}

static inline void gguf_f32(gguf_file *file, const char *key, float value) {
  put_string(&file->pairs, key);
  put_u32(&file->pairs, 6);
  put(&file->pairs, &value, sizeof value);
  file->pair_count++;
}

static inline void gguf_bool(gguf_file *file, const char *key, bool value) {
  uint8_t byte = value;
  put_string(&file->pairs, key);
  put_u32(&file->pairs, 7);
  put(&file->pairs, &byte, 1);
  file->pair_count++;
}

static inline void gguf_text(gguf_file *file, const char *key, const char *value) {
  put_string(&file->pairs, key);
  put_u32(&file->pairs, 8);
  put_string(&file->pairs, value);
  file->pair_count++;
}

/* The head of an array; its elements follow with put_... to file->pairs. */
static inline void gguf_array(gguf_file *file, const char *key, uint32_t type, uint64_t count) {
  put_string(&file->pairs, key);
  put_u32(&file->pairs, 9);
  put_u32(&file->pairs, type);
  put_u64(&file->pairs, count);
  file->pair_count++;
}

static inline void gguf_tensor(gguf_file *file, const char *name, uint32_t type, int rank, const int64_t *shape, const void *data,
                               size_t count) {
  put_string(&file->infos, name);
  put_u32(&file->infos, (uint32_t)rank);
  for (int d = rank; d-- > 0;) {
    put_u64(&file->infos, (uint64_t)shape[d]);
  }
  put_u32(&file->infos, type);
  pad32(&file->data);
  put_u64(&file->infos, file->data.count);
  put(&file->data, data, count);
  file->tensor_count++;
}

/* Writes and frees. */
static inline void gguf_write(gguf_file *file, const char *path) {
  byte_list all = {0};
  put(&all, "GGUF", 4);
  put_u32(&all, 3);
  put_u64(&all, file->tensor_count);
  put_u64(&all, file->pair_count);
  put(&all, file->pairs.data, file->pairs.count);
  put(&all, file->infos.data, file->infos.count);
  pad32(&all);
  pad32(&file->data);
  put(&all, file->data.data, file->data.count);
  FILE *out = fopen(path, "wb");
  assert_non_null(out);
  assert_int_equal(fwrite(all.data, 1, all.count, out), all.count);
  assert_int_equal(fclose(out), 0);
  free(all.data);
  free(file->pairs.data);
  free(file->infos.data);
  free(file->data.data);
}

/* Sizes of the golden model "tiny". */
enum { TINY_LAYERS = 2, TINY_HIDDEN = 64, TINY_INTERMEDIATE = 160, TINY_HEADS = 4, TINY_KV_HEADS = 2, TINY_HEAD = 16, TINY_WORDS = 320 };

static inline void tiny_metadata(gguf_file *file) {
  gguf_text(file, "general.architecture", "llama");
  gguf_u32(file, "llama.block_count", TINY_LAYERS);
  gguf_u32(file, "llama.context_length", 1024);
  gguf_u32(file, "llama.embedding_length", TINY_HIDDEN);
  gguf_u32(file, "llama.feed_forward_length", TINY_INTERMEDIATE);
  gguf_u32(file, "llama.attention.head_count", TINY_HEADS);
  gguf_u32(file, "llama.attention.head_count_kv", TINY_KV_HEADS);
  gguf_u32(file, "llama.rope.dimension_count", TINY_HEAD);
  gguf_f32(file, "llama.rope.freq_base", 10000.0f);
  gguf_f32(file, "llama.attention.layer_norm_rms_epsilon", 1e-05f);
}

/* Tokenizer metadata as llama.cpp's converter makes it of a tokenizer.json. */
static inline void tiny_tokenizer(gguf_file *file, const char *pre) {
  json_t *tokenizer = read_json(TINY, "tokenizer.json"), *config = read_json(TINY, "tokenizer_config.json");
  json_t *model = json_object_get(tokenizer, "model"), *vocab = json_object_get(model, "vocab"), *merges = json_object_get(model, "merges");
  const char *words[TINY_WORDS], *word;
  json_t *id;
  json_object_foreach(vocab, word, id) { words[json_integer_value(id)] = word; }
  gguf_text(file, "tokenizer.ggml.model", "gpt2");
  gguf_text(file, "tokenizer.ggml.pre", pre);
  gguf_array(file, "tokenizer.ggml.tokens", 8, TINY_WORDS);
  for (int i = 0; i < TINY_WORDS; i++) {
    put_string(&file->pairs, words[i]);
  }
  gguf_array(file, "tokenizer.ggml.token_type", 5, TINY_WORDS);
  for (uint32_t i = 0; i < TINY_WORDS; i++) {
    put_u32(&file->pairs, i < 3 ? 3 : 1);
  }
  gguf_array(file, "tokenizer.ggml.merges", 8, json_array_size(merges));
  for (size_t i = 0; i < json_array_size(merges); i++) {
    put_string(&file->pairs, json_string_value(json_array_get(merges, i)));
  }
  gguf_u32(file, "tokenizer.ggml.bos_token_id", 1);
  gguf_u32(file, "tokenizer.ggml.eos_token_id", 2);
  gguf_u32(file, "tokenizer.ggml.unknown_token_id", 0);
  gguf_u32(file, "tokenizer.ggml.padding_token_id", 2);
  gguf_text(file, "tokenizer.chat_template", json_string_value(json_object_get(config, "chat_template")));
  json_decref(tokenizer);
  json_decref(config);
}

/* Adds a tensor of tiny under its GGUF name, its heads' rows interleaved as the converter does: reshape [heads, 2, half, k] -> [heads,
 * half, 2, k]. */
static inline void tiny_tensor(gguf_file *file, const nvfp4_checkpoint *tiny, const char *hf, const char *gguf, int heads) {
  const nvfp4_tensor *tensor = nvfp4_checkpoint_find(tiny, hf);
  assert_non_null(tensor);
  uint8_t *copy = malloc(tensor->bytes);
  assert_non_null(copy);
  memcpy(copy, tensor->data, tensor->bytes);
  if (heads > 0) {
    size_t row = (size_t)tensor->shape[1] * 2, to = 0;
    for (int h = 0; h < heads; h++) {
      for (int i = 0; i < TINY_HEAD / 2; i++) {
        for (int half = 0; half < 2; half++) {
          size_t from = (size_t)(h * TINY_HEAD + half * TINY_HEAD / 2 + i);
          memcpy(copy + to++ * row, (const uint8_t *)tensor->data + from * row, row);
        }
      }
    }
  }
  if (tensor->rank == 1) { /* norms become F32 */
    float *wide = malloc(tensor->bytes * 2);
    assert_non_null(wide);
    for (int64_t i = 0; i < tensor->shape[0]; i++) {
      wide[i] = f32_from_bits((uint32_t)(copy[2 * i] | copy[2 * i + 1] << 8) << 16);
    }
    gguf_tensor(file, gguf, GGUF_F32, 1, tensor->shape, wide, tensor->bytes * 2);
    free(wide);
  } else {
    gguf_tensor(file, gguf, GGUF_BF16, tensor->rank, tensor->shape, copy, tensor->bytes);
  }
  free(copy);
}

/* The golden model "tiny" as a GGUF file. */
static inline void write_tiny_gguf(const char *path) {
  static const char *const names[][2] = {
      {"self_attn.q_proj", "attn_q"},      {"self_attn.k_proj", "attn_k"},   {"self_attn.v_proj", "attn_v"},
      {"self_attn.o_proj", "attn_output"}, {"mlp.gate_proj", "ffn_gate"},    {"mlp.up_proj", "ffn_up"},
      {"mlp.down_proj", "ffn_down"},       {"input_layernorm", "attn_norm"}, {"post_attention_layernorm", "ffn_norm"}};
  nvfp4_reason reason = {0};
  nvfp4_checkpoint *tiny = NULL;
  assert_ok(nvfp4_checkpoint_open(TINY, 0, &tiny, &reason), reason);
  gguf_file file = {0};
  tiny_metadata(&file);
  tiny_tokenizer(&file, "smollm");
  tiny_tensor(&file, tiny, "model.embed_tokens.weight", "token_embd.weight", 0);
  tiny_tensor(&file, tiny, "model.norm.weight", "output_norm.weight", 0);
  for (int layer = 0; layer < TINY_LAYERS; layer++) {
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
      char hf[96], gguf[96];
      snprintf(hf, sizeof hf, "model.layers.%d.%s.weight", layer, names[i][0]);
      snprintf(gguf, sizeof gguf, "blk.%d.%s.weight", layer, names[i][1]);
      tiny_tensor(&file, tiny, hf, gguf, i == 0 ? TINY_HEADS : i == 1 ? TINY_KV_HEADS : 0);
    }
  }
  gguf_write(&file, path);
  nvfp4_checkpoint_close(tiny);
}

/* ---------------------------------------------------------------------------------------------------------------------- job */

/* A job on checkpoint `path`, not planned yet. */
static inline nvfp4_quantize_job open_job(const char *path, nvfp4_layout_kind layout, int threads) {
  nvfp4_reason reason = {0};
  nvfp4_checkpoint *source = NULL;
  assert_ok(nvfp4_checkpoint_open(path, 0, &source, &reason), reason);
  nvfp4_quantize_job job = {
      .source = source,
      .options = {.struct_size = sizeof job.options, .layout = layout, .tool = "libnvfp4", .mode = NVFP4_MODE_W4A16, .damping = 0.01},
      .k_multiple = NVFP4_BLOCK,
      .rounded = -1};
  assert_ok(nvfp4_threads_create(threads, NULL, NULL, &job.threads, &reason), reason);
  return job;
}

static inline void close_job(nvfp4_quantize_job *job) {
  nvfp4_quantize_plan_free(job);
  nvfp4_threads_destroy(job->threads);
  nvfp4_checkpoint_close((nvfp4_checkpoint *)job->source);
}

static inline const nvfp4_planned_tensor *planned(const nvfp4_quantize_job *job, const char *name) {
  for (size_t i = 0; i < job->tensor_count; i++) {
    if (strcmp(job->tensors[i].name, name) == 0) {
      return &job->tensors[i];
    }
  }
  fail_msg("%s is not planned", name);
  return NULL;
}

/* Plans, and expects a refusal with that status whose text holds `part`. */
static inline void expect_refused_plan(const char *path, bool lm_head, nvfp4_status status, const char *part) {
  nvfp4_reason reason = {0};
  nvfp4_quantize_job job = open_job(path, NVFP4_LAYOUT_MODELOPT, 1);
  job.options.lm_head = lm_head;
  assert_int_equal(nvfp4_quantize_plan(&job, &reason), status);
  if (strstr(reason.text, part) == NULL) {
    fail_msg("\"%s\" does not say \"%s\"", reason.text, part);
  }
  close_job(&job);
}

#endif
