/* SPDX-License-Identifier: Apache-2.0 */
/* Global scales as fractions of doubles, so that what is made of them rounds once. */
#ifndef NVFP4_FORMAT_GLOBAL_H
#define NVFP4_FORMAT_GLOBAL_H

#include <nvfp4/nvfp4.h>

/* amax/2688 is the multiplier of a tensor: the largest E2M1 times the largest E4M3. */
#define NVFP4_GLOBAL_RANGE 2688.0

/* Multiplies the fraction *above / *below by the global's factor. */
static inline void nvfp4_global_multiply(nvfp4_global global, double *above, double *below) {
  if (global.kind == NVFP4_GLOBAL_DIVISOR) {
    *below *= (double)global.value;
  } else {
    *above *= (double)global.value;
    *below *= global.kind == NVFP4_GLOBAL_AMAX ? NVFP4_GLOBAL_RANGE : 1.0;
  }
}

static inline bool nvfp4_global_same(nvfp4_global a, nvfp4_global b) { return a.value == b.value && a.kind == b.kind; }

#endif
