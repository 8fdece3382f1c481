/* SPDX-License-Identifier: Apache-2.0 */
/* What a canonical CPU kernel is held to, given its mode: the bits of the reference for shapes around the tiles, any M, any number of threads, all element types, worst-case x. */
#ifndef NVFP4_TESTS_REF_KERNEL_CASES_H
#define NVFP4_TESTS_REF_KERNEL_CASES_H

#include "layer_support.h"

/* Skips the test where that kernel is not built or this processor cannot run it. */
void skip_unless_supported(const char *kernel);

/* The state of each test below. */
typedef struct canonical_kernel {
  const char *id;
  const char *together; /* with kernels that serve what it does not, as NVFP4_KERNEL has them; NULL: it serves everything */
  nvfp4_mode mode;
  struct {
    int m, n, k;
  } large; /* of canonical_large */
} canonical_kernel;

void canonical_shapes(void **state);
void canonical_dtypes(void **state);
void canonical_batch_and_threads(void **state);
void canonical_special_x(void **state);
void canonical_caller_fp_env(void **state);

#define CANONICAL_TESTS(kernel)                                                                                               \
  cmocka_unit_test_prestate(canonical_shapes, kernel), cmocka_unit_test_prestate(canonical_dtypes, kernel),                   \
      cmocka_unit_test_prestate(canonical_batch_and_threads, kernel), cmocka_unit_test_prestate(canonical_special_x, kernel), \
      cmocka_unit_test_prestate(canonical_caller_fp_env, kernel)

/* A problem larger than the kernel's panels and tasks. */
void canonical_large(void **state);

#endif
