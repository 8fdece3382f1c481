/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reads a safetensors file:
 *
 *   8 bytes    length of the header, little-endian
 *   header     JSON object: name -> {dtype, shape, data_offsets [begin, end)}; "__metadata__" -> {string: string}; may end in blanks
 *   data       what the offsets count from; the tensors cover it without overlap, hole or rest
 *
 * Stricter than the safetensors library, which takes the last of two tensors of one name and names with NUL.
 */
#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include "base/alloc.h"
#include "base/reason.h"
#include "checkpoint/checkpoint.h"

#define HEADER_LIMIT 100000000u /* bytes: the safetensors library's */

typedef struct element_type {
  const char *name;
  nvfp4_dtype dtype;
  uint8_t bits;
} element_type;

static const element_type element_types[] = {
    {"BOOL", NVFP4_DTYPE_BOOL, 8},
    {"F4", NVFP4_DTYPE_OTHER, 4},
    {"F6_E2M3", NVFP4_DTYPE_OTHER, 6},
    {"F6_E3M2", NVFP4_DTYPE_OTHER, 6},
    {"U8", NVFP4_DTYPE_U8, 8},
    {"I8", NVFP4_DTYPE_I8, 8},
    {"F8_E5M2", NVFP4_DTYPE_F8_E5M2, 8},
    {"F8_E4M3", NVFP4_DTYPE_F8_E4M3, 8},
    {"F8_E8M0", NVFP4_DTYPE_F8_E8M0, 8},
    {"F8_E4M3FNUZ", NVFP4_DTYPE_OTHER, 8},
    {"F8_E5M2FNUZ", NVFP4_DTYPE_OTHER, 8},
    {"I16", NVFP4_DTYPE_I16, 16},
    {"U16", NVFP4_DTYPE_U16, 16},
    {"F16", NVFP4_DTYPE_F16, 16},
    {"BF16", NVFP4_DTYPE_BF16, 16},
    {"I32", NVFP4_DTYPE_I32, 32},
    {"U32", NVFP4_DTYPE_U32, 32},
    {"F32", NVFP4_DTYPE_F32, 32},
    {"C64", NVFP4_DTYPE_OTHER, 64},
    {"F64", NVFP4_DTYPE_F64, 64},
    {"I64", NVFP4_DTYPE_I64, 64},
    {"U64", NVFP4_DTYPE_U64, 64},
};

static const element_type *find_type(const char *name) {
  for (size_t i = 0; i < sizeof element_types / sizeof element_types[0]; i++) {
    if (strcmp(element_types[i].name, name) == 0) {
      return &element_types[i];
    }
  }
  return NULL;
}

/* Where an entry is being read, for messages. */
typedef struct place {
  const char *file, *tensor;
  nvfp4_reason *reason;
} place;

static const char *kind_of(const json_t *value) {
  if (value == NULL) {
    return "missing";
  }
  static const char *const names[] = {"an object", "an array", "a string", "an integer", "a number that is not an integer",
                                      "true",      "false",    "null"};
  return names[json_typeof(value)];
}

/* A whole number >= 0. */
static nvfp4_status read_count(const place *at, const json_t *value, const char *what, int64_t *out) {
  if (!json_is_integer(value)) {
    return nvfp4_reject(at->reason, NVFP4_E_FORMAT, "%s: tensor \"%s\": %s is %s; an integer is needed", at->file, at->tensor, what,
                        kind_of(value));
  }
  *out = json_integer_value(value);
  if (*out < 0) {
    return nvfp4_reject(at->reason, NVFP4_E_FORMAT, "%s: tensor \"%s\": %s is %lld, negative; at least 0 is needed", at->file, at->tensor,
                        what, (long long)*out);
  }
  return NVFP4_OK;
}

static nvfp4_status read_shape(const place *at, const json_t *shape, nvfp4_tensor *tensor, uint64_t *elements) {
  if (!json_is_array(shape)) {
    return nvfp4_reject(at->reason, NVFP4_E_FORMAT, "%s: tensor \"%s\": shape is %s; an array is needed", at->file, at->tensor,
                        kind_of(shape));
  }
  if (json_array_size(shape) > NVFP4_MAX_RANK) {
    return nvfp4_reject(at->reason, NVFP4_E_UNSUPPORTED, "%s: tensor \"%s\": shape has too many dimensions: %zu; at most %d are supported",
                        at->file, at->tensor, json_array_size(shape), NVFP4_MAX_RANK);
  }
  tensor->rank = (int)json_array_size(shape);
  *elements = 1;
  for (int i = 0; i < tensor->rank; i++) {
    NVFP4_TRY(read_count(at, json_array_get(shape, (size_t)i), "a dimension", &tensor->shape[i]));
    if (!nvfp4_multiply(*elements, (uint64_t)tensor->shape[i], elements)) {
      return nvfp4_reject(at->reason, NVFP4_E_FORMAT, "%s: tensor \"%s\": shape overflows 64 bits at dimension %d of %lld", at->file,
                          at->tensor, i, (long long)tensor->shape[i]);
    }
  }
  return NVFP4_OK;
}

static nvfp4_status read_offsets(const place *at, const json_t *offsets, uint64_t data_bytes, int64_t *begin, int64_t *end) {
  if (!json_is_array(offsets) || json_array_size(offsets) != 2) {
    return nvfp4_reject(at->reason, NVFP4_E_FORMAT, "%s: tensor \"%s\": data_offsets is %s; an array of 2 integers is needed", at->file,
                        at->tensor, json_is_array(offsets) ? "an array of another length" : kind_of(offsets));
  }
  NVFP4_TRY(read_count(at, json_array_get(offsets, 0), "data_offsets begin", begin));
  NVFP4_TRY(read_count(at, json_array_get(offsets, 1), "data_offsets end", end));
  if (*begin > *end) {
    return nvfp4_reject(at->reason, NVFP4_E_FORMAT, "%s: tensor \"%s\": data_offsets end %lld is before begin %lld", at->file, at->tensor,
                        (long long)*end, (long long)*begin);
  }
  if ((uint64_t)*end > data_bytes) {
    return nvfp4_reject(
        at->reason, NVFP4_E_FORMAT,
        "%s: tensor \"%s\": its data ends at byte %lld, past the end of the file, which has %llu bytes of data; is it truncated?", at->file,
        at->tensor, (long long)*end, (unsigned long long)data_bytes);
  }
  return NVFP4_OK;
}

static nvfp4_status check_keys(const place *at, json_t *entry) {
  const char *key;
  json_t *value;
  json_object_foreach(entry, key, value) {
    if (strcmp(key, "dtype") != 0 && strcmp(key, "shape") != 0 && strcmp(key, "data_offsets") != 0) {
      return nvfp4_reject(at->reason, NVFP4_E_FORMAT, "%s: tensor \"%s\": unknown key \"%s\"; dtype, shape and data_offsets are needed",
                          at->file, at->tensor, key);
    }
  }
  return NVFP4_OK;
}

static nvfp4_status read_entry(const place *at, json_t *entry, const uint8_t *data, uint64_t data_bytes, nvfp4_tensor *tensor) {
  if (!json_is_object(entry)) {
    return nvfp4_reject(at->reason, NVFP4_E_FORMAT, "%s: tensor \"%s\" is %s; an object is needed", at->file, at->tensor, kind_of(entry));
  }
  NVFP4_TRY(check_keys(at, entry));
  const json_t *dtype = json_object_get(entry, "dtype");
  if (!json_is_string(dtype)) {
    return nvfp4_reject(at->reason, NVFP4_E_FORMAT, "%s: tensor \"%s\": dtype is %s; a string is needed", at->file, at->tensor,
                        kind_of(dtype));
  }
  const element_type *type = find_type(json_string_value(dtype));
  if (type == NULL) {
    return nvfp4_reject(at->reason, NVFP4_E_FORMAT,
                        "%s: tensor \"%s\": unknown dtype \"%s\"; one of safetensors' own is needed (U8, BF16, ...)", at->file, at->tensor,
                        json_string_value(dtype));
  }
  uint64_t elements = 0, bits = 0;
  NVFP4_TRY(read_shape(at, json_object_get(entry, "shape"), tensor, &elements));
  if (!nvfp4_multiply(elements, type->bits, &bits) || bits % 8 != 0) {
    return nvfp4_reject(at->reason, NVFP4_E_FORMAT, "%s: tensor \"%s\": %llu elements of %s %s", at->file, at->tensor,
                        (unsigned long long)elements, type->name, bits % 8 != 0 ? "do not fill whole bytes" : "overflow 64 bits");
  }
  int64_t begin = 0, end = 0;
  NVFP4_TRY(read_offsets(at, json_object_get(entry, "data_offsets"), data_bytes, &begin, &end));
  if ((uint64_t)(end - begin) != bits / 8) {
    return nvfp4_reject(at->reason, NVFP4_E_FORMAT,
                        "%s: tensor \"%s\": data_offsets hold %lld bytes, but shape and dtype %s need %llu bytes", at->file, at->tensor,
                        (long long)(end - begin), type->name, (unsigned long long)(bits / 8));
  }
  tensor->dtype = type->dtype;
  tensor->dtype_name = type->name;
  tensor->data = data + begin;
  tensor->bytes = bits / 8;
  tensor->file = at->file;
  return NVFP4_OK;
}

static nvfp4_status check_metadata(const char *file, json_t *metadata, nvfp4_reason *reason) {
  if (!json_is_object(metadata)) {
    return nvfp4_reject(reason, NVFP4_E_FORMAT, "%s: __metadata__ is %s; an object of strings is needed", file, kind_of(metadata));
  }
  const char *key;
  json_t *value;
  json_object_foreach(metadata, key, value) {
    if (!json_is_string(value)) {
      return nvfp4_reject(reason, NVFP4_E_FORMAT, "%s: __metadata__ value of \"%s\" is %s; a string is needed", file, key, kind_of(value));
    }
  }
  return NVFP4_OK;
}

static int compare_data(const void *a, const void *b) {
  const nvfp4_tensor *x = *(const nvfp4_tensor *const *)a, *y = *(const nvfp4_tensor *const *)b;
  const uint8_t *x_begin = x->data, *y_begin = y->data;
  /* An empty tensor lies before the one that begins where it does. */
  return x_begin != y_begin ? (x_begin > y_begin) - (x_begin < y_begin) : (x->bytes > y->bytes) - (x->bytes < y->bytes);
}

/* The tensors must cover the data: bytes that no tensor owns could carry anything, bytes that two own make one of them wrong. */
static nvfp4_status check_cover(const char *file, const nvfp4_tensor *tensors, size_t count, const uint8_t *data, uint64_t data_bytes,
                                nvfp4_reason *reason) {
  const nvfp4_tensor **order = malloc((count > 0 ? count : 1) * sizeof *order);
  if (order == NULL) {
    return nvfp4_reject(reason, NVFP4_E_NOMEM, "%s: no memory for its %zu tensors", file, count);
  }
  for (size_t i = 0; i < count; i++) {
    order[i] = &tensors[i];
  }
  qsort(order, count, sizeof *order, compare_data);
  nvfp4_status status = NVFP4_OK;
  const char *before = "the header";
  uint64_t covered = 0;
  for (size_t i = 0; i < count && status == NVFP4_OK; i++) {
    uint64_t begin = (uint64_t)((const uint8_t *)order[i]->data - data);
    if (begin != covered) {
      status = nvfp4_reject(reason, NVFP4_E_FORMAT,
                            "%s: tensor \"%s\": %s \"%s\": its data begins at byte %llu; byte %llu is needed, where the other ends", file,
                            order[i]->name, begin < covered ? "data overlaps that of" : "a hole lies between it and", before,
                            (unsigned long long)begin, (unsigned long long)covered);
    }
    before = order[i]->name;
    covered = begin + order[i]->bytes;
  }
  if (status == NVFP4_OK && covered != data_bytes) {
    status = nvfp4_reject(reason, NVFP4_E_FORMAT,
                          "%s: %llu bytes after the last tensor, \"%s\"; the file must end with its data, after %llu of %llu bytes", file,
                          (unsigned long long)(data_bytes - covered), before, (unsigned long long)covered, (unsigned long long)data_bytes);
  }
  free(order);
  return status;
}

static nvfp4_status read_header(nvfp4_checkpoint *checkpoint, const nvfp4_mapped_file *file, json_t *header, uint64_t header_bytes,
                                nvfp4_reason *reason) {
  const uint8_t *data = file->data + 8 + header_bytes;
  uint64_t data_bytes = file->bytes - 8 - header_bytes;
  size_t first = checkpoint->tensor_count;
  const char *name;
  json_t *entry;
  json_object_foreach(header, name, entry) {
    if (strcmp(name, "__metadata__") == 0) {
      NVFP4_TRY(check_metadata(file->name, entry, reason));
      if (checkpoint->metadata == NULL) {
        checkpoint->metadata = json_object();
      }
      if (json_object_update_missing(checkpoint->metadata, entry) != 0) {
        return nvfp4_reject(reason, NVFP4_E_NOMEM, "%s: no memory for its metadata", file->name);
      }
      continue;
    }
    const place at = {file->name, name, reason};
    nvfp4_tensor tensor = {0};
    NVFP4_TRY(read_entry(&at, entry, data, data_bytes, &tensor));
    tensor.name = nvfp4_checkpoint_strdup(checkpoint, name, strlen(name));
    if (tensor.name == NULL) {
      return nvfp4_reject(reason, NVFP4_E_NOMEM, "%s: no memory for its tensors' names", file->name);
    }
    NVFP4_TRY(nvfp4_checkpoint_add_tensor(checkpoint, &tensor, reason));
  }
  size_t count = checkpoint->tensor_count - first;
  return check_cover(file->name, count > 0 ? checkpoint->tensors + first : NULL, count, data, data_bytes, reason);
}

/* jansson says where an error is; the text before it says which tensor that was. */
static nvfp4_status reject_json(const char *file, const char *header, uint64_t header_bytes, const json_error_t *error,
                                nvfp4_reason *reason) {
  char before[65];
  size_t end = error->position > 0 ? (size_t)error->position : 0;
  end = end < header_bytes ? end : (size_t)header_bytes;
  size_t length = end < sizeof before - 1 ? end : sizeof before - 1;
  for (size_t i = 0; i < length; i++) {
    char c = header[end - length + i];
    before[i] = (char)(c >= ' ' && c <= '~' ? c : '?');
  }
  before[length] = '\0';
  nvfp4_status status = json_error_code(error) == json_error_out_of_memory ? NVFP4_E_NOMEM : NVFP4_E_FORMAT;
  return nvfp4_reject(reason, status, "%s: header JSON: line %d column %d: %s, after: %s", file, error->line, error->column, error->text,
                      before);
}

nvfp4_status nvfp4_safetensors_read(nvfp4_checkpoint *checkpoint, size_t index, nvfp4_reason *reason) {
  const nvfp4_mapped_file file = checkpoint->files[index];
  if (file.bytes < 8) {
    return nvfp4_reject(reason, NVFP4_E_FORMAT, "%s: has %llu bytes; a safetensors file has at least 8, the header's length", file.name,
                        (unsigned long long)file.bytes);
  }
  uint64_t header_bytes = 0;
  for (int i = 7; i >= 0; i--) {
    header_bytes = header_bytes << 8 | file.data[i];
  }
  if (header_bytes > HEADER_LIMIT) {
    return nvfp4_reject(reason, NVFP4_E_FORMAT, "%s: header length is %llu; at most %u are allowed: is this a safetensors file?", file.name,
                        (unsigned long long)header_bytes, HEADER_LIMIT);
  }
  if (header_bytes > file.bytes - 8) {
    return nvfp4_reject(reason, NVFP4_E_FORMAT, "%s: header length is %llu, but only %llu bytes follow: is the file truncated?", file.name,
                        (unsigned long long)header_bytes, (unsigned long long)(file.bytes - 8));
  }
  if (header_bytes == 0 || file.data[8] != '{') {
    return nvfp4_reject(reason, NVFP4_E_FORMAT, "%s: header %s; a JSON object is needed", file.name,
                        header_bytes == 0 ? "is empty" : "does not begin with {");
  }
  json_error_t error;
  json_t *header = json_loadb((const char *)file.data + 8, (size_t)header_bytes, JSON_REJECT_DUPLICATES, &error);
  if (header == NULL) {
    return reject_json(file.name, (const char *)file.data + 8, header_bytes, &error, reason);
  }
  nvfp4_status status = read_header(checkpoint, &file, header, header_bytes, reason);
  json_decref(header);
  return status;
}
