/* SPDX-License-Identifier: Apache-2.0 */
#include <math.h>

#include "base/reason.h"
#include "format/global.h"
#include "layer/layer.h"

/* One fraction of doubles, then one rounding to fp32. ModelOpt: input * weight / 1, exact. compressed-tensors: 1 / (input * weight). */
nvfp4_status nvfp4_partition_alpha(const nvfp4_partition *partition, nvfp4_mode mode, float *alpha, nvfp4_reason *reason) {
  double above = 1.0, below = 1.0;
  nvfp4_global_multiply(partition->weight, &above, &below);
  if (mode == NVFP4_MODE_W4A4 || (mode == NVFP4_MODE_FP8 && partition->input.value != 0)) {
    nvfp4_global_multiply(partition->input, &above, &below);
  }
  float value = (float)(above / below);
  if (!isfinite(value) || value <= 0.0f) {
    return nvfp4_reject(reason, NVFP4_E_UNSUPPORTED,
                        "rows %lld to %lld: the weight %s %g and the input %s %g give alpha = %g in fp32; needs a positive finite number",
                        (long long)partition->n_first, (long long)(partition->n_first + partition->n_rows - 1),
                        nvfp4_global_kind_name(partition->weight.kind), (double)partition->weight.value,
                        nvfp4_global_kind_name(partition->input.kind), (double)partition->input.value, (double)value);
  }
  *alpha = value;
  return NVFP4_OK;
}
