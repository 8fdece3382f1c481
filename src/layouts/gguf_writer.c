/* SPDX-License-Identifier: Apache-2.0 */
#define _POSIX_C_SOURCE 200809L
#include "layouts/gguf_writer.h"

#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/new_file.h"
#include "base/reason.h"

typedef struct byte_list {
  uint8_t *data;
  size_t count, capacity;
} byte_list;

struct nvfp4_gguf_writer {
  char *path;
  nvfp4_new_file *file;
  byte_list pairs, tensors;
  uint64_t pair_count, tensor_count;
  uint64_t *sizes; /* of the tensors' data, without padding */
  size_t size_capacity;
  uint64_t declared;      /* bytes of data, each tensor padded */
  uint64_t current, left; /* the tensor being written, and its bytes to come */
  bool failed;            /* out of memory for the metadata */
};

static nvfp4_status no_memory(const char *path, nvfp4_reason *reason) {
  return nvfp4_reject(reason, NVFP4_E_NOMEM, "%s: no memory to write it", path);
}

static void put(nvfp4_gguf_writer *writer, byte_list *to, const void *data, size_t bytes) {
  if (bytes > to->capacity - to->count) {
    size_t capacity = 2 * (to->count + bytes) + 1024;
    uint8_t *longer = realloc(to->data, capacity);
    if (longer == NULL) {
      writer->failed = true;
      return;
    }
    to->data = longer;
    to->capacity = capacity;
  }
  memcpy(to->data + to->count, data, bytes);
  to->count += bytes;
}

/* Little-endian, as the machines that this library runs on (base/fp_env.h). */
static void put_u32(nvfp4_gguf_writer *writer, byte_list *to, uint32_t value) { put(writer, to, &value, sizeof value); }
static void put_u64(nvfp4_gguf_writer *writer, byte_list *to, uint64_t value) { put(writer, to, &value, sizeof value); }

static void put_string(nvfp4_gguf_writer *writer, byte_list *to, const char *text, size_t bytes) {
  put_u64(writer, to, bytes);
  put(writer, to, text, bytes);
}

nvfp4_status nvfp4_gguf_writer_create(const char *path, nvfp4_gguf_writer **out, nvfp4_reason *reason) {
  nvfp4_gguf_writer *writer = calloc(1, sizeof *writer);
  if (writer == NULL) {
    return no_memory(path, reason);
  }
  writer->path = strdup(path);
  nvfp4_status status = writer->path == NULL ? no_memory(path, reason) : nvfp4_new_file_create(path, &writer->file, reason);
  if (status != NVFP4_OK) {
    nvfp4_gguf_writer_destroy(writer);
    return status;
  }
  *out = writer;
  return NVFP4_OK;
}

/* ----------------------------------------------------------------------------------------------------------------- metadata */

static void put_key(nvfp4_gguf_writer *writer, const char *key, nvfp4_gguf_type type) {
  put_string(writer, &writer->pairs, key, strlen(key));
  put_u32(writer, &writer->pairs, (uint32_t)type);
  writer->pair_count++;
}

void nvfp4_gguf_writer_u32(nvfp4_gguf_writer *writer, const char *key, uint32_t value) {
  put_key(writer, key, NVFP4_GGUF_U32);
  put_u32(writer, &writer->pairs, value);
}

void nvfp4_gguf_writer_f32(nvfp4_gguf_writer *writer, const char *key, float value) {
  put_key(writer, key, NVFP4_GGUF_F32);
  put(writer, &writer->pairs, &value, sizeof value);
}

void nvfp4_gguf_writer_bool(nvfp4_gguf_writer *writer, const char *key, bool value) {
  uint8_t byte = value;
  put_key(writer, key, NVFP4_GGUF_BOOL);
  put(writer, &writer->pairs, &byte, 1);
}

void nvfp4_gguf_writer_string(nvfp4_gguf_writer *writer, const char *key, const char *value) {
  put_key(writer, key, NVFP4_GGUF_STRING);
  put_string(writer, &writer->pairs, value, strlen(value));
}

void nvfp4_gguf_writer_array(nvfp4_gguf_writer *writer, const char *key, nvfp4_gguf_type type, uint64_t count) {
  put_key(writer, key, NVFP4_GGUF_ARRAY);
  put_u32(writer, &writer->pairs, (uint32_t)type);
  put_u64(writer, &writer->pairs, count);
}

void nvfp4_gguf_writer_string_element(nvfp4_gguf_writer *writer, const char *text, size_t bytes) {
  put_string(writer, &writer->pairs, text, bytes);
}

void nvfp4_gguf_writer_raw(nvfp4_gguf_writer *writer, const void *data, size_t bytes) { put(writer, &writer->pairs, data, bytes); }

void nvfp4_gguf_writer_pair(nvfp4_gguf_writer *writer, nvfp4_gguf_string key, nvfp4_gguf_string stored) {
  put_string(writer, &writer->pairs, key.text, key.bytes);
  put(writer, &writer->pairs, stored.text, stored.bytes);
  writer->pair_count++;
}

/* ------------------------------------------------------------------------------------------------------------------ tensors */

nvfp4_status nvfp4_gguf_writer_declare(nvfp4_gguf_writer *writer, const char *name, const char *type, int rank, const int64_t *shape,
                                       nvfp4_reason *reason) {
  uint32_t number, block_elements, block_bytes;
  if (!nvfp4_gguf_tensor_type(type, &number, &block_elements, &block_bytes)) {
    return nvfp4_reject(reason, NVFP4_E_DTYPE, "%s: tensor \"%s\" is %s, which GGUF files cannot hold", writer->path, name, type);
  }
  if (rank > 4) {
    return nvfp4_reject(reason, NVFP4_E_SHAPE, "%s: tensor \"%s\" has %d dimensions; GGUF holds at most 4", writer->path, name, rank);
  }
  uint64_t elements = 1, bytes = 0, padded = 0;
  int64_t row = rank > 0 ? shape[rank - 1] : 1;
  bool fits = row % block_elements == 0;
  for (int i = 0; fits && i < rank; i++) {
    fits = shape[i] >= 0 && nvfp4_multiply(elements, (uint64_t)shape[i], &elements);
  }
  fits = fits && nvfp4_multiply(elements / block_elements, block_bytes, &bytes) && bytes <= INT64_MAX;
  if (!fits) {
    return nvfp4_reject(reason, NVFP4_E_SHAPE, "%s: tensor \"%s\": rows of %lld elements; %s needs a multiple of %u, below 2^63 bytes",
                        writer->path, name, (long long)row, type, block_elements);
  }
  if (writer->tensor_count == writer->size_capacity) {
    size_t capacity = writer->size_capacity > 0 ? 2 * writer->size_capacity : 256;
    uint64_t *sizes = realloc(writer->sizes, capacity * sizeof *sizes);
    if (sizes == NULL) {
      return no_memory(writer->path, reason);
    }
    writer->sizes = sizes;
    writer->size_capacity = capacity;
  }
  put_string(writer, &writer->tensors, name, strlen(name));
  put_u32(writer, &writer->tensors, (uint32_t)(rank > 0 ? rank : 1));
  for (int i = rank; i-- > 0;) {
    put_u64(writer, &writer->tensors, (uint64_t)shape[i]);
  }
  if (rank == 0) { /* ggml has no scalars */
    put_u64(writer, &writer->tensors, 1);
  }
  put_u32(writer, &writer->tensors, number);
  put_u64(writer, &writer->tensors, writer->declared);
  writer->sizes[writer->tensor_count++] = bytes;
  padded = (uint64_t)nvfp4_round_up((int64_t)bytes, NVFP4_GGUF_ALIGNMENT);
  writer->declared += padded;
  return NVFP4_OK;
}

static nvfp4_status pad(nvfp4_gguf_writer *writer, uint64_t bytes, nvfp4_reason *reason) {
  static const uint8_t zeros[NVFP4_GGUF_ALIGNMENT];
  uint64_t padding = (NVFP4_GGUF_ALIGNMENT - bytes % NVFP4_GGUF_ALIGNMENT) % NVFP4_GGUF_ALIGNMENT;
  return nvfp4_new_file_write(writer->file, zeros, (size_t)padding, reason);
}

/* Goes to the next tensor that has bytes. */
static void next_tensor(nvfp4_gguf_writer *writer) {
  while (writer->left == 0 && writer->current < writer->tensor_count) {
    writer->left = writer->sizes[writer->current];
    writer->current += writer->left == 0;
  }
}

nvfp4_status nvfp4_gguf_writer_begin(nvfp4_gguf_writer *writer, nvfp4_reason *reason) {
  byte_list head = {0};
  put(writer, &head, "GGUF", 4);
  put_u32(writer, &head, 3);
  put_u64(writer, &head, writer->tensor_count);
  put_u64(writer, &head, writer->pair_count);
  nvfp4_status status = writer->failed ? no_memory(writer->path, reason) : NVFP4_OK;
  const byte_list *const parts[] = {&head, &writer->pairs, &writer->tensors};
  uint64_t bytes = 0;
  for (size_t i = 0; i < 3 && status == NVFP4_OK; i++) {
    status = nvfp4_new_file_write(writer->file, parts[i]->data, parts[i]->count, reason);
    bytes += parts[i]->count;
  }
  free(head.data);
  next_tensor(writer);
  return status == NVFP4_OK ? pad(writer, bytes, reason) : status;
}

nvfp4_status nvfp4_gguf_writer_write(nvfp4_gguf_writer *writer, const void *data, size_t bytes, nvfp4_reason *reason) {
  const uint8_t *from = data;
  while (bytes > 0) {
    if (writer->left == 0) {
      return nvfp4_reject(reason, NVFP4_E_ARG, "%s: %zu bytes more than its tensors were declared with", writer->path, bytes);
    }
    size_t piece = bytes < writer->left ? bytes : (size_t)writer->left;
    NVFP4_TRY(nvfp4_new_file_write(writer->file, from, piece, reason));
    from += piece;
    bytes -= piece;
    writer->left -= piece;
    if (writer->left == 0) {
      NVFP4_TRY(pad(writer, writer->sizes[writer->current], reason));
      writer->current++;
      next_tensor(writer);
    }
  }
  return NVFP4_OK;
}

nvfp4_status nvfp4_gguf_writer_finish(nvfp4_gguf_writer *writer, nvfp4_reason *reason) {
  if (writer->left > 0 || writer->current < writer->tensor_count) {
    return nvfp4_reject(reason, NVFP4_E_ARG, "%s: tensor %llu of %llu lacks %llu bytes", writer->path, (unsigned long long)writer->current,
                        (unsigned long long)writer->tensor_count, (unsigned long long)writer->left);
  }
  return nvfp4_new_file_finish(writer->file, reason);
}

void nvfp4_gguf_writer_destroy(nvfp4_gguf_writer *writer) {
  if (writer == NULL) {
    return;
  }
  nvfp4_new_file_destroy(writer->file);
  free(writer->pairs.data);
  free(writer->tensors.data);
  free(writer->sizes);
  free(writer->path);
  free(writer);
}
