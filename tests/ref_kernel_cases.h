/* SPDX-License-Identifier: Apache-2.0 */
/* What a canonical CPU kernel is held to, given its mode: the bits of the reference for shapes around the tiles, any M, any number of threads, all element types, worst-case x. */
#ifndef NVFP4_TESTS_REF_KERNEL_CASES_H
#define NVFP4_TESTS_REF_KERNEL_CASES_H

#include "layer_support.h"

/* Skips the test where that kernel is not built or this processor cannot run it. */
void skip_unless_supported(const char *kernel);

void check_shapes(const char *kernel, nvfp4_mode mode);
void check_dtypes(const char *kernel, nvfp4_mode mode);
void check_batch_and_threads(const char *kernel, nvfp4_mode mode);
void check_special_x(const char *kernel, nvfp4_mode mode);
void check_caller_fp_env(const char *kernel, nvfp4_mode mode);

#endif
