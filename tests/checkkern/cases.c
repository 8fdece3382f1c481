/* SPDX-License-Identifier: Apache-2.0 */
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "checkkern.h"

/* ------------------------------------------------------------------------------------------------------------------ as a text */

typedef struct field {
  const char *name;
  size_t offset;
  const char *words; /* of the values 0, 1, ..., separated by '|'; NULL: a number */
  int64_t preset;
} field;

#define DTYPES "none|f32|f16|bf16"
#define VALUES "gauss|max|alternating|zeros|one_hot|wide|huge|subnormal|tiny|nan|inf"
static const field fields[] = {
    {"m", offsetof(ck_case, m), NULL, 1},
    {"n", offsetof(ck_case, n), NULL, 16},
    {"k", offsetof(ck_case, k), NULL, 16},
    {"x", offsetof(ck_case, x), DTYPES, NVFP4_DTYPE_F32},
    {"y", offsetof(ck_case, y), DTYPES, NVFP4_DTYPE_F32},
    {"bias", offsetof(ck_case, bias), DTYPES, NVFP4_DTYPE_NONE},
    {"codes", offsetof(ck_case, codes), "random|max|alternating|minus_zero|all|one_hot", CK_CODES_RANDOM},
    {"scales", offsetof(ck_case, scales), "typical|any|max|zero|subnormal|extremes", CK_SCALES_TYPICAL},
    {"w", offsetof(ck_case, w), DTYPES, NVFP4_DTYPE_NONE},
    {"weights", offsetof(ck_case, weights), VALUES, CK_VALUES_GAUSS},
    {"values", offsetof(ck_case, values), VALUES, CK_VALUES_GAUSS},
    {"quantised", offsetof(ck_case, quantised), "no|linear|128x4|8x4", CK_X_PLAIN},
    {"alpha", offsetof(ck_case, alpha), "one|partitions|rows|tiny", CK_ALPHA_ONE},
    {"x_gap", offsetof(ck_case, x_gap), NULL, 0},
    {"y_gap", offsetof(ck_case, y_gap), NULL, 0},
    {"threads", offsetof(ck_case, threads), NULL, 1},
    {"guard", offsetof(ck_case, guard), "after|before|odd", CK_GUARD_AFTER},
    {"caller", offsetof(ck_case, caller), "plain|flushes", CK_CALLER_PLAIN},
    {"check", offsetof(ck_case, check), "values|repeat|threads|batch", CK_CHECK_VALUES},
    {"seed", offsetof(ck_case, seed), NULL, 0},
};
enum { FIELDS = sizeof fields / sizeof fields[0] };

static int64_t *member(const ck_case *c, const field *f) { return (int64_t *)(void *)((char *)c + f->offset); }

/* Word number `value`; length 0 past the end. */
static const char *word_of(const char *words, int64_t value, int *length) {
  while (value > 0 && *words != '\0') {
    words += strcspn(words, "|");
    words += *words == '|';
    value--;
  }
  *length = (int)strcspn(words, "|");
  return words;
}

void ck_case_print(const ck_case *c, char text[CK_CASE_TEXT]) {
  size_t used = 0;
  for (int i = 0; i < FIELDS; i++) {
    const field *f = &fields[i];
    int64_t value = *member(c, f);
    if (i >= 3 && value == f->preset) {
      continue;
    }
    int length;
    const char *word = f->words != NULL ? word_of(f->words, value, &length) : NULL;
    char *to = text + used;
    size_t room = CK_CASE_TEXT - used;
    used += (size_t)(word != NULL ? snprintf(to, room, "%s%s=%.*s", used > 0 ? " " : "", f->name, length, word)
                                  : snprintf(to, room, "%s%s=%lld", used > 0 ? " " : "", f->name, (long long)value));
  }
}

static bool parse_value(const field *f, const char *text, size_t length, int64_t *out) {
  if (f->words == NULL) {
    char *end;
    *out = strtoll(text, &end, 10);
    return length > 0 && end == text + length && *out >= 0;
  }
  for (*out = 0;; ++*out) {
    int word_length;
    const char *word = word_of(f->words, *out, &word_length);
    if (word_length == 0) {
      return false;
    }
    if ((size_t)word_length == length && strncmp(word, text, length) == 0) {
      return true;
    }
  }
}

bool ck_case_parse(const char *text, ck_case *out, char wrong[64]) {
  for (int i = 0; i < FIELDS; i++) {
    *member(out, &fields[i]) = fields[i].preset;
  }
  for (text += strspn(text, " "); *text != '\0'; text += strspn(text, " ")) {
    size_t length = strcspn(text, " "), name = strcspn(text, "= ");
    bool known = false;
    for (int i = 0; i < FIELDS && text[name] == '='; i++) {
      if (strlen(fields[i].name) == name && strncmp(fields[i].name, text, name) == 0) {
        known = parse_value(&fields[i], text + name + 1, length - name - 1, member(out, &fields[i]));
      }
    }
    if (!known) {
      snprintf(wrong, 64, "%.*s", length < 63 ? (int)length : 63, text);
      return false;
    }
    text += length;
  }
  snprintf(wrong, 64, "m=%lld n=%lld k=%lld", (long long)out->m, (long long)out->n, (long long)out->k);
  return out->m > 0 && out->n > 0 && out->k > 0 && (out->k % NVFP4_BLOCK == 0 || out->w != NVFP4_DTYPE_NONE) && out->threads < 6 &&
         out->x != NVFP4_DTYPE_NONE && out->y != NVFP4_DTYPE_NONE;
}

/* -------------------------------------------------------------------------------------------------------------------- the list */

static const int64_t ms[] = {1, 2, 3, 7, 8, 9, 15, 16, 17, 31, 33, 64, 65};
static const int64_t ns[] = {1, 15, 16, 17, 31, 32, 33, 63, 64, 65, 100};
static const int64_t ks[] = {16, 32, 48, 64, 80, 128, 192, 320, 576}, dense_ks[] = {1, 2, 15, 16, 17, 63, 64, 129, 577};
enum { MS = sizeof ms / sizeof ms[0], NS = sizeof ns / sizeof ns[0], KS = sizeof ks / sizeof ks[0] };

static bool is_dense(const nvfp4_kernel *kernel) { return kernel->numerics.mode == NVFP4_MODE_UNQUANTISED; }

static bool takes(const nvfp4_kernel *kernel, const ck_case *c) {
  nvfp4_partition partitions[2];
  nvfp4_layer_desc desc = ck_desc(c, kernel, partitions);
  ck_partitions(c, (nvfp4_global){is_dense(kernel) ? 0.0f : 1.0f, NVFP4_GLOBAL_MULTIPLIER}, partitions);
  return kernel->can_implement(&desc, NULL) == NVFP4_OK;
}

/* Some take bf16 x alone, and some write bf16 alone, without a bias, with one alpha. */
static void make_fit(const nvfp4_kernel *kernel, ck_case *c) {
  if (!takes(kernel, c)) {
    c->x = NVFP4_DTYPE_BF16;
  }
  if (!takes(kernel, c)) {
    c->y = NVFP4_DTYPE_BF16;
  }
  if (!takes(kernel, c)) {
    c->bias = NVFP4_DTYPE_NONE;
    c->alpha = CK_ALPHA_ONE;
  }
}

static int64_t dtype_of(size_t i) { return NVFP4_DTYPE_F32 + (int64_t)(i % 3); }

static void add(ck_cases *list, const nvfp4_kernel *kernel, ck_case c) {
  if (!ck_m_served(kernel, c.m)) { /* the nearest M that it serves */
    c.m = c.m < kernel->m_first ? kernel->m_first : kernel->m_last;
  }
  if (is_dense(kernel)) {
    c.codes = c.scales = 0;
    c.w = c.w != NVFP4_DTYPE_NONE ? c.w : dtype_of(list->count);
  }
  make_fit(kernel, &c);
  if (list->count == list->capacity) {
    list->capacity = list->capacity * 2 + 256;
    list->items = realloc(list->items, list->capacity * sizeof *list->items);
    if (list->items == NULL) {
      fprintf(stderr, "checkkern: out of memory\n");
      exit(2);
    }
  }
  /* Each case has its own seed; 31 bits, so that a replay line stays short. */
  c.seed = (int64_t)(((uint64_t)c.seed * 0x9E3779B97F4A7C15u + list->count * 0xD1B54A32D192ED03u) >> 33);
  list->items[list->count++] = c;
}

static ck_case plain(int64_t m, int64_t n, int64_t k, uint64_t seed) {
  return (ck_case){.m = m, .n = n, .k = k, .x = NVFP4_DTYPE_F32, .y = NVFP4_DTYPE_F32, .threads = 1, .seed = (int64_t)seed};
}

/* The ordinary input of inference, everything else in turn: types, bias, gaps, alpha, threads. i counts the cases; its digits are scattered, lest a type meet
 * the same shapes only. */
static ck_case varied(int64_t m, int64_t n, int64_t k, size_t i, uint64_t seed) {
  ck_case c = plain(m, n, k, seed);
  uint64_t digits = (i + 1) * 0x9E3779B97F4A7C15u >> 16;
  c.x = dtype_of(digits);
  digits /= 3;
  c.y = digits % 4 == 3 ? NVFP4_DTYPE_F32 : dtype_of(digits % 4);
  digits /= 4;
  c.bias = digits % 6 < 3 ? NVFP4_DTYPE_NONE : dtype_of(digits);
  digits /= 6;
  c.scales = digits % 2 == 1 ? CK_SCALES_ANY : CK_SCALES_TYPICAL;
  digits /= 2;
  c.values = digits % 4 == 3 ? CK_VALUES_WIDE : CK_VALUES_GAUSS;
  digits /= 4;
  c.alpha = (int64_t)(digits % CK_ALPHA_TINY);
  digits /= CK_ALPHA_TINY;
  c.x_gap = digits % 2 == 0 ? 0 : 1 + (int64_t)(digits / 2 % 9);
  digits /= 18;
  c.y_gap = digits % 2 == 0 ? 0 : 1 + (int64_t)(digits / 2 % 7);
  digits /= 14;
  c.threads = (int64_t)(digits % 3);
  return c;
}

/* Every N with every K, M in turn, on both sides of guard pages; deep: with every M. */
static void add_shapes(ck_cases *list, const nvfp4_kernel *kernel, uint64_t seed, bool deep) {
  size_t i = 0;
  for (int64_t guard = CK_GUARD_AFTER; guard <= CK_GUARD_BEFORE; guard++) {
    for (size_t n = 0; n < NS; n++) {
      for (size_t k = 0; k < KS; k++) {
        size_t first = (n * 4 + k * 3 + (size_t)guard * 6) % MS, count = deep ? MS : 1;
        for (size_t m = 0; m < count; m++, i++) {
          ck_case c = varied(ms[(first + m) % MS], ns[n], is_dense(kernel) ? dense_ks[k] : ks[k], i, seed);
          c.guard = guard;
          add(list, kernel, c);
        }
      }
    }
  }
  for (size_t m = 0; m < MS; m++, i++) { /* every M at least once with whole and with ragged tiles */
    add(list, kernel, varied(ms[m], 64, 128, i, seed));
    add(list, kernel, varied(ms[m], 33, 80, i + 1, seed));
  }
}

/* x, y and bias at odd addresses, which the contract allows on the CPU. */
static void add_misaligned(ck_cases *list, const nvfp4_kernel *kernel, uint64_t seed) {
  static const int64_t shapes[][3] = {{1, 16, 64}, {1, 37, 80}, {5, 64, 192}, {17, 33, 96}, {33, 100, 320}};
  for (size_t i = 0; i < 3 * sizeof shapes / sizeof shapes[0]; i++) {
    ck_case c = varied(shapes[i / 3][0], shapes[i / 3][1], shapes[i / 3][2], i, seed);
    c.x = dtype_of(i);
    c.y = dtype_of(i + i / 3);
    c.bias = dtype_of(i + i / 6);
    c.guard = CK_GUARD_ODD;
    add(list, kernel, c);
  }
}

/* Dense: every kind of weights of every type with every kind of x. */
static void add_dense_data(ck_cases *list, const nvfp4_kernel *kernel, uint64_t seed) {
  size_t i = 0;
  for (int64_t w = NVFP4_DTYPE_F32; w <= NVFP4_DTYPE_BF16; w++) {
    for (int64_t weights = 0; weights < CK_VALUES_KINDS; weights++) {
      for (int64_t values = 0; values < CK_VALUES_KINDS; values++, i++) {
        ck_case c = i % 2 == 0 ? plain(5, 33, 79, seed) : plain(16, 64, 193, seed);
        c.w = w;
        c.weights = weights;
        c.values = values;
        c.x = dtype_of(i / 2);
        c.alpha = i % 5 == 3 ? CK_ALPHA_TINY : CK_ALPHA_ONE;
        c.bias = i % 5 == 1 ? NVFP4_DTYPE_F32 : NVFP4_DTYPE_NONE;
        add(list, kernel, c);
      }
    }
  }
}

/* Every kind of weights with every kind of x. */
static void add_data(ck_cases *list, const nvfp4_kernel *kernel, uint64_t seed) {
  size_t i = 0;
  for (int64_t codes = 0; codes < CK_CODES_KINDS; codes++) {
    for (int64_t values = 0; values < CK_VALUES_KINDS; values++, i++) {
      for (int large = 0; large <= 1; large++) {
        ck_case c = large ? plain(16, 64, 192, seed) : plain(5, 33, 80, seed);
        c.codes = codes;
        c.values = values;
        c.scales = (int64_t)((i + (size_t)large * 3) % CK_SCALES_KINDS);
        c.x = large ? NVFP4_DTYPE_BF16 : NVFP4_DTYPE_F32;
        c.alpha = i % 4 == 3 ? CK_ALPHA_TINY : CK_ALPHA_ONE;
        c.bias = i % 4 == 1 ? NVFP4_DTYPE_F32 : NVFP4_DTYPE_NONE;
        add(list, kernel, c);
      }
    }
  }
  for (int64_t scales = 0; scales < CK_SCALES_KINDS; scales++) { /* the largest sums: saturation */
    ck_case c = plain(3, 17, 576, seed);
    c.codes = CK_CODES_MAX;
    c.values = CK_VALUES_MAX;
    c.scales = scales;
    add(list, kernel, c);
    c.codes = CK_CODES_ALL;
    c.values = CK_VALUES_GAUSS;
    add(list, kernel, c);
  }
}

/* Long sums, in which every addition rounds: another order of additions shows. */
static void add_long_sums(ck_cases *list, const nvfp4_kernel *kernel, uint64_t seed) {
  static const int64_t depths[] = {1024, 1040, 2048, 4096, 4112};
  for (size_t i = 0; i < 5; i++) {
    for (int64_t m = 1; m <= 9; m += 4) {
      ck_case c = plain(m, 17 + (int64_t)i * 8, depths[i], seed);
      c.scales = CK_SCALES_ANY;
      c.weights = m == 9 ? CK_VALUES_WIDE : CK_VALUES_GAUSS;
      c.values = m == 5 ? CK_VALUES_WIDE : CK_VALUES_GAUSS;
      c.x = m == 5 ? NVFP4_DTYPE_F32 : NVFP4_DTYPE_BF16;
      c.threads = 2;
      add(list, kernel, c);
    }
  }
}

static void add_types(ck_cases *list, const nvfp4_kernel *kernel, uint64_t seed) {
  for (size_t x = 0; x < 3; x++) {
    for (size_t y = 0; y < 3; y++) {
      for (int64_t bias = NVFP4_DTYPE_NONE; bias <= NVFP4_DTYPE_BF16; bias++) {
        for (int64_t alpha = 0; alpha < CK_ALPHA_KINDS; alpha++) {
          ck_case c = plain(3 + (int64_t)x * 5, 37, 96, seed);
          c.x = dtype_of(x);
          c.y = dtype_of(y);
          c.bias = bias;
          c.alpha = alpha;
          c.guard = (int64_t)((x + y) % 2);
          add(list, kernel, c);
        }
      }
    }
  }
}

/* Activations that come quantised; 130 rows cross a tile of 128, K/16 = 5 ends inside a tile of 4. */
static void add_quantised(ck_cases *list, const nvfp4_kernel *kernel, uint64_t seed) {
  static const int64_t shapes[][3] = {{1, 33, 80}, {9, 16, 64}, {17, 65, 320}, {130, 17, 48}, {5, 100, 16}};
  for (int64_t layout = CK_X_LINEAR; layout <= CK_X_8X4; layout++) {
    for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++) {
      for (int64_t guard = CK_GUARD_AFTER; guard <= CK_GUARD_BEFORE; guard++) {
        ck_case c = plain(shapes[i][0], shapes[i][1], shapes[i][2], seed);
        c.quantised = layout;
        c.guard = guard;
        c.x_gap = (int64_t)(i % 3);
        c.values = i == 1 ? CK_VALUES_NAN : CK_VALUES_GAUSS;
        c.y = dtype_of(i);
        add(list, kernel, c);
      }
    }
  }
}

/* The flags, and a caller with another floating-point environment. */
static void add_promises(ck_cases *list, const nvfp4_kernel *kernel, uint64_t seed) {
  static const int64_t shapes[][3] = {{17, 75, 160}, {70, 100, 576}, {33, 33, 80}, {65, 256, 64}, {8, 130, 320}};
  for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++) {
    for (int64_t check = CK_CHECK_REPEAT; check <= CK_CHECK_BATCH; check++) {
      ck_case c = varied(shapes[i][0], shapes[i][1], shapes[i][2], i * 5 + 1, seed);
      c.threads = 2;
      c.check = check;
      c.scales = CK_SCALES_ANY;
      add(list, kernel, c);
    }
    for (int64_t threads = 1; threads <= 2; threads++) {
      ck_case c = varied(shapes[i][0], shapes[i][1], shapes[i][2], i, seed);
      c.threads = threads;
      c.caller = CK_CALLER_FLUSHES;
      c.y = NVFP4_DTYPE_F32;
      add(list, kernel, c);
      c.values = CK_VALUES_SUBNORMAL;
      c.alpha = CK_ALPHA_TINY;
      add(list, kernel, c);
      if (is_dense(kernel)) { /* subnormal weights, and sums that become normal again */
        c.values = CK_VALUES_HUGE;
        c.weights = CK_VALUES_SUBNORMAL;
        c.alpha = CK_ALPHA_ONE;
        add(list, kernel, c);
      }
    }
  }
}

/* Tiles enough for every multiprocessor of a GPU, and K in several slices: kernels share the work out in another way than for fewer. Those of cuda_mma's packed weights have more ways: each device
 * kernel of kernels/cuda/sm90_choice.c has its turn, which its test sees to. */
static void add_many_tiles(ck_cases *list, const nvfp4_kernel *kernel, uint64_t seed) {
  static const int64_t shapes[][3] = {
      {8, 20000, 192},   {12, 12800, 192},  {30, 12800, 192}, {60, 12800, 192},  {300, 4224, 320},  {17, 4300, 2320}, {33, 4300, 1168},
      {33, 4300, 656},   {65, 650, 4112},   {129, 840, 6144}, {129, 8510, 400},  {129, 8510, 656},  {385, 6460, 400}, {129, 4300, 784},
      {1, 70, 464},      {1, 70, 976},      {1, 2170, 8336},  {1, 4295, 464},    {1, 6460, 464},    {1, 8510, 464},   {1, 12800, 464},
      {1, 16000, 464},   {1, 27350, 48},    {1, 55350, 48},   {2, 70, 144},      {2, 70, 464},      {2, 70, 976},     {3, 3300, 12304},
      {5, 70, 6352},     {5, 2170, 6352},   {5, 2170, 8336},  {5, 4295, 6352},   {5, 6460, 6352},   {5, 8510, 6352},  {5, 12800, 6352},
      {5, 16000, 6352},  {12, 70, 48},      {12, 70, 12304},  {12, 8510, 48},    {12, 8510, 784},   {12, 17200, 656}, {17, 8510, 464},
      {33, 1700, 12304}, {33, 2170, 1744},  {33, 8510, 336},  {33, 8800, 464},   {33, 16000, 144},  {33, 34000, 48},  {65, 2885, 144},
      {65, 2885, 4112},  {65, 4295, 464},   {65, 5000, 464},  {65, 7750, 144},   {65, 27350, 48},   {129, 70, 12304}, {129, 840, 976},
      {129, 1700, 976},  {129, 20000, 48},  {129, 27350, 48}, {200, 1240, 1168}, {200, 8510, 464},  {200, 19300, 48}, {257, 70, 12304},
      {257, 8510, 144},  {257, 12800, 144}, {385, 6460, 336}, {385, 8510, 144},  {385, 12800, 144}, {512, 70, 12304}, {700, 70, 976}};
  enum { FOR_ALL = 14 }; /* of these; the others for cuda_mma, whose W4A4 kernels run the device code of those for W4A16 */
  const bool all = strcmp(kernel->layout->name, "cuda_mma") == 0 && kernel->numerics.mode == NVFP4_MODE_W4A16;
  const size_t count = all ? sizeof shapes / sizeof shapes[0] : FOR_ALL;
  for (size_t i = 0; i < count; i++) {
    ck_case c = plain(shapes[i][0], shapes[i][1], shapes[i][2], seed);
    c.x = i % 2 == 0 ? NVFP4_DTYPE_BF16 : NVFP4_DTYPE_F16;
    c.scales = CK_SCALES_ANY;
    c.check = CK_CHECK_BATCH;
    add(list, kernel, c);
  }
}

ck_cases ck_cases_make(const nvfp4_kernel *kernel, uint64_t seed, bool deep) {
  ck_cases list = {0};
  for (uint64_t round = 0; round < (deep ? 4 : 1); round++) {
    uint64_t base = seed * 64 + round + 1;
    add_shapes(&list, kernel, base, deep);
    if (kernel->device == NVFP4_DEVICE_CPU) {
      add_misaligned(&list, kernel, base);
    } else {
      add_many_tiles(&list, kernel, base);
    }
    (is_dense(kernel) ? add_dense_data : add_data)(&list, kernel, base);
    add_long_sums(&list, kernel, base);
    add_types(&list, kernel, base);
    if (kernel->numerics.mode == NVFP4_MODE_W4A4) {
      add_quantised(&list, kernel, base);
    }
    add_promises(&list, kernel, base);
  }
  return list;
}
