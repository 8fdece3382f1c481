/* SPDX-License-Identifier: Apache-2.0 */
#include "base/alloc.h"

#include "support.h"

static void test_default_allocator(void **state) {
  (void)state;
  for (size_t alignment = 1; alignment <= 4096; alignment *= 2) {
    for (size_t bytes = 0; bytes <= 256; bytes += 64) {
      uint8_t *pointer = nvfp4_default_allocator.alloc(NULL, bytes, alignment);
      assert_non_null(pointer);
      assert_int_equal((uintptr_t)pointer % alignment, 0);
      memset(pointer, 0xFF, bytes);
      nvfp4_default_allocator.free(NULL, pointer, bytes);
    }
  }
  nvfp4_default_allocator.free(NULL, NULL, 0);
}

static void test_huge_pages(void **state) {
  (void)state;
  const size_t huge_page = (size_t)2 << 20, alignments[] = {64, 2 * huge_page}, sizes[] = {huge_page - 1, huge_page, 2 * huge_page + 1};
  for (size_t a = 0; a < sizeof alignments / sizeof alignments[0]; a++) {
    for (size_t s = 0; s < sizeof sizes / sizeof sizes[0]; s++) {
      uint8_t *pointer = nvfp4_default_allocator.alloc(NULL, sizes[s], alignments[a]);
      assert_non_null(pointer);
      assert_int_equal((uintptr_t)pointer % alignments[a], 0);
      assert_true(sizes[s] < huge_page || (uintptr_t)pointer % huge_page == 0);
      memset(pointer, 0xFF, sizes[s]);
      nvfp4_default_allocator.free(NULL, pointer, sizes[s]);
    }
  }
}

static void test_multiply(void **state) {
  (void)state;
  uint64_t product = 7;
  assert_true(nvfp4_multiply(UINT32_MAX, UINT32_MAX, &product));
  assert_true(product == UINT64_C(0xFFFFFFFE00000001));
  assert_true(nvfp4_multiply(UINT64_MAX, 1, &product));
  assert_true(product == UINT64_MAX);
  assert_true(nvfp4_multiply(0, UINT64_MAX, &product));
  assert_true(product == 0);
  assert_false(nvfp4_multiply(UINT64_C(1) << 32, UINT64_C(1) << 32, &product));
  assert_false(nvfp4_multiply(UINT64_MAX, 2, &product));
}

static void test_round_up(void **state) {
  (void)state;
  assert_int_equal(nvfp4_round_up(0, 16), 0);
  assert_int_equal(nvfp4_round_up(1, 16), 16);
  assert_int_equal(nvfp4_round_up(16, 16), 16);
  assert_int_equal(nvfp4_round_up(17, 3), 18);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_default_allocator),
      cmocka_unit_test(test_huge_pages),
      cmocka_unit_test(test_multiply),
      cmocka_unit_test(test_round_up),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
