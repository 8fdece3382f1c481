/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE /* sync_file_range */
#include "base/new_file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/reason.h"

enum {
  BUFFER_BYTES = 1 << 18, /* gathers headers and scalars; what is larger goes straight to the system */
  STEP_BYTES = 1 << 23,   /* of flushing */
  BEHIND_BYTES = 1 << 26  /* written, and not known to be on the disk */
};

struct nvfp4_new_file {
  char *path, *temporary;
  FILE *file;               /* NULL once closed */
  int64_t written, flushed; /* bytes; those below `flushed` are on the disk or on their way there */
  bool finished;
};

static nvfp4_status io_error(const nvfp4_new_file *file, const char *what, int error, nvfp4_reason *reason) {
  return nvfp4_reject(reason, NVFP4_E_IO, "%s: cannot be %s: %s", file->path, what, strerror(error));
}

/* A new file beside the path, since rename works within a file system only. Not mkstemp: its files are readable by their owner alone. */
static nvfp4_status open_temporary(nvfp4_new_file *file, nvfp4_reason *reason) {
  size_t size = strlen(file->path) + 48;
  file->temporary = malloc(size);
  if (file->temporary == NULL) {
    return nvfp4_reject(reason, NVFP4_E_NOMEM, "%s: no memory to write it", file->path);
  }
  int fd = -1;
  for (int attempt = 0; attempt < 100 && fd < 0; attempt++) {
    snprintf(file->temporary, size, "%s.%ld.%d.part", file->path, (long)getpid(), attempt);
    fd = open(file->temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (fd < 0 && errno != EEXIST) {
      break;
    }
  }
  file->file = fd >= 0 ? fdopen(fd, "wb") : NULL;
  if (file->file != NULL) {
    setvbuf(file->file, NULL, _IOFBF, BUFFER_BYTES);
    return NVFP4_OK;
  }
  nvfp4_status status = io_error(file, "created", errno, reason);
  if (fd >= 0) {
    close(fd);
    unlink(file->temporary);
  }
  free(file->temporary); /* the name may be another's file, not to be removed by destroy */
  file->temporary = NULL;
  return status;
}

nvfp4_status nvfp4_new_file_create(const char *path, nvfp4_new_file **out, nvfp4_reason *reason) {
  if (path == NULL || path[0] == '\0') {
    return nvfp4_reject(reason, NVFP4_E_ARG, "path is empty; the path of the file to write is needed");
  }
  struct stat existing;
  if (lstat(path, &existing) == 0 && !S_ISREG(existing.st_mode)) {
    return nvfp4_reject(reason, NVFP4_E_IO,
                        "%s: is there and no plain file (a device, a link, a folder); name a file to make or to replace", path);
  }
  nvfp4_new_file *file = calloc(1, sizeof *file);
  if (file == NULL || (file->path = strdup(path)) == NULL) {
    free(file);
    return nvfp4_reject(reason, NVFP4_E_NOMEM, "%s: no memory to write it", path);
  }
  nvfp4_status status = open_temporary(file, reason);
  if (status != NVFP4_OK) {
    nvfp4_new_file_destroy(file);
    return status;
  }
  *out = file;
  return NVFP4_OK;
}

/* The system says of a failed write once that it failed: here, or else to fsync. Where there is no such call (sandboxes), fsync does all. */
static bool sync_range(nvfp4_new_file *file, int64_t first, unsigned flags) {
  return sync_file_range(fileno(file->file), first, STEP_BYTES, flags) == 0 || errno == ENOSYS || errno == EPERM;
}

/* The disk works while the caller makes what follows; left to itself, the system begins when much has piled up, or at the fsync. What has
 * reached the disk leaves the page cache: a file of many GB would push out whatever else is there, its own source before all, and pages that
 * are used again cost less than new ones. */
static nvfp4_status flush_steps(nvfp4_new_file *file, nvfp4_reason *reason) {
  const unsigned all = SYNC_FILE_RANGE_WAIT_BEFORE | SYNC_FILE_RANGE_WRITE | SYNC_FILE_RANGE_WAIT_AFTER;
  while (file->written - file->flushed >= STEP_BYTES) {
    int64_t behind = file->flushed - BEHIND_BYTES;
    if (!sync_range(file, file->flushed, SYNC_FILE_RANGE_WRITE) || (behind >= 0 && !sync_range(file, behind, all))) {
      return io_error(file, "written", errno, reason);
    }
    if (behind >= 0) {
      (void)posix_fadvise(fileno(file->file), behind, STEP_BYTES, POSIX_FADV_DONTNEED);
    }
    file->flushed += STEP_BYTES;
  }
  return NVFP4_OK;
}

nvfp4_status nvfp4_new_file_write(nvfp4_new_file *file, const void *data, size_t bytes, nvfp4_reason *reason) {
  if (bytes > 0 && fwrite(data, 1, bytes, file->file) != bytes) {
    return io_error(file, "written", errno, reason);
  }
  file->written += (int64_t)bytes;
  return flush_steps(file, reason);
}

void nvfp4_flush_folder_of(const char *path) {
  const char *slash = strrchr(path, '/');
  char *folder = slash == NULL ? strdup(".") : strndup(path, slash == path ? 1 : (size_t)(slash - path));
  int fd = folder != NULL ? open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
  if (fd >= 0) {
    fsync(fd);
    close(fd);
  }
  free(folder);
}

nvfp4_status nvfp4_new_file_finish(nvfp4_new_file *file, nvfp4_reason *reason) {
  if (fflush(file->file) != 0 || fsync(fileno(file->file)) != 0) {
    return io_error(file, "written", errno, reason);
  }
  int closed = fclose(file->file);
  file->file = NULL;
  if (closed != 0) {
    return io_error(file, "written", errno, reason);
  }
  if (rename(file->temporary, file->path) != 0) {
    return io_error(file, "renamed", errno, reason);
  }
  file->finished = true;
  nvfp4_flush_folder_of(file->path);
  return NVFP4_OK;
}

void nvfp4_new_file_destroy(nvfp4_new_file *file) {
  if (file == NULL) {
    return;
  }
  if (file->file != NULL) {
    fclose(file->file);
  }
  if (file->temporary != NULL && !file->finished) {
    unlink(file->temporary);
  }
  free(file->temporary);
  free(file->path);
  free(file);
}

nvfp4_status nvfp4_new_file_save(const char *path, const void *data, size_t bytes, nvfp4_reason *reason) {
  nvfp4_new_file *file = NULL;
  NVFP4_TRY(nvfp4_new_file_create(path, &file, reason));
  nvfp4_status status = nvfp4_new_file_write(file, data, bytes, reason);
  if (status == NVFP4_OK) {
    status = nvfp4_new_file_finish(file, reason);
  }
  nvfp4_new_file_destroy(file);
  return status;
}
