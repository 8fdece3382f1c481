/* SPDX-License-Identifier: Apache-2.0 */
#include "base/sized.h"

#include <string.h>

#include "base/reason.h"

/* struct_size is the first member of all. */
static uint32_t size_of(const void *sized) {
  uint32_t size;
  memcpy(&size, sized, sizeof size);
  return size;
}

nvfp4_status nvfp4_sized_check(const void *sized, const char *type, nvfp4_reason *reason) {
  if (sized != NULL && size_of(sized) < sizeof(uint32_t)) {
    return nvfp4_reject(reason, NVFP4_E_ARG, "%s.struct_size is %u; set it to sizeof(%s)", type, size_of(sized), type);
  }
  return NVFP4_OK;
}

nvfp4_status nvfp4_sized_read(const void *callers, const char *type, void *own, uint32_t own_bytes, nvfp4_reason *reason) {
  NVFP4_TRY(nvfp4_sized_check(callers, type, reason));
  const uint32_t size = callers != NULL ? size_of(callers) : 0;
  for (uint32_t i = own_bytes; i < size; i++) {
    if (((const unsigned char *)callers)[i] != 0) {
      return nvfp4_reject(
          reason, NVFP4_E_ARG,
          "%s.struct_size is %u, here it has %u bytes, and what lies beyond is not zero; run with a library as new as the headers "
          "of the build, or set struct_size to sizeof(%s)",
          type, size, own_bytes, type);
    }
  }
  memset(own, 0, own_bytes);
  if (callers != NULL) {
    memcpy(own, callers, size < own_bytes ? size : own_bytes);
  }
  memcpy(own, &own_bytes, sizeof own_bytes);
  return NVFP4_OK;
}

void nvfp4_sized_write(void *callers, const void *own, uint32_t own_bytes) {
  if (callers == NULL) {
    return;
  }
  const uint32_t size = size_of(callers);
  memcpy((char *)callers + sizeof size, (const char *)own + sizeof size, (size < own_bytes ? size : own_bytes) - sizeof size);
}
