/* SPDX-License-Identifier: Apache-2.0 */
/* The words for the public enums, and reading them back. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/reason.h"

#define NAME_OF(table, value, otherwise) \
  ((size_t)(value) < sizeof(table) / sizeof((table)[0]) && (table)[value] != NULL ? (table)[value] : (otherwise))

const char *nvfp4_status_name(nvfp4_status status) {
  static const char *const names[] = {
      [NVFP4_OK] = "ok",
      [NVFP4_E_ARG] = "bad argument",
      [NVFP4_E_SHAPE] = "bad shape",
      [NVFP4_E_DTYPE] = "bad element type",
      [NVFP4_E_MACHINE] = "unsupported machine",
      [NVFP4_E_NOT_BUILT] = "not built",
      [NVFP4_E_POLICY] = "no kernel",
      [NVFP4_E_NOMEM] = "out of memory",
      [NVFP4_E_IO] = "input/output error",
      [NVFP4_E_FORMAT] = "bad file",
      [NVFP4_E_DEVICE] = "device error",
      [NVFP4_E_UNSUPPORTED] = "unsupported",
      [NVFP4_E_INTERNAL] = "internal error",
  };
  return NAME_OF(names, status, "unknown status");
}

const char *nvfp4_dtype_name(nvfp4_dtype dtype) {
  static const char *const names[] = {
      [NVFP4_DTYPE_NONE] = "none",       [NVFP4_DTYPE_F32] = "F32",         [NVFP4_DTYPE_F16] = "F16",
      [NVFP4_DTYPE_BF16] = "BF16",       [NVFP4_DTYPE_F64] = "F64",         [NVFP4_DTYPE_F8_E4M3] = "F8_E4M3",
      [NVFP4_DTYPE_F8_E5M2] = "F8_E5M2", [NVFP4_DTYPE_F8_E8M0] = "F8_E8M0", [NVFP4_DTYPE_U8] = "U8",
      [NVFP4_DTYPE_I8] = "I8",           [NVFP4_DTYPE_U16] = "U16",         [NVFP4_DTYPE_I16] = "I16",
      [NVFP4_DTYPE_U32] = "U32",         [NVFP4_DTYPE_I32] = "I32",         [NVFP4_DTYPE_U64] = "U64",
      [NVFP4_DTYPE_I64] = "I64",         [NVFP4_DTYPE_BOOL] = "BOOL",       [NVFP4_DTYPE_Q4_0] = "Q4_0",
      [NVFP4_DTYPE_Q4_1] = "Q4_1",       [NVFP4_DTYPE_Q8_0] = "Q8_0",       [NVFP4_DTYPE_GGUF_NVFP4] = "NVFP4",
      [NVFP4_DTYPE_OTHER] = "other",
  };
  return NAME_OF(names, dtype, "unknown type");
}

const char *nvfp4_mode_name(nvfp4_mode mode) {
  static const char *const names[] = {
      [NVFP4_MODE_UNQUANTISED] = "unquantised", [NVFP4_MODE_W4A4] = "w4a4", [NVFP4_MODE_W4A16] = "w4a16", [NVFP4_MODE_FP8] = "fp8"};
  return NAME_OF(names, mode, "unknown mode");
}

const char *nvfp4_stage_name(nvfp4_stage stage) {
  static const char *const names[] = {
      [NVFP4_STAGE_NOT_BUILT] = "not_built",
      [NVFP4_STAGE_DISABLED] = "disabled",
      [NVFP4_STAGE_PLUGIN_MISSING] = "plugin_missing",
      [NVFP4_STAGE_UNSUPPORTED_MACHINE] = "unsupported_machine",
      [NVFP4_STAGE_CANNOT_IMPLEMENT] = "cannot_implement",
      [NVFP4_STAGE_NUMERICS_POLICY] = "numerics_policy",
      [NVFP4_STAGE_FAILED_SELF_TEST] = "failed_self_test",
      [NVFP4_STAGE_ELIGIBLE] = "eligible",
      [NVFP4_STAGE_CHOSEN] = "chosen",
  };
  return NAME_OF(names, stage, "unknown stage");
}

const char *nvfp4_class_name(nvfp4_class numerics_class) {
  static const char *const names[] = {[NVFP4_CLASS_CANONICAL] = "canonical", [NVFP4_CLASS_BOUNDED] = "bounded"};
  return NAME_OF(names, numerics_class, "unknown class");
}

const char *nvfp4_global_kind_name(nvfp4_global_kind kind) {
  static const char *const names[] = {
      [NVFP4_GLOBAL_MULTIPLIER] = "multiplier", [NVFP4_GLOBAL_DIVISOR] = "divisor", [NVFP4_GLOBAL_AMAX] = "amax"};
  return NAME_OF(names, kind, "unknown kind");
}

const char *nvfp4_layout_kind_name(nvfp4_layout_kind kind) {
  static const char *const names[] = {
      [NVFP4_LAYOUT_NONE] = "none", [NVFP4_LAYOUT_MODELOPT] = "modelopt", [NVFP4_LAYOUT_COMPRESSED_TENSORS] = "compressed-tensors",
      [NVFP4_LAYOUT_GGUF] = "gguf", [NVFP4_LAYOUT_MLX] = "mlx",           [NVFP4_LAYOUT_COMFY] = "comfy"};
  return NAME_OF(names, kind, "unknown layout");
}

const char *nvfp4_device_name(nvfp4_device device, char text[16]) {
  if (device.kind == NVFP4_DEVICE_CPU) {
    snprintf(text, 16, "cpu");
  } else {
    snprintf(text, 16, "cuda:%d", device.ordinal);
  }
  return text;
}

nvfp4_status nvfp4_device_parse(const char *text, nvfp4_device *out, nvfp4_reason *reason) {
  if (text != NULL && strcmp(text, "cpu") == 0) {
    *out = (nvfp4_device){NVFP4_DEVICE_CPU, 0};
    return NVFP4_OK;
  }
  if (text != NULL && strncmp(text, "cuda:", 5) == 0 && text[5] >= '0' && text[5] <= '9') {
    char *end;
    long ordinal = strtol(text + 5, &end, 10);
    if (*end == '\0' && ordinal < NVFP4_MAX_GPUS) {
      *out = (nvfp4_device){NVFP4_DEVICE_CUDA, (int)ordinal};
      return NVFP4_OK;
    }
  }
  return nvfp4_reject(reason, NVFP4_E_ARG, "device is \"%s\"; needs \"cpu\" or \"cuda:N\" with N from 0 to %d", text != NULL ? text : "",
                      NVFP4_MAX_GPUS - 1);
}
