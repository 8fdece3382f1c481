/* SPDX-License-Identifier: Apache-2.0 */
/* Memory: the caller's allocator for packed weights, and overflow-safe sizes. */
#ifndef NVFP4_BASE_ALLOC_H
#define NVFP4_BASE_ALLOC_H

#include <nvfp4/nvfp4.h>

/* The C library's allocator, for an nvfp4_options without one. */
extern const nvfp4_allocator nvfp4_default_allocator;

/* *out = a * b; false if that does not fit. */
static inline bool nvfp4_multiply(uint64_t a, uint64_t b, uint64_t *out) { return !__builtin_mul_overflow(a, b, out); }

/* x rounded up to a multiple of step > 0. */
static inline int64_t nvfp4_round_up(int64_t x, int64_t step) { return (x + step - 1) / step * step; }

#endif
