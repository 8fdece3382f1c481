/* SPDX-License-Identifier: Apache-2.0 */
#include "base/log.h"

#include <stdarg.h>
#include <stdio.h>

void nvfp4_log_line(const nvfp4_log *log, nvfp4_log_level level, const char *format, ...) {
  if (log->function != NULL) {
    char text[1024];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    log->function(log->cookie, level, text);
  }
}
