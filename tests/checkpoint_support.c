/* SPDX-License-Identifier: Apache-2.0 */
#include "checkpoint_support.h"

#include <stdio.h>
#include <stdlib.h>

static void assert_refusal(const char *file, nvfp4_status got, const nvfp4_reason *reason, nvfp4_status status, const char *phrase,
                           const char *where) {
  if (got != status || reason->status != status || strstr(reason->text, phrase) == NULL || strstr(reason->text, where) == NULL) {
    fail_msg("%s: status %d, \"%s\"; needs %d, \"%s\", \"%s\"", file, got, reason->text, status, phrase, where);
  }
}

void assert_open_refused(const char *path, nvfp4_status status, const char *phrase, const char *where) {
  nvfp4_checkpoint *checkpoint = NULL;
  nvfp4_reason reason = {0};
  nvfp4_status got = nvfp4_checkpoint_open(path, 0, &checkpoint, &reason);
  assert_null(checkpoint);
  assert_refusal(path, got, &reason, status, phrase, where);
}

void assert_broken_files_refused(const broken_file *cases, size_t count, const char *ending) {
  for (size_t i = 0; i < count; i++) {
    char path[256];
    snprintf(path, sizeof path, GOLDEN "broken/%s%s", cases[i].file, ending);
    assert_open_refused(path, cases[i].status, cases[i].phrase, cases[i].tensor);
    assert_open_refused(path, cases[i].status, cases[i].phrase, cases[i].file);
  }
}

void assert_truncations_refused(const char *path) {
  size_t bytes;
  char *file = test_read_file(path, &bytes);
  const char *name = strrchr(path, '/') + 1;
  for (size_t length = 0; length < bytes; length++) {
    assert_copy_refused(name, file, length, NVFP4_E_FORMAT, "");
  }
  free(file);
}

nvfp4_status open_copy(const char *name, const void *file, size_t bytes, nvfp4_checkpoint **out, nvfp4_reason *reason, uint8_t **memory) {
  *memory = malloc(bytes > 0 ? bytes : 1);
  assert_non_null(*memory);
  memcpy(*memory, file, bytes);
  return nvfp4_checkpoint_open_memory(name, *memory, bytes, 0, out, reason);
}

void assert_copy_refused(const char *name, const void *file, size_t bytes, nvfp4_status status, const char *phrase) {
  nvfp4_checkpoint *checkpoint = NULL;
  nvfp4_reason reason = {0};
  uint8_t *memory;
  nvfp4_status got = open_copy(name, file, bytes, &checkpoint, &reason, &memory);
  free(memory);
  assert_null(checkpoint);
  assert_refusal(name, got, &reason, status, phrase, name);
}
