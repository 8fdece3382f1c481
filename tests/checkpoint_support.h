/* SPDX-License-Identifier: Apache-2.0 */
/* What the tests of the checkpoint readers need: files that must be refused, on disk and in memory. */
#ifndef NVFP4_TESTS_CHECKPOINT_SUPPORT_H
#define NVFP4_TESTS_CHECKPOINT_SUPPORT_H

#include "checkpoint/checkpoint.h"
#include "support.h"

/* Opening `path` must fail with `status`, in a sentence that holds `phrase` and `where`. */
void assert_open_refused(const char *path, nvfp4_status status, const char *phrase, const char *where);

/* The same for files of tests/golden/broken; the sentence must name the file, too. */
typedef struct broken_file {
  const char *file; /* without its ending */
  nvfp4_status status;
  const char *phrase, *tensor;
} broken_file;
void assert_broken_files_refused(const broken_file *cases, size_t count, const char *ending);

/* Every file that is the beginning of this one, in a folder, must be refused as NVFP4_E_FORMAT. */
void assert_truncations_refused(const char *path);

/* Opens a copy of a file in memory, exactly as long, so that a sanitizer sees a read past it. *memory is to be freed after the checkpoint. */
nvfp4_status open_copy(const char *name, const void *file, size_t bytes, nvfp4_checkpoint **out, nvfp4_reason *reason, uint8_t **memory);
void assert_copy_refused(const char *name, const void *file, size_t bytes, nvfp4_status status, const char *phrase);

#endif
