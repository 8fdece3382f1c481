/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>
#include <string.h>

#include "cuda/check_scales.h"
#include "format/activation.h"
#include "format/e2m1.h"
#include "format/e4m3.h"
#include "format/half.h"
#include "format/scale_layout.h"
#include "kernels/cuda/arguments.h"
#include "kernels/cuda/mma_layout.h"
#include "kernels/ref/spec.h"
#include "mock.h"
#include "sm100/simulate.h"
#include "sm120/simulate.h"

static void check_scales(void *const *arguments, unsigned grid, unsigned block) {
  const uint8_t *scales = *(const uint8_t **)arguments[0];
  long long stride = *(long long *)arguments[1], rows = *(long long *)arguments[2], blocks = *(long long *)arguments[3];
  unsigned long long *first = *(unsigned long long **)arguments[4];
  for (long long i = 0; i < rows * blocks; i++) {
    if (i % blocks < (long long)grid * block * CUDA_CHECK_BYTES && scales[i / blocks * stride + i % blocks] >= 0x7F &&
        (unsigned long long)i < *first) {
      *first = (unsigned long long)i;
    }
  }
}

static size_t width(int32_t dtype) { return dtype == NVFP4_DTYPE_F32 ? 4 : 2; }

static void quantise(void *const *arguments, unsigned grid, unsigned block) {
  const cuda_quantise_args *a = arguments[0];
  int64_t blocks = a->k / NVFP4_BLOCK;
  for (int64_t i = 0; i < (int64_t)grid * block && i < a->rows * a->columns; i++) {
    int64_t row = i / a->columns, column = i % a->columns;
    uint8_t scale = 0, codes[NVFP4_BLOCK / 2] = {0};
    if (row < a->m && column < blocks && a->x != NULL) {
      float x[NVFP4_BLOCK];
      nvfp4_to_f32((const char *)a->x + (size_t)(row * a->ldx_elems + column * NVFP4_BLOCK) * width(a->x_dtype), (nvfp4_dtype)a->x_dtype, x,
                   NVFP4_BLOCK);
      nvfp4_quantise_activation_row(x, NVFP4_BLOCK, a->s_a, codes, &scale);
    } else if (row < a->m && column < blocks) {
      bool linear = a->q_scale_layout == NVFP4_SCALES_LINEAR;
      memcpy(codes, a->q_codes + row * a->q_codes_stride + column * (NVFP4_BLOCK / 2), NVFP4_BLOCK / 2);
      scale = a->q_scales[linear ? (size_t)(row * a->q_scales_stride + column)
                                 : nvfp4_scale_offset((nvfp4_scale_layout)a->q_scale_layout, blocks, row, column)];
    }
    if (a->values != NULL) {
      for (int64_t j = 0; row < a->m && column < blocks && j < NVFP4_BLOCK; j++) {
        a->values[(row * blocks + column) * NVFP4_BLOCK + j] =
            nvfp4_bf16_from_f32(nvfp4_e2m1_to_f32(codes[j / 2] >> j % 2 * 4 & 15) * nvfp4_e4m3_to_f32(scale));
      }
      continue;
    }
    if (row < a->m && column < a->code_columns) {
      memcpy(a->codes + (row * a->code_columns + column) * (NVFP4_BLOCK / 2), codes, sizeof codes);
    }
    a->scales[nvfp4_scale_offset((nvfp4_scale_layout)a->scale_layout, a->columns, row, column)] = scale;
  }
}

static void fp4_finish(void *const *arguments, unsigned grid, unsigned block) {
  const cuda_fp4_finish_args *a = arguments[0];
  int64_t across = (a->n + CUDA_FP4_FINISH_COLUMNS - 1) / CUDA_FP4_FINISH_COLUMNS;
  for (int64_t i = 0; i < (int64_t)grid * block; i++) {
    int64_t m = i / block / across, n = i / block % across * block + i % block;
    if (m < a->m && n < a->n) {
      float bias;
      if (a->bias != NULL) {
        nvfp4_to_f32((const char *)a->bias + (size_t)n * width(a->bias_dtype), (nvfp4_dtype)a->bias_dtype, &bias, 1);
      }
      float v = nvfp4_spec_finish(a->acc[m * a->ld_acc_elems + n], a->alpha[n], a->bias != NULL ? &bias : NULL);
      nvfp4_from_f32(&v, (nvfp4_dtype)a->y_dtype, (char *)a->y + (size_t)(m * a->ldy_elems + n) * width(a->y_dtype), 1);
    }
  }
}

/* Tiles of `rows` x 64; those that the grid has. */
static void emulate(const cuda_emulation_args *a, nvfp4_mode mode, int64_t rows, unsigned grid) {
  int64_t columns = (a->n + CUDA_EMULATION_COLUMNS - 1) / CUDA_EMULATION_COLUMNS, blocks = a->k / NVFP4_BLOCK;
  float *x = malloc((size_t)a->k * sizeof *x);
  for (int64_t m = 0; m < a->m; m++) {
    if (mode == NVFP4_MODE_W4A16) {
      nvfp4_to_f32((const char *)a->x + (size_t)(m * a->ldx_elems) * width(a->x_dtype), (nvfp4_dtype)a->x_dtype, x, a->k);
    }
    for (int64_t n = 0; n < a->n; n++) {
      if (m / rows * columns + n / CUDA_EMULATION_COLUMNS < (int64_t)grid) {
        nvfp4_spec_row w = {a->codes + n * blocks * (NVFP4_BLOCK / 2), a->scales + n * blocks};
        float acc, bias;
        if (mode == NVFP4_MODE_W4A16) {
          acc = nvfp4_spec_w4a16(x, w, a->k);
        } else {
          acc = nvfp4_spec_w4a4((nvfp4_spec_row){a->x_codes + m * blocks * (NVFP4_BLOCK / 2), a->x_scales + m * blocks}, w, a->k);
        }
        if (a->bias != NULL) {
          nvfp4_to_f32((const char *)a->bias + (size_t)n * width(a->bias_dtype), (nvfp4_dtype)a->bias_dtype, &bias, 1);
        }
        float v = nvfp4_spec_finish(acc, a->alpha[n], a->bias != NULL ? &bias : NULL);
        nvfp4_from_f32(&v, (nvfp4_dtype)a->y_dtype, (char *)a->y + (size_t)(m * a->ldy_elems + n) * width(a->y_dtype), 1);
      }
    }
  }
  free(x);
}

static void w4a4_16(void *const *arguments, unsigned grid, unsigned block) {
  (void)block;
  emulate(arguments[0], NVFP4_MODE_W4A4, 16, grid);
}
static void w4a4_64(void *const *arguments, unsigned grid, unsigned block) {
  (void)block;
  emulate(arguments[0], NVFP4_MODE_W4A4, 64, grid);
}
static void w4a16_16(void *const *arguments, unsigned grid, unsigned block) {
  (void)block;
  emulate(arguments[0], NVFP4_MODE_W4A16, 16, grid);
}
static void w4a16_64(void *const *arguments, unsigned grid, unsigned block) {
  (void)block;
  emulate(arguments[0], NVFP4_MODE_W4A16, 64, grid);
}

/* Where the layout cuda_mma (kernels/cuda/mma_layout.h) has the code of (row, k): a word, a half of it, and the part of that; and its scale. */
typedef struct mma_place {
  size_t word, scale;
  int half, part;
} mma_place;

static mma_place find_mma(int64_t n, int64_t k_all, int64_t row, int64_t k) {
  int64_t pairs = (k_all + CUDA_MMA_PAIR - 1) / CUDA_MMA_PAIR, across = (n + CUDA_MMA_ROWS - 1) / CUDA_MMA_ROWS;
  int64_t tile = row / CUDA_MMA_ROWS, group = tile / CUDA_MMA_GROUP * CUDA_MMA_GROUP;
  int64_t width = across - group < CUDA_MMA_GROUP ? across - group : CUDA_MMA_GROUP;
  size_t base = (size_t)(group * pairs + k / CUDA_MMA_PAIR * width + tile - group) * CUDA_MMA_TILE_BYTES;
  size_t row_tile = (size_t)(row % CUDA_MMA_ROWS / 16), block64 = (size_t)(k / 64 % 2), step = (size_t)(k / 16 % 4);
  size_t in_tile = (size_t)(row % 16), g = in_tile / 4 * 2 + in_tile % 2, second = in_tile / 2 % 2, t = (size_t)(k % 8 / 2);
  return (mma_place){.word = base + ((row_tile * 2 + block64) * 32 + 4 * g + t) * 16 + step * 4,
                     .half = (int)(k % 2),
                     .scale = base + CUDA_MMA_SCALES_AT + (((row_tile * 8 + g) * 2 + block64) * 2 + second) * 4 + step,
                     .part = (int)second + (int)(k / 8 % 2) * 2};
}

/* Bits of sign, exponent and fraction of the lower half's code, by part; the upper half's are 16 further, modulo 32. */
static const int mma_bits[4][4] = {{21, 14, 13, 12}, {11, 4, 3, 2}, {17, 10, 9, 8}, {15, 0, 7, 6}};
/* What is added to part 3's, modulo 2: by half. */
static const int mma_added[2][4] = {{7, 8, -1, -1}, {23, 24, 15, 14}};

static unsigned mma_bit(uint32_t word, mma_place p, int i) {
  unsigned bit = word >> (mma_bits[p.part][i] + 16 * p.half) % 32;
  if (p.part == 3 && mma_added[p.half][i] >= 0) {
    bit ^= word >> mma_added[p.half][i];
  }
  return bit & 1;
}

static unsigned mma_code(const uint8_t *packed, mma_place p) {
  uint32_t word;
  unsigned code = 0;
  memcpy(&word, packed + p.word, sizeof word);
  for (int i = 0; i < 4; i++) {
    code = code << 1 | mma_bit(word, p, i);
  }
  return code;
}

/* Parts 0 to 2 before part 3, the lower half before the upper one. */
static void mma_put_code(uint8_t *packed, mma_place p, unsigned code) {
  uint32_t word;
  memcpy(&word, packed + p.word, sizeof word);
  for (int i = 3; i >= 0; i--) { /* what a bit is added to comes after it */
    word ^= (uint32_t)(mma_bit(word, p, i) ^ (code >> (3 - i) & 1)) << (mma_bits[p.part][i] + 16 * p.half) % 32;
  }
  memcpy(packed + p.word, &word, sizeof word);
}

/* A placed scale: (exponent + 19) << 3 | fraction; zero is 240. Those of E4M3, in ascending order, by a search. Wrong scales are packed, too, before the layer is refused. */
static unsigned placed_scale(unsigned e4m3) {
  if (e4m3 == 0 || e4m3 >= 0x7F) {
    return 240;
  }
  float value = nvfp4_e4m3_to_f32((uint8_t)e4m3);
  int exponent = 0;
  for (; value >= 2; exponent++) {
    value /= 2;
  }
  for (; value < 1; exponent--) {
    value *= 2;
  }
  return (unsigned)(exponent + 19) << 3 | (unsigned)((value - 1) * 8);
}

static void mma_pack(void *const *arguments, unsigned grid, unsigned block) {
  const cuda_mma_pack_args *a = arguments[0];
  (void)block;
  memset(a->packed, 0, (size_t)grid * CUDA_MMA_TILE_BYTES);
  const int64_t rows = (a->n + CUDA_MMA_ROWS - 1) / CUDA_MMA_ROWS * CUDA_MMA_ROWS,
                ks = (a->k + CUDA_MMA_PAIR - 1) / CUDA_MMA_PAIR * CUDA_MMA_PAIR;
  for (int last = 0; last < 2; last++) {
    for (int64_t i = 0; i < rows * ks; i++) {
      int64_t row = i / ks, k = i % ks;
      mma_place p = find_mma(a->n, a->k, row, k);
      bool inside = row < a->n && k < a->k;
      if ((p.part == 3) == last) {
        mma_put_code(a->packed, p, inside ? a->codes[row * a->codes_stride + k / 2] >> k % 2 * 4 & 15 : 0);
      }
      if (inside) {
        a->packed[p.scale] = (uint8_t)placed_scale(a->scales[row * a->scales_stride + k / NVFP4_BLOCK]);
      }
    }
  }
}

static unsigned mma_scale(const uint8_t *packed, mma_place p) {
  unsigned e4m3 = 0;
  while (placed_scale(e4m3) != packed[p.scale]) {
    e4m3++;
  }
  return e4m3;
}

static void mma_unpack(void *const *arguments, unsigned grid, unsigned block) {
  const cuda_mma_unpack_args *a = arguments[0];
  (void)grid, (void)block;
  memset(a->codes, 0, (size_t)(a->n * a->k / 2));
  for (int64_t row = 0; row < a->n; row++) {
    for (int64_t k = 0; k < a->k; k++) {
      mma_place p = find_mma(a->n, a->k, row, k);
      a->codes[row * (a->k / 2) + k / 2] |= (uint8_t)(mma_code(a->packed, p) << k % 2 * 4);
      a->scales[row * (a->k / NVFP4_BLOCK) + k / NVFP4_BLOCK] = (uint8_t)mma_scale(a->packed, p);
    }
  }
}

/* The tensor-core kernels: sums in double, over slices as they are cut; rows of x at multiples of 16 bytes. */
static void mma_multiply(const cuda_mma_args *a, nvfp4_dtype x_dtype) {
  int64_t pairs = (a->k + CUDA_MMA_PAIR - 1) / CUDA_MMA_PAIR;
  float *x = malloc((size_t)a->k * sizeof *x), *w = malloc((size_t)(a->n * a->k) * sizeof *w);
  for (int64_t i = 0; i < a->n * a->k; i++) {
    mma_place p = find_mma(a->n, a->k, i / a->k, i % a->k);
    w[i] = nvfp4_e2m1_to_f32((uint8_t)mma_code(a->weights, p)) * nvfp4_e4m3_to_f32((uint8_t)mma_scale(a->weights, p));
  }
  bool aligned = (uintptr_t)a->x % 16 == 0 && a->ldx_elems % 8 == 0;
  for (int64_t m = 0; aligned && m < a->m; m++) { /* otherwise y stays as it is: wrong */
    nvfp4_to_f32((const char *)a->x + (size_t)(m * a->ldx_elems) * 2, x_dtype, x, a->k);
    for (int64_t n = 0; n < a->n; n++) {
      float acc = 0, bias;
      for (int64_t slice = 0; slice < a->slices; slice++) {
        double sum = 0;
        for (int64_t k = slice * pairs / a->slices * CUDA_MMA_PAIR; k < a->k && k < (slice + 1) * pairs / a->slices * CUDA_MMA_PAIR; k++) {
          sum += (double)x[k] * (double)w[n * a->k + k];
        }
        acc += (float)sum;
      }
      if (a->bias != NULL) {
        nvfp4_to_f32((const char *)a->bias + (size_t)n * width(a->bias_dtype), (nvfp4_dtype)a->bias_dtype, &bias, 1);
      }
      float v = nvfp4_spec_finish(acc, a->alpha[n], a->bias != NULL ? &bias : NULL);
      nvfp4_from_f32(&v, (nvfp4_dtype)a->y_dtype, (char *)a->y + (size_t)(m * a->ldy_elems + n) * width(a->y_dtype), 1);
    }
  }
  free(x);
  free(w);
}

static void multiply_bf16(void *const *arguments, unsigned grid, unsigned block) {
  (void)grid, (void)block;
  mma_multiply(arguments[0], NVFP4_DTYPE_BF16);
}
static void multiply_f16(void *const *arguments, unsigned grid, unsigned block) {
  (void)grid, (void)block;
  mma_multiply(arguments[0], NVFP4_DTYPE_F16);
}

/* sm80_many.cuh. A grid or a block that does not fit the tiles of y leaves y as it is. */
static void sm80_many(const cuda_mma_args *a, nvfp4_dtype x_dtype, int64_t rows, int64_t columns, int64_t threads, unsigned grid,
                      unsigned block) {
  if ((a->n + rows - 1) / rows * ((a->m + columns - 1) / columns) == (int64_t)grid && (int64_t)block == threads) {
    mma_multiply(a, x_dtype);
  }
}

#define SM80_MANY(name, rows, columns, group, groups)                               \
  static void name##_bf16(void *const *arguments, unsigned grid, unsigned block) {  \
    const cuda_mma_args *a = arguments[0];                                          \
    sm80_many(a, NVFP4_DTYPE_BF16, rows, columns, (group) * (groups), grid, block); \
  }                                                                                 \
  static void name##_f16(void *const *arguments, unsigned grid, unsigned block) {   \
    const cuda_mma_args *a = arguments[0];                                          \
    sm80_many(a, NVFP4_DTYPE_F16, rows, columns, (group) * (groups), grid, block);  \
  }
SM80_MANY(sequence16, 128, 16, 128, 1)
SM80_MANY(sequence32, 128, 32, 128, 1)
SM80_MANY(sequence64, 128, 64, 128, 1)
SM80_MANY(split16, 32, 16, 32, a->slices)
SM80_MANY(split32, 32, 32, 32, a->slices)
SM80_MANY(split64, 32, 64, 32, a->slices)

static void read_buffer(void *const *arguments, unsigned grid, unsigned block) { (void)arguments, (void)grid, (void)block; }

/* The kernels that take x by tensor map. A grid that does not fit, or a map that is not that of x, leaves y as it is. */
static void sm90_mapped(void *const *arguments, nvfp4_dtype x_dtype, uint64_t box, bool fits) {
  const cuda_mma_args *a = arguments[0];
  const uint64_t data_type = x_dtype == NVFP4_DTYPE_BF16 ? NVFP4_CU_TENSOR_MAP_BFLOAT16 : NVFP4_CU_TENSOR_MAP_FLOAT16;
  const uint64_t want[] = {
      (uintptr_t)a->x, /* as the mock driver encodes a map */
      (uint64_t)a->k,  (uint64_t)a->m, (uint64_t)a->ldx_elems * 2, 64, box, data_type, NVFP4_CU_TENSOR_MAP_SWIZZLE_128B};
  if (fits && memcmp(arguments[1], want, sizeof want) == 0) {
    mma_multiply(a, x_dtype);
  }
}

/* So many tiles of y: of `rows` rows of weights and `columns` rows of x. */
static int64_t sm90_tiles(const cuda_mma_args *a, int64_t rows, int64_t columns) {
  return (a->n + rows - 1) / rows * ((a->m + columns - 1) / columns);
}

/* sm90_mid.cuh: a thread block a slice of a tile. */
static void sm90_mid(void *const *arguments, nvfp4_dtype x_dtype, uint64_t columns, unsigned grid) {
  const cuda_mma_args *a = arguments[0];
  const int64_t tiles = sm90_tiles(a, (int64_t)a->block_tiles * CUDA_MMA_ROWS, (int64_t)columns);
  sm90_mapped(arguments, x_dtype, columns, tiles * a->slices == (int64_t)grid);
}

/* sm90_prefill.cuh, with so many tiles of weights to a thread block: blocks persist over tiles; a box has at most 128 rows of x; `sliced` ones compute all slices, the others take K in one. */
static void sm90_prefill(void *const *arguments, nvfp4_dtype x_dtype, int64_t tiles, uint64_t columns, bool sliced, unsigned grid,
                         unsigned block) {
  const cuda_mma_args *a = arguments[0];
  sm90_mapped(arguments, x_dtype, columns > 128 ? columns / 2 : columns,
              grid <= sm90_tiles(a, tiles * CUDA_MMA_ROWS, (int64_t)columns) && block == 128 * (1 + tiles) && (sliced || a->slices == 1));
}

/* sm90_split.cuh: a thread block a tile, with so many slices of K at a time, once or twice; or two blocks. */
static void sm90_split(void *const *arguments, nvfp4_dtype x_dtype, uint64_t columns, unsigned parts, unsigned grid, unsigned block) {
  const cuda_mma_args *a = arguments[0];
  const int slices = (int)parts * a->cluster;
  sm90_mapped(arguments, x_dtype, columns,
              grid == sm90_tiles(a, CUDA_MMA_ROWS, (int64_t)columns) * a->cluster && block == 128 * (1 + parts) &&
                  mock_launched.cluster == (unsigned)a->cluster && (a->slices == slices || a->slices == 2 * slices));
}

#define SM90_MID(name, columns)                                                    \
  static void name##_bf16(void *const *arguments, unsigned grid, unsigned block) { \
    (void)block;                                                                   \
    sm90_mid(arguments, NVFP4_DTYPE_BF16, columns, grid);                          \
  }                                                                                \
  static void name##_f16(void *const *arguments, unsigned grid, unsigned block) {  \
    (void)block;                                                                   \
    sm90_mid(arguments, NVFP4_DTYPE_F16, columns, grid);                           \
  }
SM90_MID(mid16, 16)
SM90_MID(mid32, 32)
SM90_MID(mid64, 64)
SM90_MID(mid3x64, 64)
SM90_MID(mid128, 128)
SM90_MID(mid3x128, 128)

#define SM90_PREFILL(name, tiles, columns, sliced)                                  \
  static void name##_bf16(void *const *arguments, unsigned grid, unsigned block) {  \
    sm90_prefill(arguments, NVFP4_DTYPE_BF16, tiles, columns, sliced, grid, block); \
  }                                                                                 \
  static void name##_f16(void *const *arguments, unsigned grid, unsigned block) {   \
    sm90_prefill(arguments, NVFP4_DTYPE_F16, tiles, columns, sliced, grid, block);  \
  }
SM90_PREFILL(whole256, 2, 256, false)
SM90_PREFILL(sliced1x128, 1, 128, true)
SM90_PREFILL(sliced128, 2, 128, true)
SM90_PREFILL(sliced3x128, 3, 128, true)
SM90_PREFILL(sliced192, 2, 192, true)
SM90_PREFILL(sliced256, 2, 256, true)

#define SM90_SPLIT(columns, parts)                                                                \
  static void sm90_split##columns##_bf16(void *const *arguments, unsigned grid, unsigned block) { \
    sm90_split(arguments, NVFP4_DTYPE_BF16, columns, parts, grid, block);                         \
  }                                                                                               \
  static void sm90_split##columns##_f16(void *const *arguments, unsigned grid, unsigned block) {  \
    sm90_split(arguments, NVFP4_DTYPE_F16, columns, parts, grid, block);                          \
  }
SM90_SPLIT(16, 4)
SM90_SPLIT(32, 4)
SM90_SPLIT(64, 2)
SM90_SPLIT(128, 2)

#define SM90_MAPPED(name, function)                                                                    \
  {"nvfp4_sm90_bf16_" #name, {sizeof(cuda_mma_args), sizeof(nvfp4_cu_tensor_map)}, function##_bf16}, { \
    "nvfp4_sm90_f16_" #name, {sizeof(cuda_mma_args), sizeof(nvfp4_cu_tensor_map)}, function##_f16      \
  }

#define SM90(name) \
  {"nvfp4_sm90_bf16_" name, {sizeof(cuda_mma_args)}, multiply_bf16}, { "nvfp4_sm90_f16_" name, {sizeof(cuda_mma_args)}, multiply_f16 }

#define SM80(name, bf16, f16) \
  {"nvfp4_sm80_bf16_" name, {sizeof(cuda_mma_args)}, bf16}, { "nvfp4_sm80_f16_" name, {sizeof(cuda_mma_args)}, f16 }

/* sm100.cuh. A launch that does not fit the arguments, or maps that are not those of whole rows of codes, leave y as it is. */
static void sm100_w4a4(void *const *arguments, unsigned grid, unsigned block) {
  const cuda_sm100_args *a = arguments[0];
  const sm100_map *weights = arguments[1], *x = arguments[2];
  const int64_t row_tiles = (a->n + CUDA_SM100_ROWS - 1) / CUDA_SM100_ROWS, columns = a->shape.columns,
                tiles = row_tiles * ((a->m + columns - 1) / columns);
  const uint64_t row_bytes = (uint64_t)a->k_steps * 32;
  const uint64_t want[2][7] = {{row_bytes, (uint64_t)row_tiles * CUDA_SM100_ROWS, row_bytes, CUDA_SM100_ROW_BYTES, CUDA_SM100_ROWS,
                                NVFP4_CU_TENSOR_MAP_UINT8, NVFP4_CU_TENSOR_MAP_SWIZZLE_128B},
                               {row_bytes, (uint64_t)a->m, row_bytes, CUDA_SM100_ROW_BYTES, (uint64_t)columns, NVFP4_CU_TENSOR_MAP_UINT8,
                                NVFP4_CU_TENSOR_MAP_SWIZZLE_128B}};
  const bool mapped = memcmp(&(*weights)[1], want[0], sizeof want[0]) == 0 && memcmp(&(*x)[1], want[1], sizeof want[1]) == 0;
  const bool fits = a->clustered ? grid == tiles * a->slices && mock_launched.cluster == (unsigned)a->slices
                                 : grid <= tiles && mock_launched.cluster == 1;
  if (mapped && fits && block == CUDA_SM100_THREADS && mock_launched.shared_bytes == CUDA_SM100_SHARED_BYTES) {
    sm100_simulate(a, weights, x, &(sm100_fault){0});
  }
}

#define SM120_KERNEL(name, ...)                                                     \
  static void sm120_##name(void *const *arguments, unsigned grid, unsigned block) { \
    sm120_simulate((sm120_shape){__VA_ARGS__}, arguments[0], grid, block);          \
  }
SM120_SHAPES(SM120_KERNEL)

#define SM120_ROW(name, ...) {"nvfp4_sm120_" #name, {sizeof(cuda_sm120_args)}, sm120_##name},

const mock_kernel mock_kernels[] = {
    {"nvfp4_read", {sizeof(void *), sizeof(long long), sizeof(void *)}, read_buffer},
    {"nvfp4_check_scales", {sizeof(void *), sizeof(long long), sizeof(long long), sizeof(long long), sizeof(void *)}, check_scales},
    {"nvfp4_quantise", {sizeof(cuda_quantise_args)}, quantise},
    {"nvfp4_fp4_finish", {sizeof(cuda_fp4_finish_args)}, fp4_finish},
    {"nvfp4_emulation_w4a4_16", {sizeof(cuda_emulation_args)}, w4a4_16},
    {"nvfp4_emulation_w4a4_64", {sizeof(cuda_emulation_args)}, w4a4_64},
    {"nvfp4_emulation_w4a16_16", {sizeof(cuda_emulation_args)}, w4a16_16},
    {"nvfp4_emulation_w4a16_64", {sizeof(cuda_emulation_args)}, w4a16_64},
    {"nvfp4_mma_pack", {sizeof(cuda_mma_pack_args)}, mma_pack},
    {"nvfp4_mma_unpack", {sizeof(cuda_mma_unpack_args)}, mma_unpack},
    SM80("few8_512", multiply_bf16, multiply_f16),
    SM80("few8_768", multiply_bf16, multiply_f16),
    SM80("sequence16", sequence16_bf16, sequence16_f16),
    SM80("sequence32", sequence32_bf16, sequence32_f16),
    SM80("sequence64_3", sequence64_bf16, sequence64_f16),
    SM80("sequence64_4", sequence64_bf16, sequence64_f16),
    SM80("split16", split16_bf16, split16_f16),
    SM80("split32", split32_bf16, split32_f16),
    SM80("split64", split64_bf16, split64_f16),
    SM90("few8_256"),
    SM90("few8x2_256"),
    SM90("few8_384"),
    SM90("few8x2_384"),
    SM90("few8_512"),
    SM90("few8x2_512"),
    SM90("few8_768"),
    SM90("few8x2_768"),
    SM90("few8_896"),
    SM90("few8x2_896"),
    SM90("few8_1024"),
    SM90("few8x2_1024"),
    SM90_MAPPED(mid16, mid16),
    SM90_MAPPED(mid32, mid32),
    SM90_MAPPED(mid64, mid64),
    SM90_MAPPED(mid3x64, mid3x64),
    SM90_MAPPED(mid128, mid128),
    SM90_MAPPED(mid3x128, mid3x128),
    SM90_MAPPED(split16, sm90_split16),
    SM90_MAPPED(split32, sm90_split32),
    SM90_MAPPED(split64, sm90_split64),
    SM90_MAPPED(split128, sm90_split128),
    SM90_MAPPED(whole256, whole256),
    SM90_MAPPED(sliced1x128, sliced1x128),
    SM90_MAPPED(sliced128, sliced128),
    SM90_MAPPED(sliced3x128, sliced3x128),
    SM90_MAPPED(sliced192, sliced192),
    SM90_MAPPED(sliced256, sliced256),
    {"nvfp4_sm100_w4a4", {sizeof(cuda_sm100_args), sizeof(nvfp4_cu_tensor_map), sizeof(nvfp4_cu_tensor_map)}, sm100_w4a4},
    SM120_SHAPES(SM120_ROW){NULL, {0}, NULL},
};
