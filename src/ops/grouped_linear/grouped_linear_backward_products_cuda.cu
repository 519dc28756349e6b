// d_x = d_out W is the forward's product with a weight that is read transposed: the same tiles of rows, and
// panels of the weight [outputs along the sum][inputs]. On Hopper by wgmma, elsewhere by mma.sync.
// d_W = d_out^T x has both operands transposed and sums over a group's rows: by mma.sync.
#include "base/integers.h"
#include "ops/cuda_check.h"
#include "ops/cuda_elements.cuh"
#include "ops/grouped_linear/grouped_linear_backward_products_cuda.h"
#include "ops/grouped_linear/grouped_linear_prefill_cuda.h"
#include "ops/grouped_linear/row_tiles.cuh"
#include "ops/tensor_core.cuh"
#include "ops/warpgroup_product.cuh"

namespace nemoforge::ops {
namespace {

// mma.sync: four warps of 64 x 64.
constexpr int kTileColumns = 128;
constexpr int kStages = 3;
constexpr int kThreads = 128;
constexpr int kWarpRows = 64;
constexpr int kWarpColumns = 64;
constexpr int kRowBlocks = kWarpRows / 16;
constexpr int kColumnBlocks = kWarpColumns / 8;
constexpr int kStageElements = (kTileRows + kTileColumns) * kPanel;
constexpr int kSharedBytes = kStages * kStageElements * 2;

// wgmma: two warpgroups of 64 x 256.
constexpr int kHalfColumns = 128;
constexpr int kWideColumns = 2 * kHalfColumns;
constexpr int kWideStages = 4;
constexpr int kWideThreads = 256;
constexpr int kChunkElements = kPanel * 64;  // of 64 columns of the weight's panel
constexpr int kWideStageElements = (kTileRows + kWideColumns) * kPanel;
constexpr int kTileAlignment = 1024;
constexpr int kWideSharedBytes = kWideStages * kWideStageElements * 2 + kTileAlignment;

using WarpSums = float[kRowBlocks][kColumnBlocks][4];

// A matrix [num_rows, num_columns] of which a panel is rows [first, first + kPanel) along the sum.
struct PanelSource {
  const __nv_bfloat16* data;
  int64_t stride;
  int num_rows;
  int num_columns;
};

// Starts the copy of a panel's kColumns columns; what does not exist is zero.
template <int kColumns, int kBlock>
__device__ void load_rows_of_sum(const SharedTile<kColumns>& tile, const PanelSource& source, int first_row) {
  constexpr int kPieces = kColumns / kPieceElements;
#pragma unroll
  for (int i = 0; i < kPanel * kPieces / kBlock; ++i) {
    const int idx = static_cast<int>(threadIdx.x) + i * kBlock;
    const int row = idx / kPieces;
    const int piece = idx % kPieces;
    const bool valid = first_row + row < source.num_rows && piece * kPieceElements < source.num_columns;
    copy_piece(tile.piece(row, piece),
               valid ? source.data + (first_row + row) * source.stride + piece * kPieceElements : source.data,
               valid, true);
  }
}

// sums += the warp's 64 x 64 part of one panel's product; a is [rows][sum], b [sum][columns].
__device__ void multiply_panel(WarpSums& sums, const SharedTile<kPanel>& a_tile,
                               const SharedTile<kTileColumns>& b_tile, int warp_row, int warp_column,
                               int lane) {
#pragma unroll
  for (int k = 0; k < kPanel; k += 16) {
    uint32_t a[kRowBlocks][4];
    uint32_t b[kColumnBlocks / 2][4];
#pragma unroll
    for (int i = 0; i < kRowBlocks; ++i) load_a(a[i], a_tile, warp_row + i * 16, k, lane);
#pragma unroll
    for (int j = 0; j < kColumnBlocks / 2; ++j)
      load_b_transposed(b[j], b_tile, k, warp_column + j * 16, lane);
#pragma unroll
    for (int i = 0; i < kRowBlocks; ++i) {
#pragma unroll
      for (int j = 0; j < kColumnBlocks; ++j) {
        multiply_add(sums[i][j], a[i], b[j / 2][j % 2 * 2], b[j / 2][j % 2 * 2 + 1]);
      }
    }
  }
}

// Likewise with a [sum][rows].
__device__ void multiply_transposed_panel(WarpSums& sums, const SharedTile<kTileRows>& a_tile,
                                          const SharedTile<kTileColumns>& b_tile, int warp_row,
                                          int warp_column, int lane) {
#pragma unroll
  for (int k = 0; k < kPanel; k += 16) {
    uint32_t a[kRowBlocks][4];
    uint32_t b[kColumnBlocks / 2][4];
#pragma unroll
    for (int i = 0; i < kRowBlocks; ++i) load_a_transposed(a[i], a_tile, k, warp_row + i * 16, lane);
#pragma unroll
    for (int j = 0; j < kColumnBlocks / 2; ++j)
      load_b_transposed(b[j], b_tile, k, warp_column + j * 16, lane);
#pragma unroll
    for (int i = 0; i < kRowBlocks; ++i) {
#pragma unroll
      for (int j = 0; j < kColumnBlocks; ++j) {
        multiply_add(sums[i][j], a[i], b[j / 2][j % 2 * 2], b[j / 2][j % 2 * 2 + 1]);
      }
    }
  }
}

// Copies panel after panel some stages ahead: load(panel, stage) starts a copy, multiply(stage) uses it.
template <typename Load, typename Multiply>
__device__ void for_each_panel(int num_panels, const Load& load, const Multiply& multiply) {
  const auto load_next = [&](int panel) {
    if (panel < num_panels) load(panel, panel % kStages);
    commit_copies();
  };
#pragma unroll
  for (int panel = 0; panel < kStages - 1; ++panel) load_next(panel);
  for (int panel = 0; panel < num_panels; ++panel) {
    wait_for_copies<kStages - 2>();
    __syncthreads();  // the panel is there for all, and nobody reads the buffer that is filled next
    load_next(panel + kStages - 1);
    multiply(panel % kStages);
  }
}

// d_x of a tile of a group's rows x columns of the weight; the sum is over the weight's rows.
__global__ void __launch_bounds__(kThreads, 2)
    multiply_by_weights(const int32_t* offsets, int num_groups, const __nv_bfloat16* d_out,
                        int64_t d_out_stride,
                        const __grid_constant__ GroupPointers<const __nv_bfloat16> weights, int in_features,
                        int out_features, __nv_bfloat16* d_x, int64_t d_x_stride) {
  extern __shared__ __align__(128) __nv_bfloat16 shared[];
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int warp = static_cast<int>(threadIdx.x) / 32;
  const RowTile tile = find_row_tile(offsets, num_groups, static_cast<int>(blockIdx.y), lane);
  if (tile.group < 0) return;
  const int first_column = static_cast<int>(blockIdx.x) * kTileColumns;
  const Operand rows{d_out + tile.first_row * d_out_stride, d_out_stride, tile.num_rows};
  const PanelSource weight{weights.of_group[tile.group] + first_column, in_features, out_features,
                           in_features - first_column};
  const auto row_tile = [&](int stage) { return SharedTile<kPanel>{shared + stage * kStageElements}; };
  const auto weight_tile = [&](int stage) {
    return SharedTile<kTileColumns>{shared + stage * kStageElements + kTileRows * kPanel};
  };
  const int warp_row = warp / 2 * kWarpRows;
  const int warp_column = warp % 2 * kWarpColumns;
  WarpSums sums = {};
  for_each_panel((out_features + kPanel - 1) / kPanel,
                 [&](int panel, int stage) {
                   load_panel<kTileRows, kThreads>(row_tile(stage), rows, panel * kPanel, out_features);
                   load_rows_of_sum<kTileColumns, kThreads>(weight_tile(stage), weight, panel * kPanel);
                 },
                 [&](int stage) {
                   multiply_panel(sums, row_tile(stage), weight_tile(stage), warp_row, warp_column, lane);
                 });
  const auto target = target_of(d_x, d_x_stride, tile, first_column, in_features);
#pragma unroll
  for (int i = 0; i < kRowBlocks; ++i)
    store_rows<true>(sums[i], target, warp_row + i * 16, warp_column, lane);
}

// d_W of one group: a tile of outputs x a tile of inputs; the sum is over the group's rows.
__global__ void __launch_bounds__(kThreads, 2)
    multiply_rows(const int32_t* offsets, const __nv_bfloat16* d_out, int64_t d_out_stride,
                  const __nv_bfloat16* x, int64_t x_stride,
                  const __grid_constant__ GroupPointers<float> d_weights, int in_features, int out_features) {
  extern __shared__ __align__(128) __nv_bfloat16 shared[];
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int warp = static_cast<int>(threadIdx.x) / 32;
  const int group = static_cast<int>(blockIdx.z);
  const int first_row = offsets[group];
  const int num_rows = offsets[group + 1] - first_row;
  if (num_rows == 0) return;
  const int first_output = static_cast<int>(blockIdx.y) * kTileRows;
  const int first_input = static_cast<int>(blockIdx.x) * kTileColumns;
  const PanelSource outputs{d_out + first_row * d_out_stride + first_output, d_out_stride, num_rows,
                            out_features - first_output};
  const PanelSource inputs{x + first_row * x_stride + first_input, x_stride, num_rows,
                           in_features - first_input};
  const auto output_tile = [&](int stage) { return SharedTile<kTileRows>{shared + stage * kStageElements}; };
  const auto input_tile = [&](int stage) {
    return SharedTile<kTileColumns>{shared + stage * kStageElements + kTileRows * kPanel};
  };
  const int warp_row = warp / 2 * kWarpRows;
  const int warp_column = warp % 2 * kWarpColumns;
  WarpSums sums = {};
  for_each_panel((num_rows + kPanel - 1) / kPanel,
                 [&](int panel, int stage) {
                   load_rows_of_sum<kTileRows, kThreads>(output_tile(stage), outputs, panel * kPanel);
                   load_rows_of_sum<kTileColumns, kThreads>(input_tile(stage), inputs, panel * kPanel);
                 },
                 [&](int stage) {
                   multiply_transposed_panel(sums, output_tile(stage), input_tile(stage), warp_row,
                                             warp_column, lane);
                 });
  const RowTile tile{group, first_output, min(kTileRows, out_features - first_output)};
  const auto target = target_of(d_weights.of_group[group], in_features, tile, first_input, in_features);
#pragma unroll
  for (int i = 0; i < kRowBlocks; ++i)
    store_rows<true>(sums[i], target, warp_row + i * 16, warp_column, lane);
}

// The wide tile: kHalves halves of 128 columns that exist.
template <int kHalves>
__device__ void multiply_wide_tile(const Operand& rows, const PanelSource& weight, __nv_bfloat16* shared,
                                   const Target<__nv_bfloat16>& target) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int warpgroup = static_cast<int>(threadIdx.x) / 128;
  const int num_panels = (weight.num_rows + kPanel - 1) / kPanel;
  const auto row_tile = [&](int panel) {
    return SharedTile<kPanel>{shared + panel % kWideStages * kWideStageElements};
  };
  const auto chunk_of = [&](int panel, int chunk) {
    return SharedTile<64>{row_tile(panel).data + kTileRows * kPanel + chunk * kChunkElements};
  };
  const auto load = [&](int panel) {
    if (panel < num_panels) {
      load_panel<kTileRows, kWideThreads>(row_tile(panel), rows, panel * kPanel, weight.num_rows);
#pragma unroll
      for (int chunk = 0; chunk < kHalves * 2; ++chunk) {
        const PanelSource part{weight.data + chunk * 64, weight.stride, weight.num_rows,
                               weight.num_columns - chunk * 64};
        load_rows_of_sum<64, kWideThreads>(chunk_of(panel, chunk), part, panel * kPanel);
      }
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
    const uint64_t a = tile_descriptor(row_tile(panel).data + warpgroup * 64 * kPanel);
    const uint64_t b = transposed_tile_descriptor<kPanel>(chunk_of(panel, 0).data);
    begin_products();
#pragma unroll
    for (int k = 0; k < kPanel / 16; ++k) {
#pragma unroll
      for (int half = 0; half < kHalves; ++half) {
        constexpr uint64_t kHalfStep = 2 * kChunkElements * 2 / 16;
        multiply_add_async<true>(sums[half], a + k * kDescriptorStep,
                                 b + half * kHalfStep + k * kTransposedStep);
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
    store_rows<true>(sums[half], target, first_row, half * kHalfColumns, lane);
  }
}

__global__ void __launch_bounds__(kWideThreads, 1)
    multiply_wide_by_weights(const int32_t* offsets, int num_groups, const __nv_bfloat16* d_out,
                             int64_t d_out_stride,
                             const __grid_constant__ GroupPointers<const __nv_bfloat16> weights,
                             int in_features, int out_features, __nv_bfloat16* d_x, int64_t d_x_stride) {
#ifdef __CUDA_ARCH_FEAT_SM90_ALL
  extern __shared__ unsigned char unaligned[];
  auto* shared = reinterpret_cast<__nv_bfloat16*>(
      unaligned + (kTileAlignment - shared_address(unaligned) % kTileAlignment) % kTileAlignment);
  const RowTile tile =
      find_row_tile(offsets, num_groups, static_cast<int>(blockIdx.y), static_cast<int>(threadIdx.x) % 32);
  if (tile.group < 0) return;
  const int first_column = static_cast<int>(blockIdx.x) * kWideColumns;
  const Operand rows{d_out + tile.first_row * d_out_stride, d_out_stride, tile.num_rows};
  const PanelSource weight{weights.of_group[tile.group] + first_column, in_features, out_features,
                           in_features - first_column};
  const auto target = target_of(d_x, d_x_stride, tile, first_column, in_features);
  if (weight.num_columns > kHalfColumns) {
    multiply_wide_tile<2>(rows, weight, shared, target);
  } else {
    multiply_wide_tile<1>(rows, weight, shared, target);
  }
#else
  __trap();  // has_warpgroup_products keeps other architectures away
#endif
}

bool in_pieces(const ConstTensorView& view) {
  return view.dtype() == DType::kBF16 && rows_aligned_to<kPieceElements>(view);
}

}  // namespace

bool grouped_products_apply(const GroupedLinearBackwardArgs& args) {
  const auto num_groups = static_cast<int64_t>(args.weights.size());
  if (num_groups > kMaxGroups || !in_pieces(args.x) || !in_pieces(args.d_out) || !in_pieces(args.d_x)) {
    return false;
  }
  if (args.x.size(0) / kTileRows + num_groups > 65535) return false;
  for (const LinearWeight& weight : args.weights) {
    if (!in_pieces(weight.weight)) return false;
  }
  return true;
}

void add_grouped_d_x(const GroupedLinearBackwardArgs& args, cudaStream_t stream) {
  const int64_t num_rows = args.x.size(0);
  const auto num_groups = static_cast<int64_t>(args.weights.size());
  GroupPointers<const __nv_bfloat16> weights{};
  for (size_t group = 0; group < args.weights.size(); ++group) {
    weights.of_group[group] = static_cast<const __nv_bfloat16*>(args.weights[group].weight.raw());
  }
  const bool wide = has_warpgroup_products();
  const dim3 grid(
      static_cast<unsigned>(ceil_div<int64_t>(args.x.size(1), wide ? kWideColumns : kTileColumns)),
      static_cast<unsigned>(num_rows / kTileRows + std::min(num_rows, num_groups)));
  const auto kernel = wide ? multiply_wide_by_weights : multiply_by_weights;
  const int shared_bytes = wide ? kWideSharedBytes : kSharedBytes;
  CUDA_CHECK(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, shared_bytes));
  kernel<<<grid, wide ? kWideThreads : kThreads, static_cast<size_t>(shared_bytes), stream>>>(
      args.offsets.data<int32_t>(), static_cast<int>(num_groups),
      static_cast<const __nv_bfloat16*>(args.d_out.raw()), args.d_out.row_stride(), weights,
      static_cast<int>(args.x.size(1)), static_cast<int>(args.d_out.size(1)),
      static_cast<__nv_bfloat16*>(args.d_x.raw()), args.d_x.row_stride());
  CUDA_CHECK(cudaGetLastError());
}

void add_grouped_d_weights(const GroupedLinearBackwardArgs& args, cudaStream_t stream) {
  GroupPointers<float> d_weights{};
  for (size_t group = 0; group < args.d_weights.size(); ++group) {
    d_weights.of_group[group] = args.d_weights[group].data<float>();
  }
  const dim3 grid(static_cast<unsigned>(ceil_div<int64_t>(args.x.size(1), kTileColumns)),
                  static_cast<unsigned>(ceil_div<int64_t>(args.d_out.size(1), kTileRows)),
                  static_cast<unsigned>(args.weights.size()));
  CUDA_CHECK(cudaFuncSetAttribute(multiply_rows, cudaFuncAttributeMaxDynamicSharedMemorySize, kSharedBytes));
  multiply_rows<<<grid, kThreads, static_cast<size_t>(kSharedBytes), stream>>>(
      args.offsets.data<int32_t>(), static_cast<const __nv_bfloat16*>(args.d_out.raw()),
      args.d_out.row_stride(), static_cast<const __nv_bfloat16*>(args.x.raw()), args.x.row_stride(),
      d_weights, static_cast<int>(args.x.size(1)), static_cast<int>(args.d_out.size(1)));
  CUDA_CHECK(cudaGetLastError());
}

}  // namespace nemoforge::ops
