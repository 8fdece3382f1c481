/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Writes one GGUF file, version 3 (checkpoint/gguf.c says what one looks like): metadata pairs and tensors are declared in any order, begin
 * writes them, then the data comes in the order of declaration, in pieces of any size; the writer pads. The file has a temporary name until
 * finish.
 */
#ifndef NVFP4_LAYOUTS_GGUF_WRITER_H
#define NVFP4_LAYOUTS_GGUF_WRITER_H

#include <nvfp4/nvfp4.h>

#include "checkpoint/gguf.h"

typedef struct nvfp4_gguf_writer nvfp4_gguf_writer;

nvfp4_status nvfp4_gguf_writer_create(const char *path, nvfp4_gguf_writer **out, nvfp4_reason *reason);

/* Metadata. Want of memory is remembered and refused by begin. */
void nvfp4_gguf_writer_u32(nvfp4_gguf_writer *writer, const char *key, uint32_t value);
void nvfp4_gguf_writer_f32(nvfp4_gguf_writer *writer, const char *key, float value);
void nvfp4_gguf_writer_bool(nvfp4_gguf_writer *writer, const char *key, bool value);
void nvfp4_gguf_writer_string(nvfp4_gguf_writer *writer, const char *key, const char *value);
/* The head of an array; `count` calls of _string_element, or one of _raw with its bytes, must follow. */
void nvfp4_gguf_writer_array(nvfp4_gguf_writer *writer, const char *key, nvfp4_gguf_type type, uint64_t count);
void nvfp4_gguf_writer_string_element(nvfp4_gguf_writer *writer, const char *text, size_t bytes);
void nvfp4_gguf_writer_raw(nvfp4_gguf_writer *writer, const void *data, size_t bytes);
/* A pair as another file has it (nvfp4_gguf_pair). */
void nvfp4_gguf_writer_pair(nvfp4_gguf_writer *writer, nvfp4_gguf_string key, nvfp4_gguf_string stored);

/* `type` is ggml's name of it. shape: slowest dimension first. */
nvfp4_status nvfp4_gguf_writer_declare(nvfp4_gguf_writer *writer, const char *name, const char *type, int rank, const int64_t *shape,
                                       nvfp4_reason *reason);
nvfp4_status nvfp4_gguf_writer_begin(nvfp4_gguf_writer *writer, nvfp4_reason *reason);
nvfp4_status nvfp4_gguf_writer_write(nvfp4_gguf_writer *writer, const void *data, size_t bytes, nvfp4_reason *reason);
/* Checks that every byte came, flushes to disk, renames. */
nvfp4_status nvfp4_gguf_writer_finish(nvfp4_gguf_writer *writer, nvfp4_reason *reason);
/* Frees; removes the temporary file if finish has not succeeded. NULL is allowed. */
void nvfp4_gguf_writer_destroy(nvfp4_gguf_writer *writer);

#endif
