// Grouped matrix product on tensor cores, fp32 sums, in two forms: warpgroup products (wgmma) on Hopper,
// mma.sync m16n8k16 on the others.
//
// A block computes a tile of kTileRows rows of one group x a tile of columns, in panels of kPanel inputs that
// are copied several panels ahead. Which group and rows a block has it finds from the offsets in device
// memory, so that the host neither reads them nor waits; the grid has room for any division of the rows, and
// the blocks without rows leave at once. Blocks of the same rows are neighbours in the grid: the rows and the
// group's weight are read from the L2 cache. Its rate is what sizes the tile on Hopper: 128 x 128 asks for 15
// bytes a kFLOP (9 TB/s at 600 TFLOP/s, more than the L2 cache gives), 128 x 256 for 11. The sum over inputs
// has one order for every row, whatever tile the row is in.
#include "base/integers.h"
#include "ops/cuda_check.h"
#include "ops/cuda_elements.cuh"
#include "ops/dtype_dispatch.h"
#include "ops/grouped_linear/grouped_linear_prefill_cuda.h"
#include "ops/grouped_linear/row_tiles.cuh"
#include "ops/tensor_core.cuh"
#include "ops/warpgroup_product.cuh"

namespace nemoforge::ops {
namespace {

// mma.sync: four warps of 64 x 64; 96 KiB of shared memory, two blocks a multiprocessor.
constexpr int kTileColumns = 128;
constexpr int kStages = 3;
constexpr int kThreads = 128;
constexpr int kWarpRows = 64;
constexpr int kWarpColumns = 64;
constexpr int kRowBlocks = kWarpRows / 16;
constexpr int kColumnBlocks = kWarpColumns / 8;
constexpr int kStageElements = (kTileRows + kTileColumns) * kPanel;
constexpr int kSharedBytes = kStages * kStageElements * 2;

// wgmma: two warpgroups of 64 x 256, each as products of 64 x 128; 192 KiB of shared memory beside the
// kilobyte that aligns it.
constexpr int kHalfColumns = 128;
constexpr int kWideColumns = 2 * kHalfColumns;
constexpr int kWideStages = 4;
constexpr int kWideThreads = 256;
constexpr int kWideStageElements = (kTileRows + kWideColumns) * kPanel;
constexpr int kTileAlignment = 1024;
constexpr int kWideSharedBytes = kWideStages * kWideStageElements * 2 + kTileAlignment;

// Below this many rows a group on average the weights' bytes decide, and the kernel for few rows serves.
constexpr int64_t kMinMeanRows = 8;

// sums += the warp's 64 x 64 part of one panel's product.
__device__ void multiply_panel(float (&sums)[kRowBlocks][kColumnBlocks][4], const SharedTile<kPanel>& x,
                               const SharedTile<kPanel>& weight, int warp_row, int warp_column, int lane) {
#pragma unroll
  for (int k = 0; k < kPanel; k += 16) {
    uint32_t a[kRowBlocks][4];
    uint32_t b[kColumnBlocks / 2][4];
#pragma unroll
    for (int i = 0; i < kRowBlocks; ++i) load_a(a[i], x, warp_row + i * 16, k, lane);
#pragma unroll
    for (int j = 0; j < kColumnBlocks / 2; ++j) load_b(b[j], weight, warp_column + j * 16, k, lane);
#pragma unroll
    for (int i = 0; i < kRowBlocks; ++i) {
#pragma unroll
      for (int j = 0; j < kColumnBlocks; ++j) {
        multiply_add(sums[i][j], a[i], b[j / 2][j % 2 * 2], b[j / 2][j % 2 * 2 + 1]);
      }
    }
  }
}

template <typename OutT>
__global__ void __launch_bounds__(kThreads, 2)
    multiply_row_tiles(const int32_t* offsets, int num_groups, const __nv_bfloat16* x, int64_t x_stride,
                       const __nv_bfloat16* weights, int64_t group_stride, int in_features, int out_features,
                       OutT* out, int64_t out_stride) {
  extern __shared__ __align__(128) __nv_bfloat16 shared[];
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int warp = static_cast<int>(threadIdx.x) / 32;
  const RowTile tile = find_row_tile(offsets, num_groups, static_cast<int>(blockIdx.y), lane);
  if (tile.group < 0) return;
  const int first_column = static_cast<int>(blockIdx.x) * kTileColumns;
  const Operand x_rows{x + tile.first_row * x_stride, x_stride, tile.num_rows};
  const Operand weight_rows{
      weights + tile.group * group_stride + static_cast<int64_t>(first_column) * in_features, in_features,
      min(kTileColumns, out_features - first_column)};
  const auto x_tile = [&](int stage) { return SharedTile<kPanel>{shared + stage * kStageElements}; };
  const auto weight_tile = [&](int stage) {
    return SharedTile<kPanel>{shared + stage * kStageElements + kTileRows * kPanel};
  };
  const int num_panels = (in_features + kPanel - 1) / kPanel;
  const auto load = [&](int panel) {
    if (panel < num_panels) {
      load_panel<kTileRows, kThreads>(x_tile(panel % kStages), x_rows, panel * kPanel, in_features);
      load_panel<kTileColumns, kThreads>(weight_tile(panel % kStages), weight_rows, panel * kPanel,
                                         in_features);
    }
    commit_copies();
  };
#pragma unroll
  for (int panel = 0; panel < kStages - 1; ++panel) load(panel);

  const int warp_row = warp / 2 * kWarpRows;
  const int warp_column = warp % 2 * kWarpColumns;
  float sums[kRowBlocks][kColumnBlocks][4] = {};
  for (int panel = 0; panel < num_panels; ++panel) {
    wait_for_copies<kStages - 2>();
    __syncthreads();  // the panel is there for all, and nobody reads the buffer that is filled next
    load(panel + kStages - 1);
    multiply_panel(sums, x_tile(panel % kStages), weight_tile(panel % kStages), warp_row, warp_column, lane);
  }
  const auto target = target_of(out, out_stride, tile, first_column, out_features);
#pragma unroll
  for (int i = 0; i < kRowBlocks; ++i)
    store_rows<false>(sums[i], target, warp_row + i * 16, warp_column, lane);
}

// The wide tile: kHalves halves of 128 columns that exist.
template <int kHalves, typename OutT>
__device__ void multiply_wide_tile(const Operand& x_rows, const Operand& weight_rows, int in_features,
                                   __nv_bfloat16* shared, const Target<OutT>& target) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int warpgroup = static_cast<int>(threadIdx.x) / 128;
  const auto x_tile = [&](int panel) {
    return SharedTile<kPanel>{shared + panel % kWideStages * kWideStageElements};
  };
  const auto weight_tile = [&](int panel) {
    return SharedTile<kPanel>{x_tile(panel).data + kTileRows * kPanel};
  };
  const int num_panels = (in_features + kPanel - 1) / kPanel;
  const auto load = [&](int panel) {
    if (panel < num_panels) {
      load_panel<kTileRows, kWideThreads>(x_tile(panel), x_rows, panel * kPanel, in_features);
      load_panel<kHalves * kHalfColumns, kWideThreads>(weight_tile(panel), weight_rows, panel * kPanel,
                                                       in_features);
    }
    commit_copies();
  };
#pragma unroll
  for (int panel = 0; panel < kWideStages - 2; ++panel) load(panel);

  float sums[kHalves][kHalfColumns / 8][4] = {};
  for (int panel = 0; panel < num_panels; ++panel) {
    wait_for_copies<kWideStages - 3>();
    publish_to_products();
    __syncthreads();  // the panel is there for all, and both warpgroups are done with the last but one
    const uint64_t a = tile_descriptor(x_tile(panel).data + warpgroup * 64 * kPanel);
    const uint64_t b = tile_descriptor(weight_tile(panel).data);
    begin_products();
#pragma unroll
    for (int k = 0; k < kPanel / 16; ++k) {
#pragma unroll
      for (int half = 0; half < kHalves; ++half) {
        constexpr uint64_t kHalfStep = kHalfColumns * kPanel * 2 / 16;
        multiply_add_async(sums[half], a + k * kDescriptorStep, b + half * kHalfStep + k * kDescriptorStep);
      }
    }
    commit_products();
    load(panel + kWideStages - 2);  // into the buffer of the last panel but one
    wait_for_products<1>();
  }
  wait_for_products<0>();
  const int first_row = warpgroup * 64 + static_cast<int>(threadIdx.x) % 128 / 32 * 16;
#pragma unroll
  for (int half = 0; half < kHalves; ++half) {
    store_rows<false>(sums[half], target, first_row, half * kHalfColumns, lane);
  }
}

template <typename OutT>
__global__ void __launch_bounds__(kWideThreads, 1)
    multiply_wide_row_tiles(const int32_t* offsets, int num_groups, const __nv_bfloat16* x, int64_t x_stride,
                            const __nv_bfloat16* weights, int64_t group_stride, int in_features,
                            int out_features, OutT* out, int64_t out_stride) {
#ifdef __CUDA_ARCH_FEAT_SM90_ALL
  extern __shared__ unsigned char unaligned[];
  auto* shared = reinterpret_cast<__nv_bfloat16*>(
      unaligned + (kTileAlignment - shared_address(unaligned) % kTileAlignment) % kTileAlignment);
  const RowTile tile =
      find_row_tile(offsets, num_groups, static_cast<int>(blockIdx.y), static_cast<int>(threadIdx.x) % 32);
  if (tile.group < 0) return;
  const int first_column = static_cast<int>(blockIdx.x) * kWideColumns;
  const Operand x_rows{x + tile.first_row * x_stride, x_stride, tile.num_rows};
  const Operand weight_rows{
      weights + tile.group * group_stride + static_cast<int64_t>(first_column) * in_features, in_features,
      min(kWideColumns, out_features - first_column)};
  const auto target = target_of(out, out_stride, tile, first_column, out_features);
  if (weight_rows.num_rows > kHalfColumns) {
    multiply_wide_tile<2>(x_rows, weight_rows, in_features, shared, target);
  } else {
    multiply_wide_tile<1>(x_rows, weight_rows, in_features, shared, target);
  }
#else
  __trap();  // has_warpgroup_products keeps other architectures away
#endif
}

}  // namespace

bool has_warpgroup_products() {
#ifndef NEMOFORGE_CUDA_SM90A
  return false;
#else
  static const bool result = [] {
    int device = 0;
    int major = 0;
    CUDA_CHECK(cudaGetDevice(&device));
    CUDA_CHECK(cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device));
    return major == 9;
  }();
  return result;
#endif
}

bool grouped_linear_prefill(const GroupedLinearArgs& args, int64_t group_stride, cudaStream_t stream) {
  const ConstTensorView weight = args.weights[0].weight;
  const int64_t num_rows = args.x.size(0);
  const auto num_groups = static_cast<int64_t>(args.weights.size());
  const auto is_aligned = [](const void* data) { return reinterpret_cast<uintptr_t>(data) % 16 == 0; };
  const int64_t max_row_tiles = num_rows / kTileRows + std::min(num_rows, num_groups);
  const bool applies = args.x.dtype() == DType::kBF16 && weight.dtype() == DType::kBF16 &&
                       num_rows >= kMinMeanRows * num_groups && weight.size(1) % kPieceElements == 0 &&
                       args.x.row_stride() % kPieceElements == 0 && group_stride % kPieceElements == 0 &&
                       is_aligned(args.x.raw()) && is_aligned(weight.raw()) && max_row_tiles <= 65535;
  if (!applies) return false;
  const bool wide = has_warpgroup_products();
  const dim3 grid(
      static_cast<unsigned>(ceil_div<int64_t>(weight.size(0), wide ? kWideColumns : kTileColumns)),
      static_cast<unsigned>(max_row_tiles));
  dispatch_activation(args.out.dtype(), [&](auto out_tag) {
    using OutT = DeviceType<typename decltype(out_tag)::type>;
    const auto kernel = wide ? multiply_wide_row_tiles<OutT> : multiply_row_tiles<OutT>;
    const int shared_bytes = wide ? kWideSharedBytes : kSharedBytes;
    CUDA_CHECK(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, shared_bytes));
    kernel<<<grid, wide ? kWideThreads : kThreads, static_cast<size_t>(shared_bytes), stream>>>(
        args.offsets.data<int32_t>(), static_cast<int>(num_groups),
        static_cast<const __nv_bfloat16*>(args.x.raw()), args.x.row_stride(),
        static_cast<const __nv_bfloat16*>(weight.raw()), group_stride, static_cast<int>(weight.size(1)),
        static_cast<int>(weight.size(0)), static_cast<OutT*>(args.out.raw()), args.out.row_stride());
  });
  CUDA_CHECK(cudaGetLastError());
  return true;
}

}  // namespace nemoforge::ops
