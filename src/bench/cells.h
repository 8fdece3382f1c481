/* SPDX-License-Identifier: Apache-2.0 */
/* What the benchmark on the CPU and that on a GPU share. */
#ifndef NVFP4_BENCH_CELLS_H
#define NVFP4_BENCH_CELLS_H

#include <nvfp4/bench.h>

#include "layer/context.h"

/* The plan for a cell, its kernel named; weight_dtype: of dense weights, or NONE. What is refused is in *why. */
nvfp4_status nvfp4_bench_plan(nvfp4_context *context, nvfp4_device device, nvfp4_mode mode, nvfp4_dtype weight_dtype,
                              const nvfp4_bench_result *cell, nvfp4_plan **plan, nvfp4_reason *why);

/* Of count >= 1 times, which it sorts. */
double nvfp4_bench_median(double *us, size_t count);
/* The cell's figures from its times, which it sorts. */
void nvfp4_bench_figures(nvfp4_bench_result *cell, double *us);

/* Random codes, ordinary scales, bf16 x: the time of no kernel depends on them, but for subnormal numbers. */
void nvfp4_bench_fill(uint8_t *codes, size_t code_bytes, uint8_t *scales, size_t scale_bytes, uint16_t *x, size_t x_elems);

/* What a group multiplies, in host memory: codes [n, k/2], scales [n, k/16], bf16 x [m, k]; all globals are 1. */
typedef struct nvfp4_bench_inputs {
  int64_t n, k, m;
  uint8_t *codes, *scales;
  uint16_t *x;
} nvfp4_bench_inputs;

/* sample.c: some rows of x, the first and the last among them, times some rows of the weights. */
typedef struct nvfp4_bench_sample {
  const nvfp4_bench_inputs *inputs;
  int64_t rows;
  uint16_t *y; /* [rows, n] in bf16: the caller fills in what a kernel wrote for these rows */
} nvfp4_bench_sample;
/* *out is freed by nvfp4_bench_sample_end, on errors too. inputs: borrowed. */
nvfp4_status nvfp4_bench_sample_begin(const nvfp4_bench_inputs *inputs, nvfp4_bench_sample *out, nvfp4_reason *reason);
void nvfp4_bench_sample_end(nvfp4_bench_sample *sample);
/* Row of x, and of a kernel's y, that row i of the sample is. */
int64_t nvfp4_bench_sample_row(const nvfp4_bench_sample *sample, int64_t i);
/* |y - sums in double| / |sums in double| (Frobenius), of W4A4 for x as the activation quantiser makes it. NVFP4_E_INTERNAL: y is no number. */
nvfp4_status nvfp4_bench_sample_error(const nvfp4_host *host, const nvfp4_bench_sample *sample, nvfp4_mode mode, double *out,
                                      nvfp4_reason *reason);

/* bench_cuda.c: the benchmark on options->device. Fills out->before, ->after, ->results and their count; results has place for kernel_count + 1 cells
 * for each shape and M: the last is cuBLAS. */
nvfp4_status nvfp4_bench_cuda(nvfp4_context *context, const nvfp4_bench_options *options, const char *const *kernels,
                              const nvfp4_mode *modes, size_t kernel_count, nvfp4_bench_result *results, nvfp4_bench *out,
                              nvfp4_reason *reason);

#endif
