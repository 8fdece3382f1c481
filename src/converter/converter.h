/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the files of this room share. The way of a conversion (converter.c):
 *
 *   plan.c      the source's tensors -> items: NVFP4 layers, FP8 layers, everything else
 *   globals.c   global scales between kinds; the numbers of earlier layouts, kept as metadata
 *   emit.c      items -> the target's tensors, and what is lost on the way
 *   rows.c      the bytes of a target tensor, a band of rows at a time
 *   write.c     files: safetensors in shards, GGUF; configs
 */
#ifndef NVFP4_CONVERTER_CONVERTER_H
#define NVFP4_CONVERTER_CONVERTER_H

#include <nvfp4/convert.h>
#include <nvfp4/nvfp4.h>

#include "checkpoint/checkpoint.h"
#include "layouts/gguf_config.h"
#include "layouts/layouts.h"

#define CONVERT_MAX_PARTS 3 /* of a fused layer: q, k, v */
#define CONVERT_MAX_NAME 1024

/* A global scale of a layer as the first layout stored it. */
typedef struct nvfp4_stored_global {
  char *name; /* tensor that holds it, or would */
  nvfp4_global_kind kind;
  int count; /* one, or one a part; 0: the layout had none */
  float values[CONVERT_MAX_PARTS];
} nvfp4_stored_global;

typedef enum nvfp4_item_kind { ITEM_NVFP4, ITEM_FP8, ITEM_OTHER } nvfp4_item_kind;

typedef struct nvfp4_item {
  nvfp4_item_kind kind;
  const nvfp4_tensor *source;        /* the weight, or the other tensor */
  const nvfp4_layer_info *layer;     /* NULL: other */
  char *name;                        /* in the output: of the module, or of the other tensor */
  char *module;                      /* of layers: Hugging Face's name, by which metadata are found */
  int64_t rows, columns;             /* rows without padding; columns: elements a row */
  int64_t source_head, target_head;  /* rows of a head that GGUF interleaves, 0: none */
  nvfp4_stored_global weight, input; /* NVFP4; of input also FP8: count 0: none */
  const nvfp4_tensor *fp8_scale;     /* FP8; NULL: none */
  int64_t fp8_scales;                /* 0, 1, or one a row */
  nvfp4_dtype restored;              /* the type that metadata say it had before GGUF; NONE: its own */
  float rescale_to;                  /* NVFP4: multiplier that block scales are encoded anew for; 0: they keep their bits */
  bool dense;                        /* written as bf16: the target cannot hold it otherwise */
  bool w4a4;
  size_t shard;
} nvfp4_item;

typedef enum nvfp4_made_kind {
  MADE_VALUES, /* small, in `values` */
  MADE_COPY,   /* the bytes of `from`, rows perhaps in another order */
  MADE_CODES,
  MADE_SCALES,
  MADE_BLOCKS, /* GGUF's, of both */
  MADE_CAST    /* elements converted to `dtype`; of quantised weights their values */
} nvfp4_made_kind;

/* A tensor of the output. */
typedef struct nvfp4_made_tensor {
  nvfp4_made_kind kind;
  char *name;
  nvfp4_dtype dtype;
  const char *gguf_type; /* ggml's name of the type */
  int rank;
  int64_t shape[NVFP4_MAX_RANK];
  uint64_t bytes;
  const nvfp4_item *item;
  const nvfp4_tensor *from;
  void *values; /* owned */
  bool factor;  /* MADE_CAST: times the scales of the quantised weight */
} nvfp4_made_tensor;

typedef struct nvfp4_metadata_entry {
  char *key, *value;
  const nvfp4_item *item;
} nvfp4_metadata_entry;

typedef struct nvfp4_convert_job {
  nvfp4_convert_options options; /* complete */
  const nvfp4_checkpoint *source;
  bool to_gguf, from_gguf;
  bool translated; /* names and rows change between Hugging Face's and GGUF's */
  nvfp4_gguf_model gguf_model;
  nvfp4_item *items;
  size_t item_count;
  nvfp4_item rope; /* GGUF's factors of RoPE, which config.json has as numbers */
  nvfp4_made_tensor *made;
  size_t made_count, made_capacity;
  nvfp4_metadata_entry *entries;
  size_t entry_count, entry_capacity;
  size_t shard_count;
  bool no_tokenizer; /* GGUF: the source's cannot be translated, and that is allowed */
  char first_loss[384];
  uint64_t done;
  nvfp4_convert_stats stats;
} nvfp4_convert_job;

/* plan.c. Errors: nothing of NVFP4, what cannot be translated. */
nvfp4_status nvfp4_convert_plan(nvfp4_convert_job *job, nvfp4_reason *reason);
/* Frees everything that plan and emit made. */
void nvfp4_convert_free(nvfp4_convert_job *job);

/* globals.c: the multiplier, in double. */
double nvfp4_global_multiplier(float value, nvfp4_global_kind kind);
/* globals.c: the number of kind `to` for a number of kind `from`, rounded once. */
float nvfp4_global_convert(float value, nvfp4_global_kind from, nvfp4_global_kind to);
/* globals.c: fills weight and input of an NVFP4 item, from metadata where these fit the stored numbers, else from the layer. */
nvfp4_status nvfp4_convert_globals(const nvfp4_convert_job *job, nvfp4_item *item, nvfp4_reason *reason);
/* globals.c: "3a83126f", "3a83126f,3a8..." or "none". */
void nvfp4_global_text(const nvfp4_stored_global *global, char text[40]);

/* emit.c: fills made, entries and shards from the items. Tells losses. */
nvfp4_status nvfp4_convert_emit(nvfp4_convert_job *job, nvfp4_reason *reason);
__attribute__((format(printf, 4, 5))) void nvfp4_convert_tell(nvfp4_convert_job *job, bool loss, const char *tensor, const char *format,
                                                              ...);

/* rows.c: calls sink with the bytes of a tensor, in order. */
typedef nvfp4_status (*nvfp4_sink_fn)(void *cookie, const void *data, size_t bytes, nvfp4_reason *reason);
nvfp4_status nvfp4_convert_rows(const nvfp4_convert_job *job, const nvfp4_made_tensor *tensor, nvfp4_sink_fn sink, void *cookie,
                                nvfp4_reason *reason);
/* rows.c: row of the source that row `row` of the output is. */
int64_t nvfp4_convert_source_row(const nvfp4_item *item, int64_t row);
/* rows.c: the block scale that stands for `byte` in the row's partition once the global is item->rescale_to. */
uint8_t nvfp4_convert_rescale(const nvfp4_item *item, int64_t source_row, uint8_t byte);

/* write.c */
nvfp4_status nvfp4_convert_write(nvfp4_convert_job *job, const char *output, nvfp4_reason *reason);

#endif
