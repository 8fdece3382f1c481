/* SPDX-License-Identifier: Apache-2.0 */
/* A file that appears under its name only when it is whole: it has a temporary name beside it until then. */
#ifndef NVFP4_BASE_NEW_FILE_H
#define NVFP4_BASE_NEW_FILE_H

#include <nvfp4/nvfp4.h>
#include <stdio.h>

typedef struct nvfp4_new_file {
  FILE *stream; /* to be written to; errors may be left to commit */
  char *path, *temporary;
} nvfp4_new_file;

nvfp4_status nvfp4_new_file_open(const char *path, nvfp4_new_file *out, nvfp4_reason *reason);
/* Flushes to the disk and renames. After an error, as at any time before, discard. */
nvfp4_status nvfp4_new_file_commit(nvfp4_new_file *file, nvfp4_reason *reason);
/* Closes; removes what has not been committed. A zeroed file is allowed. */
void nvfp4_new_file_discard(nvfp4_new_file *file);

#endif
