/* SPDX-License-Identifier: Apache-2.0 */
#include "base/reason.h"
#include "checkpoint/checkpoint.h"
#include "checkpoint/safetensors_writer.h"

static nvfp4_status write_tensor(nvfp4_safetensors_writer *writer, const char *name, nvfp4_dtype dtype, int rank, const int64_t *shape,
                                 const void *data, nvfp4_reason *reason) {
  NVFP4_TRY(nvfp4_safetensors_writer_declare(writer, name, dtype, rank, shape, reason));
  uint64_t elements = 1, bytes = 0;
  for (int i = 0; i < rank; i++) {
    elements *= (uint64_t)shape[i]; /* declare has seen that the product fits */
  }
  nvfp4_dtype_bytes(dtype, elements, &bytes);
  if (data == NULL && bytes > 0) {
    return nvfp4_reject(reason, NVFP4_E_ARG, "tensor \"%s\": data is NULL; needs %llu bytes", name, (unsigned long long)bytes);
  }
  NVFP4_TRY(nvfp4_safetensors_writer_begin(writer, reason));
  NVFP4_TRY(nvfp4_safetensors_writer_write(writer, data, bytes, reason));
  return nvfp4_safetensors_writer_finish(writer, reason);
}

nvfp4_status nvfp4_save_tensor(const char *path, const char *name, nvfp4_dtype dtype, int rank, const int64_t *shape, const void *data,
                               nvfp4_reason *reason) {
  if (name == NULL || (shape == NULL && rank > 0)) {
    return nvfp4_reject(reason, NVFP4_E_ARG, "%s is NULL", name == NULL ? "name" : "shape");
  }
  nvfp4_safetensors_writer *writer = NULL;
  NVFP4_TRY(nvfp4_safetensors_writer_create(path, &writer, reason));
  nvfp4_status status = write_tensor(writer, name, dtype, rank, shape, data, reason);
  nvfp4_safetensors_writer_destroy(writer);
  return status;
}
