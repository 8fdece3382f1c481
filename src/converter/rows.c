/* SPDX-License-Identifier: Apache-2.0 */
/* The bytes of an output tensor. Rows are read from the mapping, turned over in a band of a few MiB, and handed on; what keeps its bytes and
 * its order goes from the mapping straight to the file. */
#define _DEFAULT_SOURCE /* madvise */
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/reason.h"
#include "converter/converter.h"
#include "format/e2m1.h"
#include "format/e4m3.h"
#include "format/half.h"
#include "format/scale_layout.h"

enum {
  BAND_BYTES = 1 << 22,  /* of output, about, in whole rows */
  PIECE_BYTES = 1 << 24, /* of what is copied straight */
  TILE_ROWS = 128        /* of Comfy's scales */
};

int64_t nvfp4_convert_source_row(const nvfp4_item *item, int64_t row) {
  return nvfp4_gguf_source_row(nvfp4_hf_source_row(row, item->target_head), item->source_head);
}

/* Tells the system that these bytes of the mapping are wanted now, all at once: page faults one by one halve the speed. Or that they are not
 * wanted any more, so that the process does not seem to hold the whole file. Advice only: what fails does no harm. */
static void advise(const uint8_t *data, uint64_t bytes, bool wanted) {
  uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE), begin = (uintptr_t)data / page * page, end = (uintptr_t)data + (uintptr_t)bytes;
#ifdef MADV_POPULATE_READ
  if (wanted && madvise((void *)begin, end - begin, MADV_POPULATE_READ) == 0) {
    return;
  }
#endif
  (void)madvise((void *)begin, end - begin, wanted ? MADV_WILLNEED : MADV_DONTNEED);
}

static const nvfp4_partition *partition_of(const nvfp4_item *item, int64_t source_row) {
  const nvfp4_partition *part = item->layer->partitions;
  while (source_row >= part->n_first + part->n_rows) {
    part++;
  }
  return part;
}

static double multiplier_of(const nvfp4_item *item, int64_t source_row) {
  nvfp4_global global = partition_of(item, source_row)->weight;
  return nvfp4_global_multiplier(global.value, global.kind);
}

uint8_t nvfp4_convert_rescale(const nvfp4_item *item, int64_t source_row, uint8_t byte) {
  return nvfp4_e4m3_from_f32((float)((double)nvfp4_e4m3_to_f32(byte) * multiplier_of(item, source_row) / (double)item->rescale_to));
}

/* -------------------------------------------------------------------------------------------------------------------- bands */

typedef struct band {
  const nvfp4_convert_job *job;
  const nvfp4_made_tensor *made;
  const nvfp4_item *item;
  int64_t row_bytes;       /* of the output */
  uint8_t *out;            /* rows of the output */
  uint8_t *codes, *scales; /* canonical rows; codes also holds a row of fp32 for casts */
  float *values;           /* a row */
} band;

/* Whether rows lie in the source as in the output. */
static bool in_order(const nvfp4_item *item) { return item->source_head == 0 && item->target_head == 0; }

static void read_canonical(const band *b, int64_t first, int64_t count, bool codes, bool scales) {
  const nvfp4_item *item = b->item;
  const nvfp4_checkpoint *source = b->job->source;
  int64_t code_bytes = item->columns / 2, scale_bytes = item->columns / NVFP4_BLOCK;
  if (in_order(item)) {
    nvfp4_layer_read_rows(source, item->layer, first, count, codes ? b->codes : NULL, scales ? b->scales : NULL);
  } else {
    for (int64_t i = 0; i < count; i++) {
      nvfp4_layer_read_rows(source, item->layer, nvfp4_convert_source_row(item, first + i), 1, codes ? b->codes + i * code_bytes : NULL,
                            scales ? b->scales + i * scale_bytes : NULL);
    }
  }
  for (int64_t i = 0; scales && item->rescale_to > 0 && i < count; i++) {
    int64_t row = nvfp4_convert_source_row(item, first + i);
    for (int64_t j = 0; j < scale_bytes; j++) {
      b->scales[i * scale_bytes + j] = nvfp4_convert_rescale(item, row, b->scales[i * scale_bytes + j]);
    }
  }
}

/* The low 32 bits' nibbles, each in a byte of its own. */
static uint64_t spread(uint64_t nibbles) {
  nibbles = (nibbles | nibbles << 16) & 0x0000FFFF0000FFFFu;
  nibbles = (nibbles | nibbles << 8) & 0x00FF00FF00FF00FFu;
  return (nibbles | nibbles << 4) & 0x0F0F0F0F0F0F0F0Fu;
}

/* ggml's blocks: 4 scales, then for each 16 elements 8 bytes, j low and j + 8 high. */
static void pack_blocks(const band *b, int64_t count) {
  int64_t blocks = count * (b->item->columns / GGUF_BLOCK_ELEMS);
  for (int64_t i = 0; i < blocks; i++) {
    uint8_t *out = b->out + i * GGUF_BLOCK_BYTES;
    memcpy(out, b->scales + 4 * i, 4);
    for (int64_t j = 0; j < 4; j++) {
      uint64_t q;
      memcpy(&q, b->codes + 32 * i + 8 * j, sizeof q);
      q = spread(q & 0xFFFFFFFFu) | spread(q >> 32) << 4;
      memcpy(out + 4 + 8 * j, &q, sizeof q);
    }
  }
}

/* A row of values: fp32 of the source's elements; with `factor` times the scales of a quantised weight. */
static nvfp4_status read_values(const band *b, int64_t row, nvfp4_reason *reason) {
  const nvfp4_item *item = b->item;
  int64_t columns = item->columns, from = nvfp4_convert_source_row(item, row);
  if (item->kind == ITEM_NVFP4) {
    double multiplier = multiplier_of(item, from);
    nvfp4_layer_read_rows(b->job->source, item->layer, from, 1, b->codes, b->scales);
    for (int64_t k = 0; k < columns; k++) {
      uint8_t code = (uint8_t)(b->codes[k / 2] >> (k % 2 * 4) & 15);
      b->values[k] = (float)((double)nvfp4_e2m1_to_f32(code) * (double)nvfp4_e4m3_to_f32(b->scales[k / NVFP4_BLOCK]) * multiplier);
    }
    return NVFP4_OK;
  }
  NVFP4_TRY(nvfp4_tensor_to_f32(item->source, (uint64_t)(from * columns), (uint64_t)columns, b->values, reason));
  if (b->made->factor) {
    float factor;
    NVFP4_TRY(nvfp4_tensor_to_f32(item->fp8_scale, item->fp8_scales > 1 ? (uint64_t)from : 0, 1, &factor, reason));
    for (int64_t k = 0; k < columns; k++) {
      b->values[k] *= factor;
    }
  }
  return NVFP4_OK;
}

static nvfp4_status cast(const band *b, int64_t first, int64_t count, nvfp4_reason *reason) {
  for (int64_t i = 0; i < count; i++) {
    NVFP4_TRY(read_values(b, first + i, reason));
    uint8_t *out = b->out + i * b->row_bytes;
    if (b->made->dtype == NVFP4_DTYPE_F8_E4M3) {
      for (int64_t k = 0; k < b->item->columns; k++) {
        out[k] = nvfp4_e4m3_from_f32(b->values[k]);
      }
    } else {
      nvfp4_from_f32(b->values, b->made->dtype, out, b->item->columns);
    }
  }
  return NVFP4_OK;
}

/* Rows first .. first+count of the output tensor into b->out. */
static nvfp4_status fill(const band *b, int64_t first, int64_t count, nvfp4_reason *reason) {
  const nvfp4_item *item = b->item;
  bool comfy = b->job->options.layout == NVFP4_LAYOUT_COMFY;
  int64_t columns = item->columns, left = item->rows - first, there = left < 0 ? 0 : left < count ? left : count;
  const uint8_t *data = b->made->from->data;
  switch (b->made->kind) {
    case MADE_VALUES:
      break;
    case MADE_COPY:
      for (int64_t i = 0; i < count; i++) {
        memcpy(b->out + i * b->row_bytes, data + nvfp4_convert_source_row(item, first + i) * b->row_bytes, (size_t)b->row_bytes);
      }
      break;
    case MADE_CODES:
      read_canonical(b, first, there, true, false);
      for (int64_t i = 0; i < there * (columns / 2); i++) {
        b->out[i] = comfy ? (uint8_t)(b->codes[i] >> 4 | b->codes[i] << 4) : b->codes[i];
      }
      memset(b->out + there * (columns / 2), 0, (size_t)((count - there) * (columns / 2))); /* Comfy's padding */
      break;
    case MADE_SCALES:
      read_canonical(b, first, there, false, true);
      if (comfy) { /* a band is whole tiles */
        nvfp4_scales_from_linear(NVFP4_SCALES_128X4, b->scales, columns / NVFP4_BLOCK, there, columns / NVFP4_BLOCK, b->out);
      } else {
        memcpy(b->out, b->scales, (size_t)(count * (columns / NVFP4_BLOCK)));
      }
      break;
    case MADE_BLOCKS:
      read_canonical(b, first, count, true, true);
      pack_blocks(b, count);
      break;
    case MADE_CAST:
      return cast(b, first, count, reason);
  }
  return NVFP4_OK;
}

static nvfp4_status run_bands(const nvfp4_convert_job *job, const nvfp4_made_tensor *made, nvfp4_sink_fn sink, void *cookie,
                              nvfp4_reason *reason) {
  const nvfp4_item *item = made->item;
  int64_t rows = made->rank > 0 ? made->shape[0] : 1;
  if (rows == 0 || made->bytes == 0) {
    return NVFP4_OK;
  }
  band b = {.job = job, .made = made, .item = item, .row_bytes = (int64_t)(made->bytes / (uint64_t)rows)};
  int64_t band_rows = BAND_BYTES / b.row_bytes > 1 ? BAND_BYTES / b.row_bytes : 1;
  bool tiles = made->kind == MADE_SCALES && job->options.layout == NVFP4_LAYOUT_COMFY;
  band_rows = tiles ? nvfp4_round_up(band_rows, TILE_ROWS) : band_rows;
  band_rows = band_rows < rows ? band_rows : rows;
  bool nvfp4 = item->kind == ITEM_NVFP4;
  b.out = malloc((size_t)(band_rows * b.row_bytes));
  b.codes = malloc(nvfp4 && made->kind != MADE_SCALES ? (size_t)(band_rows * (item->columns / 2)) : 1);
  b.scales = malloc(nvfp4 ? (size_t)(band_rows * (item->columns / NVFP4_BLOCK)) : 1);
  b.values = malloc(made->kind == MADE_CAST ? (size_t)item->columns * sizeof(float) : 1);
  nvfp4_status status = NVFP4_OK;
  if (b.out == NULL || b.codes == NULL || b.scales == NULL || b.values == NULL) {
    status = nvfp4_reject(reason, NVFP4_E_NOMEM, "no memory for %lld rows of %s", (long long)band_rows, made->name);
  }
  for (int64_t first = 0; first < rows && status == NVFP4_OK; first += band_rows) {
    int64_t count = rows - first < band_rows ? rows - first : band_rows;
    /* About the rows' share of the source; of a band's scales that lie elsewhere the system finds the little by itself. */
    uint64_t share = made->from->bytes / (uint64_t)rows, at = share * (uint64_t)first;
    const uint8_t *data = (const uint8_t *)made->from->data + at;
    advise(data, share * (uint64_t)count, true);
    status = fill(&b, first, count, reason);
    advise(data, share * (uint64_t)count, false);
    if (status == NVFP4_OK) {
      status = sink(cookie, b.out, (size_t)(count * b.row_bytes), reason);
    }
  }
  free(b.out);
  free(b.codes);
  free(b.scales);
  free(b.values);
  return status;
}

/* The bytes as they lie in the mapping; NULL if they must be made. */
static const uint8_t *straight(const nvfp4_convert_job *job, const nvfp4_made_tensor *made) {
  const nvfp4_item *item = made->item;
  nvfp4_layout_kind layout = item->layer != NULL ? item->layer->layout : NVFP4_LAYOUT_NONE;
  bool canonical = layout != NVFP4_LAYOUT_GGUF && layout != NVFP4_LAYOUT_COMFY && job->options.layout != NVFP4_LAYOUT_COMFY;
  if (made->kind == MADE_VALUES) {
    return made->values;
  }
  if (!in_order(item)) {
    return NULL;
  }
  if (made->kind == MADE_COPY || (made->kind == MADE_CODES && canonical)) {
    return made->from->data;
  }
  bool scales = made->kind == MADE_SCALES && canonical && !(item->rescale_to > 0);
  return scales ? nvfp4_layer_scales(job->source, item->layer)->data : NULL;
}

nvfp4_status nvfp4_convert_rows(const nvfp4_convert_job *job, const nvfp4_made_tensor *made, nvfp4_sink_fn sink, void *cookie,
                                nvfp4_reason *reason) {
  const uint8_t *data = straight(job, made);
  if (data == NULL) {
    return run_bands(job, made, sink, cookie, reason);
  }
  for (uint64_t done = 0; done < made->bytes; done += PIECE_BYTES) {
    uint64_t left = made->bytes - done, piece = left < PIECE_BYTES ? left : PIECE_BYTES;
    if (made->kind != MADE_VALUES) {
      advise(data + done, piece, true);
    }
    NVFP4_TRY(sink(cookie, data + done, (size_t)piece, reason));
    if (made->kind != MADE_VALUES) {
      advise(data + done, piece, false);
    }
  }
  return NVFP4_OK;
}
