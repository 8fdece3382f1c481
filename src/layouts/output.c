/* SPDX-License-Identifier: Apache-2.0 */
/* The output folder: nothing has its final name before everything is there, and config.json, which makes a folder a checkpoint, comes
 * last. */
#define _POSIX_C_SOURCE 200809L
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/new_file.h"
#include "base/reason.h"
#include "checkpoint/checkpoint.h"
#include "layouts/layouts.h"

/* Files of a source folder that stand beside the weights and are taken over as they are. */
static const char *const companions[] = {
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "tokenizer.model",
    "chat_template.jinja",
    "chat_template.json",
    "generation_config.json",
    "preprocessor_config.json",
    "processor_config.json",
};

typedef struct output_file {
  char *path;
  char *temporary; /* NULL: it has its name */
} output_file;

struct nvfp4_output {
  char *folder;
  bool made_folder, committed;
  output_file *files;
  size_t count, capacity;
};

static char *join(const char *folder, const char *name, const char *suffix) {
  size_t bytes = strlen(folder) + strlen(name) + strlen(suffix) + 2;
  char *path = malloc(bytes);
  if (path != NULL) {
    snprintf(path, bytes, "%s/%s%s", folder, name, suffix);
  }
  return path;
}

static bool ends_with(const char *text, const char *end) {
  size_t length = strlen(text), end_length = strlen(end);
  return length >= end_length && strcmp(text + length - end_length, end) == 0;
}

static nvfp4_status check_folder(const char *path, nvfp4_reason *reason) {
  DIR *folder = opendir(path);
  if (folder == NULL) {
    return nvfp4_reject(reason, NVFP4_E_IO, "%s: cannot be opened as a folder: %s; name a new or empty folder", path, strerror(errno));
  }
  nvfp4_status status = NVFP4_OK;
  for (struct dirent *entry = readdir(folder); entry != NULL; entry = readdir(folder)) {
    if (strcmp(entry->d_name, "config.json") == 0 || ends_with(entry->d_name, ".safetensors")) {
      status = nvfp4_reject(reason, NVFP4_E_IO, "%s holds a checkpoint already (%s); name a new folder, or remove it first", path,
                            entry->d_name);
      break;
    }
  }
  closedir(folder);
  return status;
}

nvfp4_status nvfp4_output_create(const char *path, nvfp4_output **out, nvfp4_reason *reason) {
  bool made = mkdir(path, 0777) == 0;
  if (!made) {
    if (errno != EEXIST) {
      return nvfp4_reject(reason, NVFP4_E_IO, "%s: the folder cannot be made: %s", path, strerror(errno));
    }
    NVFP4_TRY(check_folder(path, reason));
  }
  nvfp4_output *output = calloc(1, sizeof *output);
  char *folder = strdup(path);
  if (output == NULL || folder == NULL) {
    free(output);
    free(folder);
    if (made) {
      rmdir(path);
    }
    return nvfp4_reject(reason, NVFP4_E_NOMEM, "out of memory for the output folder");
  }
  output->folder = folder;
  output->made_folder = made;
  *out = output;
  return NVFP4_OK;
}

/* A new entry for file `name`; NULL after a refusal. */
static output_file *new_file(nvfp4_output *output, const char *name, nvfp4_reason *reason) {
  if (output->count == output->capacity) {
    size_t capacity = output->capacity > 0 ? 2 * output->capacity : 32;
    output_file *files = realloc(output->files, capacity * sizeof *files);
    if (files == NULL) {
      nvfp4_reject(reason, NVFP4_E_NOMEM, "out of memory for the name of %s", name);
      return NULL;
    }
    output->files = files;
    output->capacity = capacity;
  }
  output_file *file = &output->files[output->count];
  file->path = join(output->folder, name, "");
  if (file->path == NULL) {
    nvfp4_reject(reason, NVFP4_E_NOMEM, "out of memory for the name of %s", name);
    return NULL;
  }
  if (access(file->path, F_OK) == 0) {
    nvfp4_reject(reason, NVFP4_E_IO, "%s exists already; name a new or empty folder", file->path);
    free(file->path);
    file->path = NULL;
    return NULL;
  }
  return file;
}

const char *nvfp4_output_claim(nvfp4_output *output, const char *name, nvfp4_reason *reason) {
  output_file *file = new_file(output, name, reason);
  if (file == NULL) {
    return NULL;
  }
  file->temporary = join(output->folder, name, ".tmp");
  if (file->temporary == NULL) {
    free(file->path);
    nvfp4_reject(reason, NVFP4_E_NOMEM, "out of memory for the name of %s", name);
    return NULL;
  }
  output->count++;
  return file->temporary;
}

nvfp4_status nvfp4_output_add(nvfp4_output *output, const char *name, const void *data, size_t bytes, nvfp4_reason *reason) {
  nvfp4_reason why = {0};
  const char *path = nvfp4_output_claim(output, name, &why);
  if (path == NULL) {
    return nvfp4_reject(reason, why.status, "%s", why.text);
  }
  return nvfp4_new_file_save(path, data, bytes, reason);
}

static nvfp4_status rename_file(output_file *file, nvfp4_reason *reason) {
  if (rename(file->temporary, file->path) != 0) {
    return nvfp4_reject(reason, NVFP4_E_IO, "%s cannot be renamed to %s: %s", file->temporary, file->path, strerror(errno));
  }
  free(file->temporary);
  file->temporary = NULL;
  return NVFP4_OK;
}

nvfp4_status nvfp4_output_commit(nvfp4_output *output, nvfp4_reason *reason) {
  for (int last = 0; last < 2; last++) {
    for (size_t i = 0; i < output->count; i++) {
      if (ends_with(output->files[i].path, "/config.json") == (last == 1)) {
        NVFP4_TRY(rename_file(&output->files[i], reason));
      }
    }
  }
  output->committed = true;
  if (output->count > 0) {
    nvfp4_flush_folder_of(output->files[0].path);
  }
  return NVFP4_OK;
}

void nvfp4_output_destroy(nvfp4_output *output) {
  if (output == NULL) {
    return;
  }
  /* Last first: config.json goes before the weights it speaks of. */
  for (size_t i = output->count; i-- > 0;) {
    output_file *file = &output->files[i];
    if (!output->committed) {
      unlink(file->temporary != NULL ? file->temporary : file->path);
    }
    free(file->path);
    free(file->temporary);
  }
  if (!output->committed && output->made_folder) {
    rmdir(output->folder);
  }
  free(output->files);
  free(output->folder);
  free(output);
}

nvfp4_status nvfp4_output_refuse_source(const nvfp4_checkpoint *source, const char *output, nvfp4_reason *reason) {
  struct stat from, to;
  if (source->gguf == NULL && stat(source->folder, &from) == 0 && stat(output, &to) == 0 && from.st_dev == to.st_dev &&
      from.st_ino == to.st_ino) {
    return nvfp4_reject(reason, NVFP4_E_ARG, "%s is the folder of the input; name another one for the output", output);
  }
  return NVFP4_OK;
}

nvfp4_status nvfp4_read_companion(const char *folder, const char *name, char **data, size_t *bytes, nvfp4_reason *reason) {
  char path[4096];
  *data = NULL;
  if (snprintf(path, sizeof path, "%s/%s", folder, name) >= (int)sizeof path) {
    return NVFP4_OK;
  }
  FILE *file = fopen(path, "rb");
  if (file == NULL) {
    return errno == ENOENT ? NVFP4_OK : nvfp4_reject(reason, NVFP4_E_IO, "%s cannot be opened: %s", path, strerror(errno));
  }
  struct stat info;
  nvfp4_status status = NVFP4_OK;
  if (fstat(fileno(file), &info) != 0 || !S_ISREG(info.st_mode)) {
    status = nvfp4_reject(reason, NVFP4_E_IO, "%s is not a file; remove it or put a file there", path);
  } else if ((*data = malloc((size_t)info.st_size + 1)) == NULL) {
    status = nvfp4_reject(reason, NVFP4_E_NOMEM, "out of memory for %s of %lld bytes", path, (long long)info.st_size);
  } else if (fread(*data, 1, (size_t)info.st_size, file) != (size_t)info.st_size) {
    status = nvfp4_reject(reason, NVFP4_E_IO, "%s cannot be read: %s", path, strerror(errno));
    free(*data);
    *data = NULL;
  }
  *bytes = (size_t)info.st_size;
  if (*data != NULL) {
    (*data)[*bytes] = '\0';
  }
  fclose(file);
  return status;
}

nvfp4_status nvfp4_output_add_companions(nvfp4_output *output, const nvfp4_checkpoint *source, nvfp4_reason *reason) {
  for (size_t i = 0; i < sizeof companions / sizeof companions[0]; i++) {
    char *data;
    size_t bytes = 0;
    NVFP4_TRY(nvfp4_read_companion(source->folder, companions[i], &data, &bytes, reason));
    if (data != NULL) {
      nvfp4_status status = nvfp4_output_add(output, companions[i], data, bytes, reason);
      free(data);
      NVFP4_TRY(status);
    }
  }
  return NVFP4_OK;
}
