/* SPDX-License-Identifier: Apache-2.0 */
/* The FlashInfer plug-in with a mock of FlashInfer's modules (flashinfer_mock.c) on the mock driver. */
#define _POSIX_C_SOURCE 200809L
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "plugins/plugin_support.h"

#define CUTLASS "plugin_flashinfer_cutlass_w4a4"
#define TRTLLM "plugin_flashinfer_trtllm_w4a4"

static char folder[] = "/tmp/nvfp4-flashinfer-XXXXXX";

/* The mock under the name of one of FlashInfer's modules: the name says for which GPU it is. */
static const char *module_named(const char *name) {
  static char path[256];
  snprintf(path, sizeof path, "%s/%s", folder, name);
  if (access(path, F_OK) != 0) {
    assert_int_equal(symlink(MOCK, path), 0);
  }
  return path;
}

/* modules NULL: not set. */
static nvfp4_context *open_plugin(int sm, const char *modules) {
  setenv("NVFP4_FLASHINFER_TVM_FFI", MOCK, 1);
  setenv("NVFP4_FLASHINFER_CUBINS", folder, 1);
  unsetenv("NVFP4_FLASHINFER_MODULE");
  if (modules != NULL) {
    setenv("NVFP4_FLASHINFER_MODULE", modules, 1);
  }
  return plugin_context(PLUGIN, sm);
}

/* Each capability with the module for it, the one for another, and none. */
static void test_states(void **state) {
  (void)state;
  static const struct {
    int sm;
    const char *module; /* NULL: not set; "": a file that is none */
    nvfp4_stage cutlass;
    const char *cutlass_text;
    nvfp4_stage trtllm;
    const char *trtllm_text;
  } states[] = {
      {100, "fp4_gemm_cutlass.so", NVFP4_STAGE_ELIGIBLE, "", NVFP4_STAGE_ELIGIBLE, ""}, /* the mock has both functions */
      {103, "fp4_gemm_cutlass_sm103.so", NVFP4_STAGE_ELIGIBLE, "", NVFP4_STAGE_ELIGIBLE, ""},
      {110, "fp4_gemm_cutlass.so", NVFP4_STAGE_ELIGIBLE, "", NVFP4_STAGE_UNSUPPORTED_MACHINE,
       "has compute capability 11.0; needs compute capability 10.0 or 10.3"},
      {120, "fp4_gemm_cutlass_sm120.so", NVFP4_STAGE_ELIGIBLE, "", NVFP4_STAGE_UNSUPPORTED_MACHINE, "has compute capability 12.0"},
      {121, "fp4_gemm_cutlass_sm120.so", NVFP4_STAGE_ELIGIBLE, "", NVFP4_STAGE_UNSUPPORTED_MACHINE, "has compute capability 12.1"},
      {120, "fp4_gemm_cutlass.so", NVFP4_STAGE_UNSUPPORTED_MACHINE,
       "has fp4_gemm for compute capability 12.0; add FlashInfer's fp4_gemm_cutlass_sm120.so", NVFP4_STAGE_UNSUPPORTED_MACHINE, "needs"},
      {100, "fp4_gemm_cutlass_sm120.so", NVFP4_STAGE_UNSUPPORTED_MACHINE, "add FlashInfer's fp4_gemm_cutlass.so",
       NVFP4_STAGE_UNSUPPORTED_MACHINE, "add FlashInfer's trtllm_gemm.so"},
      {90, "fp4_gemm_cutlass.so", NVFP4_STAGE_UNSUPPORTED_MACHINE, "has compute capability 9.0; needs compute capability 10.0, 10.3",
       NVFP4_STAGE_UNSUPPORTED_MACHINE, "has compute capability 9.0"},
      {100, NULL, NVFP4_STAGE_UNSUPPORTED_MACHINE, "NVFP4_FLASHINFER_MODULE is not set; needs the paths", NVFP4_STAGE_UNSUPPORTED_MACHINE,
       "NVFP4_FLASHINFER_MODULE is not set"},
      {100, "", NVFP4_STAGE_UNSUPPORTED_MACHINE, "FlashInfer's module cannot be loaded", NVFP4_STAGE_UNSUPPORTED_MACHINE,
       "cannot be loaded"},
  };
  for (size_t i = 0; i < sizeof states / sizeof states[0]; i++) {
    const char *module = states[i].module;
    nvfp4_context *context = open_plugin(states[i].sm, module == NULL ? NULL : module[0] == '\0' ? "/nowhere/a.so" : module_named(module));
    plugin_check_state(context, CUTLASS, states[i].cutlass, states[i].cutlass_text);
    plugin_check_state(context, TRTLLM, states[i].trtllm, states[i].trtllm_text);
    plugin_check_state(context, "plugin_cutlass_w4a4", NVFP4_STAGE_PLUGIN_MISSING, "plug-in not given"); /* that of another plug-in */
    nvfp4_context_destroy(context);
  }
  nvfp4_context *context = open_plugin(0, module_named("fp4_gemm_cutlass.so"));
  plugin_check_state(context, TRTLLM, NVFP4_STAGE_UNSUPPORTED_MACHINE, "needs a GPU of compute capability 10.0 or 10.3 and its driver");
  nvfp4_context_destroy(context);
}

static void test_results(void **state) {
  (void)state;
  nvfp4_context *context = open_plugin(100, module_named("fp4_gemm_cutlass.so"));
  plugin_check_results(context, CUTLASS, false, NVFP4_DTYPE_BF16, NVFP4_DTYPE_NONE);
  plugin_check_results(context, CUTLASS, false, NVFP4_DTYPE_F16, NVFP4_DTYPE_NONE);
  plugin_check_results(context, TRTLLM, false, NVFP4_DTYPE_BF16, NVFP4_DTYPE_NONE);
  nvfp4_context_destroy(context);
  assert_int_equal(test_cuda_live(), 0);
}

/* What would need another rounding, or another alpha, is refused with what to do. */
static void test_refusals(void **state) {
  (void)state;
  nvfp4_context *context = open_plugin(100, module_named("fp4_gemm_cutlass.so"));
  test_layer test = test_layer_make(64, 64, 1);
  test.partitions[0].n_rows = 32;
  test.partitions[1] = (nvfp4_partition){32, 32, {0.75f, NVFP4_GLOBAL_MULTIPLIER}, test.partitions[0].input};
  nvfp4_layer_desc desc = plugin_layer_desc(&test);
  static const char *const ids[] = {CUTLASS, TRTLLM};
  for (int i = 0; i < 2; i++) {
    for (int fault = 0; fault < 5; fault++) {
      static const char *const texts[] = {"FlashInfer writes bf16", "has a bias, which FlashInfer does not add",
                                          "FlashInfer takes one alpha", "", ""};
      nvfp4_layer_desc asked = desc;
      asked.y_dtype = fault == 0 ? NVFP4_DTYPE_F32 : fault == 4 ? NVFP4_DTYPE_F16 : NVFP4_DTYPE_BF16;
      asked.bias_dtype = fault == 1 ? NVFP4_DTYPE_BF16 : NVFP4_DTYPE_NONE;
      asked.partition_count = fault == 2 || fault == 3 ? 2 : 1;
      test.partitions[0].n_rows = asked.partition_count == 2 ? 32 : 64;
      test.partitions[1].input.value = fault == 3 ? 2 * test.partitions[0].input.value : test.partitions[0].input.value; /* two runs */
      nvfp4_policy policy = {.struct_size = sizeof policy, .kernel = ids[i]};
      nvfp4_report *report;
      nvfp4_reason reason = {0};
      nvfp4_status status = nvfp4_explain(context, NULL, &asked, &policy, 1, &report, &reason);
      bool fits = fault == 3 || (fault == 4 && i == 0);
      assert_int_equal(status, fits ? NVFP4_OK : NVFP4_E_POLICY);
      if (!fits) {
        assert_contains(reason.text, fault == 4 ? "y is f16; FlashInfer writes bf16" : texts[fault]);
      }
      nvfp4_report_free(report);
    }
  }
  test_layer_free(&test);
  nvfp4_context_destroy(context);
}

/* What a module says of an error reaches the user, and its error object is given back; a kernel that fails its self-test does not serve. */
static void test_errors(void **state) {
  (void)state;
  nvfp4_context *context = open_plugin(100, module_named("fp4_gemm_cutlass.so"));
  setenv("MOCK_FLASHINFER", "error", 1);
  test_layer test = test_layer_make(64, 64, 1);
  nvfp4_layer_desc desc = plugin_layer_desc(&test);
  nvfp4_policy policy = {.struct_size = sizeof policy, .kernel = "plugin_flashinfer_*"};
  nvfp4_plan *plan = NULL;
  nvfp4_reason reason = {0};
  assert_int_equal(nvfp4_init_linear_kernel(context, &desc, &policy, &plan, NULL, &reason), NVFP4_E_POLICY);
  assert_contains(reason.text, "FlashInfer's fp4_gemm: RuntimeError: Error occurred when running GEMM!");
  assert_contains(reason.text, "FlashInfer's trtllm_gemm: RuntimeError");
  int (*live)(void);
  void *handle = dlopen(MOCK, RTLD_NOW | RTLD_NOLOAD), *symbol = dlsym(handle, "mock_flashinfer_live_errors");
  memcpy(&live, &symbol, sizeof live);
  assert_int_equal(live(), 0);
  dlclose(handle);
  unsetenv("MOCK_FLASHINFER");
  nvfp4_context_destroy(context);
  test_layer_free(&test);
  assert_int_equal(test_cuda_live(), 0);
}

/* trtllm_gemm asks for the files of its kernels. */
static void test_cubins(void **state) {
  (void)state;
  char path[256];
  snprintf(path, sizeof path, "%s/kernel.cubin", folder);
  for (int there = 0; there <= 1; there++) {
    if (there != 0) {
      FILE *file = fopen(path, "w");
      fputs("code", file);
      fclose(file);
    }
    nvfp4_context *context = open_plugin(103, module_named("trtllm_gemm.so"));
    setenv("MOCK_FLASHINFER", "cubins", 1);
    test_layer test = test_layer_make(64, 64, 1);
    nvfp4_layer_desc desc = plugin_layer_desc(&test);
    nvfp4_policy policy = {.struct_size = sizeof policy, .kernel = TRTLLM};
    nvfp4_plan *plan = NULL;
    nvfp4_reason reason = {0};
    assert_int_equal(nvfp4_init_linear_kernel(context, &desc, &policy, &plan, NULL, &reason), there ? NVFP4_OK : NVFP4_E_POLICY);
    if (!there) {
      assert_contains(reason.text, "Failed to load cubin: kernel.cubin");
    }
    nvfp4_plan_free(plan);
    unsetenv("MOCK_FLASHINFER");
    nvfp4_context_destroy(context);
    test_layer_free(&test);
  }
  assert_int_equal(unlink(path), 0);
}

/* unpack(process(w)) == w for the shuffled layout, and packed_bytes are what it takes. */
static void test_shuffled_layout(void **state) {
  (void)state;
  static const int64_t shapes[][2] = {{1, 16}, {37, 80}, {128, 64}, {130, 192}, {300, 1040}};
  nvfp4_context *context = open_plugin(100, module_named("trtllm_gemm.so"));
  const nvfp4_layout *layout = NULL;
  for (size_t i = 0; i < context->kernel_count; i++) {
    layout = strcmp(context->kernels[i].id, TRTLLM) == 0 ? context->kernels[i].kernel->layout : layout;
  }
  nvfp4_place place;
  nvfp4_visit visit;
  nvfp4_reason reason = {0};
  assert_ok(nvfp4_place_find(context->cuda, (nvfp4_device){NVFP4_DEVICE_CUDA, 0}, &place, &reason), reason);
  assert_ok(nvfp4_place_enter(&place, true, &visit, &reason), reason);
  for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++) {
    int64_t n = shapes[i][0], k = shapes[i][1];
    test_layer test = test_layer_make(n, k, i + 1);
    nvfp4_weights weights = test_layer_weights(&test), placed;
    float *alpha = calloc((size_t)n, sizeof *alpha);
    void *owned, *there;
    assert_ok(nvfp4_place_weights(&visit, &weights, &placed, &owned, &reason), reason);
    assert_ok(nvfp4_place_copy(&visit, alpha, (size_t)n * sizeof *alpha, &there, &reason), reason);
    nvfp4_process_args args = {sizeof args, &placed, there, there, visit.stream};
    nvfp4_packed packed = {0};
    assert_ok(layout->process_weights_after_loading(&context->host, &args, &packed, &reason), reason);
    assert_int_equal(packed.data_bytes, layout->packed_bytes(n, k, NVFP4_DTYPE_NONE));
    uint8_t *codes = malloc((size_t)(n * k / 2)), *scales = malloc((size_t)(n * k / 16));
    assert_ok(layout->unpack(&context->host, &packed, codes, scales, &reason), reason);
    assert_memory_equal(codes, test.codes, n * k / 2);
    assert_memory_equal(scales, test.scales, n * k / 16);
    layout->free_packed(&context->host, &packed);
    nvfp4_place_free(&place, owned);
    nvfp4_place_free(&place, there);
    free(codes), free(scales), free(alpha);
    test_layer_free(&test);
  }
  assert_ok(nvfp4_place_leave(&visit, &reason), reason);
  nvfp4_context_destroy(context);
  assert_int_equal(test_cuda_live(), 0);
}

static int set_up(void **state) {
  (void)state;
  return mkdtemp(folder) != NULL ? 0 : -1;
}

static int tear_down(void **state) {
  (void)state;
  char command[64];
  snprintf(command, sizeof command, "rm -r %s", folder);
  return system(command);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_states), cmocka_unit_test(test_results), cmocka_unit_test(test_refusals),
      cmocka_unit_test(test_errors), cmocka_unit_test(test_cubins),  cmocka_unit_test(test_shuffled_layout),
  };
  return cmocka_run_group_tests(tests, set_up, tear_down);
}
