/* SPDX-License-Identifier: Apache-2.0 */
#include "kernels/cuda/sm90_choice.h"

#include <stdbool.h>
#include <stdint.h>

#include "kernels/cuda/arguments.h"
#include "kernels/cuda/mma.h"
#include "kernels/cuda/mma_layout.h"

extern const unsigned char nvfp4_fatbin_sm90_w4a16[];

/* few_rows serves one row of x, and up to FEW_M where it is the fastest. MOST_TILES: tiles and thread blocks, of which a tile has up to eight, are numbered by int. */
enum { MULTIPROCESSORS = 132, FEW_M = 8, PREFILL_M = 65, MOST_TILES = 1 << 27 };

#define CODE(name)                                                                                          \
  {                                                                                                         \
    {nvfp4_fatbin_sm90_w4a16, "nvfp4_sm90_bf16_" name}, { nvfp4_fatbin_sm90_w4a16, "nvfp4_sm90_f16_" name } \
  }

/* few_rows of few.cuh, by the threads of a block; for blocks alone, and for clusters of two. All numbers here are those of sm90_w4a16.cu. */
#define FEW(threads, depth, begin_ns)                                              \
  {                                                                                \
    threads, depth, begin_ns, { CODE("few8_" #threads), CODE("few8x2_" #threads) } \
  }
static const struct few_kernel {
  int threads, depth, begin_ns;
  nvfp4_cuda_kernel code[2][2];
} few_kernels[] = {FEW(256, 8, 2300), FEW(384, 6, 2800), FEW(512, 4, 2600), FEW(768, 3, 3300), FEW(896, 2, 2900), FEW(1024, 2, 2900)};

/* How a thread block shares K and tiles of y with others. */
typedef enum family {
  MID,    /* sm90_mid.cuh: a slice of K; those of a tile are a cluster */
  SPLIT,  /* sm90_split.cuh: all slices, two or four at a time, at most twice; or a cluster of two does so */
  SLICED, /* sm90_prefill.cuh and sm90_totals.cuh: all slices, one after the other; blocks go on with other tiles */
  WHOLE   /* sm90_prefill.cuh: the same, K in one slice */
} family;

/*
 * The time of a product is about that of its rounds of thread blocks, of as many as the multiprocessors have room for; of a round begin_ns, and step_ns for each 128 k's (MID: for each of these and
 * each tile of weights), and what block_ns() adds. As measured on an H200 with weights that come from memory (bench/hopper_h200_variants.csv), at most calls within 15 %. In calls of milliseconds
 * clocks fall: all take up to 20 % more.
 */
typedef struct tile_kernel {
  family family;
  int tiles, columns; /* of a thread block: tiles of 64 rows of weights (MID: at most), and rows of x */
  int threads, begin_ns, step_ns;
  int alone_ns; /* MID: more for each 128 k's of a block whose tiles are no multiple of its warpgroups, so that some of these wait */
  nvfp4_cuda_kernel code[2];
} tile_kernel;

static const tile_kernel tile_kernels[] = {
    {SPLIT, 1, 16, 640, 300, 161, 0, CODE("split16")},         {SPLIT, 1, 32, 640, 600, 182, 0, CODE("split32")},
    {SPLIT, 1, 64, 384, 430, 240, 0, CODE("split64")},         {SPLIT, 1, 128, 384, 1000, 363, 0, CODE("split128")},
    {MID, 12, 16, 640, 3400, 158, 90, CODE("mid16")},          {MID, 12, 32, 640, 3100, 175, 105, CODE("mid32")},
    {MID, 8, 64, 384, 3600, 214, 50, CODE("mid64")},           {MID, 9, 64, 512, 3600, 213, 40, CODE("mid3x64")},
    {MID, 4, 128, 384, 3200, 335, 40, CODE("mid128")},         {MID, 3, 128, 512, 3000, 340, 20, CODE("mid3x128")},
    {SLICED, 1, 128, 256, 3000, 415, 0, CODE("sliced1x128")},  {SLICED, 2, 128, 384, 2500, 730, 0, CODE("sliced128")},
    {SLICED, 3, 128, 512, 3000, 1150, 0, CODE("sliced3x128")}, {SLICED, 2, 192, 384, 3000, 1070, 0, CODE("sliced192")},
    {SLICED, 2, 256, 384, 3000, 1380, 0, CODE("sliced256")},   {WHOLE, 2, 256, 384, 2800, 1330, 0, CODE("whole256")}};

typedef struct product {
  int64_t m, n, k, pairs; /* pairs: of 64 k's */
  int slices;
} product;

static int64_t ceiling(int64_t a, int64_t b) { return (a + b - 1) / b; }

/* Returns nanoseconds: of a start; of reading weights from memory; of reading x from the L2 cache, which each block does for itself, in a cluster half of it. Measured as above. */
static int64_t launch_few(const product *p, int cluster, cuda_sm90_launch *out) {
  enum { CLUSTER_NS = 700, WEIGHT_BYTES_A_NS = 4200, X_BYTES_A_NS = 45 };
  const int slices_here = p->slices / cluster;
  const int64_t row_tiles = ceiling(p->n, 16), most = MULTIPROCESSORS / cluster, warps_most = 32 / slices_here;
  /* Row tiles of a block or cluster. If there are slices, these are all, since cuda_mma_slices() then sees to it that they are few enough. */
  int64_t here = ceiling(row_tiles, most);
  here = here < warps_most ? here : warps_most;
  const int threads = (int)here * slices_here * 32;
  const struct few_kernel *few = few_kernels;
  while (few->threads < threads) {
    few++;
  }
  cuda_mma_args a = {.m = p->m, .k = p->k, .slices = p->slices, .cluster = cluster};
  const int64_t shared_bytes =
      CUDA_SM90_FEW_BARRIERS_BYTES +
      cuda_mma_few_shared_bytes(&a, threads, FEW_M, few->depth, CUDA_SM90_SHARED_BYTES - CUDA_SM90_FEW_BARRIERS_BYTES);
  const int64_t blocks = ceiling(row_tiles, here);
  *out = (cuda_sm90_launch){.code = few->code[cluster - 1],
                            .slices = p->slices,
                            .chunk_pairs = a.chunk_pairs,
                            .threads = threads,
                            .cluster = cluster,
                            .blocks = (blocks < most ? blocks : most) * cluster,
                            .shared_bytes = shared_bytes};
  return few->begin_ns + (cluster == 1 ? 0 : CLUSTER_NS) +
         ceiling(p->n, CUDA_MMA_ROWS) * p->pairs * CUDA_MMA_TILE_BYTES / WEIGHT_BYTES_A_NS + 2 * p->m * p->k / (X_BYTES_A_NS * cluster);
}

static int parts_of(const tile_kernel *kernel) { return kernel->threads / 128 - 1; } /* warpgroups that compute; SPLIT: slices at a time */

/* How many slices of K a kernel may make: writes up to three numbers and returns how many. SPLIT's warpgroups have nothing to do if there are fewer slices than they are; the sums of slices need
 * a place of their own, which WHOLE has not; for few rows of x SLICED and WHOLE were not measured. */
static int slices_of(const tile_kernel *kernel, const product *p, cuda_sm90_order order, int slices[3]) {
  int count = 0;
  switch (kernel->family) {
    case SPLIT:
      if (p->slices >= parts_of(kernel)) {
        slices[count++] = p->slices;
        for (int any = parts_of(kernel); order == CUDA_SM90_ANY && any < p->slices; any *= 2) {
          slices[count++] = any;
        }
      }
      break;
    case SLICED:
      if (p->slices > 1 && p->m >= PREFILL_M) {
        slices[count++] = p->slices;
      }
      break;
    case WHOLE:
      if ((p->slices == 1 || order == CUDA_SM90_ANY) && p->m >= PREFILL_M) {
        slices[count++] = 1;
      }
      break;
    default:
      slices[count++] = p->slices;
      if (p->slices > 1 && order == CUDA_SM90_ANY) { /* clusters of two fill the GPU, those of four and eight do not */
        slices[count++] = 1;
        slices[count++] = 2;
      }
  }
  return count;
}

/* What begin_ns and step_ns leave out, for `tiles` tiles of weights and `blocks` at a time: adding slices, warpgroups that wait, and of short calls memory, which blocks do share. */
static int64_t block_ns(const tile_kernel *kernel, int64_t steps, int64_t tiles, int64_t blocks, const cuda_sm90_launch *l) {
  int64_t slices_ns;
  switch (kernel->family) {
    case SPLIT:
      return (l->cluster == 2 ? 1000 : 0) + 3 * kernel->columns * (l->slices - parts_of(kernel) * l->cluster) + 20 * l->cluster * blocks;
    case MID:
      slices_ns = l->slices == 1 ? 0 : l->slices == 2 ? 1400 + 4 * kernel->columns * tiles : 2500 + 5 * kernel->columns * tiles;
      return slices_ns + (tiles % parts_of(kernel) != 0 ? kernel->alone_ns * steps / tiles : 0);
    case SLICED:
      return kernel->columns > 192 ? 1100 * l->slices : 0; /* totals in shared memory */
    default:
      return 0;
  }
}

/* Returns nanoseconds, or INT64_MAX if there are too many tiles, or slices. */
static int64_t launch_tiles(const tile_kernel *kernel, const product *p, int slices, cuda_sm90_launch *out) {
  const int64_t tiles = ceiling(p->n, CUDA_MMA_ROWS), column_tiles = ceiling(p->m, kernel->columns);
  int64_t blocks = ceiling(tiles, kernel->tiles) * column_tiles, at_a_time = MULTIPROCESSORS, steps = p->pairs;
  if (blocks > MOST_TILES) {
    return INT64_MAX;
  }
  *out = (cuda_sm90_launch){.code = kernel->code,
                            .box = kernel->columns,
                            .slices = slices,
                            .threads = kernel->threads,
                            .cluster = 1,
                            .shared_bytes = CUDA_SM90_SHARED_BYTES};
  if (kernel->family == MID) {
    /* Clusters of 4 or 8 do not fill a GPU whose clusters of multiprocessors (GPCs) are 16 or 18 and some fewer: 15 of 8 were seen on an H200. */
    at_a_time = (slices >= 4 ? 120 : MULTIPROCESSORS) / slices;
    out->block_tiles = (int)ceiling(tiles, ceiling(blocks, at_a_time) * at_a_time / column_tiles); /* as few as these rounds allow */
    out->cluster = slices;
    blocks = ceiling(tiles, out->block_tiles) * column_tiles;
    steps = ceiling(p->pairs, slices) * out->block_tiles;
  }
  if (kernel->family == SPLIT) {
    if (slices >= 2 * parts_of(kernel) && 2 * blocks <= MULTIPROCESSORS) {
      out->cluster = 2;
      at_a_time /= 2;
      steps = ceiling(steps, 2);
    }
    if (slices > 2 * parts_of(kernel) * out->cluster) {
      return INT64_MAX;
    }
  }
  const int64_t rounds = ceiling(blocks, at_a_time), last = blocks % at_a_time;
  const int64_t round_ns =
      kernel->begin_ns + steps * kernel->step_ns + block_ns(kernel, steps, out->block_tiles, blocks < at_a_time ? blocks : at_a_time, out);
  int64_t saved_ns = 0;
  if (kernel->family == SLICED ||
      kernel->family == WHOLE) { /* these go on with other tiles, and compute the last ones in halves if there is room */
    out->box = kernel->columns > 128 ? kernel->columns / 2 : kernel->columns;
    if (rounds > 1 && last > 0 && 2 * last <= at_a_time) {
      saved_ns = kernel->columns > 192 ? round_ns * 7 / 16 : kernel->columns > 128 ? round_ns / 8 : round_ns / 4;
    }
    blocks = blocks < MULTIPROCESSORS ? blocks : MULTIPROCESSORS;
  }
  out->blocks = blocks * out->cluster;
  return rounds * round_ns - saved_ns;
}

cuda_sm90_launch cuda_sm90_choose(int64_t m, int64_t n, int64_t k, cuda_sm90_order order) {
  const product p = {.m = m, .n = n, .k = k, .pairs = ceiling(k, CUDA_MMA_PAIR), .slices = cuda_mma_slices(n, k)};
  cuda_sm90_launch best = {0}, launch;
  int64_t least = INT64_MAX;
  for (int cluster = 1; m <= FEW_M && cluster <= (p.slices > 1 ? 2 : 1); cluster++) {
    const int64_t ns = launch_few(&p, cluster, &launch);
    if (ns < least) {
      least = ns;
      best = launch;
    }
  }
  for (size_t i = 0; m > 1 && i < sizeof tile_kernels / sizeof *tile_kernels; i++) {
    int slices[3];
    const int count = slices_of(&tile_kernels[i], &p, order, slices);
    for (int j = 0; j < count; j++) {
      const int64_t ns = launch_tiles(&tile_kernels[i], &p, slices[j], &launch);
      if (ns < least) {
        least = ns;
        best = launch;
      }
    }
  }
  return best;
}
