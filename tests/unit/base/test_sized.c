/* SPDX-License-Identifier: Apache-2.0 */
#include "base/sized.h"

#include <string.h>

#include "support.h"

typedef struct older {
  uint32_t struct_size, a;
} older;

typedef struct known {
  uint32_t struct_size, a, b;
} known;

typedef struct newer {
  uint32_t struct_size, a, b, c;
} newer;

static void reads_structs_of_other_versions(void **state) {
  (void)state;
  nvfp4_reason reason = {0};
  known own;
  memset(&own, 0xff, sizeof own);
  assert_ok(nvfp4_sized_read(NULL, "known", &own, sizeof own, &reason), reason);
  assert_memory_equal(&own, &((known){.struct_size = sizeof own}), sizeof own);

  memset(&own, 0xff, sizeof own);
  assert_ok(nvfp4_sized_read(&(older){sizeof(older), 1}, "known", &own, sizeof own, &reason), reason);
  assert_memory_equal(&own, &((known){sizeof own, 1, 0}), sizeof own);

  assert_ok(nvfp4_sized_read(&(newer){sizeof(newer), 1, 2, 0}, "known", &own, sizeof own, &reason), reason);
  assert_memory_equal(&own, &((known){sizeof own, 1, 2}), sizeof own);
}

static void refuses_what_it_cannot_know(void **state) {
  (void)state;
  nvfp4_reason reason = {0};
  known own = {7, 8, 9};
  assert_int_equal(nvfp4_sized_read(&(newer){sizeof(newer), 1, 2, 3}, "known", &own, sizeof own, &reason), NVFP4_E_ARG);
  assert_non_null(strstr(reason.text, "known.struct_size is 16, here it has 12 bytes"));
  for (uint32_t size = 0; size < sizeof size; size++) {
    assert_int_equal(nvfp4_sized_read(&(known){size, 1, 2}, "known", &own, sizeof own, &reason), NVFP4_E_ARG);
    assert_int_equal(nvfp4_sized_check(&(known){size, 1, 2}, "known", &reason), NVFP4_E_ARG);
    assert_non_null(strstr(reason.text, "set it to sizeof(known)"));
  }
  assert_memory_equal(&own, &((known){7, 8, 9}), sizeof own);
  assert_ok(nvfp4_sized_check(NULL, "known", &reason), reason);
}

static void writes_what_has_room(void **state) {
  (void)state;
  const known own = {sizeof own, 1, 2};
  known small = {sizeof(older), 0, 77};
  nvfp4_sized_write(&small, &own, sizeof own);
  assert_memory_equal(&small, &((known){sizeof(older), 1, 77}), sizeof small);
  newer large = {sizeof large, 0, 0, 77};
  nvfp4_sized_write(&large, &own, sizeof own);
  assert_memory_equal(&large, &((newer){sizeof large, 1, 2, 77}), sizeof large);
  nvfp4_sized_write(NULL, &own, sizeof own);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(reads_structs_of_other_versions), cmocka_unit_test(refuses_what_it_cannot_know),
                                     cmocka_unit_test(writes_what_has_room)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
