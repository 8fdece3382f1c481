/* SPDX-License-Identifier: Apache-2.0 */
#include "kernels/cuda/sm90_choice.h"

#include <string.h>

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
    const char *slices[14], *any[6]; /* any: from M = 256 on, which is what the kernel that takes any order serves */
  } shapes[] = {
      {6144,
       4096,
       {"few8_768", "few8_768", "few8_768", "split16", "split16", "split32", "split64", "split128", "sliced128", "sliced128", "sliced128",
        "sliced192", "sliced192", "sliced192"},
       {"whole128", "whole3x128", "whole3x128", "whole256", "whole256", "whole256"}},
      {4096,
       4096,
       {"few8_512", "few8_512", "few8_512", "split16", "split16", "split16", "split32", "split64", "split128", "sliced128", "sliced128",
        "sliced192", "sliced192", "sliced192"},
       {"split128", "whole128", "whole256", "whole256", "whole256", "whole256"}},
      {28672,
       4096,
       {"few8_896", "few8_896", "few8_896", "few8_896", "mid16", "mid32", "mid64", "sliced128", "sliced128", "sliced128", "sliced128",
        "sliced192", "sliced192", "sliced192"},
       {"whole256", "whole256", "whole256", "whole256", "whole256", "whole256"}},
      {4096,
       14336,
       {"few8_512", "few8_512", "few8_512", "mid16", "mid16", "mid32", "mid64", "split64", "split128", "sliced128", "sliced128",
        "sliced192", "sliced192", "sliced192"},
       {"split128", "whole128", "whole256", "whole256", "whole256", "whole256"}},
      {57344,
       8192,
       {"few8_896", "few8_896", "few8_896", "few8_896", "mid16", "mid32", "mid64", "whole128", "whole128", "whole256", "whole256",
        "whole256", "whole256", "whole256"},
       {"whole128", "whole256", "whole256", "whole256", "whole256", "whole256"}},
      {8192,
       28672,
       {"few8_1024", "few8_1024", "few8_1024", "split16", "split16", "split32", "mid64", "mid128", "sliced128", "sliced128", "sliced192",
        "sliced192", "sliced192", "sliced192"},
       {"whole128", "whole256", "whole256", "whole256", "whole256", "whole256"}},
  };
  for (size_t s = 0; s < sizeof shapes / sizeof *shapes; s++) {
    for (int i = 0; i < 14; i++) {
      cuda_sm90_launch launch = cuda_sm90_choose((int64_t)1 << i, shapes[s].n, shapes[s].k, CUDA_SM90_SLICES);
      assert_string_equal(name_of(&launch), shapes[s].slices[i]);
      if (i >= 8) {
        launch = cuda_sm90_choose((int64_t)1 << i, shapes[s].n, shapes[s].k, CUDA_SM90_ANY);
        assert_string_equal(name_of(&launch), shapes[s].any[i - 8]);
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
  const bool whole = strncmp(name, "whole", 5) == 0;
  assert_int_equal(l->slices, whole ? 1 : slices); /* the order of additions: one for N and K, unless any will do */
  assert_true(order == CUDA_SM90_ANY || l->slices == slices);
  assert_in_range(l->threads, 32, 1024);
  assert_int_equal(l->threads % 32, 0);
  assert_in_range(l->shared_bytes, 1, CUDA_SM90_SHARED_BYTES);
  assert_in_range(l->blocks, 1, INT32_MAX);
  assert_in_range(l->cluster, 1, 8);
  assert_int_equal(l->blocks % l->cluster, 0);
  if (strncmp(name, "few", 3) == 0) {
    assert_in_range(m, 1, 8);
    assert_in_range(l->chunk_pairs, 1, k);
    assert_int_equal(l->columns, 0);
    return;
  }
  const int64_t column_tiles = (m + l->columns - 1) / l->columns;
  if (strncmp(name, "mid", 3) == 0) {
    const int most = l->columns <= 32 ? 12 : l->columns == 64 ? 9 : l->columns == 128 ? 4 : 2;
    assert_in_range(l->block_tiles, 1, most);
    assert_int_equal(l->cluster, slices);
    assert_int_equal(l->blocks, (tiles + l->block_tiles - 1) / l->block_tiles * column_tiles * slices);
  } else if (strncmp(name, "split", 5) == 0) {
    assert_int_equal(l->blocks, tiles * column_tiles);
  } else { /* blocks go on until there are no more tiles */
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

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_measured), cmocka_unit_test(test_all_shapes), cmocka_unit_test(test_huge)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
