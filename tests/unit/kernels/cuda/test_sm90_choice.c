/* SPDX-License-Identifier: Apache-2.0 */
#include "kernels/cuda/sm90_choice.h"

#include <stdlib.h>
#include <string.h>

#include "checkkern/checkkern.h"
#include "kernels/cuda/arguments.h"
#include "kernels/cuda/mma_layout.h"
#include "support.h"

/* The device kernel's name after nvfp4_sm90_bf16_. */
static const char *name_of(const cuda_sm90_launch *launch) { return launch->code[0].name + strlen("nvfp4_sm90_bf16_"); }

/* The shapes that were measured (bench/hopper_h200_variants.csv), M = 1, 2, 4, ... 8192. */
static void test_measured(void **state) {
  (void)state;
  static const struct {
    int64_t n, k;
    const char *slices[14], *any[9]; /* any: from M = 32 on; the kernels that take any order serve M > 16 */
  } shapes[] = {
      {6144,
       4096,
       {"few8_384", "few8_384", "few8_384", "split16", "split16", "split32", "split64", "split128", "sliced128", "sliced3x128", "sliced128",
        "sliced192", "sliced192", "sliced192"},
       {"split32", "split64", "mid3x128", "mid3x128", "mid3x128", "whole256", "whole256", "whole256", "whole256"}},
      {4096,
       4096,
       {"few8_256", "few8_256", "few8_256", "few8x2_256", "split16", "split32", "split64", "split128", "split128", "sliced128", "sliced256",
        "sliced256", "sliced256", "sliced192"},
       {"split32", "split64", "split128", "mid3x128", "mid128", "whole256", "whole256", "whole256", "whole256"}},
      {28672,
       4096,
       {"few8_512", "few8_512", "few8_512", "few8_512", "mid16", "mid32", "mid64", "mid128", "whole256", "whole256", "whole256", "whole256",
        "whole256", "whole256"},
       {"mid32", "mid64", "mid128", "whole256", "whole256", "whole256", "whole256", "whole256", "whole256"}},
      {4096,
       14336,
       {"few8_512", "few8_512", "few8x2_512", "split16", "split16", "split32", "split64", "split128", "sliced1x128", "sliced128",
        "sliced256", "sliced256", "sliced256", "sliced256"},
       {"split32", "split64", "split128", "mid128", "mid128", "whole256", "whole256", "whole256", "whole256"}},
      {57344,
       8192,
       {"few8_896", "few8_896", "few8_896", "few8_896", "mid16", "mid32", "mid3x64", "mid128", "whole256", "whole256", "whole256",
        "whole256", "whole256", "whole256"},
       {"mid32", "mid3x64", "mid128", "whole256", "whole256", "whole256", "whole256", "whole256", "whole256"}},
      {8192,
       28672,
       {"few8_512", "few8x2_512", "few8x2_512", "split16", "split16", "split32", "split64", "split128", "sliced128", "sliced256",
        "sliced256", "sliced256", "sliced256", "sliced256"},
       {"split32", "mid64", "mid128", "mid128", "whole256", "whole256", "whole256", "whole256", "whole256"}},
  };
  for (size_t s = 0; s < sizeof shapes / sizeof *shapes; s++) {
    for (int i = 0; i < 14; i++) {
      cuda_sm90_launch launch = cuda_sm90_choose((int64_t)1 << i, shapes[s].n, shapes[s].k, CUDA_SM90_SLICES);
      assert_string_equal(name_of(&launch), shapes[s].slices[i]);
      if (i >= 5) {
        launch = cuda_sm90_choose((int64_t)1 << i, shapes[s].n, shapes[s].k, CUDA_SM90_ANY);
        assert_string_equal(name_of(&launch), shapes[s].any[i - 5]);
      }
    }
  }
}

/* A launch that the device takes, whose thread blocks compute all of y. */
static void check_launch(const cuda_sm90_launch *l, int64_t m, int64_t n, int64_t k, cuda_sm90_order order) {
  const int slices = cuda_mma_slices(n, k);
  const int64_t tiles = (n + CUDA_MMA_ROWS - 1) / CUDA_MMA_ROWS;
  assert_non_null(l->code);
  const char *name = name_of(l);
  const bool whole = strncmp(name, "whole", 5) == 0, mid = strncmp(name, "mid", 3) == 0, split = strncmp(name, "split", 5) == 0;
  assert_true(l->slices == slices || order == CUDA_SM90_ANY); /* the order of additions: one for N and K, unless any will do */
  assert_true(l->slices == slices || (whole && l->slices == 1) || (mid && l->slices <= 2 && slices > 1) ||
              (split && l->slices < slices && slices % l->slices == 0));
  assert_in_range(l->slices, 1, (k + CUDA_MMA_PAIR - 1) / CUDA_MMA_PAIR);
  assert_in_range(l->threads, 32, 1024);
  assert_int_equal(l->threads % 32, 0);
  assert_in_range(l->shared_bytes, 1, CUDA_SM90_SHARED_BYTES);
  assert_in_range(l->blocks, 1, INT32_MAX);
  assert_in_range(l->cluster, 1, 8);
  assert_int_equal(l->blocks % l->cluster, 0);
  if (strncmp(name, "few", 3) == 0) {
    assert_in_range(m, 1, 8);
    assert_in_range(l->chunk_pairs, 1, k);
    assert_int_equal(l->box, 0);
    assert_in_range(l->cluster, 1, slices > 1 ? 2 : 1);
    const int64_t row_tiles = l->threads / 32 / (l->slices / l->cluster), clusters = l->blocks / l->cluster; /* row_tiles: at a time */
    assert_true(l->cluster == 1 || row_tiles * clusters >= (n + 15) / 16);                                   /* of a cluster all at once */
    return;
  }
  const int64_t column_tiles = (m + l->box - 1) / l->box; /* mid and split: a box is a tile */
  if (mid) {
    const int most = l->box <= 32                   ? 12
                     : strcmp(name, "mid64") == 0   ? 8
                     : strcmp(name, "mid3x64") == 0 ? 9
                     : strcmp(name, "mid128") == 0  ? 4
                                                    : 3;
    assert_in_range(l->block_tiles, 1, most);
    assert_int_equal(l->cluster, l->slices);
    assert_int_equal(l->blocks, (tiles + l->block_tiles - 1) / l->block_tiles * column_tiles * l->slices);
  } else if (split) {
    const int parts = l->threads / 128 - 1;
    assert_int_equal(l->blocks, tiles * column_tiles * l->cluster);
    assert_in_range(l->cluster, 1, 2);
    assert_in_range(l->slices, parts * l->cluster, 2 * parts * l->cluster); /* each warpgroup has one or two */
  } else {                                                                  /* blocks go on until there are no more tiles */
    assert_in_range(l->blocks, 1, 132);
  }
}

static void test_all_shapes(void **state) {
  (void)state;
  static const int64_t ns[] = {1, 15, 64, 65, 100, 640, 1000, 2048, 4096, 4224, 4225, 6144, 8448, 8449, 11008, 16896, 16897, 33793, 128256};
  static const int64_t ks[] = {16, 128, 144, 512, 1040, 4096, 11008, 53248};
  for (size_t n = 0; n < sizeof ns / sizeof *ns; n++) {
    for (size_t k = 0; k < sizeof ks / sizeof *ks; k++) {
      for (int64_t m = 1; m <= 8192; m += m < 520 ? 1 : 61) {
        for (int order = CUDA_SM90_SLICES; order <= CUDA_SM90_ANY; order++) {
          const cuda_sm90_launch launch = cuda_sm90_choose(m, ns[n], ks[k], (cuda_sm90_order)order);
          check_launch(&launch, m, ns[n], ks[k], (cuda_sm90_order)order);
        }
      }
    }
  }
}

/* The largest that the arguments may be: computed or refused, and nothing overflows. */
static void test_huge(void **state) {
  (void)state;
  static const int64_t sizes[] = {16, 4096, 1 << 20, 1 << 30};
  for (int i = 0; i < 64; i++) {
    const int64_t m = sizes[i % 4], n = sizes[i / 4 % 4], k = sizes[i / 16];
    const cuda_sm90_launch launch = cuda_sm90_choose(m, n, k, CUDA_SM90_ANY);
    if (launch.code != NULL) {
      check_launch(&launch, m, n, k, CUDA_SM90_ANY);
    }
    assert_true(launch.code != NULL || m * n > (int64_t)1 << 40);
  }
  assert_null(cuda_sm90_choose(1 << 30, 1 << 30, 16, CUDA_SM90_ANY).code);
}

/* checkkern's cases reach every device kernel, with slices of K added in all ways and with tiles for some, for all and for more than all thread blocks. */
static void test_reached_by_checkkern(void **state) {
  (void)state;
  extern const nvfp4_kernel nvfp4_kernel_cuda_sm90_w4a16, nvfp4_kernel_cuda_sm90_prefill_w4a16;
  const nvfp4_kernel *kernels[] = {
      [CUDA_SM90_SLICES] = &nvfp4_kernel_cuda_sm90_w4a16, [CUDA_SM90_ANY] = &nvfp4_kernel_cuda_sm90_prefill_w4a16};
  static const struct {
    cuda_sm90_order order;
    const char *name;
    int slices, cluster;
    int64_t tiles; /* of y, for one of 132 thread blocks each: so many at least; 133: and below 199, so that the last ones are in halves */
  } all[] = {{CUDA_SM90_SLICES, "few8_1024", 4, 1, 0},     {CUDA_SM90_SLICES, "few8_256", 4, 1, 0},
             {CUDA_SM90_SLICES, "few8_256", 8, 1, 0},      {CUDA_SM90_SLICES, "few8_384", 1, 1, 0},
             {CUDA_SM90_SLICES, "few8_384", 4, 1, 0},      {CUDA_SM90_SLICES, "few8_512", 1, 1, 0},
             {CUDA_SM90_SLICES, "few8_512", 4, 1, 0},      {CUDA_SM90_SLICES, "few8_512", 8, 1, 0},
             {CUDA_SM90_SLICES, "few8_768", 4, 1, 0},      {CUDA_SM90_SLICES, "few8_896", 1, 1, 0},
             {CUDA_SM90_SLICES, "few8_896", 4, 1, 0},      {CUDA_SM90_SLICES, "few8x2_1024", 4, 2, 0},
             {CUDA_SM90_SLICES, "few8x2_256", 4, 2, 0},    {CUDA_SM90_SLICES, "few8x2_256", 8, 2, 0},
             {CUDA_SM90_SLICES, "few8x2_384", 4, 2, 0},    {CUDA_SM90_SLICES, "few8x2_384", 8, 2, 0},
             {CUDA_SM90_SLICES, "few8x2_512", 4, 2, 0},    {CUDA_SM90_SLICES, "few8x2_512", 8, 2, 0},
             {CUDA_SM90_SLICES, "few8x2_768", 4, 2, 0},    {CUDA_SM90_SLICES, "few8x2_896", 4, 2, 0},
             {CUDA_SM90_SLICES, "mid128", 1, 1, 0},        {CUDA_SM90_SLICES, "mid16", 1, 1, 0},
             {CUDA_SM90_SLICES, "mid16", 2, 2, 0},         {CUDA_SM90_SLICES, "mid16", 4, 4, 0},
             {CUDA_SM90_SLICES, "mid16", 8, 8, 0},         {CUDA_SM90_SLICES, "mid32", 1, 1, 0},
             {CUDA_SM90_SLICES, "mid32", 2, 2, 0},         {CUDA_SM90_SLICES, "mid32", 4, 4, 0},
             {CUDA_SM90_SLICES, "mid32", 8, 8, 0},         {CUDA_SM90_SLICES, "mid3x128", 1, 1, 0},
             {CUDA_SM90_SLICES, "mid3x128", 8, 8, 0},      {CUDA_SM90_SLICES, "mid3x64", 1, 1, 0},
             {CUDA_SM90_SLICES, "mid3x64", 2, 2, 0},       {CUDA_SM90_SLICES, "mid3x64", 4, 4, 0},
             {CUDA_SM90_SLICES, "mid3x64", 8, 8, 0},       {CUDA_SM90_SLICES, "mid64", 1, 1, 0},
             {CUDA_SM90_SLICES, "mid64", 2, 2, 0},         {CUDA_SM90_SLICES, "mid64", 8, 8, 0},
             {CUDA_SM90_SLICES, "sliced128", 2, 1, 0},     {CUDA_SM90_SLICES, "sliced128", 4, 1, 0},
             {CUDA_SM90_SLICES, "sliced192", 2, 1, 0},     {CUDA_SM90_SLICES, "sliced192", 4, 1, 0},
             {CUDA_SM90_SLICES, "sliced1x128", 2, 1, 0},   {CUDA_SM90_SLICES, "sliced1x128", 4, 1, 0},
             {CUDA_SM90_SLICES, "sliced1x128", 8, 1, 0},   {CUDA_SM90_SLICES, "sliced256", 2, 1, 0},
             {CUDA_SM90_SLICES, "sliced3x128", 2, 1, 0},   {CUDA_SM90_SLICES, "sliced3x128", 4, 1, 0},
             {CUDA_SM90_SLICES, "split128", 2, 1, 0},      {CUDA_SM90_SLICES, "split128", 4, 1, 0},
             {CUDA_SM90_SLICES, "split128", 4, 2, 0},      {CUDA_SM90_SLICES, "split128", 8, 2, 0},
             {CUDA_SM90_SLICES, "split16", 4, 1, 0},       {CUDA_SM90_SLICES, "split16", 8, 1, 0},
             {CUDA_SM90_SLICES, "split16", 8, 2, 0},       {CUDA_SM90_SLICES, "split32", 4, 1, 0},
             {CUDA_SM90_SLICES, "split32", 8, 1, 0},       {CUDA_SM90_SLICES, "split32", 8, 2, 0},
             {CUDA_SM90_SLICES, "split64", 2, 1, 0},       {CUDA_SM90_SLICES, "split64", 4, 1, 0},
             {CUDA_SM90_SLICES, "split64", 4, 2, 0},       {CUDA_SM90_SLICES, "split64", 8, 2, 0},
             {CUDA_SM90_SLICES, "whole256", 1, 1, 0},      {CUDA_SM90_SLICES, "sliced128", 2, 1, 199},
             {CUDA_SM90_SLICES, "sliced192", 2, 1, 199},   {CUDA_SM90_SLICES, "sliced3x128", 2, 1, 133},
             {CUDA_SM90_SLICES, "sliced3x128", 2, 1, 199}, {CUDA_SM90_SLICES, "whole256", 1, 1, 133},
             {CUDA_SM90_SLICES, "whole256", 1, 1, 199},    {CUDA_SM90_ANY, "whole256", 1, 1, 133},
             {CUDA_SM90_ANY, "whole256", 1, 1, 199}};
  bool reached[sizeof all / sizeof *all] = {false};
  for (int order = CUDA_SM90_SLICES; order <= CUDA_SM90_ANY; order++) {
    ck_cases cases = ck_cases_make(kernels[order], 1, false);
    for (size_t i = 0; i < cases.count; i++) {
      const ck_case *c = &cases.items[i];
      const cuda_sm90_launch l = cuda_sm90_choose(c->m, c->n, c->k, (cuda_sm90_order)order);
      const int64_t rows = (l.threads / 128 - 1) * 64,
                    columns = l.box * (strstr(name_of(&l), "192") != NULL || strstr(name_of(&l), "256") != NULL ? 2 : 1);
      const int64_t tiles = l.box > 0 ? (c->n + rows - 1) / rows * ((c->m + columns - 1) / columns) : 0;
      for (size_t j = 0; j < sizeof all / sizeof *all; j++) {
        reached[j] |= all[j].order == (cuda_sm90_order)order && strcmp(all[j].name, name_of(&l)) == 0 && all[j].slices == l.slices &&
                      all[j].cluster == l.cluster && all[j].tiles <= tiles && (all[j].tiles != 133 || tiles < 199);
      }
    }
    free(cases.items);
  }
  for (size_t j = 0; j < sizeof all / sizeof *all; j++) {
    if (!reached[j]) {
      fail_msg("%s, %d slices, clusters of %d, %lld tiles: no case of checkkern's", all[j].name, all[j].slices, all[j].cluster,
               (long long)all[j].tiles);
    }
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_measured), cmocka_unit_test(test_all_shapes), cmocka_unit_test(test_huge),
                                     cmocka_unit_test(test_reached_by_checkkern)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
