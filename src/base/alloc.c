/* SPDX-License-Identifier: Apache-2.0 */
#define _POSIX_C_SOURCE 200809L /* posix_memalign */
#include "base/alloc.h"

#include <stdlib.h>

static void *default_alloc(void *cookie, size_t bytes, size_t alignment) {
  (void)cookie;
  void *pointer = NULL;
  if (alignment < sizeof(void *)) {
    alignment = sizeof(void *);
  }
  return posix_memalign(&pointer, alignment, bytes > 0 ? bytes : 1) == 0 ? pointer : NULL;
}

static void default_free(void *cookie, void *pointer, size_t bytes) {
  (void)cookie;
  (void)bytes;
  free(pointer);
}

const nvfp4_allocator nvfp4_default_allocator = {default_alloc, default_free, NULL};
