/* SPDX-License-Identifier: Apache-2.0 */
#include "select/policy.h"

#include "field.h"

static void test_lists(void **state) {
  (void)state;
  static const struct {
    const char *id, *list;
    bool in;
  } cases[] = {
      {"a", NULL, false},
      {"a", "", false},
      {"a", " , ,", false},
      {"a", "a", true},
      {"a", "ab", false},
      {"ab", "a", false},
      {"a", "b, a ", true},
      {"a", "b\t,\ta", true},
      {"x86_avx2_w4a4", "x86_*", true},
      {"x86_avx2_w4a4", "*_w4a16", false},
      {"x86_avx2_w4a4", "x86_avx?_w4a[0-9]", true},
      {"x86_avx2_w4a4", "X86_*", false},
      {"x86_avx2_w4a4", "x86", false},
      {"x86_avx2_w4a4", "*", true},
      /* an item longer than any id matches nothing */
      {"a",
       "****************************************************************************************************************************"
       "*********",
       false},
  };
  for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
    assert_int_equal(nvfp4_id_in_list(cases[i].id, cases[i].list), cases[i].in);
  }
}

static void test_vllm_names(void **state) {
  (void)state;
  static const struct {
    const char *name, *cpu, *cuda;
  } cases[] = {
      {"auto", "auto", "auto"},
      {"emulation", "ref_w4a4,ref_w4a16", "cuda_emulation*"},
      {"marlin", "cuda_sm80_w4a16,cuda_sm90_w4a16", "cuda_sm80_w4a16,cuda_sm90_w4a16"},
      {" Humming ", "cuda_sm90_w4a16,cuda_sm80_w4a16", "cuda_sm90_w4a16,cuda_sm80_w4a16"},
      {"CUTLASS", "plugin_cutlass*,cuda_sm100_w4a4,cuda_sm120_w4a4", "plugin_cutlass*,cuda_sm100_w4a4,cuda_sm120_w4a4"},
      {"flashinfer-cutlass", "plugin_flashinfer_cutlass*", "plugin_flashinfer_cutlass*"},
      {"FLASHINFER_TRTLLM", "plugin_flashinfer_trtllm*", "plugin_flashinfer_trtllm*"},
      {"flashinfer_cudnn", "vendor_cudnn_w4a4", "vendor_cudnn_w4a4"},
      {"cudnn", "vendor_cudnn_w4a4", "vendor_cudnn_w4a4"},
      {"torch", "vendor_cublaslt_w4a4", "vendor_cublaslt_w4a4"},
      {"fbgemm", "plugin_fbgemm*", "plugin_fbgemm*"},
  };
  const char *listed = NVFP4_VLLM_BACKENDS, *ids;
  nvfp4_reason reason;
  nvfp4_list_item item;
  size_t count = 0;
  while (nvfp4_list_next(&listed, &item)) { /* what messages list stands for kernels */
    char name[32];
    snprintf(name, sizeof name, "%.*s", (int)item.length, item.text);
    assert_int_equal(nvfp4_vllm_backend_ids(name, NVFP4_DEVICE_CUDA, &ids, NULL), NVFP4_OK);
    count++;
  }
  assert_int_equal(count, sizeof cases / sizeof cases[0]);
  for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
    assert_int_equal(nvfp4_vllm_backend_check(cases[i].name, NULL), NVFP4_OK);
    assert_ok(nvfp4_vllm_backend_ids(cases[i].name, NVFP4_DEVICE_CPU, &ids, &reason), reason);
    assert_string_equal(ids, cases[i].cpu);
    assert_ok(nvfp4_vllm_backend_ids(cases[i].name, NVFP4_DEVICE_CUDA, &ids, &reason), reason);
    assert_string_equal(ids, cases[i].cuda);
  }
  /* Names of vLLM's for which nothing stands: what to take instead. */
  static const char *const instead[][2] = {
      {"flashinfer_cutedsl",
       "VLLM_NVFP4_GEMM_BACKEND is \"flashinfer-cutedsl\", which is compiled by Python when it runs and has no library to call; take "
       "cutlass"},
      {"flashinfer_b12x", "take cutlass"},
      {"b12x", "take cutlass"},
      {"machete", "has no NVFP4 kernel in vLLM either, which then chooses by itself; take auto"},
      {"triton", "take auto"},
      {"deep_gemm", "take auto"},
      {"aiter", "take auto"},
      {"conch", "take auto"},
      {"exllama", "take auto"},
      {"xpu", "take auto"},
      {"xpu_woq", "take auto"},
  };
  for (size_t i = 0; i < sizeof instead / sizeof instead[0]; i++) {
    assert_int_equal(nvfp4_vllm_backend_check(instead[i][0], NULL), NVFP4_OK);
    assert_int_equal(nvfp4_vllm_backend_ids(instead[i][0], NVFP4_DEVICE_CUDA, &ids, &reason), NVFP4_E_POLICY);
    assert_null(ids);
    assert_contains(reason.text, instead[i][1]);
  }
  static const char *const unknown[] = {"", " ", "marlin2", "marli", "marlin,cutlass", "flashinfer"};
  for (size_t i = 0; i < sizeof unknown / sizeof unknown[0]; i++) {
    assert_int_equal(nvfp4_vllm_backend_check(unknown[i], &reason), NVFP4_E_ARG);
    assert_contains(reason.text, "needs one of: auto, emulation");
    assert_int_equal(nvfp4_vllm_backend_ids(unknown[i], NVFP4_DEVICE_CUDA, &ids, &reason), NVFP4_E_POLICY);
    assert_null(ids);
  }
}

static void test_names_of_kernels(void **state) {
  (void)state;
  static const char *const cases[][2] = {{"cuda_sm80_w4a16", "marlin, humming"}, {"ref_w4a4", "emulation"},
                                         {"cuda_emulation_w4a16", "emulation"},  {"vendor_cudnn_w4a4", "flashinfer-cudnn, cudnn"},
                                         {"plugin_fbgemm_w4a4", "fbgemm"},       {"x86_avx2_w4a4", ""},
                                         {"vendor_cublaslt_w4a4", "torch"}};
  char text[64];
  for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
    nvfp4_vllm_backends_of(cases[i][0], text, sizeof text);
    assert_string_equal(text, cases[i][1]);
  }
  nvfp4_vllm_backends_of("cuda_sm80_w4a16", text, 9); /* cut */
  assert_string_equal(text, "marlin, ");
}

static void test_disable(void **state) {
  (void)state;
  static const struct {
    const char *disable, *classes, *id;
    bool out;
  } cases[] = {
      {NULL, NULL, "ref_w4a4", false},
      {"ref_*", NULL, "ref_w4a4", true},
      {NULL, "EmulationNvFp4LinearKernel", "ref_w4a16", true},
      {NULL, "EmulationNvFp4LinearKernel", "cuda_emulation_w4a4", true},
      {NULL, "EmulationNvFp4LinearKernel", "x86_avx2_w4a4", false},
      {NULL, "MacheteLinearKernel , MarlinNvFp4LinearKernel", "cuda_sm90_w4a16", true},
      {NULL, "HummingNvFp4LinearKernel", "cuda_sm90_w4a16", false}, /* ours is Marlin's kin */
      {NULL, "CutlassNvFp4LinearKernel", "plugin_cutlass_w4a4", true},
      {NULL, "FlashInferCutlassNvFp4LinearKernel", "plugin_cutlass_w4a4", false},
      {NULL, "FlashInferCutlassNvFp4LinearKernel", "plugin_flashinfer_cutlass_w4a4", true},
      {NULL, "TorchNvFp4LinearKernel", "vendor_cublaslt_w4a4", true},
      {NULL, "FbgemmNvFp4LinearKernel", "plugin_fbgemm_w4a4", true},
      {"a", "FbgemmNvFp4LinearKernel", "a", true},
      {NULL, "auto", "ref_w4a4", false},
  };
  for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
    nvfp4_policy policy = {.disable = cases[i].disable, .vllm_disable = cases[i].classes};
    assert_int_equal(nvfp4_policy_disables(&policy, cases[i].id), cases[i].out);
  }
}

static void test_effective(void **state) {
  (void)state;
  nvfp4_policy policy = {0};
  nvfp4_effective_policy cpu = nvfp4_policy_effective(&policy, (nvfp4_device){NVFP4_DEVICE_CPU, 0});
  assert_int_equal(cpu.require, 0);
  assert_int_equal(cpu.allow, 0);
  assert_int_equal(cpu.max_layouts, 1);
  policy = (nvfp4_policy){.require = NVFP4_REQUIRE_CANONICAL, .allow = NVFP4_ALLOW_W4A16, .max_layouts = 2};
  nvfp4_effective_policy cuda = nvfp4_policy_effective(&policy, (nvfp4_device){NVFP4_DEVICE_CUDA, 1});
  assert_int_equal(cuda.require, NVFP4_REQUIRE_CANONICAL | NVFP4_REQUIRE_DETERMINISTIC);
  assert_int_equal(cuda.allow, NVFP4_ALLOW_W4A16 | NVFP4_ALLOW_BOUNDED);
  assert_int_equal(cuda.max_layouts, 2);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_lists),   cmocka_unit_test(test_vllm_names), cmocka_unit_test(test_names_of_kernels),
      cmocka_unit_test(test_disable), cmocka_unit_test(test_effective),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
