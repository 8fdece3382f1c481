/* SPDX-License-Identifier: Apache-2.0 */
/* The self-test must catch wrong kernels: each of these is ref_w4a4 or ref_w4a16 with one deliberate fault. */
#include <math.h>
#include <stdlib.h>

#include "layer/layer.h"
#include "layer_support.h"

extern const nvfp4_kernel nvfp4_kernel_ref_w4a4, nvfp4_kernel_ref_w4a16, nvfp4_kernel_ref_w16a16;

static nvfp4_status right(const nvfp4_host *host, const nvfp4_packed *packed, const nvfp4_kernel_args *args, nvfp4_reason *reason) {
  bool dense = args->k % NVFP4_BLOCK != 0;
  return (dense               ? &nvfp4_kernel_ref_w16a16
          : args->s_a != 0.0f ? &nvfp4_kernel_ref_w4a4
                              : &nvfp4_kernel_ref_w4a16)
      ->apply_weights(host, packed, args, reason);
}

static nvfp4_status drops_a_block(const nvfp4_host *host, const nvfp4_packed *packed, const nvfp4_kernel_args *args, nvfp4_reason *reason) {
  int64_t ldx = args->ldx_elems;
  float *x = malloc((size_t)(args->m * ldx) * sizeof *x);
  memcpy(x, args->x, (size_t)(args->m * ldx) * sizeof *x);
  for (int64_t m = 0; m < args->m; m++) {
    memset(x + m * ldx + args->k - NVFP4_BLOCK, 0, NVFP4_BLOCK * sizeof *x);
  }
  nvfp4_kernel_args changed = *args;
  changed.x = x;
  nvfp4_status status = right(host, packed, &changed, reason);
  free(x);
  return status;
}

static nvfp4_status forgets_the_bias(const nvfp4_host *host, const nvfp4_packed *packed, const nvfp4_kernel_args *args,
                                     nvfp4_reason *reason) {
  nvfp4_kernel_args changed = *args;
  changed.bias = NULL;
  return right(host, packed, &changed, reason);
}

static nvfp4_status writes_nothing(const nvfp4_host *host, const nvfp4_packed *packed, const nvfp4_kernel_args *args,
                                   nvfp4_reason *reason) {
  (void)host, (void)packed, (void)args, (void)reason;
  return NVFP4_OK;
}

static nvfp4_status one_ulp_off(const nvfp4_host *host, const nvfp4_packed *packed, const nvfp4_kernel_args *args, nvfp4_reason *reason) {
  nvfp4_status status = right(host, packed, args, reason);
  float *y = args->y;
  y[args->n - 1] = nextafterf(y[args->n - 1], INFINITY);
  return status;
}

static nvfp4_status uses_one_alpha(const nvfp4_host *host, const nvfp4_packed *packed, const nvfp4_kernel_args *args,
                                   nvfp4_reason *reason) {
  float *alpha = malloc((size_t)args->n * sizeof *alpha);
  for (int64_t n = 0; n < args->n; n++) {
    alpha[n] = args->alpha[0];
  }
  nvfp4_kernel_args changed = *args;
  changed.alpha = alpha;
  nvfp4_status status = right(host, packed, &changed, reason);
  free(alpha);
  return status;
}

/* Runs the self-test of a kernel with that apply in a context of its own. */
static nvfp4_status test_of(nvfp4_mode mode, nvfp4_class numerics_class,
                            nvfp4_status (*apply)(const nvfp4_host *, const nvfp4_packed *, const nvfp4_kernel_args *, nvfp4_reason *)) {
  nvfp4_context *context;
  nvfp4_reason reason = {0};
  assert_ok(nvfp4_context_create(NULL, &context, &reason), reason);
  nvfp4_kernel kernel = mode == NVFP4_MODE_UNQUANTISED ? nvfp4_kernel_ref_w16a16
                        : mode == NVFP4_MODE_W4A4      ? nvfp4_kernel_ref_w4a4
                                                       : nvfp4_kernel_ref_w4a16;
  kernel.id = "wrong";
  kernel.numerics.numerics_class = numerics_class;
  kernel.apply_weights = apply;
  nvfp4_status status = nvfp4_self_test_kernel(&context->host, &kernel, (nvfp4_device){NVFP4_DEVICE_CPU, 0}, &reason);
  if (status != NVFP4_OK) {
    assert_non_null(strstr(reason.text, "wrong failed its self-test"));
  }
  nvfp4_context_destroy(context);
  return status;
}

static void test_right_kernels_pass(void **state) {
  (void)state;
  assert_int_equal(test_of(NVFP4_MODE_W4A4, NVFP4_CLASS_CANONICAL, right), NVFP4_OK);
  assert_int_equal(test_of(NVFP4_MODE_W4A16, NVFP4_CLASS_CANONICAL, right), NVFP4_OK);
  assert_int_equal(test_of(NVFP4_MODE_UNQUANTISED, NVFP4_CLASS_CANONICAL, right), NVFP4_OK);
  assert_int_equal(test_of(NVFP4_MODE_UNQUANTISED, NVFP4_CLASS_BOUNDED, one_ulp_off), NVFP4_OK);
  assert_int_equal(test_of(NVFP4_MODE_W4A4, NVFP4_CLASS_BOUNDED, right), NVFP4_OK);
  assert_int_equal(test_of(NVFP4_MODE_W4A16, NVFP4_CLASS_BOUNDED, one_ulp_off), NVFP4_OK);
}

static void test_wrong_kernels_fail(void **state) {
  (void)state;
  for (int mode = NVFP4_MODE_UNQUANTISED; mode <= NVFP4_MODE_W4A16; mode++) {
    for (int class = NVFP4_CLASS_CANONICAL; class <= NVFP4_CLASS_BOUNDED; class ++) {
      assert_int_equal(test_of((nvfp4_mode)mode, (nvfp4_class) class, drops_a_block), NVFP4_E_INTERNAL);
      assert_int_equal(test_of((nvfp4_mode)mode, (nvfp4_class) class, forgets_the_bias), NVFP4_E_INTERNAL);
      assert_int_equal(test_of((nvfp4_mode)mode, (nvfp4_class) class, writes_nothing), NVFP4_E_INTERNAL);
      assert_int_equal(test_of((nvfp4_mode)mode, (nvfp4_class) class, uses_one_alpha), NVFP4_E_INTERNAL);
    }
    assert_int_equal(test_of((nvfp4_mode)mode, NVFP4_CLASS_CANONICAL, one_ulp_off), NVFP4_E_INTERNAL);
  }
}

/* As some libraries of GPUs are: y in bf16, no bias, one alpha. */
static nvfp4_status takes_little(const nvfp4_layer_desc *desc, nvfp4_reason *reason) {
  (void)reason;
  return desc->y_dtype == NVFP4_DTYPE_BF16 && desc->bias_dtype == NVFP4_DTYPE_NONE && desc->partition_count == 1 ? NVFP4_OK
                                                                                                                 : NVFP4_E_UNSUPPORTED;
}

static nvfp4_status gets_little(const nvfp4_host *host, const nvfp4_packed *packed, const nvfp4_kernel_args *args, nvfp4_reason *reason) {
  assert_int_equal(args->y_dtype, NVFP4_DTYPE_BF16);
  assert_null(args->bias);
  for (int64_t n = 1; n < args->n; n++) {
    assert_true(args->alpha[n] == args->alpha[0]);
  }
  return right(host, packed, args, reason);
}

static nvfp4_status last_bit_off(const nvfp4_host *host, const nvfp4_packed *packed, const nvfp4_kernel_args *args, nvfp4_reason *reason) {
  nvfp4_status status = gets_little(host, packed, args, reason);
  ((uint16_t *)args->y)[args->n - 1] ^= 1;
  return status;
}

/* It is asked for what it takes and no more; a bit of bf16 counts. */
static void test_kernels_that_take_little(void **state) {
  (void)state;
  nvfp4_context *context;
  nvfp4_reason reason = {0};
  assert_ok(nvfp4_context_create(NULL, &context, &reason), reason);
  nvfp4_kernel kernel = nvfp4_kernel_ref_w4a4;
  kernel.can_implement = takes_little;
  for (int class = NVFP4_CLASS_CANONICAL; class <= NVFP4_CLASS_BOUNDED; class ++) {
    kernel.numerics.numerics_class = (nvfp4_class) class;
    kernel.apply_weights = gets_little;
    assert_ok(nvfp4_self_test_kernel(&context->host, &kernel, (nvfp4_device){NVFP4_DEVICE_CPU, 0}, &reason), reason);
    kernel.apply_weights = writes_nothing;
    assert_int_equal(nvfp4_self_test_kernel(&context->host, &kernel, (nvfp4_device){NVFP4_DEVICE_CPU, 0}, &reason), NVFP4_E_INTERNAL);
  }
  kernel.numerics.numerics_class = NVFP4_CLASS_CANONICAL;
  kernel.apply_weights = last_bit_off;
  assert_int_equal(nvfp4_self_test_kernel(&context->host, &kernel, (nvfp4_device){NVFP4_DEVICE_CPU, 0}, &reason), NVFP4_E_INTERNAL);
  nvfp4_context_destroy(context);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_right_kernels_pass), cmocka_unit_test(test_wrong_kernels_fail),
                                     cmocka_unit_test(test_kernels_that_take_little)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
