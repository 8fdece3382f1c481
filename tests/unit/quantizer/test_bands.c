/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE /* mkdtemp */
#include "quantizer/bands.h"

#include "base/reason.h"
#include "unit/quantizer/quantizer_support.h"

static nvfp4_reason reason;

typedef struct visit {
  nvfp4_band *band;
  uint8_t *seen; /* rows of the tensor */
  int64_t refuse_row;
} visit;

static void visit_task(void *arg, size_t index) {
  visit *v = arg;
  nvfp4_band *b = v->band;
  int64_t first, count;
  if (nvfp4_band_read(b, index, &first, &count) != NVFP4_OK) {
    return;
  }
  for (int64_t row = first; row < first + count; row++) {
    assert_f32_bits(b->x[row * b->tensor->columns], (float)(b->first + row));
    v->seen[b->first + row]++;
    if (v->refuse_row >= 0 && b->first + row >= v->refuse_row) {
      b->tasks[index].status = nvfp4_reject(&b->tasks[index].reason, NVFP4_E_FORMAT, "row %d", (int)(b->first + row));
      return;
    }
  }
}

/* Every row once, in its place; the bytes add up; the first refusal is told. */
static void all_rows_are_visited(void **state) {
  (void)state;
  static const int64_t shapes[][2] = {{1, 16}, {9001, 1024}, {130, 70000}, {5, 300000}};
  for (size_t s = 0; s < sizeof shapes / sizeof shapes[0]; s++) {
    const int64_t rows = shapes[s][0], columns = shapes[s][1];
    float *data = calloc((size_t)(rows * columns), sizeof *data);
    uint8_t *seen = calloc((size_t)rows, 1);
    for (int64_t row = 0; row < rows; row++) {
      data[row * columns] = (float)row;
    }
    char folder[256];
    const test_tensor tensor = {"a.weight", NVFP4_DTYPE_F32, 2, {rows, columns}, data};
    write_tensors(make_folder(folder), "model.safetensors", &tensor, 1);
    nvfp4_quantize_job job = open_job(folder, NVFP4_LAYOUT_MODELOPT, 2);
    assert_ok(nvfp4_quantize_plan(&job, &reason), reason);
    nvfp4_band *b;
    assert_ok(nvfp4_band_create(planned(&job, "a"), 0, 0, 2, &b, &reason), reason);
    assert_true(b->rows * columns <= 1 << 22 || b->rows <= 2);
    visit v = {b, seen, -1};
    uint64_t bytes = 0;
    for (int64_t first = 0; first < rows; first += b->rows) {
      assert_ok(nvfp4_band_run(&job, b, first, visit_task, &v, &reason), reason);
      bytes += nvfp4_band_bytes(b);
    }
    assert_int_equal(bytes, rows * columns * 4);
    for (int64_t row = 0; row < rows; row++) {
      assert_int_equal(seen[row], 1);
    }
    v.refuse_row = 0;
    assert_int_equal(nvfp4_band_run(&job, b, 0, visit_task, &v, &reason), NVFP4_E_FORMAT);
    assert_non_null(strstr(reason.text, "a.weight: row 0"));
    nvfp4_band_free(b);
    close_job(&job);
    remove_folder(folder);
    free(data);
    free(seen);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(all_rows_are_visited)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
