/* SPDX-License-Identifier: Apache-2.0 */
#include <math.h>

#include "base/reason.h"
#include "layer/layer.h"

/* Multipliers go above the fraction bar, divisors below: with one kind alone the fraction is one operation on doubles (ModelOpt: input * weight, exact;
 * compressed-tensors: 1 / (input * weight)), and then one rounding to fp32. */
nvfp4_status nvfp4_partition_alpha(const nvfp4_partition *partition, nvfp4_mode mode, float *alpha, nvfp4_reason *reason) {
  double above = 1.0, below = 1.0;
  const nvfp4_global globals[] = {partition->weight, partition->input};
  for (int i = 0; i < (mode == NVFP4_MODE_W4A4 ? 2 : 1); i++) {
    if (globals[i].is_divisor) {
      below *= globals[i].value;
    } else {
      above *= globals[i].value;
    }
  }
  float value = (float)(below == 1.0 ? above : above / below);
  if (!isfinite(value) || value <= 0.0f) {
    return nvfp4_reject(
        reason, NVFP4_E_UNSUPPORTED,
        "rows %lld to %lld: global scales %g%s (weight) and %g%s (input) give alpha = %g in fp32; needs a positive finite number",
        (long long)partition->n_first, (long long)(partition->n_first + partition->n_rows - 1), (double)partition->weight.value,
        partition->weight.is_divisor ? " (divisor)" : "", (double)partition->input.value, partition->input.is_divisor ? " (divisor)" : "",
        (double)value);
  }
  *alpha = value;
  return NVFP4_OK;
}
