/* SPDX-License-Identifier: Apache-2.0 */
/* Refusals: "what was found, what is needed, what to do". */
#ifndef NVFP4_BASE_REASON_H
#define NVFP4_BASE_REASON_H

#include <nvfp4/nvfp4.h>

/* Fills *reason (may be NULL) and returns status, so that `return nvfp4_reject(...)` reads as the refusal it is. */
nvfp4_status nvfp4_reject(nvfp4_reason *reason, nvfp4_status status, const char *format, ...) __attribute__((format(printf, 3, 4)));

/* Puts a prefix ("file.safetensors: ") before a reason that a callee has filled; returns its status. */
nvfp4_status nvfp4_reason_prefix(nvfp4_reason *reason, nvfp4_status status, const char *format, ...) __attribute__((format(printf, 3, 4)));

/* Passes a callee's refusal on. */
#define NVFP4_TRY(call)                     \
  do {                                      \
    nvfp4_status nvfp4_try_status = (call); \
    if (nvfp4_try_status != NVFP4_OK) {     \
      return nvfp4_try_status;              \
    }                                       \
  } while (0)

#endif
