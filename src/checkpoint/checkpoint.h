/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the files of this room share. The way of a checkpoint:
 *
 *   checkpoint.c    opens path -> maps files -> safetensors.c or gguf.c append tensors -> sorted by name -> layers.c makes layers of them
 *   safetensors.c   header JSON -> tensors, strictly checked; safetensors_writer.c writes them
 *   gguf.c          header, metadata, tensors
 *   config_text.c   config files as Python writes them
 *   quant_config.c  config.json, hf_quant_config.json -> which scheme a layer has
 *   layers.c        tensor names + scheme -> layers; checks of scales
 *   rows.c          rows of an NVFP4 layer, in the canonical form; weights.c makes a whole layer of them
 *   tensor.c        element types, conversion to fp32
 */
#ifndef NVFP4_CHECKPOINT_CHECKPOINT_H
#define NVFP4_CHECKPOINT_CHECKPOINT_H

#include <nvfp4/nvfp4.h>

typedef struct nvfp4_mapped_file {
  char *path; /* as opened */
  char *name; /* last part of the path, for messages */
  const uint8_t *data;
  uint64_t bytes;
  bool borrowed; /* data is the caller's memory, not a mapping */
} nvfp4_mapped_file;

typedef struct nvfp4_gguf_metadata nvfp4_gguf_metadata; /* checkpoint/gguf.h */

struct nvfp4_checkpoint {
  char *path;
  char *folder;       /* the folder the files lie in: where tokenizer.json is looked for */
  char *config;       /* config.json as text; NULL: none */
  char *quant_config; /* hf_quant_config.json as text; NULL: none */
  nvfp4_mapped_file *files;
  size_t file_count;
  nvfp4_tensor *tensors; /* sorted by name (strcmp), no two alike */
  size_t tensor_count, tensor_capacity;
  nvfp4_gguf_metadata *gguf; /* NULL: not a GGUF file */
  struct json_t *metadata;   /* "__metadata__" of the safetensors files, of two values of a key the first; NULL: none */
  nvfp4_layer_info *layers;  /* sorted by name */
  size_t layer_count;
  char **warnings;
  size_t warning_count;
  struct nvfp4_arena *arena; /* strings and partitions that live as long as the checkpoint */
};

/* As nvfp4_checkpoint_open for one file, .safetensors or .gguf, that lies in memory already; `name` stands for its path. data is borrowed
 * until the checkpoint is closed. */
nvfp4_status nvfp4_checkpoint_open_memory(const char *name, const void *data, uint64_t bytes, uint32_t flags, nvfp4_checkpoint **out,
                                          nvfp4_reason *reason);

/* Memory that lives as long as the checkpoint, aligned for any type; NULL when there is none. strdup takes length bytes and adds a NUL. */
void *nvfp4_checkpoint_alloc(nvfp4_checkpoint *checkpoint, size_t bytes);
char *nvfp4_checkpoint_strdup(nvfp4_checkpoint *checkpoint, const char *text, size_t length);

nvfp4_status nvfp4_checkpoint_warn(nvfp4_checkpoint *checkpoint, nvfp4_reason *reason, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* Appends a tensor (name and dtype_name must live as long as the checkpoint). */
nvfp4_status nvfp4_checkpoint_add_tensor(nvfp4_checkpoint *checkpoint, const nvfp4_tensor *tensor, nvfp4_reason *reason);

/* Maps `path` read-only; returns its index in *file. */
nvfp4_status nvfp4_checkpoint_map(nvfp4_checkpoint *checkpoint, const char *path, size_t *file, nvfp4_reason *reason);

/* safetensors.c, gguf.c: append the tensors of file `file`; gguf also sets checkpoint->gguf. */
nvfp4_status nvfp4_safetensors_read(nvfp4_checkpoint *checkpoint, size_t file, nvfp4_reason *reason);
nvfp4_status nvfp4_gguf_read(nvfp4_checkpoint *checkpoint, size_t file, nvfp4_reason *reason);

/* A block of GGUF's NVFP4: 4 scales, then the codes of 4 times 16 elements. */
#define GGUF_BLOCK_ELEMS 64
#define GGUF_BLOCK_BYTES 36

/* layers.c: fills layers (from malloc; what they point to from the arena) from tensors and configs. flags: NVFP4_OPEN_*. */
nvfp4_status nvfp4_checkpoint_find_layers(nvfp4_checkpoint *checkpoint, uint32_t flags, nvfp4_reason *reason);

/* Names and types of a layout's tensors, by nvfp4_layout_kind. */
typedef struct nvfp4_convention {
  const char *weight, *scale, *global, *input; /* what follows the layer's name; NULL: it has none */
  nvfp4_dtype weight_dtype, scale_dtype;
  int k_per_column;       /* elements of K a column of the weight tensor holds */
  nvfp4_global_kind kind; /* of the global scales, if there are any */
  bool global_optional;   /* without: multiplier 1 */
} nvfp4_convention;
extern const nvfp4_convention nvfp4_conventions[];

/* layers.c: the tensor named base + suffix, or NULL. */
const nvfp4_tensor *nvfp4_checkpoint_companion(const nvfp4_checkpoint *checkpoint, const char *base, const char *suffix);

/* The text of metadata `key` ("__metadata__", or a string among GGUF's pairs), cut to size with its NUL; false if there is none. */
bool nvfp4_checkpoint_metadata(const nvfp4_checkpoint *checkpoint, const char *key, char *out, size_t size);

/* rows.c: rows first .. first+count of an NVFP4 layer in the canonical form: codes [count, k/2], scales [count, k/16]; either may be NULL. */
void nvfp4_layer_read_rows(const nvfp4_checkpoint *checkpoint, const nvfp4_layer_info *layer, int64_t first, int64_t count, uint8_t *codes,
                           uint8_t *scales);

/* layers.c: the tensor of an NVFP4 layer's block scales; NULL: they lie in the weight. */
const nvfp4_tensor *nvfp4_layer_scales(const nvfp4_checkpoint *checkpoint, const nvfp4_layer_info *layer);

/* tensor.c: bytes of `elements` elements; false if the type is blocked and elements is not a multiple of the block, or on overflow. */
bool nvfp4_dtype_bytes(nvfp4_dtype dtype, uint64_t elements, uint64_t *bytes);

#endif
