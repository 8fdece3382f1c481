/* SPDX-License-Identifier: Apache-2.0 */
#include "bench/cublas.h"

#include <stdlib.h>

#include "base/library.h"
#include "base/reason.h"

enum { /* of cublas_api.h and library_types.h */
       OP_N = 0,
       OP_T = 1,
       R_16BF = 14,
       COMPUTE_32F = 68,
       GEMM_DEFAULT = -1
};

struct nvfp4_cublas {
  void *handle;
  int (*create)(void **handle);
  int (*destroy)(void *handle);
  int (*set_stream)(void *handle, void *stream);
  int (*set_workspace)(void *handle, void *workspace, size_t bytes);
  int (*gemm_ex)(void *handle, int op_a, int op_b, int m, int n, int k, const void *alpha, const void *a, int a_type, int lda,
                 const void *b, int b_type, int ldb, const void *beta, void *c, int c_type, int ldc, int compute_type, int algorithm);
};

static nvfp4_status check(const char *call, int status, nvfp4_reason *reason) {
  return status == 0 ? NVFP4_OK : nvfp4_reject(reason, NVFP4_E_DEVICE, "cuBLAS: %s: status %d", call, status);
}

static nvfp4_status start(nvfp4_cublas *c, void *stream, void *workspace, nvfp4_reason *reason) {
  static const char *const names[] = {"libcublas.so.13", "libcublas.so.12", NULL};
  const nvfp4_symbol symbols[] = {{"cublasCreate_v2", &c->create},
                                  {"cublasDestroy_v2", &c->destroy},
                                  {"cublasSetStream_v2", &c->set_stream},
                                  {"cublasSetWorkspace_v2", &c->set_workspace},
                                  {"cublasGemmEx", &c->gemm_ex}};
  NVFP4_TRY(nvfp4_library_open("cuBLAS", names, symbols, sizeof symbols / sizeof symbols[0], reason));
  NVFP4_TRY(check("cublasCreate", c->create(&c->handle), reason));
  NVFP4_TRY(check("cublasSetStream", c->set_stream(c->handle, stream), reason)); /* also forgets the workspace: so before it */
  return check("cublasSetWorkspace", c->set_workspace(c->handle, workspace, NVFP4_CUBLAS_WORKSPACE_BYTES), reason);
}

nvfp4_status nvfp4_cublas_open(void *stream, void *workspace, nvfp4_cublas **out, nvfp4_reason *reason) {
  nvfp4_cublas *c = calloc(1, sizeof *c);
  if (c == NULL) {
    return nvfp4_reject(reason, NVFP4_E_NOMEM, "out of memory for cuBLAS");
  }
  nvfp4_status status = start(c, stream, workspace, reason);
  if (status != NVFP4_OK) {
    nvfp4_cublas_close(c);
    return status;
  }
  *out = c;
  return NVFP4_OK;
}

void nvfp4_cublas_close(nvfp4_cublas *cublas) {
  if (cublas == NULL) {
    return;
  }
  if (cublas->handle != NULL) {
    cublas->destroy(cublas->handle);
  }
  free(cublas);
}

nvfp4_status nvfp4_cublas_bf16(nvfp4_cublas *cublas, int64_t m, int64_t n, int64_t k, const void *x, const void *w, void *y,
                               nvfp4_reason *reason) {
  /* Matrices of cuBLAS run down columns: what it sees is y^T [n, m] = w [n, k] x^T [k, m]. */
  static const float one = 1.0f, zero = 0.0f;
  return check("cublasGemmEx",
               cublas->gemm_ex(cublas->handle, OP_T, OP_N, (int)n, (int)m, (int)k, &one, w, R_16BF, (int)k, x, R_16BF, (int)k, &zero, y,
                               R_16BF, (int)n, COMPUTE_32F, GEMM_DEFAULT),
               reason);
}
