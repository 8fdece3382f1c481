/* SPDX-License-Identifier: Apache-2.0 */
/* What the benchmark on the CPU and that on a GPU share. */
#ifndef NVFP4_BENCH_CELLS_H
#define NVFP4_BENCH_CELLS_H

#include <nvfp4/bench.h>

#include "layer/context.h"

/* The plan for a cell, its kernel named; weight_dtype: of dense weights, or NONE. What is refused is in *why. */
nvfp4_status nvfp4_bench_plan(nvfp4_context *context, nvfp4_device device, nvfp4_mode mode, nvfp4_dtype weight_dtype,
                              const nvfp4_bench_result *cell, nvfp4_plan **plan, nvfp4_reason *why);

/* The cell's figures from its times, which it sorts. */
void nvfp4_bench_figures(nvfp4_bench_result *cell, double *us);

/* Random codes, ordinary scales, bf16 x: the time of no kernel depends on them, but for subnormal numbers. */
void nvfp4_bench_fill(uint8_t *codes, size_t code_bytes, uint8_t *scales, size_t scale_bytes, uint16_t *x, size_t x_elems);

/* bench_cuda.c: the benchmark on options->device. Fills out->before, ->after, ->results and their count; results has place for kernel_count + 1 cells
 * for each shape and M: the last is cuBLAS. */
nvfp4_status nvfp4_bench_cuda(nvfp4_context *context, const nvfp4_bench_options *options, const char *const *kernels,
                              const nvfp4_mode *modes, size_t kernel_count, nvfp4_bench_result *results, nvfp4_bench *out,
                              nvfp4_reason *reason);

#endif
