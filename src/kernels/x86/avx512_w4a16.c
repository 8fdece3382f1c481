/* SPDX-License-Identifier: Apache-2.0 */
/*
 * x86_avx512_w4a16: y[m,n] = alpha[n] * acc (+ bias[n]); acc = fmaf(part, sw[n,b], acc) over blocks b ascending; part = fmaf(x[m,k], w[n,k], part) over the block's k ascending
 *
 * Class CANONICAL: the bits of nvfp4_spec_w4a16, for any M, N, K and any number of threads. AVX-512 F, BW, VL, DQ and FMA.
 * Packed layout: n16k64. Workspace: x as fp32. A lane is a row n. VPERMPS looks up by the low 4 bits of each lane, so a shift and a look-up give the 16 weights of one k.
 *
 * Measured on an AMD EPYC (Zen 5, 4.2 GHz, 2 cores of a shared machine), 2026-11-22, one thread, gcc 12, against roofs of the same run (read 35-40 GB/s, fp32 FMA 268 GFLOP/s):
 *   M = 1    4096x4096, 4096x14336 (N x K) and 14336x4096, weights from DRAM: 31 to 33 GB/s, 82 to 94 % of the read bandwidth; weights in L2: 36 GB/s
 *   M = 16   4096x4096, from DRAM: 215 GFLOP/s, 0.80 times the fp32 FMA peak
 *   M = 512  4096x4096: 205 to 219 GFLOP/s, 0.77 to 0.82 times the fp32 FMA peak
 */
#include "kernels/x86/avx512.h"

enum {
  GROUP_ROWS = 12,
  TOGETHER = 8 /* a pass for up to 4 rows takes so many sums of blocks at once: two FMAs a cycle with a latency of 4 */
};

/* x [16] of one row and block. */
typedef struct record {
  float x[NVFP4_BLOCK];
} record;

static void prepare(const nvfp4_kernel_args *args, int64_t m, int64_t first, int64_t last, char *to, size_t stride) {
  for (int64_t block = first; block < last; block++, to += stride) {
    _mm512_store_ps(to, avx512_load_x(args, m, block * NVFP4_BLOCK));
  }
}

/* Blocks [block, block + together) for `rows` rows: rows * together independent sums hide the latency of FMA. */
AVX512_INLINE void sum_blocks(const uint8_t *tile, int64_t block, const record *x, __m512 *acc, const int rows, const int together) {
  const __m512 values =
      _mm512_setr_ps(0.0f, 0.5f, 1.0f, 1.5f, 2.0f, 3.0f, 4.0f, 6.0f, -0.0f, -0.5f, -1.0f, -1.5f, -2.0f, -3.0f, -4.0f, -6.0f);
  const uint8_t *at = tile + block / N16K64_BLOCKS * N16K64_TILE_BYTES;
  const int64_t b = together >= N16K64_BLOCKS ? 0 : block % N16K64_BLOCKS;
  __m512 part[GROUP_ROWS];
  AVX512_UNROLL(12)
  for (int i = 0; i < rows * together; i++) {
    part[i] = _mm512_setzero_ps();
  }
  AVX512_UNROLL(2)
  for (int half = 0; half < 2; half++) {
    __m512i codes[TOGETHER];
    AVX512_UNROLL(8)
    for (int t = 0; t < together; t++) {
      codes[t] = _mm512_load_si512(at + t / N16K64_BLOCKS * N16K64_TILE_BYTES + N16K64_SCALES +
                                   (b + t % N16K64_BLOCKS) * N16K64_BLOCK_CODES + half * 64);
      __asm__("" : "+v"(codes[t])); /* in a register: folded into the shifts, the loads would fill the load ports */
    }
    AVX512_UNROLL(8)
    for (int i = 0; i < 8; i++) {
      AVX512_UNROLL(8)
      for (int t = 0; t < together; t++) {
        __m512 w = _mm512_permutexvar_ps(_mm512_srli_epi32(codes[t], (unsigned)(i < 4 ? 8 * i : 8 * (i - 4) + 4)), values);
        AVX512_UNROLL(12)
        for (int r = 0; r < rows; r++) {
          part[t * rows + r] = _mm512_fmadd_ps(_mm512_set1_ps(x[t * rows + r].x[half * 8 + i]), w, part[t * rows + r]);
        }
      }
    }
  }
  AVX512_UNROLL(8)
  for (int t = 0; t < together; t++) {
    const uint8_t *scales = at + t / N16K64_BLOCKS * N16K64_TILE_BYTES + (b + t % N16K64_BLOCKS) * N16K64_N;
    __m512 sw = _mm512_mul_ps(avx512_e4m3_2m8(_mm_load_si128((const __m128i *)(const void *)scales)), _mm512_set1_ps(256.0f));
    AVX512_UNROLL(12)
    for (int r = 0; r < rows; r++) {
      acc[r] = _mm512_fmadd_ps(part[t * rows + r], sw, acc[r]);
    }
  }
}

AVX512_INLINE void sum_rows(const uint8_t *tile, int64_t blocks, const record *x, float (*acc)[N16K64_N], const int rows) {
  const int together = rows > 4 ? 1 : TOGETHER / rows;
  __m512 sum[GROUP_ROWS];
  AVX512_UNROLL(12)
  for (int r = 0; r < rows; r++) {
    sum[r] = _mm512_load_ps(acc[r]);
  }
  int64_t block = 0;
  for (; block + together <= blocks; block += together) {
    for (int t = 0; t < together; t++) {
      avx512_prefetch(tile, block + t, x + (block + t) * rows, rows * (int)sizeof *x);
    }
    sum_blocks(tile, block, x + block * rows, sum, rows, together);
  }
  for (; block < blocks; block++) {
    sum_blocks(tile, block, x + block * rows, sum, rows, 1);
  }
  AVX512_UNROLL(12)
  for (int r = 0; r < rows; r++) {
    _mm512_store_ps(acc[r], sum[r]);
  }
}

#define PASS(rows) \
  static void sum_##rows(const avx512_part *part) { sum_rows(part->weights, part->k / NVFP4_BLOCK, part->records, part->acc, rows); }
PASS(1)
PASS(2)
PASS(4)
PASS(6)
PASS(8)
PASS(12)

static const avx512_pass passes[] = {{1, sum_1}, {2, sum_2}, {4, sum_4}, {6, sum_6}, {8, sum_8}, {12, sum_12}};

static const avx512_kernel kernel = {.record_bytes = sizeof(record),
                                     .group_rows = GROUP_ROWS,
                                     .block_groups = 4,
                                     .tiles = 1,
                                     .weights = avx512_n16k64_weights,
                                     .passes = passes,
                                     .prepare = prepare};

static size_t workspace_bytes(const nvfp4_layer_desc *desc, int64_t m) { return avx512_workspace_bytes(&kernel, m, desc->k); }

static nvfp4_status apply_weights(const nvfp4_host *host, const nvfp4_packed *packed, const nvfp4_kernel_args *args, nvfp4_reason *reason) {
  (void)reason;
  return avx512_apply(&kernel, host, packed, args);
}

AVX512_PLAIN static nvfp4_status is_supported(const nvfp4_machine *machine, nvfp4_reason *reason) {
  return avx512_is_supported(machine, NVFP4_ISA_FMA | NVFP4_ISA_AVX512F | NVFP4_ISA_AVX512BW | NVFP4_ISA_AVX512VL | NVFP4_ISA_AVX512DQ,
                             reason);
}

const nvfp4_kernel nvfp4_kernel_x86_avx512_w4a16 = {
    .struct_size = sizeof(nvfp4_kernel),
    .id = "x86_avx512_w4a16",
    .summary = "the canonical W4A16 result with AVX-512",
    .layout = &nvfp4_layout_n16k64,
    .numerics = {NVFP4_MODE_W4A16, NVFP4_CLASS_CANONICAL, NVFP4_FLAG_BATCH_INVARIANT | NVFP4_FLAG_DETERMINISTIC,
                 NVFP4_ORDER_CANONICAL_W4A16},
    .device = NVFP4_DEVICE_CPU,
    .verified = "AMD EPYC (Zen 5), 2026-11-22",
    .is_supported = is_supported,
    .can_implement = avx512_can_implement,
    .workspace_bytes = workspace_bytes,
    .apply_weights = apply_weights,
};
