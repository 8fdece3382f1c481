/* SPDX-License-Identifier: Apache-2.0 */
#include "base/reason.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

nvfp4_status nvfp4_reject(nvfp4_reason *reason, nvfp4_status status, const char *format, ...) {
  if (reason != NULL) {
    va_list args;
    va_start(args, format);
    vsnprintf(reason->text, sizeof reason->text, format, args);
    va_end(args);
    reason->status = status;
  }
  return status;
}

nvfp4_status nvfp4_reason_prefix(nvfp4_reason *reason, nvfp4_status status, const char *format, ...) {
  if (reason != NULL && status != NVFP4_OK) {
    nvfp4_reason before = *reason;
    va_list args;
    va_start(args, format);
    int used = vsnprintf(reason->text, sizeof reason->text, format, args);
    va_end(args);
    if (used >= 0 && (size_t)used < sizeof reason->text) {
      snprintf(reason->text + used, sizeof reason->text - (size_t)used, "%s", before.text);
    }
    reason->status = status;
  }
  return status;
}
