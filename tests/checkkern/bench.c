/* SPDX-License-Identifier: Apache-2.0 */
/* --bench: the kernels that passed, through <nvfp4/bench.h>, which `nvfp4 bench` uses too; beside it the ratio to the ref kernel of the same mode. */
#include <nvfp4/bench.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "command.h"

enum { MOST = 64 };

/* "1,16,512" or "N,K;N,K": numbers, in turn; 0: not such a list. */
static size_t parse_numbers(const char *text, int64_t *out, size_t most) {
  size_t count = 0;
  for (char *end; *text != '\0' && count < most; text = end + (*end != '\0')) {
    out[count] = strtoll(text, &end, 10);
    if (end == text || out[count] < 1 || (*end != '\0' && strchr(",;", *end) == NULL)) {
      return 0;
    }
    count++;
  }
  return *text == '\0' ? count : 0;
}

/* The median time of the ref kernel whose mode is that of `kernel`, in the same cell; 0: not among the results. */
static double ref_us(const nvfp4_bench *bench, const nvfp4_bench_result *of, const ck_result *results, size_t count) {
  static const char *const refs[] = {
      [NVFP4_MODE_UNQUANTISED] = "ref_w16a16", [NVFP4_MODE_W4A4] = "ref_w4a4", [NVFP4_MODE_W4A16] = "ref_w4a16"};
  const char *ref = NULL;
  for (size_t i = 0; i < count; i++) {
    if (strcmp(results[i].id, of->kernel) == 0) {
      ref = refs[results[i].kernel->numerics.mode];
    }
  }
  for (size_t i = 0; ref != NULL && i < bench->result_count; i++) {
    const nvfp4_bench_result *r = &bench->results[i];
    if (strcmp(r->kernel, ref) == 0 && r->n == of->n && r->k == of->k && r->m == of->m) {
      return r->us;
    }
  }
  return 0;
}

static void print_roof(const char *when, const nvfp4_roof *roof) {
  printf("roof %-7s read %.1f GB/s, fp32 %.0f GFLOP/s (%s), int8 %.0f Gop/s (%s), %d threads\n", when, roof->read_gbps, roof->f32_gflops,
         roof->f32_name, roof->i8_gops, roof->i8_name, roof->threads);
}

static void print_bench(const nvfp4_bench *bench, const ck_result *results, size_t count) {
  print_roof("before", &bench->before);
  print_roof("after", &bench->after);
  printf("%-24s %6s %6s %4s %10s %10s %10s %8s %9s %6s %6s\n", "kernel", "N", "K", "M", "us", "p10", "p90", "GB/s", "GFLOP/s", "roof",
         "x ref");
  for (size_t i = 0; i < bench->result_count; i++) {
    const nvfp4_bench_result *r = &bench->results[i];
    printf("%-24s %6lld %6lld %4lld ", r->kernel, (long long)r->n, (long long)r->k, (long long)r->m);
    if (r->status != NVFP4_OK) {
      printf("%s\n", r->reason);
      continue;
    }
    printf("%10.1f %10.1f %10.1f %8.2f %9.1f %5.1f%% ", r->us, r->us_p10, r->us_p90, r->gbps, r->gflops, 100 * r->roof_share);
    double ref = ref_us(bench, r, results, count);
    printf(ref > 0 ? "%6.2f\n" : "     -\n", ref / r->us);
  }
}

static json_t *roof_json(const nvfp4_roof *roof) {
  return json_pack("{s:f, s:f, s:s, s:f, s:s, s:i}", "read_gbps", roof->read_gbps, "f32_gflops", roof->f32_gflops, "f32_name",
                   roof->f32_name, "i8_gops", roof->i8_gops, "i8_name", roof->i8_name, "threads", roof->threads);
}

static json_t *bench_json(const nvfp4_context *context, const nvfp4_bench *bench, const ck_result *results, size_t count) {
  json_t *list = json_array();
  for (size_t i = 0; i < bench->result_count; i++) {
    const nvfp4_bench_result *r = &bench->results[i];
    json_t *row = json_pack("{s:s, s:I, s:I, s:I, s:i}", "kernel", r->kernel, "N", (json_int_t)r->n, "K", (json_int_t)r->k, "M",
                            (json_int_t)r->m, "threads", bench->threads);
    if (r->status == NVFP4_OK) {
      double ref = ref_us(bench, r, results, count);
      json_object_update_new(
          row, json_pack("{s:f, s:f, s:f, s:f, s:f, s:f, s:o}", "us", r->us, "us_p10", r->us_p10, "us_p90", r->us_p90, "gbps", r->gbps,
                         "gflops", r->gflops, "roof_share", r->roof_share, "ratio_to_ref", ref > 0 ? json_real(ref / r->us) : json_null()));
    } else {
      json_object_set_new(row, "reason", json_string(r->reason));
    }
    json_array_append_new(list, row);
  }
  char machine[2048];
  nvfp4_machine_print(nvfp4_context_machine(context), machine, sizeof machine);
  return json_pack("{s:s, s:{s:o, s:o}, s:o}", "machine", machine, "roof", "before", roof_json(&bench->before), "after",
                   roof_json(&bench->after), "results", list);
}

static void show_progress(void *cookie, const char *kernel, int64_t n, int64_t k, int64_t m) {
  (void)cookie;
  fprintf(stderr, "\rtiming N %lld K %lld M %lld %-28s", (long long)n, (long long)k, (long long)m, kernel);
}

int ck_bench(const ck_command *c, const ck_result *results, size_t count, json_t **json) {
  static const int64_t usual_ms[] = {1, 16, 512};
  static const int64_t usual_shapes[] = {4096, 4096, 14336, 4096, 4096, 14336};
  int64_t ms[MOST], numbers[MOST];
  nvfp4_bench_shape shapes[MOST / 2];
  memcpy(ms, usual_ms, sizeof usual_ms);
  memcpy(numbers, usual_shapes, sizeof usual_shapes);
  size_t m_count = c->ms != NULL ? parse_numbers(c->ms, ms, MOST) : 3,
         number_count = c->shapes != NULL ? parse_numbers(c->shapes, numbers, MOST) : 6;
  if (m_count == 0 || number_count == 0 || number_count % 2 != 0) {
    fprintf(stderr, "checkkern: --m needs M,M,... and --shapes N,K;N,K;...\n");
    return 2;
  }
  const char **kernels = calloc(count, sizeof *kernels);
  nvfp4_options options = {.struct_size = sizeof options, .threads = (int)c->threads, .plugins = c->plugins};
  nvfp4_context *context = NULL;
  nvfp4_bench *bench = NULL;
  nvfp4_reason reason = {0};
  size_t passed = 0;
  for (size_t i = 0; kernels != NULL && i < count; i++) {
    if (results[i].outcome == PASSED) {
      kernels[passed++] = results[i].id;
    }
  }
  if (passed == 0) {
    free(kernels);
    return 0;
  }
  nvfp4_status status = nvfp4_context_create(&options, &context, &reason);
  if (status == NVFP4_OK) {
    for (size_t i = 0; i < number_count / 2; i++) {
      shapes[i] = (nvfp4_bench_shape){numbers[2 * i], numbers[2 * i + 1]};
    }
    nvfp4_bench_options wanted = {.struct_size = sizeof wanted, .kernels = kernels, .kernel_count = passed, .shapes = shapes, .ms = ms};
    wanted.shape_count = number_count / 2;
    wanted.m_count = m_count;
    wanted.progress = c->progress ? show_progress : NULL;
    if (c->l2) {
      shapes[0] = nvfp4_bench_resident_shape(context);
      wanted.shape_count = 1;
      wanted.resident = true;
    }
    status = nvfp4_bench_run(context, &wanted, &bench, &reason);
  }
  if (c->progress) {
    fprintf(stderr, "\r%64s\r", "");
  }
  if (status != NVFP4_OK) {
    fprintf(stderr, "checkkern: --bench: %s\n", reason.text);
  } else if (c->json) {
    *json = bench_json(context, bench, results, count);
  } else {
    print_bench(bench, results, count);
  }
  nvfp4_bench_free(bench);
  nvfp4_context_destroy(context);
  free(kernels);
  return status == NVFP4_OK ? 0 : 2;
}
