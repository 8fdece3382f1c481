/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Structs that begin with struct_size, of callers older or newer than this library (nvfp4.h, Conventions). Members are added at the ends only, and
 * zero is each one's default, so an older struct is a newer one with zeros, and a newer one with zeros in what is not known here is an older one.
 */
#ifndef NVFP4_BASE_SIZED_H
#define NVFP4_BASE_SIZED_H

#include <nvfp4/nvfp4.h>

/* NVFP4_E_ARG if struct_size of the struct `type` at `sized` (may be NULL) does not even hold itself. */
nvfp4_status nvfp4_sized_check(const void *sized, const char *type, nvfp4_reason *reason);

/* The caller's struct `type` (NULL: all defaults) as this library knows it, in own_bytes at `own`; NVFP4_E_ARG also if it asks for what is not known here. */
nvfp4_status nvfp4_sized_read(const void *callers, const char *type, void *own, uint32_t own_bytes, nvfp4_reason *reason);

/* Gives a checked struct of the caller's (may be NULL) as much of `own` as it has room for. */
void nvfp4_sized_write(void *callers, const void *own, uint32_t own_bytes);

#endif
