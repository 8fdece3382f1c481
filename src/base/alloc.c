/* SPDX-License-Identifier: Apache-2.0 */
#define _DEFAULT_SOURCE /* posix_memalign, madvise */
#include "base/alloc.h"

#include <stdlib.h>
#include <sys/mman.h>

#define HUGE_PAGE_BYTES ((size_t)2 << 20)

static void *default_alloc(void *cookie, size_t bytes, size_t alignment) {
  (void)cookie;
  void *pointer = NULL;
  if (alignment < sizeof(void *)) {
    alignment = sizeof(void *);
  }
  bool huge = bytes >= HUGE_PAGE_BYTES;
  if (huge && alignment < HUGE_PAGE_BYTES) {
    alignment = HUGE_PAGE_BYTES;
  }
  if (posix_memalign(&pointer, alignment, bytes > 0 ? bytes : 1) != 0) {
    return NULL;
  }
  if (huge) {
    /* Weights are read from end to end for every token. Whole pages only, so that no memory is used beyond `bytes`; it is only a wish. */
    (void)madvise(pointer, bytes / HUGE_PAGE_BYTES * HUGE_PAGE_BYTES, MADV_HUGEPAGE);
  }
  return pointer;
}

static void default_free(void *cookie, void *pointer, size_t bytes) {
  (void)cookie;
  (void)bytes;
  free(pointer);
}

const nvfp4_allocator nvfp4_default_allocator = {default_alloc, default_free, NULL};
