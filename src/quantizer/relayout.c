/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Layouts other than ModelOpt's and compressed-tensors': the checkpoint is made as ModelOpt's in a folder beside the output and then
 * converted, which keeps codes and block scales as they are; the disk holds both for a while.
 */
#define _POSIX_C_SOURCE 200809L
#include <dirent.h>
#include <nvfp4/convert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/reason.h"
#include "quantizer/quantizer.h"

bool nvfp4_quantize_relayouts(nvfp4_layout_kind layout) {
  return layout == NVFP4_LAYOUT_GGUF || layout == NVFP4_LAYOUT_MLX || layout == NVFP4_LAYOUT_COMFY;
}

char *nvfp4_quantize_folder_beside(const char *output, nvfp4_reason *reason) {
  size_t length = strlen(output);
  while (length > 1 && output[length - 1] == '/') {
    length--;
  }
  char *folder = malloc(length + 40);
  struct stat existing;
  if (folder == NULL) {
    nvfp4_reject(reason, NVFP4_E_NOMEM, "out of memory for the output folder");
    return NULL;
  }
  snprintf(folder, length + 40, "%.*s.%ld.modelopt.tmp", (int)length, output, (long)getpid());
  if (stat(folder, &existing) == 0) {
    nvfp4_reject(reason, NVFP4_E_IO, "%s exists already; it is needed for a while: remove it", folder);
    free(folder);
    return NULL;
  }
  return folder;
}

/* The folder holds files alone: those that the run itself made. */
static void remove_folder(const char *path) {
  DIR *folder = opendir(path);
  if (folder == NULL) {
    return;
  }
  for (struct dirent *entry = readdir(folder); entry != NULL; entry = readdir(folder)) {
    if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0) {
      unlinkat(dirfd(folder), entry->d_name, 0);
    }
  }
  closedir(folder);
  rmdir(path);
}

nvfp4_status nvfp4_quantize_relayout(const char *folder, const char *output, nvfp4_layout_kind layout, const char *tool,
                                     nvfp4_reason *reason) {
  const nvfp4_convert_options options = {.struct_size = sizeof options, .layout = layout, .tool = tool};
  nvfp4_status status = nvfp4_convert_checkpoint(folder, output, &options, NULL, reason);
  remove_folder(folder);
  return status;
}
