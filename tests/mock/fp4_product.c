/* SPDX-License-Identifier: Apache-2.0 */
#include "fp4_product.h"

#include <stdlib.h>
#include <string.h>

#include "format/half.h"
#include "format/scale_layout.h"
#include "kernels/ref/spec.h"

static size_t width(nvfp4_dtype dtype) { return dtype == NVFP4_DTYPE_F32 ? 4 : 2; }

static void compute(void *const *arguments, unsigned grid, unsigned block) {
  const mock_fp4_product *p = arguments[0];
  const int64_t blocks = p->k / NVFP4_BLOCK;
  uint8_t *x_scales = malloc((size_t)(p->m * blocks)), *w_scales = malloc((size_t)(p->n * blocks));
  (void)grid, (void)block;
  nvfp4_scales_to_linear(p->x_scales_8x4 ? NVFP4_SCALES_8X4 : NVFP4_SCALES_128X4, p->x_scales, p->m, blocks, x_scales, blocks);
  nvfp4_scales_to_linear(NVFP4_SCALES_128X4, p->w_scales, p->n, blocks, w_scales, blocks);
  for (int64_t m = 0; m < p->m; m++) {
    for (int64_t n = 0; n < p->n; n++) {
      const int64_t row = p->shuffled != NULL ? n - n % 32 + p->shuffled[n % 32] : n;
      const float alpha = p->alpha_there != NULL ? p->alpha_there[p->alpha_of_rows ? n : 0] : p->alpha;
      float bias, sum = nvfp4_spec_w4a4((nvfp4_spec_row){p->x + m * (p->k / 2), x_scales + m * blocks},
                                        (nvfp4_spec_row){p->w + row * (p->k / 2), w_scales + row * blocks}, p->k);
      if (p->bias != NULL) {
        nvfp4_to_f32((const char *)p->bias + (size_t)n * width(p->bias_dtype), p->bias_dtype, &bias, 1);
      }
      const float v = nvfp4_spec_finish(sum, alpha, p->bias != NULL ? &bias : NULL);
      nvfp4_from_f32(&v, p->y_dtype, (char *)p->y + (size_t)(m * p->ldy_elems + n) * width(p->y_dtype), 1);
    }
  }
  memset(p->workspace, 0xCD, p->workspace_bytes);
  free(x_scales);
  free(w_scales);
}

const mock_kernel mock_fp4_kernel = {"mock_fp4_product", {sizeof(mock_fp4_product)}, compute};
