/* SPDX-License-Identifier: Apache-2.0 */
/*
 * FlashInfer's modules fp4_gemm_cutlass and trtllm_gemm and the part of libtvm_ffi.so that they need, in one library: the same symbols, the same demands on their arguments, the results computed on the CPU on the
 * mock driver's memory. MOCK_FLASHINFER=error lets every call fail as a module does; =cubins lets trtllm_gemm want the file kernel.cubin.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "flashinfer/tvm_ffi.h"
#include "mock/fp4_product.h"

#define EXPORT __attribute__((visibility("default")))

/* ---------------------------------------------------------------------------------------------------------------- libtvm_ffi */

static _Thread_local void *stream_now;
static _Thread_local ffi_error *raised;
static _Thread_local char message[256];
static int live_errors;

EXPORT int TVMFFIEnvSetStream(int32_t device_type, int32_t ordinal, void *stream, void **before);
EXPORT void TVMFFIErrorMoveFromRaised(void **error);
EXPORT int TVMFFIObjectDecRef(void *object);
EXPORT int mock_flashinfer_live_errors(void);

int TVMFFIEnvSetStream(int32_t device_type, int32_t ordinal, void *stream, void **before) {
  if (before != NULL) {
    *before = stream_now;
  }
  stream_now = stream;
  return device_type == FFI_DEVICE_CUDA && ordinal == 0 ? 0 : -1;
}

void TVMFFIErrorMoveFromRaised(void **error) {
  *error = raised;
  raised = NULL;
}

int TVMFFIObjectDecRef(void *object) {
  free(object);
  live_errors--;
  return 0;
}

int mock_flashinfer_live_errors(void) { return live_errors; }

static int fail(const char *kind, const char *text) {
  snprintf(message, sizeof message, "%s", text);
  raised = calloc(1, sizeof *raised);
  *raised = (ffi_error){.references = 1, .kind = {kind, strlen(kind)}, .message = {message, strlen(message)}};
  live_errors++;
  return -1;
}

/* ------------------------------------------------------------------------------------------------------------------------ GEMM */

/* shuffleMatrixA of TensorRT-LLM, rows by 32: where row i went. */
static const int shuffled[32] = {0, 8,  16, 24, 1, 9,  17, 25, 2, 10, 18, 26, 3, 11, 19, 27,
                                 4, 12, 20, 28, 5, 13, 21, 29, 6, 14, 22, 30, 7, 15, 23, 31};

static int enqueue(mock_fp4_product *product) {
  return mock_cuda_launch(&mock_fp4_kernel, stream_now, (void *[]){product}) == 0 ? 0 : fail("RuntimeError", "CUDA error: launch failed");
}

/* What CHECK_INPUT and the TMA descriptors ask of a matrix, or of a vector of at least `columns`. */
static const char *check(const ffi_any *any, int dimensions, int64_t rows, int64_t columns, int code, int bits) {
  const ffi_tensor *t = any->value.pointer;
  if (any->type != FFI_TENSOR || t->dimensions != dimensions || t->device.type != FFI_DEVICE_CUDA || t->dtype.lanes != 1 ||
      t->offset_bytes != 0) {
    return "not a tensor of that rank on the GPU";
  }
  if (t->dtype.code != code || t->dtype.bits != bits) {
    return "another dtype";
  }
  if (dimensions == 2 ? t->shape[0] != rows || t->shape[1] != columns || t->strides[0] != columns || t->strides[1] != 1
                      : t->shape[0] < columns || t->strides[0] != 1) {
    return "another shape, or not contiguous";
  }
  return (uintptr_t)t->data % (bits == 32 ? 4 : 16) != 0 ? "not aligned" : NULL;
}

static void *data(const ffi_any *any) { return ((const ffi_tensor *)any->value.pointer)->data; }

/* x, w, x's scales, w's scales, alpha, y, workspace: as both functions have them. */
static int prepare(const ffi_any *x, const ffi_any *w, const ffi_any *x_scales, const ffi_any *w_scales, const ffi_any *alpha,
                   const ffi_any *y, const ffi_any *workspace, mock_fp4_product *p) {
  const char *wanted = getenv("MOCK_FLASHINFER");
  if (wanted != NULL && strcmp(wanted, "error") == 0) {
    return fail("RuntimeError", "Error occurred when running GEMM!");
  }
  const ffi_tensor *tx = x->value.pointer, *tw = w->value.pointer, *ty = y->value.pointer;
  const int64_t m = tx->shape[0], n = tw->shape[0], k = tx->shape[1] * 2, x_tile = p->x_scales_8x4 ? 8 : 128;
  const bool f16 = ty->dtype.code == FFI_FLOAT;
  const struct {
    const char *name, *wrong;
  } checks[] = {
      {"x", check(x, 2, m, k / 2, FFI_UINT, 8)},
      {"w", check(w, 2, n, k / 2, FFI_UINT, 8)},
      {"x_scales", check(x_scales, 1, 0, (m + x_tile - 1) / x_tile * x_tile * (k / 16), FFI_UINT, 8)},
      {"w_scales", check(w_scales, 1, 0, (n + 127) / 128 * 128 * (k / 16), FFI_UINT, 8)},
      {"alpha", check(alpha, 1, 0, 1, FFI_FLOAT, 32)},
      {"y", check(y, 2, m, n, f16 ? FFI_FLOAT : FFI_BFLOAT, 16)},
      {"workspace", check(workspace, 1, 0, 1 << 20, FFI_UINT, 8)},
  };
  for (size_t i = 0; i < sizeof checks / sizeof checks[0]; i++) {
    if (checks[i].wrong != NULL) {
      char text[128];
      snprintf(text, sizeof text, "%s: %s", checks[i].name, checks[i].wrong);
      return fail("ValueError", text);
    }
  }
  *p = (mock_fp4_product){.m = m,
                          .n = n,
                          .k = k,
                          .x = data(x),
                          .w = data(w),
                          .x_scales = data(x_scales),
                          .w_scales = data(w_scales),
                          .alpha_there = data(alpha),
                          .x_scales_8x4 = p->x_scales_8x4,
                          .shuffled = p->shuffled,
                          .y = data(y),
                          .ldy_elems = n,
                          .y_dtype = f16 ? NVFP4_DTYPE_F16 : NVFP4_DTYPE_BF16,
                          .workspace = data(workspace),
                          .workspace_bytes = 1 << 20};
  return k % 32 == 0 && n % 32 == 0 ? 0 : fail("InternalError", "Expected k and n to be divisible by 32");
}

EXPORT int __tvm_ffi_fp4_gemm(void *handle, const ffi_any *arguments, int32_t count, ffi_any *result);
EXPORT int __tvm_ffi_trtllm_gemm(void *handle, const ffi_any *arguments, int32_t count, ffi_any *result);
EXPORT void FlashInferSetCubinCallback(void (*callback)(const char *path, const char *sha256));
EXPORT void FlashInferSetCurrentCubin(const char *bytes, int count);

int __tvm_ffi_fp4_gemm(void *handle, const ffi_any *a, int32_t count, ffi_any *result) {
  mock_fp4_product p = {0};
  if (handle != NULL || count != 8 || result->type != FFI_NONE || a[7].type != FFI_INT) {
    return fail("TypeError", "Mismatched number of arguments when calling fp4_gemm");
  }
  int failed = prepare(&a[0], &a[1], &a[2], &a[3], &a[4], &a[5], &a[6], &p);
  return failed != 0 ? failed : enqueue(&p);
}

static void (*get_cubin)(const char *path, const char *sha256);
static char cubin[16];

void FlashInferSetCubinCallback(void (*callback)(const char *path, const char *sha256)) { get_cubin = callback; }
void FlashInferSetCurrentCubin(const char *bytes, int count) { snprintf(cubin, sizeof cubin, "%.*s", count, bytes); }

int __tvm_ffi_trtllm_gemm(void *handle, const ffi_any *a, int32_t count, ffi_any *result) {
  mock_fp4_product p = {.shuffled = shuffled};
  if (handle != NULL || count != 11 || result->type != FFI_NONE || a[9].type != FFI_BOOL || a[10].type != FFI_INT) {
    return fail("TypeError", "Mismatched number of arguments when calling trtllm_gemm");
  }
  if (a[0].value.integer != 0x01100402 || a[1].value.integer != 0x00101000) { /* E2m1, Bfloat16 */
    return fail("RuntimeError", "No valid tactic found for the given options");
  }
  p.x_scales_8x4 = a[9].value.integer != 0;
  int failed = prepare(&a[3], &a[4], &a[5], &a[6], &a[7], &a[8], &a[2], &p);
  if (failed != 0) {
    return failed;
  }
  const char *wanted = getenv("MOCK_FLASHINFER");
  if (wanted != NULL && strcmp(wanted, "cubins") == 0) {
    get_cubin("kernel.cubin", "0000");
    if (strcmp(cubin, "code") != 0) {
      return fail("RuntimeError", "Failed to load cubin: kernel.cubin");
    }
  }
  if (p.y_dtype != NVFP4_DTYPE_BF16 || p.n % 128 != 0 || (p.m <= 32) != p.x_scales_8x4) {
    return fail("InternalError", "unsupported tactic id in run");
  }
  return enqueue(&p);
}
