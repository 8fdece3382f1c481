/* SPDX-License-Identifier: Apache-2.0 */
/* Opens a checkpoint: finds its files, maps them, reads their tensors, sorts these by name. */
#define _POSIX_C_SOURCE 200809L
#include "checkpoint/checkpoint.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <jansson.h>

#include "base/reason.h"
#include "checkpoint/gguf.h"

#define INDEX_NAME "model.safetensors.index.json"
#define JSON_FILE_LIMIT 100000000 /* bytes; safetensors' own limit for a header */

/* ------------------------------------------------------------------------------------------------------------------- memory */

typedef struct arena_chunk {
  struct arena_chunk *next;
  size_t used, size;
  _Alignas(max_align_t) char data[];
} arena_chunk;

struct nvfp4_arena {
  arena_chunk *chunks; /* the first one is filled */
};

void *nvfp4_checkpoint_alloc(nvfp4_checkpoint *checkpoint, size_t bytes) {
  const size_t align = _Alignof(max_align_t);
  if (bytes > SIZE_MAX / 2) {
    return NULL;
  }
  bytes = (bytes + align - 1) / align * align;
  struct nvfp4_arena *arena = checkpoint->arena;
  if (arena == NULL) {
    arena = checkpoint->arena = calloc(1, sizeof *arena);
    if (arena == NULL) {
      return NULL;
    }
  }
  arena_chunk *chunk = arena->chunks;
  if (chunk == NULL || chunk->size - chunk->used < bytes) {
    size_t size = bytes > 65536 ? bytes : 65536;
    chunk = malloc(sizeof *chunk + size);
    if (chunk == NULL) {
      return NULL;
    }
    *chunk = (arena_chunk){.next = arena->chunks, .size = size};
    arena->chunks = chunk;
  }
  void *pointer = chunk->data + chunk->used;
  chunk->used += bytes;
  return pointer;
}

char *nvfp4_checkpoint_strdup(nvfp4_checkpoint *checkpoint, const char *text, size_t length) {
  char *copy = nvfp4_checkpoint_alloc(checkpoint, length + 1);
  if (copy != NULL) {
    memcpy(copy, text, length);
    copy[length] = '\0';
  }
  return copy;
}

static char *joined(nvfp4_checkpoint *checkpoint, const char *folder, const char *name) {
  size_t bytes = strlen(folder) + strlen(name) + 2;
  char *path = nvfp4_checkpoint_alloc(checkpoint, bytes);
  if (path != NULL) {
    snprintf(path, bytes, "%s%s%s", folder, folder[strlen(folder) - 1] == '/' ? "" : "/", name);
  }
  return path;
}

static nvfp4_status no_memory(nvfp4_reason *reason) { return nvfp4_reject(reason, NVFP4_E_NOMEM, "no memory to open a checkpoint"); }

nvfp4_status nvfp4_checkpoint_warn(nvfp4_checkpoint *checkpoint, nvfp4_reason *reason, const char *format, ...) {
  char text[512];
  va_list args;
  va_start(args, format);
  vsnprintf(text, sizeof text, format, args);
  va_end(args);
  char *copy = nvfp4_checkpoint_strdup(checkpoint, text, strlen(text));
  char **warnings = realloc(checkpoint->warnings, (checkpoint->warning_count + 1) * sizeof *warnings);
  if (warnings != NULL) {
    checkpoint->warnings = warnings;
  }
  if (copy == NULL || warnings == NULL) {
    return no_memory(reason);
  }
  warnings[checkpoint->warning_count++] = copy;
  return NVFP4_OK;
}

nvfp4_status nvfp4_checkpoint_add_tensor(nvfp4_checkpoint *checkpoint, const nvfp4_tensor *tensor, nvfp4_reason *reason) {
  if (checkpoint->tensor_count == checkpoint->tensor_capacity) {
    size_t capacity = checkpoint->tensor_capacity > 0 ? checkpoint->tensor_capacity * 2 : 64;
    nvfp4_tensor *tensors = realloc(checkpoint->tensors, capacity * sizeof *tensors);
    if (tensors == NULL) {
      return no_memory(reason);
    }
    checkpoint->tensors = tensors;
    checkpoint->tensor_capacity = capacity;
  }
  checkpoint->tensors[checkpoint->tensor_count++] = *tensor;
  return NVFP4_OK;
}

/* -------------------------------------------------------------------------------------------------------------------- files */

static const char *last_part(const char *path) {
  const char *slash = strrchr(path, '/');
  return slash != NULL ? slash + 1 : path;
}

static bool ends_with(const char *text, const char *end) {
  size_t length = strlen(text), end_length = strlen(end);
  return length >= end_length && strcmp(text + length - end_length, end) == 0;
}

static nvfp4_status add_file(nvfp4_checkpoint *checkpoint, const char *path, const nvfp4_mapped_file *contents, size_t *index,
                             nvfp4_reason *reason) {
  nvfp4_mapped_file *files = realloc(checkpoint->files, (checkpoint->file_count + 1) * sizeof *files);
  if (files == NULL) {
    return no_memory(reason);
  }
  checkpoint->files = files;
  nvfp4_mapped_file *file = &files[checkpoint->file_count];
  *file = *contents;
  file->path = nvfp4_checkpoint_strdup(checkpoint, path, strlen(path));
  if (file->path == NULL) {
    return no_memory(reason);
  }
  file->name = file->path + (last_part(file->path) - file->path);
  *index = checkpoint->file_count++;
  return NVFP4_OK;
}

/* Opens a regular file; *bytes is its size. O_NONBLOCK keeps a FIFO from hanging the open. */
static nvfp4_status open_regular(const char *path, int *descriptor, uint64_t *bytes, nvfp4_reason *reason) {
  int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (fd < 0) {
    return nvfp4_reject(reason, NVFP4_E_IO, "%s: cannot be opened: %s", path, strerror(errno));
  }
  struct stat status;
  if (fstat(fd, &status) != 0 || !S_ISREG(status.st_mode)) {
    close(fd);
    return nvfp4_reject(reason, NVFP4_E_IO, "%s: is not a regular file; name one, or a folder of them", path);
  }
  *descriptor = fd;
  *bytes = (uint64_t)status.st_size;
  return NVFP4_OK;
}

nvfp4_status nvfp4_checkpoint_map(nvfp4_checkpoint *checkpoint, const char *path, size_t *file, nvfp4_reason *reason) {
  int fd = -1;
  nvfp4_mapped_file contents = {0};
  NVFP4_TRY(open_regular(path, &fd, &contents.bytes, reason));
  if (contents.bytes > 0) { /* an empty file cannot be mapped; its reader refuses it */
    void *data = contents.bytes <= SIZE_MAX ? mmap(NULL, (size_t)contents.bytes, PROT_READ, MAP_PRIVATE, fd, 0) : MAP_FAILED;
    if (data == MAP_FAILED) {
      nvfp4_status status = nvfp4_reject(reason, NVFP4_E_IO, "%s: cannot be mapped: %s", path, strerror(errno));
      close(fd);
      return status;
    }
    contents.data = data;
  }
  close(fd);
  nvfp4_status status = add_file(checkpoint, path, &contents, file, reason);
  if (status != NVFP4_OK && contents.data != NULL) {
    munmap((void *)contents.data, (size_t)contents.bytes);
  }
  return status;
}

/* A small text file, terminated, in the arena. */
static nvfp4_status read_text(nvfp4_checkpoint *checkpoint, const char *path, char **out, size_t *length, nvfp4_reason *reason) {
  int fd = -1;
  uint64_t bytes = 0;
  NVFP4_TRY(open_regular(path, &fd, &bytes, reason));
  if (bytes > JSON_FILE_LIMIT) {
    close(fd);
    return nvfp4_reject(reason, NVFP4_E_FORMAT, "%s: has %llu bytes; at most %d are read", path, (unsigned long long)bytes,
                        JSON_FILE_LIMIT);
  }
  char *text = nvfp4_checkpoint_alloc(checkpoint, (size_t)bytes + 1);
  size_t used = 0;
  while (text != NULL && used < bytes) {
    ssize_t got = read(fd, text + used, (size_t)bytes - used);
    if (got < 0 && errno == EINTR) {
      continue;
    }
    if (got <= 0) {
      nvfp4_status status =
          nvfp4_reject(reason, NVFP4_E_IO, "%s: cannot be read: %s", path, got < 0 ? strerror(errno) : "it became shorter");
      close(fd);
      return status;
    }
    used += (size_t)got;
  }
  close(fd);
  if (text == NULL) {
    return no_memory(reason);
  }
  text[used] = '\0';
  if (memchr(text, '\0', used) != NULL) {
    return nvfp4_reject(reason, NVFP4_E_FORMAT, "%s: holds a NUL byte; text is needed", path);
  }
  *out = text;
  *length = used;
  return NVFP4_OK;
}

/* config.json and hf_quant_config.json of the folder; either may be missing. */
static nvfp4_status read_configs(nvfp4_checkpoint *checkpoint, nvfp4_reason *reason) {
  const char *const names[] = {"config.json", "hf_quant_config.json"};
  char **const texts[] = {&checkpoint->config, &checkpoint->quant_config};
  for (size_t i = 0; i < 2; i++) {
    char *path = joined(checkpoint, checkpoint->folder, names[i]);
    if (path == NULL) {
      return no_memory(reason);
    }
    struct stat status;
    if (stat(path, &status) != 0 && errno == ENOENT) {
      continue;
    }
    size_t length = 0;
    NVFP4_TRY(read_text(checkpoint, path, texts[i], &length, reason));
  }
  return NVFP4_OK;
}

static nvfp4_status open_safetensors(nvfp4_checkpoint *checkpoint, const char *path, nvfp4_reason *reason) {
  size_t file = 0;
  NVFP4_TRY(nvfp4_checkpoint_map(checkpoint, path, &file, reason));
  return nvfp4_safetensors_read(checkpoint, file, reason);
}

/* ------------------------------------------------------------------------------------------------------------------ tensors */

static int compare_tensors(const void *a, const void *b) {
  return strcmp(((const nvfp4_tensor *)a)->name, ((const nvfp4_tensor *)b)->name);
}

static nvfp4_status sort_tensors(nvfp4_checkpoint *checkpoint, nvfp4_reason *reason) {
  nvfp4_tensor *tensors = checkpoint->tensors;
  if (checkpoint->tensor_count > 1) {
    qsort(tensors, checkpoint->tensor_count, sizeof *tensors, compare_tensors);
  }
  for (size_t i = 1; i < checkpoint->tensor_count; i++) {
    if (strcmp(tensors[i - 1].name, tensors[i].name) == 0) {
      return nvfp4_reject(reason, NVFP4_E_FORMAT, "%s: duplicate tensor name \"%s\"%s%s; every tensor may appear once", tensors[i].file,
                          tensors[i].name, tensors[i].file != tensors[i - 1].file ? ", also in " : "",
                          tensors[i].file != tensors[i - 1].file ? tensors[i - 1].file : "");
    }
  }
  return NVFP4_OK;
}

/* -------------------------------------------------------------------------------------------------------------------- index */

/* A shard must lie beside its index: "../x", "/x" and "a/../../x" would let a checkpoint read any file. */
static bool is_plain_name(const char *name) {
  return name[0] != '\0' && strchr(name, '/') == NULL && strcmp(name, ".") != 0 && strcmp(name, "..") != 0;
}

static nvfp4_status open_shards(nvfp4_checkpoint *checkpoint, const char *index_name, json_t *map, nvfp4_reason *reason) {
  const char *tensor, *previous = "";
  json_t *value;
  json_object_foreach(map, tensor, value) {
    const char *shard = json_string_value(value);
    if (shard == NULL) {
      return nvfp4_reject(reason, NVFP4_E_FORMAT, "%s: weight_map of tensor \"%s\" is not a string; a file name is needed", index_name,
                          tensor);
    }
    if (!is_plain_name(shard)) {
      return nvfp4_reject(reason, NVFP4_E_FORMAT,
                          "%s: weight_map of tensor \"%s\" is \"%s\", outside the folder of the index; a plain file name is needed",
                          index_name, tensor, shard);
    }
    bool opened = strcmp(shard, previous) == 0;
    for (size_t i = 0; i < checkpoint->file_count && !opened; i++) {
      opened = strcmp(shard, checkpoint->files[i].name) == 0;
    }
    previous = shard;
    if (opened) {
      continue;
    }
    char *path = joined(checkpoint, checkpoint->folder, shard);
    if (path == NULL) {
      return no_memory(reason);
    }
    nvfp4_status status = open_safetensors(checkpoint, path, reason);
    if (status == NVFP4_E_IO) {
      return nvfp4_reason_prefix(reason, status, "%s names shard file \"%s\" for tensor \"%s\": ", index_name, shard, tensor);
    }
    NVFP4_TRY(status);
  }
  return NVFP4_OK;
}

/* Each tensor of the map must be where the map says. */
static nvfp4_status check_map(nvfp4_checkpoint *checkpoint, const char *index_name, json_t *map, nvfp4_reason *reason) {
  const char *name;
  json_t *value;
  json_object_foreach(map, name, value) {
    const nvfp4_tensor *tensor = nvfp4_checkpoint_find(checkpoint, name);
    const char *shard = json_string_value(value);
    if (tensor == NULL || strcmp(tensor->file, shard) != 0) {
      return nvfp4_reject(reason, NVFP4_E_FORMAT, "%s: tensor \"%s\" should be in %s, but %s%s", index_name, name, shard,
                          tensor == NULL ? "no shard has it" : "is in ", tensor == NULL ? "" : tensor->file);
    }
  }
  size_t mapped = json_object_size(map);
  if (mapped < checkpoint->tensor_count) {
    return nvfp4_checkpoint_warn(checkpoint, reason, "%s does not name %zu of the %zu tensors in its shards; they are kept", index_name,
                                 checkpoint->tensor_count - mapped, checkpoint->tensor_count);
  }
  return NVFP4_OK;
}

static nvfp4_status open_index(nvfp4_checkpoint *checkpoint, const char *path, nvfp4_reason *reason) {
  const char *name = last_part(path);
  char *text = NULL;
  size_t length = 0;
  NVFP4_TRY(read_text(checkpoint, path, &text, &length, reason));
  json_error_t error;
  json_t *index = json_loadb(text, length, JSON_REJECT_DUPLICATES, &error);
  if (index == NULL) {
    return nvfp4_reject(reason, NVFP4_E_FORMAT, "%s: is not JSON: line %d column %d: %s", name, error.line, error.column, error.text);
  }
  json_t *map = json_object_get(index, "weight_map");
  nvfp4_status status;
  if (json_is_object(map)) {
    status = open_shards(checkpoint, name, map, reason);
    if (status == NVFP4_OK) {
      status = sort_tensors(checkpoint, reason);
    }
    if (status == NVFP4_OK) {
      status = check_map(checkpoint, name, map, reason);
    }
  } else {
    status = nvfp4_reject(reason, NVFP4_E_FORMAT, "%s: has no weight_map object; an index needs one from tensor names to file names", name);
  }
  json_decref(index);
  return status;
}

/* ------------------------------------------------------------------------------------------------------------------- folder */

static int compare_names(const void *a, const void *b) { return strcmp(*(char *const *)a, *(char *const *)b); }

/* Paths of the folder's *.safetensors, in order of names; *paths is the caller's to free. */
static nvfp4_status list_safetensors(nvfp4_checkpoint *checkpoint, char ***paths, size_t *count, nvfp4_reason *reason) {
  DIR *folder = opendir(checkpoint->folder);
  if (folder == NULL) {
    return nvfp4_reject(reason, NVFP4_E_IO, "%s: cannot be listed: %s", checkpoint->folder, strerror(errno));
  }
  nvfp4_status status = NVFP4_OK;
  char **list = NULL;
  size_t used = 0;
  for (struct dirent *entry; status == NVFP4_OK && (entry = readdir(folder)) != NULL;) {
    if (entry->d_name[0] == '.' || !ends_with(entry->d_name, ".safetensors")) {
      continue;
    }
    char **longer = realloc(list, (used + 1) * sizeof *list);
    list = longer != NULL ? longer : list;
    char *path = joined(checkpoint, checkpoint->folder, entry->d_name);
    if (longer == NULL || path == NULL) {
      status = no_memory(reason);
    } else {
      list[used++] = path;
    }
  }
  closedir(folder);
  if (status == NVFP4_OK && used == 0) {
    status = nvfp4_reject(reason, NVFP4_E_FORMAT, "%s: folder has no .safetensors file and needs one; name a .gguf file itself",
                          checkpoint->folder);
  }
  if (status != NVFP4_OK) {
    free(list);
    return status;
  }
  qsort(list, used, sizeof *list, compare_names);
  *paths = list;
  *count = used;
  return NVFP4_OK;
}

/* The index if there is one; else model.safetensors, since others beside it (adapters, expected values) are not the model; else all. */
static nvfp4_status open_folder(nvfp4_checkpoint *checkpoint, nvfp4_reason *reason) {
  char *index = joined(checkpoint, checkpoint->folder, INDEX_NAME);
  char *single = joined(checkpoint, checkpoint->folder, "model.safetensors");
  if (index == NULL || single == NULL) {
    return no_memory(reason);
  }
  struct stat status;
  if (stat(index, &status) == 0) {
    return open_index(checkpoint, index, reason);
  }
  if (stat(single, &status) == 0) {
    NVFP4_TRY(open_safetensors(checkpoint, single, reason));
    return sort_tensors(checkpoint, reason);
  }
  char **paths = NULL;
  size_t count = 0;
  NVFP4_TRY(list_safetensors(checkpoint, &paths, &count, reason));
  nvfp4_status result = NVFP4_OK;
  for (size_t i = 0; i < count && result == NVFP4_OK; i++) {
    result = open_safetensors(checkpoint, paths[i], reason);
  }
  free(paths);
  return result == NVFP4_OK ? sort_tensors(checkpoint, reason) : result;
}

/* --------------------------------------------------------------------------------------------------------------------- open */

/* A .gguf file, or any that begins as one; a safetensors header of that "length" would be far too long. */
static nvfp4_status read_file(nvfp4_checkpoint *checkpoint, size_t file, nvfp4_reason *reason) {
  const nvfp4_mapped_file *mapped = &checkpoint->files[file];
  bool gguf = ends_with(mapped->name, ".gguf") || (mapped->bytes >= 4 && memcmp(mapped->data, "GGUF", 4) == 0);
  NVFP4_TRY(gguf ? nvfp4_gguf_read(checkpoint, file, reason) : nvfp4_safetensors_read(checkpoint, file, reason));
  return sort_tensors(checkpoint, reason);
}

static nvfp4_status open_path(nvfp4_checkpoint *checkpoint, nvfp4_reason *reason) {
  const char *path = checkpoint->path;
  struct stat status;
  if (stat(path, &status) != 0) {
    return nvfp4_reject(reason, NVFP4_E_IO, "%s: cannot be opened: %s; name a folder, a .safetensors, an index .json or a .gguf", path,
                        strerror(errno));
  }
  if (S_ISDIR(status.st_mode)) {
    checkpoint->folder = checkpoint->path;
    NVFP4_TRY(read_configs(checkpoint, reason));
    return open_folder(checkpoint, reason);
  }
  const char *name = last_part(path);
  checkpoint->folder = name == path       ? nvfp4_checkpoint_strdup(checkpoint, ".", 1)
                       : name == path + 1 ? nvfp4_checkpoint_strdup(checkpoint, "/", 1)
                                          : nvfp4_checkpoint_strdup(checkpoint, path, (size_t)(name - path - 1));
  if (checkpoint->folder == NULL) {
    return no_memory(reason);
  }
  if (ends_with(name, ".json")) {
    NVFP4_TRY(read_configs(checkpoint, reason));
    return open_index(checkpoint, path, reason);
  }
  size_t file = 0;
  NVFP4_TRY(nvfp4_checkpoint_map(checkpoint, path, &file, reason));
  return read_file(checkpoint, file, reason);
}

static nvfp4_status create(const char *path, nvfp4_checkpoint **out, nvfp4_reason *reason) {
  nvfp4_checkpoint *checkpoint = calloc(1, sizeof *checkpoint);
  if (checkpoint == NULL) {
    return no_memory(reason);
  }
  checkpoint->path = nvfp4_checkpoint_strdup(checkpoint, path, strlen(path));
  if (checkpoint->path == NULL) {
    nvfp4_checkpoint_close(checkpoint);
    return no_memory(reason);
  }
  *out = checkpoint;
  return NVFP4_OK;
}

static nvfp4_status finish(nvfp4_checkpoint *checkpoint, nvfp4_status status, uint32_t flags, nvfp4_checkpoint **out,
                           nvfp4_reason *reason) {
  if (status == NVFP4_OK) {
    status = nvfp4_checkpoint_find_layers(checkpoint, flags, reason);
  }
  if (status != NVFP4_OK) {
    nvfp4_checkpoint_close(checkpoint);
    return status;
  }
  *out = checkpoint;
  return NVFP4_OK;
}

nvfp4_status nvfp4_checkpoint_open(const char *path, uint32_t flags, nvfp4_checkpoint **out, nvfp4_reason *reason) {
  if (path == NULL || path[0] == '\0' || out == NULL) {
    return nvfp4_reject(reason, NVFP4_E_ARG, "%s; a checkpoint's path is needed", out == NULL ? "out is NULL" : "path is empty");
  }
  if ((flags & ~(uint32_t)NVFP4_OPEN_SKIP_SCALES) != 0) {
    return nvfp4_reject(reason, NVFP4_E_ARG, "flags are 0x%x; only NVFP4_OPEN_SKIP_SCALES (0x1) is known", flags);
  }
  nvfp4_checkpoint *checkpoint = NULL;
  NVFP4_TRY(create(path, &checkpoint, reason));
  return finish(checkpoint, open_path(checkpoint, reason), flags, out, reason);
}

nvfp4_status nvfp4_checkpoint_open_memory(const char *name, const void *data, uint64_t bytes, uint32_t flags, nvfp4_checkpoint **out,
                                          nvfp4_reason *reason) {
  nvfp4_checkpoint *checkpoint = NULL;
  NVFP4_TRY(create(name, &checkpoint, reason));
  size_t file = 0;
  const nvfp4_mapped_file contents = {.data = data, .bytes = bytes, .borrowed = true};
  nvfp4_status status = add_file(checkpoint, name, &contents, &file, reason);
  if (status == NVFP4_OK) {
    checkpoint->folder = nvfp4_checkpoint_strdup(checkpoint, ".", 1);
    status = checkpoint->folder != NULL ? read_file(checkpoint, file, reason) : no_memory(reason);
  }
  return finish(checkpoint, status, flags, out, reason);
}

void nvfp4_checkpoint_close(nvfp4_checkpoint *checkpoint) {
  if (checkpoint == NULL) {
    return;
  }
  for (size_t i = 0; i < checkpoint->file_count; i++) {
    if (!checkpoint->files[i].borrowed && checkpoint->files[i].data != NULL) {
      munmap((void *)checkpoint->files[i].data, (size_t)checkpoint->files[i].bytes);
    }
  }
  free(checkpoint->files);
  free(checkpoint->tensors);
  free(checkpoint->layers);
  free(checkpoint->warnings);
  nvfp4_gguf_metadata_free(checkpoint->gguf);
  json_decref(checkpoint->metadata);
  if (checkpoint->arena != NULL) {
    for (arena_chunk *chunk = checkpoint->arena->chunks; chunk != NULL;) {
      arena_chunk *next = chunk->next;
      free(chunk);
      chunk = next;
    }
    free(checkpoint->arena);
  }
  free(checkpoint);
}

/* ------------------------------------------------------------------------------------------------------------------ look-up */

size_t nvfp4_checkpoint_tensor_count(const nvfp4_checkpoint *checkpoint) { return checkpoint->tensor_count; }

const nvfp4_tensor *nvfp4_checkpoint_tensor(const nvfp4_checkpoint *checkpoint, size_t index) {
  return index < checkpoint->tensor_count ? &checkpoint->tensors[index] : NULL;
}

const nvfp4_tensor *nvfp4_checkpoint_find(const nvfp4_checkpoint *checkpoint, const char *name) {
  if (name == NULL || checkpoint->tensor_count == 0) {
    return NULL;
  }
  const nvfp4_tensor key = {.name = name};
  return bsearch(&key, checkpoint->tensors, checkpoint->tensor_count, sizeof key, compare_tensors);
}

const char *nvfp4_checkpoint_warning(const nvfp4_checkpoint *checkpoint, size_t index) {
  return index < checkpoint->warning_count ? checkpoint->warnings[index] : NULL;
}

const char *nvfp4_checkpoint_config(const nvfp4_checkpoint *checkpoint) { return checkpoint->config; }

const char *nvfp4_checkpoint_path(const nvfp4_checkpoint *checkpoint) { return checkpoint->path; }

bool nvfp4_checkpoint_metadata(const nvfp4_checkpoint *checkpoint, const char *key, char *out, size_t size) {
  nvfp4_gguf_string text = {0};
  const json_t *value = json_object_get(checkpoint->metadata, key);
  if (value != NULL) {
    text = (nvfp4_gguf_string){json_string_value(value), json_string_length(value)};
  } else if (checkpoint->gguf == NULL || !nvfp4_gguf_get_string(checkpoint->gguf, key, &text)) {
    return false;
  }
  size_t length = text.bytes < size - 1 ? text.bytes : size - 1;
  memcpy(out, text.text, length);
  out[length] = '\0';
  return true;
}
