/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reads a GGUF file, version 2 or 3, little-endian (github.com/ggml-org/ggml/blob/master/docs/gguf.md):
 *
 *   "GGUF", version u32, tensors u64, pairs u64
 *   pairs      key string, type u32, value; a string is a u64 length and its bytes, an array a type u32, a u64 count and its values
 *   tensors    name string, dimensions u32, each u64 (fastest first), type u32, offset u64 from the start of the data
 *   data       begins at, and every tensor at, a multiple of general.alignment (32)
 *
 * No count or length of the file is believed before the bytes it stands for are seen to be there.
 */
#include "checkpoint/gguf.h"

#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include "base/alloc.h"
#include "base/reason.h"

#define MAX_DIMENSIONS 4    /* ggml's */
#define MAX_ARRAY_DEPTH 4   /* arrays of arrays: ggml writes none */
#define MIN_PAIR_BYTES 13   /* an empty key, a type, one byte */
#define MIN_TENSOR_BYTES 24 /* an empty name, no dimension, type, offset */

typedef struct pair {
  nvfp4_gguf_string key;
  nvfp4_gguf_type type, element; /* element: of an array */
  uint64_t count;                /* of an array */
  const uint8_t *value;          /* of a string or array: its first byte */
  size_t bytes;                  /* of a string */
  nvfp4_gguf_string stored;      /* type and value as they lie in the file */
} pair;

struct nvfp4_gguf_metadata {
  pair *pairs; /* sorted by key */
  size_t count, capacity;
};

typedef struct tensor_type {
  const char *name;
  nvfp4_dtype dtype;
  uint16_t elements, bytes; /* of a block */
} tensor_type;

/* By ggml's numbers (ggml.h, ggml-common.h). Those without a name were withdrawn, or never lie in a file. */
static const tensor_type tensor_types[] = {
    [0] = {"F32", NVFP4_DTYPE_F32, 1, 4},
    [1] = {"F16", NVFP4_DTYPE_F16, 1, 2},
    [2] = {"Q4_0", NVFP4_DTYPE_Q4_0, 32, 18},
    [3] = {"Q4_1", NVFP4_DTYPE_Q4_1, 32, 20},
    [6] = {"Q5_0", NVFP4_DTYPE_OTHER, 32, 22},
    [7] = {"Q5_1", NVFP4_DTYPE_OTHER, 32, 24},
    [8] = {"Q8_0", NVFP4_DTYPE_Q8_0, 32, 34},
    [10] = {"Q2_K", NVFP4_DTYPE_OTHER, 256, 84},
    [11] = {"Q3_K", NVFP4_DTYPE_OTHER, 256, 110},
    [12] = {"Q4_K", NVFP4_DTYPE_OTHER, 256, 144},
    [13] = {"Q5_K", NVFP4_DTYPE_OTHER, 256, 176},
    [14] = {"Q6_K", NVFP4_DTYPE_OTHER, 256, 210},
    [16] = {"IQ2_XXS", NVFP4_DTYPE_OTHER, 256, 66},
    [17] = {"IQ2_XS", NVFP4_DTYPE_OTHER, 256, 74},
    [18] = {"IQ3_XXS", NVFP4_DTYPE_OTHER, 256, 98},
    [19] = {"IQ1_S", NVFP4_DTYPE_OTHER, 256, 50},
    [20] = {"IQ4_NL", NVFP4_DTYPE_OTHER, 32, 18},
    [21] = {"IQ3_S", NVFP4_DTYPE_OTHER, 256, 110},
    [22] = {"IQ2_S", NVFP4_DTYPE_OTHER, 256, 82},
    [23] = {"IQ4_XS", NVFP4_DTYPE_OTHER, 256, 136},
    [24] = {"I8", NVFP4_DTYPE_I8, 1, 1},
    [25] = {"I16", NVFP4_DTYPE_I16, 1, 2},
    [26] = {"I32", NVFP4_DTYPE_I32, 1, 4},
    [27] = {"I64", NVFP4_DTYPE_I64, 1, 8},
    [28] = {"F64", NVFP4_DTYPE_F64, 1, 8},
    [29] = {"IQ1_M", NVFP4_DTYPE_OTHER, 256, 56},
    [30] = {"BF16", NVFP4_DTYPE_BF16, 1, 2},
    [34] = {"TQ1_0", NVFP4_DTYPE_OTHER, 256, 54},
    [35] = {"TQ2_0", NVFP4_DTYPE_OTHER, 256, 66},
    [39] = {"MXFP4", NVFP4_DTYPE_OTHER, 32, 17},
    [40] = {"NVFP4", NVFP4_DTYPE_GGUF_NVFP4, 64, 36},
};

bool nvfp4_gguf_tensor_type(const char *name, uint32_t *number, uint32_t *elements, uint32_t *bytes) {
  for (uint32_t i = 0; i < sizeof tensor_types / sizeof tensor_types[0]; i++) {
    if (tensor_types[i].name != NULL && strcmp(tensor_types[i].name, name) == 0) {
      *number = i;
      *elements = tensor_types[i].elements;
      *bytes = tensor_types[i].bytes;
      return true;
    }
  }
  return false;
}

/* Bytes of a metadata value; 0 for strings, arrays and unknown types. */
static size_t scalar_bytes(uint32_t type) {
  static const uint8_t bytes[] = {
      [NVFP4_GGUF_U8] = 1,  [NVFP4_GGUF_I8] = 1,   [NVFP4_GGUF_U16] = 2, [NVFP4_GGUF_I16] = 2, [NVFP4_GGUF_U32] = 4, [NVFP4_GGUF_I32] = 4,
      [NVFP4_GGUF_F32] = 4, [NVFP4_GGUF_BOOL] = 1, [NVFP4_GGUF_U64] = 8, [NVFP4_GGUF_I64] = 8, [NVFP4_GGUF_F64] = 8,
  };
  return type < sizeof bytes ? bytes[type] : 0;
}

static uint64_t load(const uint8_t *data, size_t bytes) {
  uint64_t value = 0;
  for (size_t i = bytes; i-- > 0;) {
    value = value << 8 | data[i];
  }
  return value;
}

/* ------------------------------------------------------------------------------------------------------------------- reader */

typedef struct reader {
  const char *file;
  const uint8_t *data;
  uint64_t bytes, position;
  nvfp4_reason *reason;
} reader;

static uint64_t left(const reader *in) { return in->bytes - in->position; }

/* `what` is what is being read, for the message. */
static nvfp4_status need(const reader *in, uint64_t bytes, const char *what) {
  if (bytes > left(in)) {
    return nvfp4_reject(in->reason, NVFP4_E_FORMAT, "%s: %s at byte %llu needs %llu bytes, past the end of the file, which has %llu left",
                        in->file, what, (unsigned long long)in->position, (unsigned long long)bytes, (unsigned long long)left(in));
  }
  return NVFP4_OK;
}

static nvfp4_status read_number(reader *in, size_t bytes, const char *what, uint64_t *out) {
  NVFP4_TRY(need(in, bytes, what));
  *out = load(in->data + in->position, bytes);
  in->position += bytes;
  return NVFP4_OK;
}

static nvfp4_status read_string(reader *in, const char *what, nvfp4_gguf_string *out) {
  uint64_t bytes = 0;
  NVFP4_TRY(read_number(in, 8, what, &bytes));
  NVFP4_TRY(need(in, bytes, what));
  *out = (nvfp4_gguf_string){(const char *)in->data + in->position, (size_t)bytes};
  in->position += bytes;
  return NVFP4_OK;
}

/* Names end up in C strings, messages and JSON: neither NUL nor broken UTF-8. */
static nvfp4_status read_name(reader *in, const char *what, nvfp4_gguf_string *out) {
  NVFP4_TRY(read_string(in, what, out));
  json_t *text = json_stringn(out->text, out->bytes); /* jansson checks the encoding */
  bool sound = text != NULL && memchr(out->text, '\0', out->bytes) == NULL;
  json_decref(text);
  if (!sound) {
    return nvfp4_reject(in->reason, NVFP4_E_FORMAT, "%s: %s before byte %llu holds a NUL or is not UTF-8; UTF-8 without NUL is needed",
                        in->file, what, (unsigned long long)in->position);
  }
  return NVFP4_OK;
}

static nvfp4_status skip_value(reader *in, const nvfp4_gguf_string *key, uint32_t type, int depth);

static nvfp4_status read_array_head(reader *in, const nvfp4_gguf_string *key, uint32_t *type, uint64_t *count) {
  uint64_t number = 0;
  NVFP4_TRY(read_number(in, 4, "an array's type", &number));
  NVFP4_TRY(read_number(in, 8, "an array's length", count));
  *type = (uint32_t)number;
  size_t each = scalar_bytes(*type);
  if (*type == NVFP4_GGUF_STRING || *type == NVFP4_GGUF_ARRAY) {
    each = *type == NVFP4_GGUF_STRING ? 8 : 12;
  } else if (each == 0) {
    return nvfp4_reject(in->reason, NVFP4_E_FORMAT, "%s: metadata \"%.*s\": unknown metadata type %u in an array; 0 to 12 are known",
                        in->file, (int)key->bytes, key->text, *type);
  }
  if (*count > left(in) / each) {
    return nvfp4_reject(in->reason, NVFP4_E_FORMAT,
                        "%s: metadata \"%.*s\": array length %llu goes past the end of the file, which has %llu bytes left", in->file,
                        (int)key->bytes, key->text, (unsigned long long)*count, (unsigned long long)left(in));
  }
  return NVFP4_OK;
}

static nvfp4_status skip_array(reader *in, const nvfp4_gguf_string *key, uint32_t type, uint64_t count, int depth) {
  if (depth > MAX_ARRAY_DEPTH) {
    return nvfp4_reject(in->reason, NVFP4_E_FORMAT, "%s: metadata \"%.*s\": arrays nested too deep; at most %d levels are read", in->file,
                        (int)key->bytes, key->text, MAX_ARRAY_DEPTH);
  }
  size_t each = scalar_bytes(type);
  if (each != 0 && type != NVFP4_GGUF_BOOL) {
    in->position += count * each; /* read_array_head has seen that they are there */
    return NVFP4_OK;
  }
  for (uint64_t i = 0; i < count; i++) {
    NVFP4_TRY(skip_value(in, key, type, depth));
  }
  return NVFP4_OK;
}

static nvfp4_status skip_value(reader *in, const nvfp4_gguf_string *key, uint32_t type, int depth) {
  if (type == NVFP4_GGUF_STRING) {
    nvfp4_gguf_string string;
    return read_string(in, "a metadata string", &string);
  }
  if (type == NVFP4_GGUF_ARRAY) {
    uint32_t element = 0;
    uint64_t count = 0;
    NVFP4_TRY(read_array_head(in, key, &element, &count));
    return skip_array(in, key, element, count, depth + 1);
  }
  size_t bytes = scalar_bytes(type);
  if (bytes == 0) {
    return nvfp4_reject(in->reason, NVFP4_E_FORMAT, "%s: metadata \"%.*s\": unknown metadata type %u; 0 to 12 are known", in->file,
                        (int)key->bytes, key->text, type);
  }
  uint64_t value = 0;
  NVFP4_TRY(read_number(in, bytes, "a metadata value", &value));
  if (type == NVFP4_GGUF_BOOL && value > 1) {
    return nvfp4_reject(in->reason, NVFP4_E_FORMAT, "%s: metadata \"%.*s\": bool is %llu; 0 or 1 is needed", in->file, (int)key->bytes,
                        key->text, (unsigned long long)value);
  }
  return NVFP4_OK;
}

/* ----------------------------------------------------------------------------------------------------------------- metadata */

static int compare_keys(nvfp4_gguf_string a, nvfp4_gguf_string b) {
  int order = memcmp(a.text, b.text, a.bytes < b.bytes ? a.bytes : b.bytes);
  return order != 0 ? order : (a.bytes > b.bytes) - (a.bytes < b.bytes);
}

static int compare_pairs(const void *a, const void *b) { return compare_keys(((const pair *)a)->key, ((const pair *)b)->key); }

static nvfp4_status read_value(reader *in, pair *out) {
  uint64_t type = 0;
  NVFP4_TRY(read_number(in, 4, "a metadata type", &type));
  out->type = (nvfp4_gguf_type)type;
  if (type == NVFP4_GGUF_STRING) {
    nvfp4_gguf_string string;
    NVFP4_TRY(read_string(in, "a metadata string", &string));
    out->value = (const uint8_t *)string.text;
    out->bytes = string.bytes;
    return NVFP4_OK;
  }
  if (type == NVFP4_GGUF_ARRAY) {
    uint32_t element = 0;
    NVFP4_TRY(read_array_head(in, &out->key, &element, &out->count));
    out->element = (nvfp4_gguf_type)element;
    out->value = in->data + in->position;
    return skip_array(in, &out->key, element, out->count, 1);
  }
  out->value = in->data + in->position;
  return skip_value(in, &out->key, (uint32_t)type, 0);
}

static nvfp4_status read_pair(reader *in, pair *out) {
  NVFP4_TRY(read_name(in, "a metadata key", &out->key));
  uint64_t begin = in->position;
  NVFP4_TRY(read_value(in, out));
  out->stored = (nvfp4_gguf_string){(const char *)in->data + begin, (size_t)(in->position - begin)};
  return NVFP4_OK;
}

static nvfp4_status read_metadata(reader *in, nvfp4_gguf_metadata *metadata, uint64_t count) {
  for (uint64_t i = 0; i < count; i++) {
    if (metadata->count == metadata->capacity) {
      size_t capacity = metadata->capacity > 0 ? metadata->capacity * 2 : 32;
      pair *pairs = realloc(metadata->pairs, capacity * sizeof *pairs);
      if (pairs == NULL) {
        return nvfp4_reject(in->reason, NVFP4_E_NOMEM, "%s: no memory for its metadata", in->file);
      }
      metadata->pairs = pairs;
      metadata->capacity = capacity;
    }
    metadata->pairs[metadata->count] = (pair){0};
    NVFP4_TRY(read_pair(in, &metadata->pairs[metadata->count]));
    metadata->count++;
  }
  if (metadata->count > 1) {
    qsort(metadata->pairs, metadata->count, sizeof *metadata->pairs, compare_pairs);
  }
  for (size_t i = 1; i < metadata->count; i++) {
    const nvfp4_gguf_string key = metadata->pairs[i].key;
    if (compare_keys(metadata->pairs[i - 1].key, key) == 0) {
      return nvfp4_reject(in->reason, NVFP4_E_FORMAT, "%s: duplicate metadata key \"%.*s\"; every key may appear once", in->file,
                          (int)key.bytes, key.text);
    }
  }
  return NVFP4_OK;
}

static nvfp4_status read_alignment(const reader *in, const nvfp4_gguf_metadata *metadata, uint64_t *alignment) {
  static const char key[] = "general.alignment";
  const pair probe = {.key = {key, sizeof key - 1}};
  *alignment = 32;
  if (metadata->count == 0 || bsearch(&probe, metadata->pairs, metadata->count, sizeof probe, compare_pairs) == NULL) {
    return NVFP4_OK;
  }
  int64_t value;
  if (!nvfp4_gguf_get_int(metadata, key, &value)) {
    return nvfp4_reject(in->reason, NVFP4_E_FORMAT, "%s: general.alignment is not an integer; a power of two is needed", in->file);
  }
  if (value <= 0 || value > UINT32_MAX || (value & (value - 1)) != 0) {
    return nvfp4_reject(in->reason, NVFP4_E_FORMAT, "%s: general.alignment is %lld; a power of two is needed", in->file, (long long)value);
  }
  *alignment = (uint64_t)value;
  return NVFP4_OK;
}

/* llama.cpp splits large models into files that each hold some of the tensors. */
static nvfp4_status warn_of_split(nvfp4_checkpoint *checkpoint, const reader *in) {
  int64_t parts, part;
  if (!nvfp4_gguf_get_int(checkpoint->gguf, "split.count", &parts) || parts <= 1 ||
      !nvfp4_gguf_get_int(checkpoint->gguf, "split.no", &part) || part < 0 || part >= parts) {
    return NVFP4_OK;
  }
  return nvfp4_checkpoint_warn(
      checkpoint, in->reason,
      "%s is part %lld of %lld of a split model: the other parts' tensors are missing; llama-gguf-split --merge joins them", in->file,
      (long long)part + 1, (long long)parts);
}

/* ------------------------------------------------------------------------------------------------------------------ tensors */

/* Dimensions, slowest first; elements and the length of a row. */
static nvfp4_status read_dimensions(reader *in, nvfp4_tensor *tensor, uint64_t *elements, uint64_t *row) {
  uint64_t rank = 0;
  NVFP4_TRY(read_number(in, 4, "a tensor's number of dimensions", &rank));
  if (rank > MAX_DIMENSIONS) {
    return nvfp4_reject(in->reason, NVFP4_E_FORMAT, "%s: tensor \"%s\" has %llu dimensions; GGUF has at most %d", in->file, tensor->name,
                        (unsigned long long)rank, MAX_DIMENSIONS);
  }
  tensor->rank = (int)rank;
  *elements = 1;
  for (int i = tensor->rank - 1; i >= 0; i--) {
    uint64_t size = 0;
    NVFP4_TRY(read_number(in, 8, "a tensor's dimension", &size));
    if (size > INT64_MAX) {
      return nvfp4_reject(in->reason, NVFP4_E_FORMAT, "%s: tensor \"%s\": a dimension is %lld, negative; at least 0 is needed", in->file,
                          tensor->name, (long long)size);
    }
    if (!nvfp4_multiply(*elements, size, elements) || *elements > INT64_MAX) {
      return nvfp4_reject(in->reason, NVFP4_E_FORMAT, "%s: tensor \"%s\": its size overflows 63 bits at a dimension of %llu", in->file,
                          tensor->name, (unsigned long long)size);
    }
    tensor->shape[i] = (int64_t)size;
  }
  *row = tensor->rank > 0 ? (uint64_t)tensor->shape[tensor->rank - 1] : 1;
  return NVFP4_OK;
}

static nvfp4_status read_type(reader *in, nvfp4_tensor *tensor, uint64_t elements, uint64_t row) {
  uint64_t number = 0;
  NVFP4_TRY(read_number(in, 4, "a tensor's type", &number));
  if (number >= sizeof tensor_types / sizeof tensor_types[0] || tensor_types[number].name == NULL) {
    return nvfp4_reject(in->reason, NVFP4_E_UNSUPPORTED,
                        "%s: tensor \"%s\": tensor type %llu is not supported; this library knows up to 40, NVFP4", in->file, tensor->name,
                        (unsigned long long)number);
  }
  const tensor_type *type = &tensor_types[number];
  if (row % type->elements != 0) {
    return nvfp4_reject(in->reason, NVFP4_E_FORMAT, "%s: tensor \"%s\": its row of %llu elements is not a multiple of %u, the block of %s",
                        in->file, tensor->name, (unsigned long long)row, type->elements, type->name);
  }
  if (!nvfp4_multiply(elements / type->elements, type->bytes, &tensor->bytes)) {
    return nvfp4_reject(in->reason, NVFP4_E_FORMAT, "%s: tensor \"%s\": the size of %llu elements of %s overflows", in->file, tensor->name,
                        (unsigned long long)elements, type->name);
  }
  tensor->dtype = type->dtype;
  tensor->dtype_name = type->name;
  return NVFP4_OK;
}

/* Appends the next tensor, all but its data, which lies at *offset from the start of the data. */
static nvfp4_status read_tensor(nvfp4_checkpoint *checkpoint, reader *in, uint64_t alignment, uint64_t *offset) {
  nvfp4_gguf_string name;
  NVFP4_TRY(read_name(in, "a tensor's name", &name));
  nvfp4_tensor tensor = {.name = nvfp4_checkpoint_strdup(checkpoint, name.text, name.bytes), .file = in->file};
  if (tensor.name == NULL) {
    return nvfp4_reject(in->reason, NVFP4_E_NOMEM, "%s: no memory for its tensors' names", in->file);
  }
  uint64_t elements = 0, row = 0;
  NVFP4_TRY(read_dimensions(in, &tensor, &elements, &row));
  NVFP4_TRY(read_type(in, &tensor, elements, row));
  NVFP4_TRY(read_number(in, 8, "a tensor's offset", offset));
  if (*offset % alignment != 0) {
    return nvfp4_reject(in->reason, NVFP4_E_FORMAT, "%s: tensor \"%s\": offset %llu is not aligned: a multiple of %llu is needed", in->file,
                        tensor.name, (unsigned long long)*offset, (unsigned long long)alignment);
  }
  return nvfp4_checkpoint_add_tensor(checkpoint, &tensor, in->reason);
}

static int compare_data(const void *a, const void *b) {
  const nvfp4_tensor *x = *(const nvfp4_tensor *const *)a, *y = *(const nvfp4_tensor *const *)b;
  const uint8_t *x_begin = x->data, *y_begin = y->data;
  return x_begin != y_begin ? (x_begin > y_begin) - (x_begin < y_begin) : (x->bytes > y->bytes) - (x->bytes < y->bytes);
}

static nvfp4_status check_overlap(const reader *in, const nvfp4_tensor *tensors, size_t count) {
  const nvfp4_tensor **order = malloc(count * sizeof *order);
  if (order == NULL) {
    return nvfp4_reject(in->reason, NVFP4_E_NOMEM, "%s: no memory for its %zu tensors", in->file, count);
  }
  for (size_t i = 0; i < count; i++) {
    order[i] = &tensors[i];
  }
  qsort(order, count, sizeof *order, compare_data);
  nvfp4_status status = NVFP4_OK;
  for (size_t i = 1; i < count && status == NVFP4_OK; i++) {
    const uint8_t *end = (const uint8_t *)order[i - 1]->data + order[i - 1]->bytes;
    /* Two of one name are refused as such when the checkpoint is sorted. */
    if ((const uint8_t *)order[i]->data < end && strcmp(order[i]->name, order[i - 1]->name) != 0) {
      status = nvfp4_reject(in->reason, NVFP4_E_FORMAT, "%s: tensor \"%s\": its data overlaps that of \"%s\"", in->file, order[i]->name,
                            order[i - 1]->name);
    }
  }
  free(order);
  return status;
}

static nvfp4_status read_tensors(nvfp4_checkpoint *checkpoint, reader *in, uint64_t count, uint64_t alignment) {
  if (count == 0) {
    return NVFP4_OK;
  }
  size_t first = checkpoint->tensor_count;
  uint64_t *offsets = malloc((size_t)count * sizeof *offsets); /* count is bounded by the file's bytes */
  if (offsets == NULL) {
    return nvfp4_reject(in->reason, NVFP4_E_NOMEM, "%s: no memory for its %llu tensors", in->file, (unsigned long long)count);
  }
  nvfp4_status status = NVFP4_OK;
  for (uint64_t i = 0; i < count && status == NVFP4_OK; i++) {
    status = read_tensor(checkpoint, in, alignment, &offsets[i]);
  }
  /* The data begins at the next multiple of the alignment: of the file, which is shorter if there is no data. */
  uint64_t padding = (alignment - in->position % alignment) % alignment;
  uint64_t begin = padding <= left(in) ? in->position + padding : in->bytes;
  uint64_t data_bytes = in->bytes - begin;
  for (uint64_t i = 0; i < count && status == NVFP4_OK; i++) {
    nvfp4_tensor *tensor = &checkpoint->tensors[first + i];
    if (offsets[i] > data_bytes || tensor->bytes > data_bytes - offsets[i]) {
      status = nvfp4_reject(
          in->reason, NVFP4_E_FORMAT,
          "%s: tensor \"%s\": %llu bytes at offset %llu go past the end of the file, which has %llu bytes of data; is it truncated?",
          in->file, tensor->name, (unsigned long long)tensor->bytes, (unsigned long long)offsets[i], (unsigned long long)data_bytes);
    } else {
      tensor->data = in->data + begin + offsets[i];
    }
  }
  free(offsets);
  return status == NVFP4_OK ? check_overlap(in, checkpoint->tensors + first, (size_t)count) : status;
}

static nvfp4_status read_head(reader *in, uint64_t *tensors, uint64_t *pairs) {
  uint64_t version = 0;
  if (in->bytes < 4 || memcmp(in->data, "GGUF", 4) != 0) {
    return nvfp4_reject(in->reason, NVFP4_E_FORMAT, "%s: is not a GGUF file: it does not begin with \"GGUF\"", in->file);
  }
  in->position = 4;
  NVFP4_TRY(read_number(in, 4, "the version", &version));
  if (version != 2 && version != 3) {
    return nvfp4_reject(in->reason, NVFP4_E_UNSUPPORTED, "%s: GGUF version is %llu%s; 2 or 3, little-endian, is needed", in->file,
                        (unsigned long long)version, (version & 0xFFFF) == 0 ? ": a big-endian file" : "");
  }
  NVFP4_TRY(read_number(in, 8, "the number of tensors", tensors));
  NVFP4_TRY(read_number(in, 8, "the number of metadata pairs", pairs));
  if (*tensors > left(in) / MIN_TENSOR_BYTES) {
    return nvfp4_reject(in->reason, NVFP4_E_FORMAT, "%s: tensor count is %llu; the file's %llu bytes cannot hold as many", in->file,
                        (unsigned long long)*tensors, (unsigned long long)in->bytes);
  }
  if (*pairs > left(in) / MIN_PAIR_BYTES) {
    return nvfp4_reject(in->reason, NVFP4_E_FORMAT, "%s: metadata count is %llu; the file's %llu bytes cannot hold as many", in->file,
                        (unsigned long long)*pairs, (unsigned long long)in->bytes);
  }
  return NVFP4_OK;
}

nvfp4_status nvfp4_gguf_read(nvfp4_checkpoint *checkpoint, size_t index, nvfp4_reason *reason) {
  const nvfp4_mapped_file *file = &checkpoint->files[index];
  reader in = {.file = file->name, .data = file->data, .bytes = file->bytes, .reason = reason};
  uint64_t tensors = 0, pairs = 0, alignment = 0;
  NVFP4_TRY(read_head(&in, &tensors, &pairs));
  checkpoint->gguf = calloc(1, sizeof *checkpoint->gguf); /* freed by nvfp4_checkpoint_close, on errors too */
  if (checkpoint->gguf == NULL) {
    return nvfp4_reject(reason, NVFP4_E_NOMEM, "%s: no memory for its metadata", in.file);
  }
  NVFP4_TRY(read_metadata(&in, checkpoint->gguf, pairs));
  NVFP4_TRY(read_alignment(&in, checkpoint->gguf, &alignment));
  NVFP4_TRY(warn_of_split(checkpoint, &in));
  return read_tensors(checkpoint, &in, tensors, alignment);
}

void nvfp4_gguf_metadata_free(nvfp4_gguf_metadata *metadata) {
  if (metadata != NULL) {
    free(metadata->pairs);
    free(metadata);
  }
}

/* ------------------------------------------------------------------------------------------------------------------ look-up */

static const pair *find(const nvfp4_gguf_metadata *metadata, const char *key) {
  const pair probe = {.key = {key, strlen(key)}};
  return metadata->count > 0 ? bsearch(&probe, metadata->pairs, metadata->count, sizeof probe, compare_pairs) : NULL;
}

/* A number of any integer type; false if it has another type or does not fit. */
static bool to_int(nvfp4_gguf_type type, const uint8_t *data, int64_t *out) {
  uint64_t bits = load(data, scalar_bytes(type));
  switch (type) {
    case NVFP4_GGUF_U8:
    case NVFP4_GGUF_U16:
    case NVFP4_GGUF_U32:
    case NVFP4_GGUF_U64:
      *out = (int64_t)bits;
      return bits <= INT64_MAX;
    case NVFP4_GGUF_I8:
      *out = (int8_t)bits;
      return true;
    case NVFP4_GGUF_I16:
      *out = (int16_t)bits;
      return true;
    case NVFP4_GGUF_I32:
      *out = (int32_t)bits;
      return true;
    case NVFP4_GGUF_I64:
      *out = (int64_t)bits;
      return true;
    default:
      return false;
  }
}

bool nvfp4_gguf_pair(const nvfp4_gguf_metadata *metadata, size_t index, nvfp4_gguf_string *key, nvfp4_gguf_string *stored) {
  if (index >= metadata->count) {
    return false;
  }
  *key = metadata->pairs[index].key;
  *stored = metadata->pairs[index].stored;
  return true;
}

bool nvfp4_gguf_get_string(const nvfp4_gguf_metadata *metadata, const char *key, nvfp4_gguf_string *out) {
  const pair *found = find(metadata, key);
  if (found == NULL || found->type != NVFP4_GGUF_STRING) {
    return false;
  }
  *out = (nvfp4_gguf_string){(const char *)found->value, found->bytes};
  return true;
}

bool nvfp4_gguf_get_int(const nvfp4_gguf_metadata *metadata, const char *key, int64_t *out) {
  const pair *found = find(metadata, key);
  int64_t value;
  if (found == NULL || !to_int(found->type, found->value, &value)) {
    return false;
  }
  *out = value;
  return true;
}

bool nvfp4_gguf_get_float(const nvfp4_gguf_metadata *metadata, const char *key, double *out) {
  const pair *found = find(metadata, key);
  if (found == NULL) {
    return false;
  }
  if (found->type == NVFP4_GGUF_F64) {
    memcpy(out, found->value, sizeof *out);
    return true;
  }
  float value;
  if (found->type == NVFP4_GGUF_F32) {
    memcpy(&value, found->value, sizeof value);
    *out = (double)value;
    return true;
  }
  return false;
}

bool nvfp4_gguf_get_bool(const nvfp4_gguf_metadata *metadata, const char *key, bool *out) {
  const pair *found = find(metadata, key);
  if (found == NULL || found->type != NVFP4_GGUF_BOOL) {
    return false;
  }
  *out = found->value[0] != 0;
  return true;
}

bool nvfp4_gguf_get_array(const nvfp4_gguf_metadata *metadata, const char *key, nvfp4_gguf_type *type, uint64_t *count) {
  const pair *found = find(metadata, key);
  if (found == NULL || found->type != NVFP4_GGUF_ARRAY) {
    return false;
  }
  *type = found->element;
  *count = found->count;
  return true;
}

bool nvfp4_gguf_get_strings(const nvfp4_gguf_metadata *metadata, const char *key, nvfp4_gguf_string *out, uint64_t count) {
  const pair *found = find(metadata, key);
  if (found == NULL || found->type != NVFP4_GGUF_ARRAY || found->element != NVFP4_GGUF_STRING || found->count != count) {
    return false;
  }
  const uint8_t *data = found->value; /* lengths were checked when the file was read */
  for (uint64_t i = 0; i < count; i++) {
    out[i] = (nvfp4_gguf_string){(const char *)data + 8, (size_t)load(data, 8)};
    data += 8 + out[i].bytes;
  }
  return true;
}

bool nvfp4_gguf_get_ints(const nvfp4_gguf_metadata *metadata, const char *key, int32_t *out, uint64_t count) {
  const pair *found = find(metadata, key);
  if (found == NULL || found->type != NVFP4_GGUF_ARRAY || found->count != count) {
    return false;
  }
  size_t each = scalar_bytes(found->element);
  for (uint64_t i = 0; i < count; i++) {
    int64_t value;
    if (!to_int(found->element, found->value + i * each, &value) || value < INT32_MIN || value > INT32_MAX) {
      return false;
    }
    out[i] = (int32_t)value;
  }
  return true;
}
