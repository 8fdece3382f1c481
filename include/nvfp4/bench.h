/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Times kernels, and measures what the computer could reach at most: its roof. `nvfp4 bench` and `checkkern --bench` print what this gives.
 *
 *   cell     a kernel at one N, K and M
 *   us       microseconds of a call of nvfp4_layer_apply, x and y bf16, no bias: the median, and the 10th and 90th percentile. On a GPU: of calls in a
 *            CUDA graph, so that launching from the host is not in it; with cold weights for every M; and one more kernel, "cublas_bf16", the
 *            product of cuBLAS with bf16 weights of the same shape
 *   GB/s     1e9 bytes of weights a second, counted 0.5625 bytes a weight (4-bit codes, an 8-bit scale for 16) whatever the packed layout holds, and of
 *            kernels for dense layers and of cuBLAS 2 (bf16, f16) or 4 (f32)
 *   GFLOP/s  2 M N K operations
 *   share    max(bytes / read bandwidth, operations / fastest arithmetic) / time: 1 is a kernel that the computer cannot do better
 */
#ifndef NVFP4_BENCH_H
#define NVFP4_BENCH_H

#include <nvfp4/nvfp4.h>

#ifdef __cplusplus
extern "C" {
#endif

/* The best that was seen of several runs, on all threads of a context. A figure of 0 was not measured: its name then says so. */
typedef struct nvfp4_roof {
  uint32_t struct_size;
  int threads;
  double read_gbps;      /* reading a buffer that no cache holds */
  double f32_gflops;     /* fp32 multiply-adds, two operations each, in registers */
  const char *f32_name;  /* "avx512f", "avx2+fma", "neon", "not measured"; static */
  double i8_gops;        /* int8 dot products: of the widest instruction for it */
  const char *i8_name;   /* "avx512vnni", "avxvnni", "avx2 maddubs", "dotprod", "not measured"; static */
  double bf16_gflops;    /* of a GPU: a large bf16 matrix product of cuBLAS */
  const char *bf16_name; /* "cublas 8192x8192x8192", "not measured"; static */
} nvfp4_roof;

/* Takes about half a second. buffer_bytes: of the buffer to read; 0: four times the last-level cache, 256 MiB at least, a quarter of the memory at most.
 * Errors: NVFP4_E_NOMEM, NVFP4_E_ARG. */
NVFP4_API nvfp4_status nvfp4_roof_measure(nvfp4_context *context, uint64_t buffer_bytes, nvfp4_roof *out, nvfp4_reason *reason);

typedef struct nvfp4_bench_shape {
  int64_t n, k;
} nvfp4_bench_shape;

typedef struct nvfp4_bench_options {
  uint32_t struct_size;
  const char *const *kernels; /* ids, in the order of the results; NULL: every kernel that can run here */
  size_t kernel_count;
  const nvfp4_bench_shape *shapes;
  size_t shape_count;
  const int64_t *ms;
  size_t m_count;
  double seconds; /* of timed calls for a cell, three calls at least; 0: 0.3, on a GPU 0.1 */
  bool
      resident; /* weights stay in the caches: each kernel repeats its call. Otherwise, up to M = 16, calls rotate over copies of the weights */
  uint64_t rotate_bytes; /* of all copies together; 0: as buffer_bytes of the roof; on a GPU of each kernel's copies, 0: 512 MiB */
  void (*progress)(void *cookie, const char *kernel, int64_t n, int64_t k, int64_t m); /* before each cell is packed; NULL: none */
  void *progress_cookie;
  nvfp4_dtype weight_dtype; /* of kernels for dense layers: F32, F16 or BF16; NONE: BF16 */
  nvfp4_device device;      /* whose kernels are timed */
} nvfp4_bench_options;

typedef struct nvfp4_bench_result {
  const char *kernel;
  int64_t n, k, m;
  nvfp4_status status; /* not NVFP4_OK: the kernel does not serve this cell, reason says why, and the figures are 0 */
  size_t calls;        /* timed */
  double us, us_p10, us_p90;
  double weight_bytes;             /* that GB/s count a weight */
  double gbps, gflops, roof_share; /* of the median; the share of the greater of both roofs, 0 without a roof */
  double rel_err;                  /* on a GPU, |y - sums in double| / |sums in double| of a sample of y; -1: not measured */
  double pack_gbps; /* on a GPU, bytes of packed weights a second of nvfp4_layer_create, the weights being there; 0: not measured */
  char reason[256];
} nvfp4_bench_result;

typedef struct nvfp4_bench {
  int threads;
  nvfp4_roof before, after;
  size_t result_count;
  const nvfp4_bench_result *results; /* by shape, then M, then kernel */
} nvfp4_bench;

/* Measures the roof, then every cell, then the roof again. The kernels of one shape and M take turns call by call, so that what else the computer does hits
 * all alike. Selection applies as ever: a kernel that fails its self-test is not timed. Needs memory for the copies. Not to be called twice at
 * once. On success *out is the caller's and is freed by nvfp4_bench_free, before the context. Errors: NVFP4_E_ARG, NVFP4_E_NOMEM, NVFP4_E_SHAPE. */
NVFP4_API nvfp4_status nvfp4_bench_run(nvfp4_context *context, const nvfp4_bench_options *options, nvfp4_bench **out, nvfp4_reason *reason);
NVFP4_API void nvfp4_bench_free(nvfp4_bench *bench);

/* The shape whose weights take half of the level-2 caches of the context's threads (K = 4096), for `resident`. */
NVFP4_API nvfp4_bench_shape nvfp4_bench_resident_shape(const nvfp4_context *context);

#ifdef __cplusplus
}
#endif
#endif
