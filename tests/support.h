/* SPDX-License-Identifier: Apache-2.0 */
/* What several test programs need: cmocka with its includes, bit comparison, random numbers, golden files. */
#ifndef NVFP4_TESTS_SUPPORT_H
#define NVFP4_TESTS_SUPPORT_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include <nvfp4/nvfp4.h>

#define GOLDEN "tests/golden/" /* tests run from the repository's root */

static inline uint32_t f32_bits(float value) {
  uint32_t bits;
  memcpy(&bits, &value, sizeof bits);
  return bits;
}

static inline float f32_from_bits(uint32_t bits) {
  float value;
  memcpy(&value, &bits, sizeof value);
  return value;
}

#define assert_f32_bits(a, b) assert_int_equal(f32_bits(a), f32_bits(b))

/* Fails with the reason's text if status is not NVFP4_OK. */
#define assert_ok(call, reason)                                                        \
  do {                                                                                 \
    nvfp4_status support_status = (call);                                              \
    if (support_status != NVFP4_OK) {                                                  \
      fail_msg("%s: %s: %s", #call, nvfp4_status_name(support_status), (reason).text); \
    }                                                                                  \
  } while (0)

/* xorshift64*: the same sequence everywhere. */
typedef struct test_random {
  uint64_t state;
} test_random;
uint64_t test_random_u64(test_random *random);
float test_random_uniform(test_random *random); /* [0, 1) */
float test_random_gauss(test_random *random);

/* Tensor of an expected.safetensors, which must exist; opened with nvfp4_checkpoint_open. */
const nvfp4_tensor *golden_tensor(const nvfp4_checkpoint *expected, const char *layer, const char *key);

/* Whole file, malloc'ed and terminated; fails the test if it cannot be read. */
char *test_read_file(const char *path, size_t *bytes);

#define assert_contains(text, part)                    \
  do {                                                 \
    if (strstr(text, part) == NULL) {                  \
      fail_msg("\"%s\" is not in \"%s\"", part, text); \
    }                                                  \
  } while (0)

#endif
