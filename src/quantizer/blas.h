/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The few functions of OpenBLAS that GPTQ calls: BLAS's and LAPACK's, with 32-bit integers. The library is opened at run time, by those who want GPTQ: one that is linked starts its
 * threads in every process, and everybody would have to install it.
 */
#ifndef NVFP4_QUANTIZER_BLAS_H
#define NVFP4_QUANTIZER_BLAS_H

#include <stddef.h>

#include <nvfp4/nvfp4.h>

enum { NVFP4_BLAS_ROW_MAJOR = 101, NVFP4_BLAS_NO_TRANS = 111, NVFP4_BLAS_TRANS = 112 }; /* cblas.h */

typedef struct nvfp4_blas {
  /* c = alpha a b + beta c, cblas_dgemm */
  void (*dgemm)(int order, int trans_a, int trans_b, int m, int n, int k, double alpha, const double *a, int lda, const double *b, int ldb,
                double beta, double *c, int ldc);
  /* A = L L^T and A^-1 = (L L^T)^-1, in place, by columns; the last argument is the length of uplo, as Fortran passes it. */
  void (*dpotrf)(const char *uplo, const int *n, double *a, const int *lda, int *info, size_t uplo_length);
  void (*dpotri)(const char *uplo, const int *n, double *a, const int *lda, int *info, size_t uplo_length);
  int (*get_threads)(void);
  void (*set_threads)(int threads);
} nvfp4_blas;

/* library: a file name as dlopen takes it; NULL: libopenblas.so.0. It stays loaded. Errors: NVFP4_E_UNSUPPORTED, saying what to install. */
nvfp4_status nvfp4_blas_open(const char *library, nvfp4_blas *out, nvfp4_reason *reason);

#endif
