/* SPDX-License-Identifier: Apache-2.0 */
/* nvfp4 inspect: the layers of a checkpoint, their scales, and what is wrong with them. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "common.h"

/* Block scales of a layer, counted by their E4M3 byte. */
typedef struct scale_counts {
  uint64_t of[256];
} scale_counts;

enum { E4M3_FIRST_NORMAL = 0x08, E4M3_LARGEST = 0x7E };

/* A positive finite E4M3 code: 4 exponent bits with bias 7, 3 bits of mantissa. */
static double e4m3_value(int code) { return code < E4M3_FIRST_NORMAL ? ldexp(code, -9) : ldexp(8 + (code & 7), (code >> 3) - 10); }

static uint64_t count_range(const scale_counts *counts, int first, int last) {
  uint64_t sum = 0;
  for (int code = first; code <= last; code++) {
    sum += counts->of[code];
  }
  return sum;
}

static double smallest(const scale_counts *counts) {
  int code = 1;
  while (code <= E4M3_LARGEST && counts->of[code] == 0) {
    code++;
  }
  return code <= E4M3_LARGEST ? e4m3_value(code) : 0;
}

static double largest(const scale_counts *counts) {
  int code = E4M3_LARGEST;
  while (code > 0 && counts->of[code] == 0) {
    code--;
  }
  return e4m3_value(code);
}

static uint64_t count_bad(const scale_counts *counts) { return count_range(counts, E4M3_LARGEST + 1, 255); }

typedef struct inspection {
  const cli *run;
  const nvfp4_checkpoint *checkpoint;
  scale_counts *counts; /* of each layer; zero for those that are not NVFP4 */
  size_t layer_count;
  json_t *trouble, *warnings; /* sentences; warnings do not fail the inspection */
} inspection;

static bool is_nvfp4(const nvfp4_layer_info *info) { return info->mode == NVFP4_MODE_W4A4 || info->mode == NVFP4_MODE_W4A16; }

/* ------------------------------------------------------------------------------------------------------------------ reading */

static bool count_scales(inspection *in, const nvfp4_layer_info *info, scale_counts *counts, int *code) {
  nvfp4_weights weights = {.struct_size = sizeof weights};
  void *owned = NULL;
  nvfp4_reason reason = {0};
  if (nvfp4_checkpoint_weights(in->checkpoint, info, &weights, &owned, &reason) != NVFP4_OK) {
    *code = cli_fail_reason(in->run, &reason);
    return false;
  }
  for (int64_t row = 0; row < weights.n; row++) {
    const uint8_t *scales = weights.scales + row * weights.scales_stride_bytes;
    for (int64_t block = 0; block < weights.k / NVFP4_BLOCK; block++) {
      counts->of[scales[block]]++;
    }
  }
  nvfp4_weights_free(owned);
  return true;
}

static void note_trouble(inspection *in, const nvfp4_layer_info *info, const scale_counts *counts) {
  char text[1024];
  uint64_t blocks = count_range(counts, 0, 255);
  if (count_bad(counts) > 0) {
    snprintf(text, sizeof text, "layer %s: %llu of %llu block scales are NaN or negative; it cannot be run", info->name,
             (unsigned long long)count_bad(counts), (unsigned long long)blocks);
    json_array_append_new(in->trouble, cli_json_text(text));
  } else if (counts->of[0] == blocks) {
    snprintf(text, sizeof text, "layer %s: every block scale is zero: all its weights are 0", info->name);
    json_array_append_new(in->warnings, cli_json_text(text));
  }
}

static bool read_layers(inspection *in, int *code) {
  cli_progress progress;
  cli_progress_begin(&progress, "layers");
  bool sound = true;
  for (size_t i = 0; i < in->layer_count && sound; i++) {
    const nvfp4_layer_info *info = nvfp4_checkpoint_layer(in->checkpoint, i);
    if (is_nvfp4(info)) {
      sound = count_scales(in, info, &in->counts[i], code);
      note_trouble(in, info, &in->counts[i]);
    }
    cli_progress_step(&progress, i + 1, in->layer_count);
  }
  cli_progress_end(&progress);
  return sound;
}

/* -------------------------------------------------------------------------------------------------------------------- JSON */

static json_t *global_json(nvfp4_global global) {
  if (global.value == 0) {
    return json_null();
  }
  return json_pack("{s:o, s:s}", "value", cli_json_real((double)global.value), "kind", nvfp4_global_kind_name(global.kind));
}

static json_t *layer_json(const nvfp4_layer_info *info, const scale_counts *counts) {
  json_t *partitions = json_array(), *scales = json_null();
  for (int64_t i = 0; is_nvfp4(info) && i < info->partition_count; i++) {
    const nvfp4_partition *part = &info->partitions[i];
    json_array_append_new(
        partitions, json_pack("{s:I, s:I, s:o, s:o}", "n_first", (json_int_t)part->n_first, "n_rows", (json_int_t)part->n_rows, "global",
                              global_json(part->weight), "input_global", global_json(part->input)));
  }
  if (is_nvfp4(info)) {
    scales = json_pack("{s:I, s:o, s:o, s:I, s:I, s:I, s:I}", "blocks", (json_int_t)count_range(counts, 0, 255), "min",
                       cli_json_real(smallest(counts)), "max", cli_json_real(largest(counts)), "zero", (json_int_t)counts->of[0],
                       "subnormal", (json_int_t)count_range(counts, 1, E4M3_FIRST_NORMAL - 1), "saturated",
                       (json_int_t)counts->of[E4M3_LARGEST], "nan_or_negative", (json_int_t)count_bad(counts));
  }
  return json_pack("{s:o, s:I, s:I, s:s, s:o, s:o, s:o, s:o, s:o}", "name", cli_json_text(info->name), "N", (json_int_t)info->n, "K",
                   (json_int_t)info->k, "mode", nvfp4_mode_name(info->mode), "layout",
                   cli_json_text(info->layout != NVFP4_LAYOUT_NONE ? nvfp4_layout_kind_name(info->layout) : NULL), "partitions", partitions,
                   "bias", cli_json_text(info->bias != NULL ? nvfp4_dtype_name(info->bias->dtype) : NULL), "scales", scales, "note",
                   cli_json_text(info->note));
}

static void print_inspection_json(inspection *in) {
  json_t *layers = json_array();
  for (size_t i = 0; i < in->layer_count; i++) {
    json_array_append_new(layers, layer_json(nvfp4_checkpoint_layer(in->checkpoint, i), &in->counts[i]));
  }
  cli_print_json(json_pack("{s:o, s:I, s:o, s:O, s:O}", "checkpoint", cli_json_text(nvfp4_checkpoint_path(in->checkpoint)), "tensors",
                           (json_int_t)nvfp4_checkpoint_tensor_count(in->checkpoint), "layers", layers, "warnings", in->warnings, "trouble",
                           in->trouble));
}

/* -------------------------------------------------------------------------------------------------------------------- text */

/* As stored: a divisor as "1/12544". */
static const char *global_text(nvfp4_global global, char text[32]) {
  if (global.value == 0) {
    return "-";
  }
  snprintf(text, 32, "%s%.4g%s", global.kind == NVFP4_GLOBAL_DIVISOR ? "1/" : "", (double)global.value,
           global.kind == NVFP4_GLOBAL_AMAX ? "/2688" : "");
  return text;
}

static void add_layer(cli_table *table, const nvfp4_layer_info *info, const scale_counts *counts) {
  char a[32], b[32];
  const nvfp4_partition *parts = info->partitions;
  bool single = info->partition_count == 1;
  cli_table_add(table, "%s", info->name);
  cli_table_add(table, "%lld", (long long)info->n);
  cli_table_add(table, "%lld", (long long)info->k);
  cli_table_add(table, "%s", single ? global_text(parts[0].weight, a) : "");
  cli_table_add(table, "%s", single ? global_text(parts[0].input, b) : "");
  cli_table_add(table, "%.4g", smallest(counts));
  cli_table_add(table, "%.4g", largest(counts));
  cli_table_add(table, "%llu", (unsigned long long)counts->of[0]);
  cli_table_add(table, "%llu", (unsigned long long)count_range(counts, 1, E4M3_FIRST_NORMAL - 1));
  cli_table_add(table, "%llu", (unsigned long long)counts->of[E4M3_LARGEST]);
  for (int64_t i = 0; !single && i < info->partition_count; i++) {
    cli_table_add(table, "  rows from %lld", (long long)parts[i].n_first);
    cli_table_add(table, "%lld", (long long)parts[i].n_rows);
    cli_table_add(table, "%s", "");
    cli_table_add(table, "%s", global_text(parts[i].weight, a));
    cli_table_add(table, "%s", global_text(parts[i].input, b));
    for (int column = 5; column < 10; column++) {
      cli_table_add(table, "%s", "");
    }
  }
}

/* Layers of one kind of file, mode and note: a table of NVFP4 layers, or names and shapes of others. */
static void print_kind(const inspection *in, size_t first, bool *told) {
  const nvfp4_layer_info *like = nvfp4_checkpoint_layer(in->checkpoint, first);
  bool nvfp4 = is_nvfp4(like);
  cli_table table = {.columns = nvfp4 ? 10 : 4, .right = nvfp4 ? "lrrrrrrrrr" : "lrrl"};
  if (nvfp4) {
    static const char *const heads[] = {"layer", "N", "K", "global", "input", "min", "max", "zero", "subn", "448"};
    for (int i = 0; i < table.columns; i++) {
      cli_table_add(&table, "%s", heads[i]);
    }
  }
  size_t count = 0;
  for (size_t i = first; i < in->layer_count; i++) {
    const nvfp4_layer_info *info = nvfp4_checkpoint_layer(in->checkpoint, i);
    if (told[i] || info->layout != like->layout || info->mode != like->mode || strcmp(info->note, like->note) != 0) {
      continue;
    }
    told[i] = true;
    count++;
    if (nvfp4) {
      add_layer(&table, info, &in->counts[i]);
    } else {
      cli_table_add(&table, "%s", info->name);
      cli_table_add(&table, "%lld", (long long)info->n);
      cli_table_add(&table, "%lld", (long long)info->k);
      cli_table_add(&table, "%s", info->weight != NULL ? info->weight->dtype_name : "");
    }
  }
  char head[1024];
  if (nvfp4) {
    snprintf(head, sizeof head, "%zu NVFP4 layer%s, %s, %s%s%s", count, count == 1 ? "" : "s", nvfp4_layout_kind_name(like->layout),
             nvfp4_mode_name(like->mode), like->note[0] != '\0' ? ": " : "", like->note);
  } else {
    snprintf(head, sizeof head, "%zu layer%s not NVFP4: %s", count, count == 1 ? "" : "s",
             like->note[0] != '\0' ? like->note : nvfp4_mode_name(like->mode));
  }
  cli_print_wrapped(stdout, 0, 2, head);
  cli_table_print(&table, 2);
  putchar('\n');
}

static int print_inspection(const inspection *in) {
  bool *told = calloc(in->layer_count + 1, sizeof *told);
  if (told == NULL) {
    return cli_fail(in->run, NVFP4_E_NOMEM, "out of memory");
  }
  /* NVFP4 layers first. */
  for (int pass = 0; pass < 2; pass++) {
    for (size_t i = 0; i < in->layer_count; i++) {
      if (!told[i] && is_nvfp4(nvfp4_checkpoint_layer(in->checkpoint, i)) == (pass == 0)) {
        print_kind(in, i, told);
      }
    }
  }
  free(told);
  printf("%zu tensors, %zu layers", nvfp4_checkpoint_tensor_count(in->checkpoint), in->layer_count);
  size_t trouble = json_array_size(in->trouble);
  printf(trouble == 0 ? "; no trouble found\n" : "; trouble:\n");
  for (size_t i = 0; i < trouble; i++) {
    cli_print_wrapped(stdout, 2, 4, json_string_value(json_array_get(in->trouble, i)));
  }
  for (size_t i = 0; i < json_array_size(in->warnings); i++) {
    printf("warning: ");
    cli_print_wrapped(stdout, 0, 4, json_string_value(json_array_get(in->warnings, i)));
  }
  return CLI_DONE;
}

static int inspect(inspection *in) {
  int code = CLI_DONE;
  in->layer_count = nvfp4_checkpoint_layer_count(in->checkpoint);
  in->counts = calloc(in->layer_count + 1, sizeof *in->counts);
  if (in->counts == NULL) {
    return cli_fail(in->run, NVFP4_E_NOMEM, "out of memory for the counts of %zu layers", in->layer_count);
  }
  for (size_t i = 0; nvfp4_checkpoint_warning(in->checkpoint, i) != NULL; i++) {
    json_array_append_new(in->warnings, cli_json_text(nvfp4_checkpoint_warning(in->checkpoint, i)));
  }
  if (!read_layers(in, &code)) {
    return code;
  }
  if (in->run->json) {
    print_inspection_json(in);
  } else if ((code = print_inspection(in)) != CLI_DONE) {
    return code;
  }
  return json_array_size(in->trouble) > 0 ? CLI_CHECK_FAILED : CLI_DONE;
}

static int run_inspect(cli *run, int argc, char **argv) {
  const char *path = NULL;
  const cli_syntax syntax = {.operands = &path, .least = 1, .most = 1};
  int code;
  if (!cli_parse(run, argc, argv, &syntax, &code)) {
    return code;
  }
  nvfp4_checkpoint *checkpoint;
  /* Bad scales are counted here, in every layer, instead of ending at the first. */
  if (!cli_open(run, path, NVFP4_OPEN_SKIP_SCALES, &checkpoint, &code)) {
    return code;
  }
  inspection in = {.run = run, .checkpoint = checkpoint, .trouble = json_array(), .warnings = json_array()};
  code = inspect(&in);
  free(in.counts);
  json_decref(in.trouble);
  json_decref(in.warnings);
  nvfp4_checkpoint_close(checkpoint);
  return code;
}

const cli_command cli_inspect = {
    .name = "inspect",
    .operands = "CKPT",
    .summary = "layers of a checkpoint, their layouts and scales, and trouble",
    .description =
        "global, input: the second-level scales of weights and activations as stored; 1/x is a divisor (compressed-tensors), "
        "x/2688 an amax (MLX), - none. min, max: of the nonzero block scales. zero, subn, 448: block scales that are zero, "
        "subnormal (below 2^-6) or the largest E4M3 value. Exit code 1: block scales are NaN or negative.",
    .examples =
        "  nvfp4 inspect model/\n"
        "  nvfp4 inspect model.gguf --json\n",
    .run = run_inspect,
};
