/* SPDX-License-Identifier: Apache-2.0 */
#define _POSIX_C_SOURCE 200809L /* setenv */
#include <stdlib.h>

#include "support.h"

static const char *const variables[] = {"NVFP4_KERNEL", "NVFP4_DISABLE",        "VLLM_DISABLED_KERNELS",   "NVFP4_REQUIRE",
                                        "NVFP4_ALLOW",  "VLLM_BATCH_INVARIANT", "VLLM_NVFP4_GEMM_BACKEND", "NVFP4_PLUGINS",
                                        "NVFP4_TUNING", "NVFP4_THREADS"};
enum { VARIABLES = sizeof variables / sizeof variables[0] };

static int clear(void **state) {
  (void)state;
  for (int i = 0; i < VARIABLES; i++) {
    unsetenv(variables[i]);
  }
  return 0;
}

static void test_unset_and_empty(void **state) {
  (void)state;
  static const char *const values[] = {NULL, "", "  ", " , "};
  for (int v = 0; v < 4; v++) {
    for (int i = 0; i < VARIABLES; i++) {
      if (values[v] != NULL) {
        setenv(variables[i], values[v], 1);
      }
    }
    nvfp4_options options;
    nvfp4_reason reason = {.text = ""};
    assert_ok(nvfp4_options_from_env(&options, &reason), reason);
    assert_int_equal(options.struct_size, sizeof options);
    assert_int_equal(options.policy.struct_size, sizeof options.policy);
    assert_int_equal(options.threads, 0);
    assert_null(options.plugins);
    assert_null(options.tuning);
    assert_null(options.parallel_for);
    assert_null(options.log);
    assert_int_equal(options.policy.require, 0);
    assert_int_equal(options.policy.allow, 0);
    assert_null(options.policy.kernel);
    assert_null(options.policy.env_kernel);
    assert_null(options.policy.vllm_backend);
    assert_null(options.policy.disable);
    assert_null(options.policy.vllm_disable);
  }
}

static void test_values(void **state) {
  (void)state;
  setenv("NVFP4_KERNEL", "ref_*,auto", 1);
  setenv("NVFP4_DISABLE", "x86_*", 1);
  setenv("VLLM_DISABLED_KERNELS", "MarlinNvFp4LinearKernel", 1);
  setenv("NVFP4_REQUIRE", " canonical , deterministic", 1);
  setenv("NVFP4_ALLOW", "w4a16,bounded", 1);
  setenv("VLLM_BATCH_INVARIANT", "1", 1);
  setenv("VLLM_NVFP4_GEMM_BACKEND", "FlashInfer_CUTLASS", 1);
  setenv("NVFP4_PLUGINS", "/a.so,/b.so", 1);
  setenv("NVFP4_TUNING", "/my tables/one.txt", 1);
  setenv("NVFP4_THREADS", " 12 ", 1);
  nvfp4_options options;
  nvfp4_reason reason = {.text = ""};
  assert_ok(nvfp4_options_from_env(&options, &reason), reason);
  assert_string_equal(options.policy.env_kernel, "ref_*,auto");
  assert_string_equal(options.policy.disable, "x86_*");
  assert_string_equal(options.policy.vllm_disable, "MarlinNvFp4LinearKernel");
  assert_int_equal(options.policy.require, NVFP4_REQUIRE_CANONICAL | NVFP4_REQUIRE_DETERMINISTIC | NVFP4_REQUIRE_BATCH_INVARIANT);
  assert_int_equal(options.policy.allow, NVFP4_ALLOW_BOUNDED | NVFP4_ALLOW_W4A16);
  assert_string_equal(options.policy.vllm_backend, "FlashInfer_CUTLASS");
  assert_string_equal(options.plugins, "/a.so,/b.so");
  assert_string_equal(options.tuning, "/my tables/one.txt");
  assert_int_equal(options.threads, 12);
}

static void test_one_flag_at_a_time(void **state) {
  (void)state;
  static const struct {
    const char *name, *value;
    uint32_t require, allow;
  } cases[] = {
      {"NVFP4_REQUIRE", "canonical", NVFP4_REQUIRE_CANONICAL, 0},
      {"NVFP4_REQUIRE", "batch_invariant", NVFP4_REQUIRE_BATCH_INVARIANT, 0},
      {"NVFP4_REQUIRE", "deterministic", NVFP4_REQUIRE_DETERMINISTIC, 0},
      {"VLLM_BATCH_INVARIANT", "1", NVFP4_REQUIRE_BATCH_INVARIANT, 0},
      {"VLLM_BATCH_INVARIANT", "0", 0, 0},
      {"NVFP4_ALLOW", "bounded", 0, NVFP4_ALLOW_BOUNDED},
      {"NVFP4_ALLOW", "w4a16", 0, NVFP4_ALLOW_W4A16},
  };
  for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
    clear(NULL);
    setenv(cases[i].name, cases[i].value, 1);
    nvfp4_options options;
    assert_int_equal(nvfp4_options_from_env(&options, NULL), NVFP4_OK);
    assert_int_equal(options.policy.require, cases[i].require);
    assert_int_equal(options.policy.allow, cases[i].allow);
  }
}

static void test_bad_values(void **state) {
  (void)state;
  static const struct {
    const char *name, *value, *text;
  } cases[] = {
      {"NVFP4_REQUIRE", "canonical,exact", "NVFP4_REQUIRE has \"exact\"; needs a list of: canonical, batch_invariant, deterministic"},
      {"NVFP4_REQUIRE", "Canonical", "NVFP4_REQUIRE has \"Canonical\""},
      {"NVFP4_ALLOW", "w4a8", "NVFP4_ALLOW has \"w4a8\"; needs a list of: bounded, w4a16"},
      {"VLLM_BATCH_INVARIANT", "yes", "VLLM_BATCH_INVARIANT is \"yes\"; needs 0 or 1"},
      {"VLLM_BATCH_INVARIANT", "0,1", "VLLM_BATCH_INVARIANT is \"0,1\"; needs 0 or 1"},
      {"VLLM_NVFP4_GEMM_BACKEND", "flashinfer", "VLLM_NVFP4_GEMM_BACKEND is \"flashinfer\"; needs one of: auto, emulation"},
      {"NVFP4_THREADS", "four", "NVFP4_THREADS is \"four\"; needs 0 (one for every processor) to 4096"},
      {"NVFP4_THREADS", "-1", "NVFP4_THREADS is \"-1\""},
      {"NVFP4_THREADS", "4097", "NVFP4_THREADS is \"4097\""},
      {"NVFP4_THREADS", "4x", "NVFP4_THREADS is \"4x\""},
      {"NVFP4_THREADS", "4,5", "NVFP4_THREADS is \"4,5\""},
      {"NVFP4_THREADS", "99999999999999999999", "NVFP4_THREADS is"},
  };
  for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
    clear(NULL);
    setenv(cases[i].name, cases[i].value, 1);
    nvfp4_options options;
    memset(&options, 0x5A, sizeof options);
    nvfp4_options before = options;
    nvfp4_reason reason = {.text = ""};
    assert_int_equal(nvfp4_options_from_env(&options, &reason), NVFP4_E_ARG);
    assert_int_equal(reason.status, NVFP4_E_ARG);
    if (strstr(reason.text, cases[i].text) == NULL) {
      fail_msg("\"%s\" is not in \"%s\"", cases[i].text, reason.text);
    }
    assert_memory_equal(&options, &before, sizeof options);
  }
  assert_int_equal(nvfp4_options_from_env(NULL, NULL), NVFP4_E_ARG);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test_setup(test_unset_and_empty, clear),
      cmocka_unit_test_setup(test_values, clear),
      cmocka_unit_test_setup(test_one_flag_at_a_time, clear),
      cmocka_unit_test_setup(test_bad_values, clear),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
