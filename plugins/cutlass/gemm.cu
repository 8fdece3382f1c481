/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One tile of CUTLASS for one family of GPUs and one type of y, chosen by the build: NVFP4_SM is 100 (tile 128 x 128 x 256, tcgen05) or 120 (128 x 128 x 128, mma.sync), NVFP4_Y_BF16 is 1 or 0 (f32). Each takes
 * minutes and gigabytes to compile. K whole in one thread block: a row's sums do not depend on the other rows.
 */
#include "cutlass/gemm.h"

#include <cutlass/cutlass.h>
#include <cutlass/gemm/device/gemm_universal_adapter.h>
#include <cutlass/detail/sm100_blockscaled_layout.hpp>
#include <cutlass/epilogue/collective/collective_builder.hpp>
#include <cutlass/epilogue/fusion/sm90_callbacks_tma_warpspecialized.hpp>
#include <cutlass/gemm/collective/collective_builder.hpp>
#include <cutlass/gemm/kernel/gemm_universal.hpp>
#include <cutlass/util/packed_stride.hpp>

namespace {

using namespace cute;

#if NVFP4_SM == 100
using Arch = cutlass::arch::Sm100;
using Tile = Shape<_128, _128, _256>;
#else
using Arch = cutlass::arch::Sm120;
using Tile = Shape<_128, _128, _128>;
#endif
using Cluster = Shape<_1, _1, _1>;
using Operand = cutlass::nv_float4_t<cutlass::float_e2m1_t>; /* with E4M3 scales of 16 */
#if NVFP4_Y_BF16
using Y = cutlass::bfloat16_t;
using Bias = cutlass::bfloat16_t;
#else
using Y = float;
using Bias = float;
#endif
constexpr int y_alignment = 16 / sizeof(Y);

/* y = fma(alpha[n], sum, bias[n]) */
template <class T>
using RowVector = cutlass::epilogue::fusion::Sm90RowBroadcast<0, Tile, T, float>;
using Finish = cutlass::epilogue::fusion::Sm90EVT<
    cutlass::epilogue::fusion::Sm90Compute<cutlass::homogeneous_multiply_add, Y, float, cutlass::FloatRoundStyle::round_to_nearest>,
    RowVector<float>, cutlass::epilogue::fusion::Sm90AccFetch, RowVector<Bias>>;

using Epilogue = typename cutlass::epilogue::collective::CollectiveBuilder<
    Arch, cutlass::arch::OpClassBlockScaledTensorOp, Tile, Cluster, cutlass::epilogue::collective::EpilogueTileAuto, float, float, void,
    cutlass::layout::RowMajor, y_alignment, Y, cutlass::layout::RowMajor, y_alignment, cutlass::epilogue::collective::EpilogueScheduleAuto,
    Finish>::CollectiveOp;
using Mainloop = typename cutlass::gemm::collective::CollectiveBuilder<
    Arch, cutlass::arch::OpClassBlockScaledTensorOp, Operand, cutlass::layout::RowMajor, 32, Operand, cutlass::layout::ColumnMajor, 32,
    float, Tile, Cluster, cutlass::gemm::collective::StageCountAutoCarveout<static_cast<int>(sizeof(typename Epilogue::SharedStorage))>,
    cutlass::gemm::collective::KernelScheduleAuto>::CollectiveOp;
using Kernel = cutlass::gemm::kernel::GemmUniversal<Shape<int, int, int, int>, Mainloop, Epilogue, void>;
using Gemm = cutlass::gemm::device::GemmUniversalAdapter<Kernel>;

typename Gemm::Arguments arguments_of(const cutlass_gemm_args *args) {
  using Scales = typename Mainloop::Sm1xxBlkScaledConfig;
  using Code = typename Operand::DataType;
  using Scale = typename Operand::ScaleFactorType;
  const int m = static_cast<int>(args->m), n = static_cast<int>(args->n), k = static_cast<int>(args->k);
  auto x_stride = cutlass::make_cute_packed_stride(typename Kernel::StrideA{}, {m, k, 1});
  auto w_stride = cutlass::make_cute_packed_stride(typename Kernel::StrideB{}, {n, k, 1});
  auto y_stride = cutlass::make_cute_packed_stride(typename Kernel::StrideD{}, {m, n, 1});
  get<0>(y_stride) = args->ldy_elems;
  return {
      cutlass::gemm::GemmUniversalMode::kGemm,
      {m, n, k, 1},
      {static_cast<const Code *>(args->x), x_stride, static_cast<const Code *>(args->w), w_stride,
       static_cast<const Scale *>(args->x_scales), Scales::tile_atom_to_shape_SFA(make_shape(m, n, k, 1)),
       static_cast<const Scale *>(args->w_scales), Scales::tile_atom_to_shape_SFB(make_shape(m, n, k, 1))},
      {{{args->alpha, 1.0f}, {}, {static_cast<const Bias *>(args->bias), Bias(0)}, {}}, nullptr, {}, static_cast<Y *>(args->y), y_stride}};
}

bool aligned(const void *pointer) { return pointer != nullptr && reinterpret_cast<uintptr_t>(pointer) % 16 == 0; }

}  // namespace

#define NVFP4_NAME_(sm, y) cutlass_gemm_sm##sm##_##y
#define NVFP4_NAME(sm, y) NVFP4_NAME_(sm, y)
#if NVFP4_Y_BF16
#define NVFP4_Y bf16
#else
#define NVFP4_Y f32
#endif

extern "C" const char *NVFP4_NAME(NVFP4_SM, NVFP4_Y)(const cutlass_gemm_args *args) {
  /* CUTLASS asserts what it does not like of an address or a stride: nothing of that kind may reach it. */
  if (!aligned(args->x) || !aligned(args->w) || !aligned(args->x_scales) || !aligned(args->w_scales) || !aligned(args->y) ||
      args->ldy_elems % y_alignment != 0 || args->k % 32 != 0 || args->n % 8 != 0 || args->m > INT32_MAX || args->n > INT32_MAX ||
      args->k > INT32_MAX) {
    return "a pointer, a stride or a size is not as CUTLASS needs it";
  }
  const typename Gemm::Arguments arguments = arguments_of(args);
  if (Gemm::get_workspace_size(arguments) > args->workspace_bytes) {
    return "CUTLASS wants more workspace";
  }
  cutlass::Status status = Gemm::can_implement(arguments);
  Gemm gemm;
  if (status == cutlass::Status::kSuccess) {
    status = gemm.initialize(arguments, args->workspace, static_cast<cudaStream_t>(args->stream));
  }
  if (status == cutlass::Status::kSuccess) {
    status = gemm.run(static_cast<cudaStream_t>(args->stream));
  }
  return status == cutlass::Status::kSuccess ? nullptr : cutlass::cutlassGetStatusString(status);
}
