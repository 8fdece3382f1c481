/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Writes one safetensors file, a tensor at a time: declare every tensor, begin (header is written), then write the data in the order of
 * declaration, in pieces of any size. The file has a temporary name until finish renames it, so that a reader never sees half of one.
 */
#ifndef NVFP4_CHECKPOINT_SAFETENSORS_WRITER_H
#define NVFP4_CHECKPOINT_SAFETENSORS_WRITER_H

#include <nvfp4/nvfp4.h>

typedef struct nvfp4_safetensors_writer nvfp4_safetensors_writer;

nvfp4_status nvfp4_safetensors_writer_create(const char *path, nvfp4_safetensors_writer **out, nvfp4_reason *reason);
/* metadata: a key and a value for "__metadata__". */
nvfp4_status nvfp4_safetensors_writer_metadata(nvfp4_safetensors_writer *writer, const char *key, const char *value, nvfp4_reason *reason);
nvfp4_status nvfp4_safetensors_writer_declare(nvfp4_safetensors_writer *writer, const char *name, nvfp4_dtype dtype, int rank,
                                              const int64_t *shape, nvfp4_reason *reason);
nvfp4_status nvfp4_safetensors_writer_begin(nvfp4_safetensors_writer *writer, nvfp4_reason *reason);
/* The next bytes of the data section. */
nvfp4_status nvfp4_safetensors_writer_write(nvfp4_safetensors_writer *writer, const void *data, size_t bytes, nvfp4_reason *reason);
/* Checks that every byte came, flushes to disk, renames. */
nvfp4_status nvfp4_safetensors_writer_finish(nvfp4_safetensors_writer *writer, nvfp4_reason *reason);
/* Frees; removes the temporary file if finish has not succeeded. NULL is allowed. */
void nvfp4_safetensors_writer_destroy(nvfp4_safetensors_writer *writer);

#endif
