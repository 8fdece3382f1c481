/* SPDX-License-Identifier: Apache-2.0 */
/* The caller's log callback; silent without one. */
#ifndef NVFP4_BASE_LOG_H
#define NVFP4_BASE_LOG_H

#include <nvfp4/nvfp4.h>

typedef struct nvfp4_log {
  nvfp4_log_fn function; /* NULL: silent */
  void *cookie;
} nvfp4_log;

void nvfp4_log_line(const nvfp4_log *log, nvfp4_log_level level, const char *format, ...) __attribute__((format(printf, 3, 4)));

#endif
