/* SPDX-License-Identifier: Apache-2.0 */
#define _DEFAULT_SOURCE /* posix_memalign, madvise */
#include "base/alloc.h"

#include <stdlib.h>
#include <sys/mman.h>

enum { HUGE_PAGE = 2 << 20 };

/* Large blocks ask for huge pages: weights are read from end to end, and address translations of 4 KiB pages cost up to a tenth of the bandwidth. What is left behind the last whole
 * huge page stays on small ones, so that no memory is spent on it. */
static void *default_alloc(void *cookie, size_t bytes, size_t alignment) {
  (void)cookie;
  void *pointer = NULL;
  if (alignment < sizeof(void *)) {
    alignment = sizeof(void *);
  }
  if (bytes >= HUGE_PAGE && alignment < HUGE_PAGE) {
    alignment = HUGE_PAGE;
  }
  if (posix_memalign(&pointer, alignment, bytes > 0 ? bytes : 1) != 0) {
    return NULL;
  }
#ifdef MADV_HUGEPAGE
  if (bytes >= HUGE_PAGE) {
    (void)madvise(pointer, bytes / HUGE_PAGE * HUGE_PAGE, MADV_HUGEPAGE); /* only a wish */
  }
#endif
  return pointer;
}

static void default_free(void *cookie, void *pointer, size_t bytes) {
  (void)cookie;
  (void)bytes;
  free(pointer);
}

const nvfp4_allocator nvfp4_default_allocator = {default_alloc, default_free, NULL};
