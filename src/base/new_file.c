/* SPDX-License-Identifier: Apache-2.0 */
#define _POSIX_C_SOURCE 200809L
#include "base/new_file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/reason.h"

/* Not mkstemp: its files are readable by their owner alone. */
static int create_temporary(const char *path, char *temporary, size_t size) {
  int fd = -1;
  for (int attempt = 0; attempt < 100 && fd < 0; attempt++) {
    snprintf(temporary, size, "%s.%ld.%d.part", path, (long)getpid(), attempt);
    fd = open(temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (fd < 0 && errno != EEXIST) {
      break;
    }
  }
  return fd;
}

nvfp4_status nvfp4_new_file_open(const char *path, nvfp4_new_file *out, nvfp4_reason *reason) {
  *out = (nvfp4_new_file){0};
  size_t size = strlen(path) + 48;
  char *name = strdup(path), *temporary = malloc(size);
  if (name == NULL || temporary == NULL) {
    free(name);
    free(temporary);
    return nvfp4_reject(reason, NVFP4_E_NOMEM, "%s: no memory to write it", path);
  }
  int fd = create_temporary(path, temporary, size);
  FILE *stream = fd >= 0 ? fdopen(fd, "wb") : NULL;
  if (stream == NULL) {
    nvfp4_status status = nvfp4_reject(reason, NVFP4_E_IO, "%s: cannot be created: %s", path, strerror(errno));
    if (fd >= 0) {
      close(fd);
      unlink(temporary);
    }
    free(name);
    free(temporary);
    return status;
  }
  *out = (nvfp4_new_file){stream, name, temporary};
  return NVFP4_OK;
}

/* The rename itself must reach the disk; a file system that cannot flush a folder (some network ones) is no reason to fail. */
static void flush_folder(const char *path) {
  const char *slash = strrchr(path, '/');
  char *folder = slash == NULL ? strdup(".") : strndup(path, slash == path ? 1 : (size_t)(slash - path));
  int fd = folder != NULL ? open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
  if (fd >= 0) {
    fsync(fd);
    close(fd);
  }
  free(folder);
}

nvfp4_status nvfp4_new_file_commit(nvfp4_new_file *file, nvfp4_reason *reason) {
  bool written = !ferror(file->stream) && fflush(file->stream) == 0 && fsync(fileno(file->stream)) == 0;
  int error = errno;
  if (fclose(file->stream) != 0 && written) {
    written = false;
    error = errno;
  }
  file->stream = NULL;
  if (!written) {
    return nvfp4_reject(reason, NVFP4_E_IO, "%s: cannot be written: %s", file->path, strerror(error));
  }
  if (rename(file->temporary, file->path) != 0) {
    return nvfp4_reject(reason, NVFP4_E_IO, "%s: cannot be renamed: %s", file->path, strerror(errno));
  }
  flush_folder(file->path);
  free(file->temporary);
  file->temporary = NULL;
  return NVFP4_OK;
}

void nvfp4_new_file_discard(nvfp4_new_file *file) {
  if (file->stream != NULL) {
    fclose(file->stream);
  }
  if (file->temporary != NULL) {
    unlink(file->temporary);
  }
  free(file->temporary);
  free(file->path);
  *file = (nvfp4_new_file){0};
}
