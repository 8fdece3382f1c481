/* SPDX-License-Identifier: Apache-2.0 */
/* Writes safetensors files; safetensors.c says what one looks like. */
#define _POSIX_C_SOURCE 200809L
#include "checkpoint/safetensors_writer.h"

#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include "base/alloc.h"
#include "base/new_file.h"
#include "base/reason.h"
#include "checkpoint/checkpoint.h"

#define HEADER_LIMIT 100000000u /* bytes: the safetensors library's */

typedef enum writer_state { DECLARING, WRITING, FINISHED, FAILED } writer_state;

struct nvfp4_safetensors_writer {
  char *path;
  nvfp4_new_file *file;
  json_t *header;
  writer_state state;
  uint64_t declared_bytes, written_bytes;
};

static nvfp4_status no_memory(const char *path, nvfp4_reason *reason) {
  return nvfp4_reject(reason, NVFP4_E_NOMEM, "%s: no memory to write it", path);
}

static nvfp4_status expect_state(const nvfp4_safetensors_writer *writer, writer_state state, const char *call, nvfp4_reason *reason) {
  static const char *const names[] = {"still declaring tensors", "writing data", "finished", "failed"};
  if (writer->state != state) {
    return nvfp4_reject(reason, NVFP4_E_ARG, "%s: %s was called on a writer that is %s; it is needed while %s", writer->path, call,
                        names[writer->state], names[state]);
  }
  return NVFP4_OK;
}

/* The operating system refused: what is left to do is to destroy the writer. */
static nvfp4_status check_io(nvfp4_safetensors_writer *writer, nvfp4_status status) {
  writer->state = status == NVFP4_OK ? writer->state : FAILED;
  return status;
}

nvfp4_status nvfp4_safetensors_writer_create(const char *path, nvfp4_safetensors_writer **out, nvfp4_reason *reason) {
  if (path == NULL) {
    return nvfp4_reject(reason, NVFP4_E_ARG, "path is empty; the path of the file to write is needed");
  }
  nvfp4_safetensors_writer *writer = calloc(1, sizeof *writer);
  if (writer == NULL) {
    return no_memory(path, reason);
  }
  writer->path = strdup(path);
  writer->header = json_object();
  nvfp4_status status =
      writer->path == NULL || writer->header == NULL ? no_memory(path, reason) : nvfp4_new_file_create(path, &writer->file, reason);
  if (status != NVFP4_OK) {
    nvfp4_safetensors_writer_destroy(writer);
    return status;
  }
  *out = writer;
  return NVFP4_OK;
}

nvfp4_status nvfp4_safetensors_writer_metadata(nvfp4_safetensors_writer *writer, const char *key, const char *value, nvfp4_reason *reason) {
  NVFP4_TRY(expect_state(writer, DECLARING, "metadata", reason));
  json_t *metadata = json_object_get(writer->header, "__metadata__");
  if (metadata == NULL) {
    metadata = json_object();
    if (metadata == NULL || json_object_set_new(writer->header, "__metadata__", metadata) != 0) {
      return no_memory(writer->path, reason);
    }
  }
  if (json_object_get(metadata, key) != NULL) {
    return nvfp4_reject(reason, NVFP4_E_ARG, "%s: metadata \"%s\" is set twice", writer->path, key);
  }
  if (json_object_set_new(metadata, key, json_string(value)) != 0) {
    return nvfp4_reject(reason, NVFP4_E_ARG, "%s: metadata \"%s\" is not UTF-8, or there is no memory for it", writer->path, key);
  }
  return NVFP4_OK;
}

/* NONE, OTHER and GGUF's blocks have no name in safetensors. */
static bool is_safetensors_type(nvfp4_dtype dtype) { return dtype >= NVFP4_DTYPE_F32 && dtype <= NVFP4_DTYPE_BOOL; }

nvfp4_status nvfp4_safetensors_writer_declare(nvfp4_safetensors_writer *writer, const char *name, nvfp4_dtype dtype, int rank,
                                              const int64_t *shape, nvfp4_reason *reason) {
  NVFP4_TRY(expect_state(writer, DECLARING, "declare", reason));
  if (name[0] == '\0' || strcmp(name, "__metadata__") == 0 || json_object_get(writer->header, name) != NULL) {
    return nvfp4_reject(reason, NVFP4_E_ARG, "%s: tensor name \"%s\" is empty, reserved or declared twice", writer->path, name);
  }
  if (!is_safetensors_type(dtype)) {
    return nvfp4_reject(reason, NVFP4_E_DTYPE, "%s: tensor \"%s\" is %s, which safetensors files cannot hold", writer->path, name,
                        nvfp4_dtype_name(dtype));
  }
  uint64_t elements = 1, bytes = 0, end = 0;
  bool fits = rank >= 0 && rank <= NVFP4_MAX_RANK;
  for (int i = 0; fits && i < rank; i++) {
    fits = shape[i] >= 0 && nvfp4_multiply(elements, (uint64_t)shape[i], &elements);
  }
  fits = fits && nvfp4_dtype_bytes(dtype, elements, &bytes) && !__builtin_add_overflow(writer->declared_bytes, bytes, &end) &&
         end <= INT64_MAX;
  if (!fits) {
    return nvfp4_reject(reason, NVFP4_E_SHAPE,
                        "%s: tensor \"%s\": rank %d, negative dimension or size over 2^63 bytes; rank 0 to %d is needed", writer->path,
                        name, rank, NVFP4_MAX_RANK);
  }
  json_t *dimensions = json_array();
  int failed = dimensions == NULL;
  for (int i = 0; i < rank && !failed; i++) {
    failed = json_array_append_new(dimensions, json_integer((json_int_t)shape[i]));
  }
  json_t *entry = json_pack("{s:s, s:o, s:[I, I]}", "dtype", nvfp4_dtype_name(dtype), "shape", dimensions, "data_offsets",
                            (json_int_t)writer->declared_bytes, (json_int_t)end); /* takes dimensions, on errors too */
  if (failed || json_object_set_new(writer->header, name, entry) != 0) {
    if (failed) {
      json_decref(entry);
    }
    return nvfp4_reject(reason, NVFP4_E_ARG, "%s: tensor name \"%s\" is not UTF-8, or there is no memory for it", writer->path, name);
  }
  writer->declared_bytes = end;
  return NVFP4_OK;
}

nvfp4_status nvfp4_safetensors_writer_begin(nvfp4_safetensors_writer *writer, nvfp4_reason *reason) {
  NVFP4_TRY(expect_state(writer, DECLARING, "begin", reason));
  char *text = json_dumps(writer->header, JSON_COMPACT); /* keeps the order of declaration */
  if (text == NULL) {
    return no_memory(writer->path, reason);
  }
  size_t length = strlen(text);
  size_t padding = (8 - length % 8) % 8;
  if (length + padding > HEADER_LIMIT) {
    free(text);
    return nvfp4_reject(reason, NVFP4_E_UNSUPPORTED, "%s: header would have %zu bytes; safetensors allows %u", writer->path,
                        length + padding, HEADER_LIMIT);
  }
  uint8_t size[8];
  for (int i = 0; i < 8; i++) {
    size[i] = (uint8_t)((uint64_t)(length + padding) >> (8 * i));
  }
  nvfp4_status status = nvfp4_new_file_write(writer->file, size, sizeof size, reason);
  if (status == NVFP4_OK) {
    status = nvfp4_new_file_write(writer->file, text, length, reason);
  }
  free(text);
  if (status == NVFP4_OK) {
    status = nvfp4_new_file_write(writer->file, "        ", padding, reason);
  }
  writer->state = WRITING;
  return check_io(writer, status);
}

nvfp4_status nvfp4_safetensors_writer_write(nvfp4_safetensors_writer *writer, const void *data, size_t bytes, nvfp4_reason *reason) {
  NVFP4_TRY(expect_state(writer, WRITING, "write", reason));
  if (bytes > writer->declared_bytes - writer->written_bytes) {
    return nvfp4_reject(reason, NVFP4_E_ARG, "%s: %zu bytes more after %llu; its tensors were declared with %llu bytes", writer->path,
                        bytes, (unsigned long long)writer->written_bytes, (unsigned long long)writer->declared_bytes);
  }
  writer->written_bytes += bytes;
  return check_io(writer, nvfp4_new_file_write(writer->file, data, bytes, reason));
}

nvfp4_status nvfp4_safetensors_writer_finish(nvfp4_safetensors_writer *writer, nvfp4_reason *reason) {
  NVFP4_TRY(expect_state(writer, WRITING, "finish", reason));
  if (writer->written_bytes != writer->declared_bytes) {
    return nvfp4_reject(reason, NVFP4_E_ARG, "%s: %llu bytes of data were written; its tensors were declared with %llu", writer->path,
                        (unsigned long long)writer->written_bytes, (unsigned long long)writer->declared_bytes);
  }
  nvfp4_status status = nvfp4_new_file_finish(writer->file, reason);
  writer->state = FINISHED;
  return check_io(writer, status);
}

void nvfp4_safetensors_writer_destroy(nvfp4_safetensors_writer *writer) {
  if (writer == NULL) {
    return;
  }
  nvfp4_new_file_destroy(writer->file);
  json_decref(writer->header);
  free(writer->path);
  free(writer);
}
