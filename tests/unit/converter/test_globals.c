/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE /* mkdtemp */
#include <math.h>

#include "unit/converter/converter_support.h"

/* Of 2^23 significands: counted, and quoted in docs/formats.md. */
enum { LOST_DIVISORS = 1439258, LOST_AMAXES = 1373135 };

/* Over all significands: the number is the nearest, within 1 ulp of the exact one, and so often does it not lead back. */
static void conversions_stay_within_an_ulp(void **state) {
  (void)state;
  int lost[2] = {0, 0};
  static const nvfp4_global_kind kinds[2] = {NVFP4_GLOBAL_DIVISOR, NVFP4_GLOBAL_AMAX};
  for (uint32_t i = 0; i < 1u << 23; i++) {
    float m = f32_from_bits(0x3A000000u + i);
    for (int j = 0; j < 2; j++) {
      float x = nvfp4_global_convert(m, NVFP4_GLOBAL_MULTIPLIER, kinds[j]);
      double exact = j == 0 ? 1.0 / (double)m : (double)m * 2688.0;
      float ulp = nextafterf((float)exact, INFINITY) - (float)exact;
      if (fabs((double)x - exact) > (double)ulp) {
        fail_msg("%a becomes %a", (double)m, (double)x);
      }
      float back = (float)(j == 0 ? 1.0 / (double)x : (double)x / 2688.0);
      lost[j] += back != m;
    }
  }
  assert_int_equal(lost[0], LOST_DIVISORS);
  assert_int_equal(lost[1], LOST_AMAXES);
  assert_f32_bits(nvfp4_global_convert(3.0f, NVFP4_GLOBAL_DIVISOR, NVFP4_GLOBAL_DIVISOR), 3.0f);
}

static void texts_of_numbers(void **state) {
  (void)state;
  char text[40];
  nvfp4_stored_global global = {.count = 0};
  nvfp4_global_text(&global, text);
  assert_string_equal(text, "none");
  global = (nvfp4_stored_global){.count = 3, .values = {1.0f, 0.5f, 2.0f}};
  nvfp4_global_text(&global, text);
  assert_string_equal(text, "3f800000,3f000000,40000000");
}

/* A compressed-tensors file of one layer with divisor `d`. */
static void write_ct(const char *folder, float d) {
  static uint8_t codes[16 * 8], scales[16];
  memset(scales, 0x38, sizeof scales);
  const test_tensor tensors[] = {{"a.weight_global_scale", NVFP4_DTYPE_F32, 1, {1}, &d},
                                 {"a.weight_scale", NVFP4_DTYPE_F8_E4M3, 2, {16, 1}, scales},
                                 {"a.weight_packed", NVFP4_DTYPE_U8, 2, {16, 8}, codes}};
  write_tensors(folder, "model.safetensors", tensors, 3);
}

/* A divisor d for which 1/(1/d) is another number comes back through two other layouts; an edited scale makes the kept number void. */
static void exact_numbers_come_back(void **state) {
  (void)state;
  nvfp4_reason reason = {0};
  char folder[256], mlx[512], modelopt[512], back[512], path[512];
  float d = 1.0f;
  while (nvfp4_global_convert(nvfp4_global_convert(d, NVFP4_GLOBAL_DIVISOR, NVFP4_GLOBAL_MULTIPLIER), NVFP4_GLOBAL_MULTIPLIER,
                              NVFP4_GLOBAL_DIVISOR) == d) {
    d = nextafterf(d, 2.0f);
  }
  write_ct(make_folder(folder), d);
  nvfp4_convert_stats stats = {.struct_size = sizeof stats};
  assert_ok(convert(folder, output_path(folder, "a", NVFP4_LAYOUT_MODELOPT, modelopt), NVFP4_LAYOUT_MODELOPT, false, NULL, &stats, &reason),
            reason);
  assert_true(stats.globals == 1 && stats.inexact_globals == 1);
  assert_ok(convert(modelopt, output_path(folder, "b", NVFP4_LAYOUT_MLX, mlx), NVFP4_LAYOUT_MLX, false, NULL, NULL, &reason), reason);
  assert_ok(convert(mlx, path_in(folder, "c", back), NVFP4_LAYOUT_COMPRESSED_TENSORS, false, NULL, NULL, &reason), reason);
  nvfp4_checkpoint *checkpoint = open_checkpoint(back);
  assert_memory_equal(nvfp4_checkpoint_find(checkpoint, "a.weight_global_scale")->data, &d, sizeof d);
  char text[64];
  assert_false(nvfp4_checkpoint_metadata(checkpoint, "nvfp4.global.a.weight_global_scale", text, sizeof text)); /* needed no more */
  nvfp4_checkpoint_close(checkpoint);

  checkpoint = open_checkpoint(modelopt);
  assert_true(nvfp4_checkpoint_metadata(checkpoint, "nvfp4.global.a.weight_global_scale", text, sizeof text));
  assert_int_equal(strlen(text), 8);
  float *stored = NULL, edited = 0.25f;
  size_t bytes;
  char *file = test_read_file(path_in(modelopt, "model.safetensors", path), &bytes);
  stored = (float *)(file +
                     ((const char *)nvfp4_checkpoint_find(checkpoint, "a.weight_scale_2")->data - (const char *)checkpoint->files[0].data));
  memcpy(stored, &edited, sizeof edited);
  nvfp4_checkpoint_close(checkpoint);
  FILE *out = fopen(path, "wb");
  assert_int_equal(fwrite(file, 1, bytes, out), bytes);
  fclose(out);
  free(file);
  assert_ok(convert(modelopt, path_in(folder, "d", back), NVFP4_LAYOUT_COMPRESSED_TENSORS, false, NULL, NULL, &reason), reason);
  checkpoint = open_checkpoint(back);
  assert_f32_bits(*(const float *)nvfp4_checkpoint_find(checkpoint, "a.weight_global_scale")->data, 4.0f);
  nvfp4_checkpoint_close(checkpoint);
  remove_folder(folder);
}

/* 1/d beyond fp32 is refused, by the tensor's name. */
static void numbers_without_a_partner(void **state) {
  (void)state;
  nvfp4_reason reason = {0};
  char folder[256], path[512];
  write_ct(make_folder(folder), 1e-40f);
  assert_int_equal(convert(folder, path_in(folder, "x", path), NVFP4_LAYOUT_MODELOPT, true, NULL, NULL, &reason), NVFP4_E_UNSUPPORTED);
  assert_non_null(strstr(reason.text, "a.weight_global_scale"));
  assert_int_equal(count_files(folder), 1);
  remove_folder(folder);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(conversions_stay_within_an_ulp),
      cmocka_unit_test(texts_of_numbers),
      cmocka_unit_test(exact_numbers_come_back),
      cmocka_unit_test(numbers_without_a_partner),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
