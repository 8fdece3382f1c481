/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A file in the making. It has a temporary name beside its own until finish has flushed it to the disk and renamed it: a reader never sees
 * half of one, whatever becomes of this process. An existing file of that name is replaced at once; anything else of that name is refused,
 * since the rename would take the place of a device or a link, not write to it.
 */
#ifndef NVFP4_BASE_NEW_FILE_H
#define NVFP4_BASE_NEW_FILE_H

#include <nvfp4/nvfp4.h>

typedef struct nvfp4_new_file nvfp4_new_file;

nvfp4_status nvfp4_new_file_create(const char *path, nvfp4_new_file **out, nvfp4_reason *reason);
/* The next bytes. After a refusal only destroy is left to do. */
nvfp4_status nvfp4_new_file_write(nvfp4_new_file *file, const void *data, size_t bytes, nvfp4_reason *reason);
nvfp4_status nvfp4_new_file_finish(nvfp4_new_file *file, nvfp4_reason *reason);
/* Frees; removes the temporary file if finish has not succeeded. NULL is allowed. */
void nvfp4_new_file_destroy(nvfp4_new_file *file);

/* A whole file at once. */
nvfp4_status nvfp4_new_file_save(const char *path, const void *data, size_t bytes, nvfp4_reason *reason);

/* A rename must reach the disk, too; a file system that cannot flush a folder (some network ones) is no reason to fail. */
void nvfp4_flush_folder_of(const char *path);

#endif
