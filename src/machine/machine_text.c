/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A machine as text: lines "key value"; empty lines and lines that begin with '#' are skipped; what is not given is 0 or empty; arch must be given.
 *
 *   arch x86_64                        x86_64, aarch64 or unknown
 *   cpu AMD EPYC 7763                  to the end of the line
 *   isa sse2 avx2 fma                  names of nvfp4_isa_name()
 *   cores, l1d_bytes, l2_bytes, l3_bytes, memory_bytes, cuda_driver    whole numbers
 *   cuda_missing ...                   to the end of the line
 *   gpu sm=90 multiprocessors=132 memory_bytes=85029158912 l2_bytes=52428800 shared_bytes=232448 name=NVIDIA H100 80GB HBM3
 *                                      one line a GPU, in the driver's order; name= to the end of the line
 */
#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/reason.h"

static const struct {
  uint32_t bit;
  const char *name;
} isa_names[] = {
    {NVFP4_ISA_SSE2, "sse2"},
    {NVFP4_ISA_AVX2, "avx2"},
    {NVFP4_ISA_FMA, "fma"},
    {NVFP4_ISA_F16C, "f16c"},
    {NVFP4_ISA_AVXVNNI, "avxvnni"},
    {NVFP4_ISA_AVX512F, "avx512f"},
    {NVFP4_ISA_AVX512BW, "avx512bw"},
    {NVFP4_ISA_AVX512VL, "avx512vl"},
    {NVFP4_ISA_AVX512DQ, "avx512dq"},
    {NVFP4_ISA_AVX512VNNI, "avx512vnni"},
    {NVFP4_ISA_AVX512BF16, "avx512bf16"},
    {NVFP4_ISA_AVX512VBMI, "avx512vbmi"},
    {NVFP4_ISA_AMX_TILE, "amx_tile"},
    {NVFP4_ISA_AMX_INT8, "amx_int8"},
    {NVFP4_ISA_AMX_BF16, "amx_bf16"},
    {NVFP4_ISA_NEON, "neon"},
    {NVFP4_ISA_DOTPROD, "dotprod"},
    {NVFP4_ISA_I8MM, "i8mm"},
    {NVFP4_ISA_ARM_BF16, "arm_bf16"},
    {NVFP4_ISA_SVE, "sve"},
};

static const char *const arch_names[] = {
    [NVFP4_ARCH_UNKNOWN] = "unknown", [NVFP4_ARCH_X86_64] = "x86_64", [NVFP4_ARCH_AARCH64] = "aarch64"};

#define COUNT(table) (sizeof(table) / sizeof((table)[0]))

const char *nvfp4_isa_name(uint32_t bit) {
  for (size_t i = 0; i < COUNT(isa_names); i++) {
    if (isa_names[i].bit == bit) {
      return isa_names[i].name;
    }
  }
  return NULL;
}

/* ------------------------------------------------------------------------------------------------------------------- print */

typedef struct writer {
  char *text;
  size_t size, used; /* used counts what a complete text needs */
} writer;

__attribute__((format(printf, 2, 3))) static void put(writer *w, const char *format, ...) {
  va_list args;
  va_start(args, format);
  bool room = w->used < w->size;
  int length = vsnprintf(room ? w->text + w->used : NULL, room ? w->size - w->used : 0, format, args);
  va_end(args);
  w->used += length > 0 ? (size_t)length : 0;
}

static void put_number(writer *w, const char *key, uint64_t value) {
  if (value != 0) {
    put(w, "%s %" PRIu64 "\n", key, value);
  }
}

static void put_text(writer *w, const char *key, const char *value) {
  if (value[0] != '\0') {
    put(w, "%s %s\n", key, value);
  }
}

size_t nvfp4_machine_print(const nvfp4_machine *machine, char *text, size_t size) {
  writer w = {text, size, 0};
  put(&w, "arch %s\n", (size_t)machine->arch < COUNT(arch_names) ? arch_names[machine->arch] : arch_names[NVFP4_ARCH_UNKNOWN]);
  put_text(&w, "cpu", machine->cpu);
  if (machine->isa != 0) {
    put(&w, "isa");
    for (size_t i = 0; i < COUNT(isa_names); i++) {
      if ((machine->isa & isa_names[i].bit) != 0) {
        put(&w, " %s", isa_names[i].name);
      }
    }
    put(&w, "\n");
  }
  put_number(&w, "cores", machine->cores > 0 ? (uint64_t)machine->cores : 0);
  put_number(&w, "l1d_bytes", machine->l1d_bytes);
  put_number(&w, "l2_bytes", machine->l2_bytes);
  put_number(&w, "l3_bytes", machine->l3_bytes);
  put_number(&w, "memory_bytes", machine->memory_bytes);
  put_text(&w, "cuda_missing", machine->cuda_missing);
  put_number(&w, "cuda_driver", machine->cuda_driver > 0 ? (uint64_t)machine->cuda_driver : 0);
  for (int i = 0; i < machine->gpu_count && i < NVFP4_MAX_GPUS; i++) {
    const nvfp4_gpu *gpu = &machine->gpus[i];
    put(&w, "gpu sm=%d multiprocessors=%d memory_bytes=%" PRIu64, gpu->sm, gpu->multiprocessors, gpu->memory_bytes);
    if (gpu->l2_bytes != 0) {
      put(&w, " l2_bytes=%" PRIu64, gpu->l2_bytes);
    }
    if (gpu->shared_bytes != 0) {
      put(&w, " shared_bytes=%" PRIu64, gpu->shared_bytes);
    }
    put(&w, " name=%s\n", gpu->name);
  }
  return w.used;
}

/* ------------------------------------------------------------------------------------------------------------------- parse */

/* Where a value stands, for messages. */
typedef struct place {
  int line;
  const char *key;
} place;

static nvfp4_status parse_number(place at, const char *value, uint64_t max, uint64_t *out, nvfp4_reason *reason) {
  char *end;
  errno = 0;
  unsigned long long number = strtoull(value, &end, 10);
  if (value[0] < '0' || value[0] > '9' || *end != '\0' || errno != 0 || number > max) {
    return nvfp4_reject(reason, NVFP4_E_FORMAT, "line %d: %s is \"%.60s\"; needs a whole number from 0 to %" PRIu64, at.line, at.key, value,
                        max);
  }
  *out = number;
  return NVFP4_OK;
}

static nvfp4_status parse_int(place at, const char *value, int *out, nvfp4_reason *reason) {
  uint64_t number = 0;
  NVFP4_TRY(parse_number(at, value, INT_MAX, &number, reason));
  *out = (int)number;
  return NVFP4_OK;
}

static nvfp4_status parse_text(place at, const char *value, char *out, size_t size, nvfp4_reason *reason) {
  size_t length = strlen(value);
  if (length >= size) {
    return nvfp4_reject(reason, NVFP4_E_FORMAT, "line %d: %s has %zu bytes; shorten it to at most %zu", at.line, at.key, length, size - 1);
  }
  memcpy(out, value, length + 1);
  return NVFP4_OK;
}

static nvfp4_status parse_arch(place at, const char *value, nvfp4_arch *out, nvfp4_reason *reason) {
  for (size_t i = 0; i < COUNT(arch_names); i++) {
    if (strcmp(value, arch_names[i]) == 0) {
      *out = (nvfp4_arch)i;
      return NVFP4_OK;
    }
  }
  return nvfp4_reject(reason, NVFP4_E_FORMAT, "line %d: arch is \"%.60s\"; needs x86_64, aarch64 or unknown", at.line, value);
}

/* The next blank-separated word of *text, ended with a NUL; NULL if there is none. */
static char *next_word(char **text) {
  char *word = *text + strspn(*text, " \t");
  if (*word == '\0') {
    return NULL;
  }
  char *end = word + strcspn(word, " \t");
  *text = *end != '\0' ? end + 1 : end;
  *end = '\0';
  return word;
}

static nvfp4_status parse_isa(place at, char *value, uint32_t *out, nvfp4_reason *reason) {
  for (char *word = next_word(&value); word != NULL; word = next_word(&value)) {
    size_t i = 0;
    while (i < COUNT(isa_names) && strcmp(word, isa_names[i].name) != 0) {
      i++;
    }
    if (i == COUNT(isa_names)) {
      return nvfp4_reject(reason, NVFP4_E_FORMAT,
                          "line %d: isa names \"%.60s\"; needs names such as sse2, avx2, avx512vnni, amx_int8, neon, i8mm", at.line, word);
    }
    *out |= isa_names[i].bit;
  }
  return NVFP4_OK;
}

static nvfp4_status parse_gpu(place at, char *value, nvfp4_machine *out, nvfp4_reason *reason) {
  if (out->gpu_count == NVFP4_MAX_GPUS) {
    return nvfp4_reject(reason, NVFP4_E_FORMAT, "line %d: gpu: more than %d of them; take some out", at.line, NVFP4_MAX_GPUS);
  }
  nvfp4_gpu *gpu = &out->gpus[out->gpu_count];
  for (;;) {
    value += strspn(value, " \t");
    if (strncmp(value, "name=", 5) == 0) { /* the rest of the line */
      NVFP4_TRY(parse_text((place){at.line, "gpu name"}, value + 5, gpu->name, sizeof gpu->name, reason));
      break;
    }
    char *word = next_word(&value);
    if (word == NULL) {
      break;
    }
    if (strncmp(word, "sm=", 3) == 0) {
      NVFP4_TRY(parse_int((place){at.line, "gpu sm"}, word + 3, &gpu->sm, reason));
    } else if (strncmp(word, "multiprocessors=", 16) == 0) {
      NVFP4_TRY(parse_int((place){at.line, "gpu multiprocessors"}, word + 16, &gpu->multiprocessors, reason));
    } else if (strncmp(word, "memory_bytes=", 13) == 0) {
      NVFP4_TRY(parse_number((place){at.line, "gpu memory_bytes"}, word + 13, UINT64_MAX, &gpu->memory_bytes, reason));
    } else if (strncmp(word, "l2_bytes=", 9) == 0) {
      NVFP4_TRY(parse_number((place){at.line, "gpu l2_bytes"}, word + 9, UINT64_MAX, &gpu->l2_bytes, reason));
    } else if (strncmp(word, "shared_bytes=", 13) == 0) {
      NVFP4_TRY(parse_number((place){at.line, "gpu shared_bytes"}, word + 13, UINT64_MAX, &gpu->shared_bytes, reason));
    } else {
      return nvfp4_reject(
          reason, NVFP4_E_FORMAT,
          "line %d: gpu has \"%.60s\"; needs sm=, multiprocessors=, memory_bytes=, l2_bytes=, shared_bytes= or name=", at.line, word);
    }
  }
  out->gpu_count++;
  return NVFP4_OK;
}

static const char *const keys[] = {"arch",     "cpu",          "isa",          "cores",       "l1d_bytes", "l2_bytes",
                                   "l3_bytes", "memory_bytes", "cuda_missing", "cuda_driver", "gpu"};
enum { ARCH, CPU, ISA, CORES, L1D, L2, L3, MEMORY, CUDA_MISSING, CUDA_DRIVER, GPU };

static nvfp4_status parse_value(place at, size_t key, char *value, nvfp4_machine *out, nvfp4_reason *reason) {
  switch (key) {
    case ARCH:
      return parse_arch(at, value, &out->arch, reason);
    case CPU:
      return parse_text(at, value, out->cpu, sizeof out->cpu, reason);
    case ISA:
      return parse_isa(at, value, &out->isa, reason);
    case CORES:
      return parse_int(at, value, &out->cores, reason);
    case L1D:
      return parse_number(at, value, UINT64_MAX, &out->l1d_bytes, reason);
    case L2:
      return parse_number(at, value, UINT64_MAX, &out->l2_bytes, reason);
    case L3:
      return parse_number(at, value, UINT64_MAX, &out->l3_bytes, reason);
    case MEMORY:
      return parse_number(at, value, UINT64_MAX, &out->memory_bytes, reason);
    case CUDA_MISSING:
      return parse_text(at, value, out->cuda_missing, sizeof out->cuda_missing, reason);
    case CUDA_DRIVER:
      return parse_int(at, value, &out->cuda_driver, reason);
    default:
      return parse_gpu(at, value, out, reason);
  }
}

/* One line, without its end; *seen has a bit for every key that was given. */
static nvfp4_status parse_line(int number, char *line, uint32_t *seen, nvfp4_machine *out, nvfp4_reason *reason) {
  char *word = next_word(&line);
  if (word == NULL || word[0] == '#') {
    return NVFP4_OK;
  }
  size_t key = 0;
  while (key < COUNT(keys) && strcmp(word, keys[key]) != 0) {
    key++;
  }
  if (key == COUNT(keys)) {
    return nvfp4_reject(reason, NVFP4_E_FORMAT,
                        "line %d: unknown key \"%.60s\"; needs arch, cpu, isa, cores, l1d_bytes, l2_bytes, l3_bytes, memory_bytes, "
                        "cuda_missing, cuda_driver or gpu",
                        number, word);
  }
  if ((*seen >> key & 1) != 0 && key != GPU) {
    return nvfp4_reject(reason, NVFP4_E_FORMAT, "line %d: %s is given twice; take one out", number, word);
  }
  *seen |= 1u << key;
  return parse_value((place){number, keys[key]}, key, line + strspn(line, " \t"), out, reason);
}

nvfp4_status nvfp4_machine_parse(const char *text, nvfp4_machine *out, nvfp4_reason *reason) {
  if (text == NULL || out == NULL) {
    return nvfp4_reject(reason, NVFP4_E_ARG, "text or out is NULL; a machine needs both");
  }
  nvfp4_machine machine;
  memset(&machine, 0, sizeof machine);
  machine.struct_size = sizeof machine;
  uint32_t seen = 0;
  for (int number = 1; *text != '\0'; number++) {
    char line[512];
    size_t length = strcspn(text, "\n");
    if (length >= sizeof line) {
      return nvfp4_reject(reason, NVFP4_E_FORMAT, "line %d has %zu bytes; needs fewer than %zu", number, length, sizeof line);
    }
    memcpy(line, text, length);
    text += text[length] == '\n' ? length + 1 : length;
    while (length > 0 && strchr(" \t\r", line[length - 1]) != NULL) {
      length--;
    }
    line[length] = '\0';
    NVFP4_TRY(parse_line(number, line, &seen, &machine, reason));
  }
  if ((seen >> ARCH & 1) == 0) {
    return nvfp4_reject(reason, NVFP4_E_FORMAT, "no line \"arch\"; a machine needs one: x86_64, aarch64 or unknown");
  }
  *out = machine;
  return NVFP4_OK;
}
