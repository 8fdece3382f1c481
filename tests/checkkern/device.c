/* SPDX-License-Identifier: Apache-2.0 */
/*
 * GPU kernels. A buffer between guard pages has a twin in memory of the device: its pages, canaries and all, at the same alignment; after the call the pages are copied back and are looked at
 * as those of CPU kernels are. With --exact a twin is an allocation of its own that ends where the buffer does, so that compute-sanitizer sees what is read beyond it.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "checkkern.h"

enum { ARENA = 256 << 20, ALIGNMENT = 256 };

nvfp4_status ck_device_open(ck_device *device, int ordinal, bool exact, nvfp4_reason *reason) {
  *device = (ck_device){.exact = exact};
  nvfp4_status status = nvfp4_cuda_open(NVFP4_CUDA_DRIVER, &device->cuda, reason);
  if (status == NVFP4_OK) {
    status = nvfp4_place_find(device->cuda, (nvfp4_device){NVFP4_DEVICE_CUDA, ordinal}, &device->place, reason);
  }
  if (status == NVFP4_OK) {
    status = nvfp4_place_enter(&device->place, true, &device->visit, reason);
  }
  if (status == NVFP4_OK && !exact) {
    status = nvfp4_cuda_alloc(device->cuda, ARENA, (void **)&device->arena, reason);
  }
  return status;
}

void ck_device_close(ck_device *device) {
  if (device->cuda != NULL && device->place.cuda != NULL) {
    ck_device_reset(device, true);
    nvfp4_cuda_free(device->cuda, device->arena);
    nvfp4_place_leave(&device->visit, NULL);
  }
  nvfp4_cuda_close(device->cuda);
}

void ck_device_reset(ck_device *device, bool all) {
  if (all) {
    device->kept = device->kept_used = 0;
  }
  for (size_t i = device->kept; device->exact && i < device->twins; i++) {
    nvfp4_cuda_free(device->cuda, device->twin[i].base);
  }
  device->twins = device->kept;
  device->used = device->kept_used;
}

void ck_device_keep(ck_device *device) {
  for (size_t i = 0; i < device->twins; i++) {
    device->twin[i].buffer = NULL; /* the buffer's place may become another's */
  }
  device->kept = device->twins;
  device->kept_used = device->used;
}

static void copy(ck_device *device, void *to, const void *from, size_t bytes) {
  if (device->failure.text[0] == '\0') {
    nvfp4_cuda_copy_rows(device->cuda, to, bytes, from, bytes, bytes, 1, device->visit.stream, &device->failure);
  }
}

void ck_device_wait(ck_device *device) {
  if (device->cuda != NULL && device->failure.text[0] == '\0') {
    nvfp4_place_wait(&device->visit, &device->failure);
  }
}

/* Where the twin's part of the buffer begins and ends: everything, or with --exact the data alone. */
static uint8_t *first_of(const ck_device *device, const ck_buffer *b) { return device->exact ? b->data : b->pages; }
static size_t bytes_of(const ck_device *device, const ck_buffer *b) { return device->exact ? b->bytes : b->pages_bytes; }

void *ck_device_put(ck_device *device, ck_buffer *b) {
  if (b == NULL) {
    return NULL;
  }
  uint8_t *first = first_of(device, b), *base = NULL;
  size_t bytes = bytes_of(device, b), shift = (uintptr_t)first % 16; /* the alignment is no better than on the host */
  if (device->exact) {
    nvfp4_cuda_alloc(device->cuda, bytes + shift, (void **)&base, &device->failure);
  } else {
    base = device->arena + device->used;
    device->used = (device->used + bytes + 2 * ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
  }
  if (device->twins == CK_TWINS || device->used > ARENA || base == NULL) {
    fprintf(stderr, "checkkern: no device memory for %zu bytes of %s\n", bytes, b->name);
    exit(2);
  }
  device->twin[device->twins++] = (ck_twin){b, base, base + shift};
  copy(device, base + shift, first, bytes);
  return base + shift + (b->data - first);
}

void ck_device_take_back(ck_device *device, ck_buffer *b) {
  for (size_t i = 0; i < device->twins; i++) {
    if (device->twin[i].buffer == b) {
      copy(device, first_of(device, b), device->twin[i].first, bytes_of(device, b));
      ck_device_wait(device);
    }
  }
}

bool ck_device_unchanged(ck_device *device, const ck_buffer *b) {
  bool same = true;
  for (size_t i = 0; i < device->twins; i++) {
    if (device->twin[i].buffer == b) {
      size_t bytes = bytes_of(device, b);
      uint8_t *now = malloc(bytes + 1);
      copy(device, now, device->twin[i].first, bytes);
      ck_device_wait(device);
      same = device->failure.text[0] != '\0' || memcmp(now, first_of(device, b), bytes) == 0;
      free(now);
    }
  }
  return same;
}

void ck_device_spoil(ck_device *device, const ck_buffer *b) {
  for (size_t i = 0; i < device->twins; i++) {
    if (device->twin[i].buffer == b) {
      nvfp4_cuda_api(device->cuda)
          ->fill((nvfp4_cu_address)(uintptr_t)device->twin[i].first, 0x3B, bytes_of(device, b), device->visit.stream);
    }
  }
}

nvfp4_status ck_device_apply(ck_device *device, bool captured, const nvfp4_kernel *kernel, const nvfp4_host *host,
                             const nvfp4_packed *packed, const nvfp4_kernel_args *args, nvfp4_reason *reason) {
  enum { GLOBAL = 0, RELAXED = NVFP4_CU_CAPTURE_RELAXED };
  const nvfp4_cu_api *api = nvfp4_cuda_api(device->cuda);
  nvfp4_cu_stream stream = device->visit.stream;
  if (!captured) {
    return kernel->apply_weights(host, packed, args, reason);
  }
  /* The strictest capture: what allocates, waits or loads fails. */
  int mode = GLOBAL;
  nvfp4_cu_graph graph = NULL;
  nvfp4_cu_graph_exec exec = NULL;
  api->exchange_capture_mode(&mode);
  nvfp4_status status = nvfp4_cuda_check(device->cuda, "cuStreamBeginCapture", api->stream_begin_capture(stream, GLOBAL), reason);
  if (status == NVFP4_OK) {
    status = kernel->apply_weights(host, packed, args, reason);
    int ended = api->stream_end_capture(stream, &graph);
    status = status != NVFP4_OK ? status : nvfp4_cuda_check(device->cuda, "cuStreamEndCapture", ended, reason);
  }
  mode = RELAXED;
  api->exchange_capture_mode(&mode);
  if (status == NVFP4_OK) {
    status = nvfp4_cuda_check(device->cuda, "cuGraphInstantiate", api->graph_instantiate(&exec, graph, 0), reason);
  }
  if (status == NVFP4_OK) {
    status = nvfp4_cuda_check(device->cuda, "cuGraphLaunch", api->graph_launch(exec, stream), reason);
    ck_device_wait(device);
    api->graph_exec_destroy(exec);
  }
  if (graph != NULL) {
    api->graph_destroy(graph);
  }
  return status;
}
