/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Opens a checkpoint (a folder, a .safetensors, an index .json or a .gguf), lists its linear layers, and runs the first NVFP4 one:
 *   03_load_checkpoint [PATH]     without PATH: tests/golden/modelopt_nvfp4, from the repository's root
 */
#include <nvfp4/nvfp4.h>
#include <stdio.h>
#include <stdlib.h>

static nvfp4_reason reason;

static void must(nvfp4_status status) {
  if (status != NVFP4_OK) {
    fprintf(stderr, "%s: %s\n", nvfp4_status_name(status), reason.text);
    exit(1);
  }
}

static void run(nvfp4_context *context, const nvfp4_checkpoint *checkpoint, const nvfp4_layer_info *info) {
  /* Shape, mode, global scales and bias are the checkpoint's; the element types are ours to choose. */
  nvfp4_layer_desc desc;
  must(nvfp4_layer_desc_from_checkpoint(info, &desc, &reason));
  desc.x_dtype = NVFP4_DTYPE_F32;
  desc.y_dtype = NVFP4_DTYPE_F32;

  nvfp4_plan *plan;
  must(nvfp4_init_linear_kernel(context, &desc, NULL, &plan, NULL, &reason));
  printf("\n%s with kernel %s\n", info->name, nvfp4_plan_kernel(plan, 1));

  nvfp4_weights weights;
  void *owned; /* NULL if the weights are the mapped file's own bytes */
  nvfp4_layer *layer;
  must(nvfp4_checkpoint_weights(checkpoint, info, &weights, &owned, &reason));
  must(nvfp4_layer_create(context, plan, &weights, &layer, &reason));

  float *x = malloc((size_t)info->k * sizeof *x);
  float *y = malloc((size_t)info->n * sizeof *y);
  size_t bytes = nvfp4_layer_workspace_bytes(layer, 1);
  void *workspace = aligned_alloc(64, (bytes + 64) / 64 * 64);
  if (x == NULL || y == NULL || workspace == NULL) {
    fputs("out of memory\n", stderr);
    exit(1);
  }
  for (int64_t k = 0; k < info->k; k++) {
    x[k] = 1.0f;
  }
  const nvfp4_apply_args args = {.struct_size = sizeof args,
                                 .m = 1,
                                 .x = x,
                                 .ldx_elems = info->k,
                                 .bias = info->bias != NULL ? info->bias->data : NULL,
                                 .y = y,
                                 .ldy_elems = info->n,
                                 .workspace = workspace,
                                 .workspace_bytes = bytes};
  must(nvfp4_layer_apply(layer, &args, &reason));
  printf("y of x = (1, 1, ...) begins %g %g %g %g\n", (double)y[0], (double)y[1], (double)y[2], (double)y[3]);

  free(workspace);
  free(y);
  free(x);
  nvfp4_layer_destroy(layer);
  nvfp4_weights_free(owned);
  nvfp4_plan_free(plan);
}

int main(int argc, char **argv) {
  const char *path = argc > 1 ? argv[1] : "tests/golden/modelopt_nvfp4";
  nvfp4_checkpoint *checkpoint;
  must(nvfp4_checkpoint_open(path, 0, &checkpoint, &reason));

  const nvfp4_layer_info *first = NULL;
  for (size_t i = 0; i < nvfp4_checkpoint_layer_count(checkpoint); i++) {
    const nvfp4_layer_info *info = nvfp4_checkpoint_layer(checkpoint, i);
    printf("%-40s %6lld x %-6lld %-12s %s\n", info->name, (long long)info->n, (long long)info->k, nvfp4_mode_name(info->mode), info->note);
    if (first == NULL && (info->mode == NVFP4_MODE_W4A4 || info->mode == NVFP4_MODE_W4A16)) {
      first = info;
    }
  }

  if (first != NULL) {
    nvfp4_context *context;
    must(nvfp4_context_create(NULL, &context, &reason));
    run(context, checkpoint, first);
    nvfp4_context_destroy(context);
  } else {
    puts("no NVFP4 layer here");
  }
  nvfp4_checkpoint_close(checkpoint);
  return 0;
}
