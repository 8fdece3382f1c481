/* SPDX-License-Identifier: Apache-2.0 */
#include "kernels/cuda/sm100_tile.h"

#include <math.h>
#include <stdlib.h>

#include "base/alloc.h"
#include "format/scale_layout.h"
#include "kernels/cuda/fp4_layout.h"
#include "kernels/ref/spec.h"
#include "sm100/model.h"
#include "sm100/simulate.h"
#include "support.h"

/*
 * All constants of this test are what CUTLASS 4.2.0 computes (PyPI's nvidia-cutlass, run on the host):
 *   instructions  UMMA::make_instr_desc_block_scaled<float_e2m1_t, float_e2m1_t, float, float_ue4m3_t, 128, N, UMMA::Major::K, UMMA::Major::K>()
 *   operands      make_tensor<UMMA::smem_desc<UMMA::Major::K>>() over zipped_divide(L, Shape<R, _64>), L = tile_to_shape(UMMA::Layout_K_SW128_Atom<float_e2m1_t>{}, Shape<R, _256>), R = 16, 128, 256
 *   bytes         of as_position_independent_swizzle_layout(L)(row, k) for all rows and all even k: FNV-1a over the offsets as 32-bit words
 *   scales        get_utccp_smem_desc_tensor<SM100_UTCCP_4x32dp128bit_1cta>() over the tiles of Sm1xxBlockScaledConfig<16>
 *   columns       UMMA::tmem_sf_frg<float_ue4m3_t, 16, 1, true>::make(((128, (16, 4)), 1, 4)), and <..., false> with 256 rows
 */
static void test_instructions(void **state) {
  (void)state;
  static const struct {
    int columns;
    uint32_t bits;
  } want[] = {{16, 0x08040480}, {32, 0x08080480}, {64, 0x08100480}, {128, 0x08200480}, {256, 0x08400480}};
  for (size_t i = 0; i < sizeof want / sizeof want[0]; i++) {
    assert_int_equal(cuda_sm100_instruction(want[i].columns), want[i].bits);
    assert_true(tcgen05_instruction_is_valid(want[i].bits));
    assert_int_equal(tcgen05_instruction_n(want[i].bits), want[i].columns);
  }
}

static void test_descriptors(void **state) {
  (void)state;
  static const uint64_t operands[] = {0x4000404000010000, 0x4000404000010002, 0x4000404000010004, 0x4000404000010006},
                        scales[] = {0x0000400800010000, 0x0000400800010020, 0x0000400800010040, 0x0000400800010060};
  for (int step = 0; step < CUDA_SM100_STEPS; step++) {
    assert_true(cuda_sm100_operand(0, step) == operands[step]);
    assert_true(cuda_sm100_operand(0x2C400, step) == operands[step] + 0x2C40);   /* addresses in units of 16 bytes */
    assert_true(cuda_sm100_operand(0x702C400, step) == operands[step] + 0x2C40); /* of block 7 of a cluster */
    assert_true(cuda_sm100_scales(0x702C400) == scales[0] + 0x2C40);
    assert_true(cuda_sm100_scales((uint32_t)step * CUDA_SM100_SCALE_BYTES) == scales[step]);
  }
}

/* What the descriptors mean, in the model, is where CUTLASS has the codes; and TMA's swizzle puts them there. */
static void test_swizzle(void **state) {
  (void)state;
  static const struct {
    uint32_t rows;
    uint64_t hash;
  } want[] = {{16, 0x3EDD26F9CC83E383}, {128, 0x093CBCC2D56F8383}, {256, 0x3DA5DD4208210383}};
  for (size_t i = 0; i < sizeof want / sizeof want[0]; i++) {
    uint64_t hash = 1469598103934665603u;
    for (uint32_t row = 0; row < want[i].rows; row++) {
      for (uint32_t byte = 0; byte < CUDA_SM100_ROW_BYTES; byte++) {
        const uint32_t at = tcgen05_address(cuda_sm100_operand(0, (int)byte / 32), row, byte % 32);
        assert_int_equal(at, tcgen05_swizzle_128(row * CUDA_SM100_ROW_BYTES + byte));
        hash = (hash ^ at) * 1099511628211u;
      }
    }
    assert_true(hash == want[i].hash);
  }
}

/* Tiles of scales as the layout has them arrive where the MMA looks for them. */
static void test_scale_columns(void **state) {
  (void)state;
  const cuda_sm100_shape small = {.x_tiles = 1}, large = {.x_tiles = 2};
  for (int step = 0; step < CUDA_SM100_STEPS; step++) {
    assert_int_equal(cuda_sm100_weight_scales(step) - cuda_sm100_weight_scales(0), 0x10 / 4 * step); /* CUTLASS counts in bytes */
    assert_int_equal(cuda_sm100_x_scales(&small, step, 0) - cuda_sm100_x_scales(&small, 0, 0), 0x10 / 4 * step);
    assert_int_equal(cuda_sm100_x_scales(&large, step, 0) - cuda_sm100_x_scales(&large, 0, 0), 0x20 / 4 * step);
    assert_int_equal(cuda_sm100_x_scales(&large, step, 1) - cuda_sm100_x_scales(&large, step, 0), tcgen05_scale_column(128));
  }
  assert_int_equal(tcgen05_scale_column(32), 4 / 4);
  assert_int_equal(tcgen05_scale_column(255), 0x1C / 4);
  for (int64_t row = 0; row < 128; row++) {
    for (int64_t block = 0; block < 4; block++) {
      const uint32_t byte = 4 * tcgen05_scale_column((uint32_t)row) + (uint32_t)block;
      assert_int_equal(tcgen05_address(cuda_sm100_scales(0), (uint32_t)row % 32, byte),
                       nvfp4_scale_offset(NVFP4_SCALES_128X4, 4, row, block));
    }
  }
}

/* Everything lies within shared and tensor memory, apart, and aligned; K is cut without gaps, in the same way for each m. */
static void test_plans(void **state) {
  (void)state;
  static const int64_t ms[] = {1, 16, 17, 64, 100, 128, 129, 300, 4096}, ns[] = {1, 128, 1000, 4096, 14336, 128256},
                       ks[] = {16, 80, 4096, 14336};
  for (size_t i = 0; i < sizeof ms / sizeof *ms * (sizeof ns / sizeof *ns) * (sizeof ks / sizeof *ks); i++) {
    const int64_t m = ms[i % 9], n = ns[i / 9 % 6], k = ks[i / 54];
    cuda_sm100_args a = {0}, one = {0};
    int64_t tiles, tiles_of_one, blocks, blocks_of_one;
    cuda_sm100_plan(m, n, k, &a, &tiles, &blocks);
    cuda_sm100_plan(1, n, k, &one, &tiles_of_one, &blocks_of_one);
    const cuda_sm100_shape *s = &a.shape;
    assert_int_equal(tiles, (n + 127) / 128 * ((m + s->columns - 1) / s->columns));
    assert_int_equal(tiles_of_one, (n + 127) / 128);
    assert_int_equal(a.slices, one.slices);
    assert_int_equal(a.k_steps, (k + 63) / 64);
    assert_int_equal(blocks, a.clustered ? tiles * a.slices : tiles < 148 ? tiles : 148);
    assert_true(s->columns % 16 == 0 && s->columns <= CUDA_SM100_COLUMNS_MOST && (m <= s->columns || s->columns % 128 == 0));
    assert_true(s->stages >= 3 && s->stages <= CUDA_SM100_STAGES_MOST && s->stage_bytes % CUDA_SM100_ALIGNMENT == 0 &&
                s->x_at % CUDA_SM100_ALIGNMENT == 0);
    assert_true(s->x_at == 128 * 128 && s->weight_scales_at == s->x_at + s->columns * 128 && s->x_scales_at == s->weight_scales_at + 2048 &&
                s->stage_bytes >= s->x_scales_at + s->x_tiles * 2048);
    const int sums_bytes = a.slices > 1 ? s->columns * 512 : 0, most = CUDA_SM100_SHARED_BYTES - CUDA_SM100_ALIGNMENT;
    assert_true(a.clustered ? s->sums_at == 0 && sums_bytes <= s->stages * s->stage_bytes
                            : s->sums_at == s->stages * s->stage_bytes && s->sums_at + sums_bytes <= most);
    assert_true(s->accumulators * s->columns <= CUDA_SM100_WEIGHT_SCALES_COLUMN);
    assert_true(cuda_sm100_weight_scales(3) + 4 <= cuda_sm100_x_scales(s, 0, 0));
    assert_true(cuda_sm100_x_scales(s, 3, s->x_tiles - 1) + 4 <= CUDA_SM100_TENSOR_COLUMNS);
    assert_true(cuda_sm100_first_stage(&a, 0) == 0 && cuda_sm100_first_stage(&a, a.slices) == (k + 255) / 256);
    for (int slice = 0; slice < a.slices; slice++) {
      assert_true(cuda_sm100_first_stage(&a, slice) < cuda_sm100_first_stage(&a, slice + 1));
    }
  }
}

/* A problem whose codes and scales are random, and its simulation. */
typedef struct problem {
  int64_t m, n, k;
  uint8_t *w_codes, *w_scales, *x_codes, *x_scales; /* canonical */
  uint8_t *w_padded, *w_tiles, *x_padded, *x_tiles; /* cuda_fp4_128x4 */
  float *alpha, *y;
} problem;

static void make_matrix(test_random *random, int64_t rows, int64_t rows_padded, int64_t k, uint8_t **codes, uint8_t **scales,
                        uint8_t **padded, uint8_t **tiles) {
  const int64_t k_padded = nvfp4_round_up(k, CUDA_FP4_K), blocks = k / NVFP4_BLOCK;
  *codes = malloc((size_t)(rows * k / 2));
  *scales = malloc((size_t)(rows * blocks));
  *padded = calloc(1, (size_t)(rows_padded * k_padded / 2));
  *tiles = calloc(1, nvfp4_scales_bytes(NVFP4_SCALES_128X4, rows, k_padded / NVFP4_BLOCK));
  for (int64_t i = 0; i < rows * k / 2; i++) {
    (*codes)[i] = (uint8_t)test_random_u64(random);
    (*padded)[i / (k / 2) * (k_padded / 2) + i % (k / 2)] = (*codes)[i];
  }
  for (int64_t i = 0; i < rows * blocks; i++) {
    (*scales)[i] = (uint8_t)(0x20 + test_random_u64(random) % 0x30);
    (*tiles)[nvfp4_scale_offset(NVFP4_SCALES_128X4, k_padded / NVFP4_BLOCK, i / blocks, i % blocks)] = (*scales)[i];
  }
}

static problem make_problem(int64_t m, int64_t n, int64_t k) {
  problem p = {.m = m, .n = n, .k = k, .alpha = malloc((size_t)n * sizeof(float)), .y = malloc((size_t)(m * n) * sizeof(float))};
  test_random random = {(uint64_t)(m + n + k)};
  make_matrix(&random, n, nvfp4_round_up(n, 128), k, &p.w_codes, &p.w_scales, &p.w_padded, &p.w_tiles);
  make_matrix(&random, m, m, k, &p.x_codes, &p.x_scales, &p.x_padded, &p.x_tiles);
  for (int64_t i = 0; i < n; i++) {
    p.alpha[i] = 0.5f + (float)i;
  }
  return p;
}

static void free_problem(problem *p) {
  void *all[] = {p->w_codes, p->w_scales, p->x_codes, p->x_scales, p->w_padded, p->w_tiles, p->x_padded, p->x_tiles, p->alpha, p->y};
  for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) {
    free(all[i]);
  }
}

/* How many elements of y are beyond the bound of docs/numerics.md. */
static int64_t count_wrong(problem *p, const sm100_fault *fault) {
  const uint64_t row_bytes = (uint64_t)nvfp4_round_up(p->k, CUDA_FP4_K) / 2;
  cuda_sm100_args a = {
      .weight_scales = p->w_tiles, .x_scales = p->x_tiles, .alpha = p->alpha, .y = p->y, .ldy_elems = p->n, .y_dtype = NVFP4_DTYPE_F32};
  int64_t tiles, blocks, wrong = 0;
  cuda_sm100_plan(p->m, p->n, p->k, &a, &tiles, &blocks);
  const sm100_map weights = {(uintptr_t)p->w_padded, row_bytes, (uint64_t)nvfp4_round_up(p->n, 128), row_bytes, 128, 128},
                  x = {(uintptr_t)p->x_padded, row_bytes, (uint64_t)p->m, row_bytes, 128, (uint64_t)a.shape.columns};
  sm100_simulate(&a, &weights, &x, fault);
  for (int64_t m = 0; m < p->m; m++) {
    for (int64_t n = 0; n < p->n; n++) {
      const int64_t blocks_of_row = p->k / NVFP4_BLOCK;
      uint8_t w[1024], v[1024]; /* signs cleared: the sum of magnitudes */
      for (int64_t i = 0; i < p->k / 2; i++) {
        w[i] = p->w_codes[n * (p->k / 2) + i] & 0x77;
        v[i] = p->x_codes[m * (p->k / 2) + i] & 0x77;
      }
      const nvfp4_spec_row x_row = {p->x_codes + m * (p->k / 2), p->x_scales + m * blocks_of_row},
                           w_row = {p->w_codes + n * (p->k / 2), p->w_scales + n * blocks_of_row};
      const float want = p->alpha[n] * nvfp4_spec_w4a4(x_row, w_row, p->k);
      const float size = p->alpha[n] * nvfp4_spec_w4a4((nvfp4_spec_row){v, x_row.scales}, (nvfp4_spec_row){w, w_row.scales}, p->k);
      wrong += !(fabs((double)p->y[m * p->n + n] - (double)want) <= (double)(p->k + 8) * 0x1p-23 * (double)size);
    }
  }
  return wrong;
}

/* One accumulator and two, one and two tiles of scales of x, slices, ragged everything. */
static const int64_t shapes[][3] = {{1, 1, 16}, {16, 130, 1040}, {17, 37, 336}, {200, 20, 272}, {300, 140, 128}};

static void test_simulation(void **state) {
  (void)state;
  for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++) {
    problem p = make_problem(shapes[i][0], shapes[i][1], shapes[i][2]);
    assert_int_equal(count_wrong(&p, &(sm100_fault){0}), 0);
    free_problem(&p);
  }
}

/* Each of these alone makes it wrong. */
static void test_faults(void **state) {
  (void)state;
  static const sm100_fault faults[] = {{.copies_unswizzled = true},
                                       {.operand = (uint64_t)2 << 61} /* not swizzled */,
                                       {.operand = (uint64_t)(64 ^ 128) << 32} /* stride */,
                                       {.operand = 2} /* the other 64 k's */,
                                       {.operand = (uint64_t)1 << 46} /* version */,
                                       {.scales = (uint64_t)(8 ^ 16) << 32} /* stride */,
                                       {.scales = 32} /* the next tile */,
                                       {.scales = (uint64_t)2 << 61} /* swizzled */,
                                       {.instruction = 1 << 23} /* UE8M0 */,
                                       {.instruction = 1 << 7} /* E4M3 */,
                                       {.instruction = 1 << 29} /* another scale */,
                                       {.instruction = (8 ^ 4) << 17} /* N = 32 */,
                                       {.scale_column = 4}};
  problem p = make_problem(33, 140, 336);
  assert_int_equal(count_wrong(&p, &(sm100_fault){0}), 0);
  for (size_t i = 0; i < sizeof faults / sizeof faults[0]; i++) {
    assert_true(count_wrong(&p, &faults[i]) > 0);
  }
  free_problem(&p);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_instructions), cmocka_unit_test(test_descriptors),
                                     cmocka_unit_test(test_swizzle),      cmocka_unit_test(test_scale_columns),
                                     cmocka_unit_test(test_plans),        cmocka_unit_test(test_simulation),
                                     cmocka_unit_test(test_faults)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
