/* SPDX-License-Identifier: Apache-2.0 */
/* GGUF metadata: key-value pairs as the file holds them. Values point into the mapping. */
#ifndef NVFP4_CHECKPOINT_GGUF_H
#define NVFP4_CHECKPOINT_GGUF_H

#include "checkpoint/checkpoint.h"

typedef enum nvfp4_gguf_type { /* the file's own numbers */
                               NVFP4_GGUF_U8 = 0,
                               NVFP4_GGUF_I8 = 1,
                               NVFP4_GGUF_U16 = 2,
                               NVFP4_GGUF_I16 = 3,
                               NVFP4_GGUF_U32 = 4,
                               NVFP4_GGUF_I32 = 5,
                               NVFP4_GGUF_F32 = 6,
                               NVFP4_GGUF_BOOL = 7,
                               NVFP4_GGUF_STRING = 8,
                               NVFP4_GGUF_ARRAY = 9,
                               NVFP4_GGUF_U64 = 10,
                               NVFP4_GGUF_I64 = 11,
                               NVFP4_GGUF_F64 = 12
} nvfp4_gguf_type;

typedef struct nvfp4_gguf_string {
  const char *text; /* not terminated */
  size_t bytes;
} nvfp4_gguf_string;

/* Each returns false if the key is missing or has another type (numbers: any integer type, or any float type, converts if it fits). */
bool nvfp4_gguf_get_string(const nvfp4_gguf_metadata *metadata, const char *key, nvfp4_gguf_string *out);
bool nvfp4_gguf_get_int(const nvfp4_gguf_metadata *metadata, const char *key, int64_t *out);
bool nvfp4_gguf_get_float(const nvfp4_gguf_metadata *metadata, const char *key, double *out);
bool nvfp4_gguf_get_bool(const nvfp4_gguf_metadata *metadata, const char *key, bool *out);

/* Arrays: number of elements and their type; false if the key is no array. */
bool nvfp4_gguf_get_array(const nvfp4_gguf_metadata *metadata, const char *key, nvfp4_gguf_type *type, uint64_t *count);
/* All strings of a string array, in order, into out[count] (count as nvfp4_gguf_get_array says). */
bool nvfp4_gguf_get_strings(const nvfp4_gguf_metadata *metadata, const char *key, nvfp4_gguf_string *out, uint64_t count);
/* Integer arrays (any integer type). */
bool nvfp4_gguf_get_ints(const nvfp4_gguf_metadata *metadata, const char *key, int32_t *out, uint64_t count);

/* Pair `index` in order of keys: its key, and its type and value as they lie in the file; false past the end. */
bool nvfp4_gguf_pair(const nvfp4_gguf_metadata *metadata, size_t index, nvfp4_gguf_string *key, nvfp4_gguf_string *stored);

/* ggml's number of tensor type `name` ("F32", "Q6_K", "NVFP4"), elements and bytes of a block of it; false if it is none that is known. */
bool nvfp4_gguf_tensor_type(const char *name, uint32_t *number, uint32_t *elements, uint32_t *bytes);

#define NVFP4_GGUF_ALIGNMENT 32 /* of the data, and of every tensor in it, unless general.alignment says otherwise */

void nvfp4_gguf_metadata_free(nvfp4_gguf_metadata *metadata);

#endif
