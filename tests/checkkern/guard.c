/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE /* MAP_ANONYMOUS */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "checkkern.h"

enum { MOST = 64, FILL = 0xA5, CANARY = 0x5C };

/* The live buffers, for the signal handler; made and freed by the main thread between calls of a kernel. */
static ck_buffer live[MOST];
static size_t page;

ck_buffer *ck_guard_new(const char *name, size_t bytes, size_t alignment, int64_t side) {
  page = (size_t)sysconf(_SC_PAGESIZE);
  ck_buffer *buffer = live;
  while (buffer < live + MOST && buffer->name != NULL) {
    buffer++;
  }
  size_t gap = side == CK_GUARD_ODD && alignment == 1 ? 1 : 0, inner = (bytes + gap + page - 1) / page * page;
  inner = inner > 0 ? inner : page;
  uint8_t *map = mmap(NULL, inner + 2 * page, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (buffer == live + MOST || map == MAP_FAILED || mprotect(map + page, inner, PROT_READ | PROT_WRITE) != 0) {
    fprintf(stderr, "checkkern: no memory for %zu bytes of %s between guard pages\n", bytes, name);
    exit(2);
  }
  buffer->pages = map + page;
  buffer->pages_bytes = inner;
  buffer->bytes = bytes;
  size_t start = side == CK_GUARD_BEFORE ? 0 : (inner - bytes) / alignment * alignment - gap;
  buffer->data = buffer->pages + start;
  memset(buffer->pages, CANARY, inner);
  memset(buffer->data, FILL, bytes);
  buffer->name = name;
  return buffer;
}

void ck_guard_free(ck_buffer *buffer) {
  if (buffer != NULL) {
    munmap(buffer->pages - page, buffer->pages_bytes + 2 * page);
    *buffer = (ck_buffer){0};
  }
}

void ck_guard_protect(const ck_buffer *buffer, ck_access access) {
  if (buffer != NULL) {
    static const int flags[] = {PROT_NONE, PROT_READ, PROT_READ | PROT_WRITE};
    mprotect(buffer->pages, buffer->pages_bytes, flags[access]);
  }
}

bool ck_guard_intact(const ck_buffer *buffer) {
  const uint8_t *end = buffer->pages + buffer->pages_bytes;
  for (const uint8_t *p = buffer->pages; p < end; p++) {
    if (p == buffer->data) {
      p += buffer->bytes;
    }
    if (p < end && *p != CANARY) {
      return false;
    }
  }
  return true;
}

void ck_guard_describe(const void *address, char *text, size_t size) {
  const uint8_t *at = address;
  text[0] = '\0';
  for (const ck_buffer *b = live; b < live + MOST; b++) {
    if (b->name == NULL || at < b->pages - page || at >= b->pages + b->pages_bytes + page) {
      continue;
    }
    if (at < b->data) {
      snprintf(text, size, "%zu bytes before the start of %s", (size_t)(b->data - at), b->name);
    } else if (at >= b->data + b->bytes) {
      snprintf(text, size, "%zu bytes past the end of %s", (size_t)(at - (b->data + b->bytes)), b->name);
    } else {
      snprintf(text, size, "inside %s, at byte %zu, which is not to be %s then", b->name, (size_t)(at - b->data),
               strncmp(b->name, "source", 6) == 0 ? "used" : "written");
    }
    return;
  }
}
