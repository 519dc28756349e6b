// Linear layers. Few rows stream the weight once (bandwidth-bound; the floor is bytes of the weight over the
// memory's read rate): up to kMaxFewRows of bf16 through tensor cores (few_rows_mma.cuh), up to kMaxGemvRows
// of other types through a matrix-vector kernel. More rows, and prefill: cuBLASLt on tensor cores.
#include <algorithm>

#include "base/integers.h"
#include "ops/cuda_backend.h"
#include "ops/cuda_check.h"
#include "ops/cuda_elements.cuh"
#include "ops/dtype_dispatch.h"
#include "ops/linear/few_rows_mma.cuh"
#include "ops/linear/linear.h"

namespace nemoforge::ops {
namespace {

constexpr int kMaxGemvRows = 8;
// Beyond, the reads of x from L2 cost as much as those of the weight.
constexpr int kMaxFewRows = kFewRowsMax;
constexpr int kWarpsPerBlock = 4;
constexpr int kElementThreads = 256;

// One block an output column, kRows rows at once: its warps take turns along in_features in 16-byte pieces a
// lane and add up their sums in order. in_features is a multiple of the piece (checked before launch).
template <int kRows, typename XT, typename WeightT, typename OutT>
__global__ void gemv_block_per_column(const XT* x, int64_t x_stride, const WeightT* weight,
                                      const WeightT* bias, int in_features, OutT* out, int64_t out_stride) {
  constexpr int kPiece = 16 / sizeof(WeightT);
  await_previous_kernel();
  __shared__ float partial[kWarpsPerBlock][kRows];
  const int column = static_cast<int>(blockIdx.x);
  const int warp = static_cast<int>(threadIdx.x) / 32;
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const WeightT* row_of_weight = weight + static_cast<int64_t>(column) * in_features;
  float sums[kRows] = {};
#pragma unroll 4
  for (int k = static_cast<int>(threadIdx.x) * kPiece; k < in_features; k += kWarpsPerBlock * 32 * kPiece) {
    const auto w = *reinterpret_cast<const Pack<WeightT, kPiece>*>(row_of_weight + k);
#pragma unroll
    for (int row = 0; row < kRows; ++row) {
      const XT* x_piece = x + row * x_stride + k;
#pragma unroll
      for (int i = 0; i < kPiece; ++i) sums[row] += to_float(w.values[i]) * to_float(x_piece[i]);
    }
  }
#pragma unroll
  for (int row = 0; row < kRows; ++row) {
    const float sum = warp_sum(sums[row]);
    if (lane == 0) partial[warp][row] = sum;
  }
  __syncthreads();  // every warp's sums are written
  if (threadIdx.x >= kRows) return;
  float sum = 0;
#pragma unroll
  for (int other = 0; other < kWarpsPerBlock; ++other) sum += partial[other][threadIdx.x];
  out[threadIdx.x * out_stride + column] =
      from_float<OutT>(sum + (bias == nullptr ? 0.0f : to_float(bias[column])));
}

// Every gridDim.x-th tile of columns of one weight.
template <typename OutT>
struct TilesOfColumns {
  FewRowsJob<OutT> first;
  int out_features;
  int next_column;
  __device__ bool next(FewRowsJob<OutT>& job) {
    job = first;
    job.first_column = next_column;
    next_column += static_cast<int>(gridDim.x) * kFewRowsColumns;
    return job.first_column < out_features;
  }
};

template <int kTiles, typename OutT>
__global__ void __launch_bounds__(kFewRowsThreads, kFewRowsBlocks)
    few_rows_linear(const __nv_bfloat16* x, const __nv_bfloat16* weight, FewRowsShape shape, int num_rows,
                    OutT* out) {
  extern __shared__ uint4 shared[];
  const TilesOfColumns<OutT> tiles{
      {weight, x, out, 0, num_rows}, shape.out_features, static_cast<int>(blockIdx.x) * kFewRowsColumns};
  FewRowsProducts<kTiles, OutT, TilesOfColumns<OutT>>(shape, tiles, shared).run();
}

template <typename InT, typename OutT>
__global__ void convert_rows(const InT* in, int64_t in_stride, int num_columns, OutT* out,
                             int64_t out_stride) {
  const int column = static_cast<int>(blockIdx.y * kElementThreads + threadIdx.x);
  if (column >= num_columns) return;
  out[blockIdx.x * out_stride + column] = from_float<OutT>(to_float(in[blockIdx.x * in_stride + column]));
}

template <typename BiasT, typename OutT>
__global__ void add_bias_and_round(const float* in, const BiasT* bias, int num_columns, OutT* out,
                                   int64_t out_stride) {
  const int column = static_cast<int>(blockIdx.y * kElementThreads + threadIdx.x);
  if (column >= num_columns) return;
  const float offset = bias == nullptr ? 0.0f : to_float(bias[column]);
  out[blockIdx.x * out_stride + column] =
      from_float<OutT>(in[static_cast<int64_t>(blockIdx.x) * num_columns + column] + offset);
}

dim3 element_grid(int64_t num_rows, int64_t num_columns) {
  return dim3(static_cast<unsigned>(num_rows),
              static_cast<unsigned>(ceil_div<int64_t>(num_columns, kElementThreads)));
}

// A contiguous fp32 copy of `in` in `memory`.
TensorView as_float(ConstTensorView in, void* memory, cudaStream_t stream) {
  const TensorView out(memory, DType::kF32, Shape{in.size(0), in.size(1)});
  dispatch_weight(in.dtype(), [&](auto tag) {
    using T = DeviceType<typename decltype(tag)::type>;
    convert_rows<<<element_grid(in.size(0), in.size(1)), kElementThreads, 0, stream>>>(
        static_cast<const T*>(in.raw()), in.row_stride(), static_cast<int>(in.size(1)),
        static_cast<float*>(memory), in.size(1));
  });
  CUDA_CHECK(cudaGetLastError());
  return out;
}

template <int kRows>
void launch_gemv(const LinearArgs& args, ConstTensorView x, TensorView out, OpStream& stream) {
  const LinearWeight& weight = *args.weight;
  const auto grid = static_cast<unsigned>(weight.out_features());
  dispatch_activation(x.dtype(), [&](auto x_tag) {
    dispatch_weight(weight.weight.dtype(), [&](auto weight_tag) {
      dispatch_activation(out.dtype(), [&](auto out_tag) {
        using XT = DeviceType<typename decltype(x_tag)::type>;
        using WeightT = DeviceType<typename decltype(weight_tag)::type>;
        using OutT = DeviceType<typename decltype(out_tag)::type>;
        stream.launch(gemv_block_per_column<kRows, XT, WeightT, OutT>, grid, kWarpsPerBlock * 32, 0,
                      static_cast<const XT*>(x.raw()), x.row_stride(),
                      static_cast<const WeightT*>(weight.weight.raw()),
                      static_cast<const WeightT*>(weight.bias.raw()), static_cast<int>(weight.in_features()),
                      static_cast<OutT*>(out.raw()), out.row_stride());
      });
    });
  });
  CUDA_CHECK(cudaGetLastError());
}

void run_gemv(const LinearArgs& args, ConstTensorView x, TensorView out, OpStream& stream) {
  switch (x.size(0)) {
    case 1:
      return launch_gemv<1>(args, x, out, stream);
    case 2:
      return launch_gemv<2>(args, x, out, stream);
    case 3:
      return launch_gemv<3>(args, x, out, stream);
    case 4:
      return launch_gemv<4>(args, x, out, stream);
    case 5:
      return launch_gemv<5>(args, x, out, stream);
    case 6:
      return launch_gemv<6>(args, x, out, stream);
    case 7:
      return launch_gemv<7>(args, x, out, stream);
    case 8:
      return launch_gemv<8>(args, x, out, stream);
    default:
      NF_CHECK(false) << x.size(0) << " rows";
  }
}

template <int kTiles>
void launch_few_rows(const LinearArgs& args, OpStream& stream) {
  const LinearWeight& weight = *args.weight;
  const FewRowsShape shape{static_cast<int>(weight.in_features()), static_cast<int>(weight.out_features()),
                           args.x.row_stride(), args.out.row_stride(),
                           static_cast<const __nv_bfloat16*>(weight.bias.raw())};
  dispatch_activation(args.out.dtype(), [&](auto out_tag) {
    using OutT = DeviceType<typename decltype(out_tag)::type>;
    allow_shared_bytes(few_rows_linear<kTiles, OutT>, few_rows_shared_bytes(kTiles));
    stream.launch(few_rows_linear<kTiles, OutT>,
                  few_rows_grid(ceil_div<int64_t>(weight.out_features(), kFewRowsColumns)), kFewRowsThreads,
                  few_rows_shared_bytes(kTiles), static_cast<const __nv_bfloat16*>(args.x.raw()),
                  static_cast<const __nv_bfloat16*>(weight.weight.raw()), shape,
                  static_cast<int>(args.x.size(0)), static_cast<OutT*>(args.out.raw()));
  });
  CUDA_CHECK(cudaGetLastError());
}

void run_few_rows(const LinearArgs& args, OpStream& stream) {
  if (args.x.size(0) <= kFewRowsTile) return launch_few_rows<1>(args, stream);
  if (args.x.size(0) <= 2 * kFewRowsTile) return launch_few_rows<2>(args, stream);
  launch_few_rows<kFewRowsMaxTiles>(args, stream);
}

cudaDataType_t cuda_dtype(DType dtype) {
  return dtype == DType::kF32 ? CUDA_R_32F : CUDA_R_16BF;
}

}  // namespace

// Descriptors and the algorithm that cuBLASLt's heuristic chose for one problem.
struct CudaBackend::MatmulPlan {
  cublasLtMatmulDesc_t operation = nullptr;
  cublasLtMatrixLayout_t weight = nullptr;
  cublasLtMatrixLayout_t x = nullptr;
  cublasLtMatrixLayout_t out = nullptr;
  cublasLtMatmulAlgo_t algorithm{};

  // cuBLAS is column-major: out^T [out_features, rows] = W [out, in] x^T [in, rows], where row-major W is a
  // transposed [in, out].
  MatmulPlan(cublasLtHandle_t handle, ConstTensorView x_view, ConstTensorView weight_view,
             TensorView out_view) {
    const auto rows = static_cast<uint64_t>(x_view.size(0));
    const auto in_features = static_cast<uint64_t>(x_view.size(1));
    const auto out_features = static_cast<uint64_t>(weight_view.size(0));
    const cublasOperation_t transpose = CUBLAS_OP_T;
    CUDA_CHECK(cublasLtMatmulDescCreate(&operation, CUBLAS_COMPUTE_32F, CUDA_R_32F));
    CUDA_CHECK(cublasLtMatmulDescSetAttribute(operation, CUBLASLT_MATMUL_DESC_TRANSA, &transpose,
                                              sizeof(transpose)));
    CUDA_CHECK(cublasLtMatrixLayoutCreate(&weight, cuda_dtype(weight_view.dtype()), in_features, out_features,
                                          weight_view.row_stride()));
    CUDA_CHECK(
        cublasLtMatrixLayoutCreate(&x, cuda_dtype(x_view.dtype()), in_features, rows, x_view.row_stride()));
    CUDA_CHECK(cublasLtMatrixLayoutCreate(&out, cuda_dtype(out_view.dtype()), out_features, rows,
                                          out_view.row_stride()));
    cublasLtMatmulPreference_t preference = nullptr;
    CUDA_CHECK(cublasLtMatmulPreferenceCreate(&preference));
    const auto workspace_bytes = static_cast<size_t>(kCublasWorkspaceBytes);
    CUDA_CHECK(cublasLtMatmulPreferenceSetAttribute(preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES,
                                                    &workspace_bytes, sizeof(workspace_bytes)));
    cublasLtMatmulHeuristicResult_t result{};
    int num_results = 0;
    CUDA_CHECK(cublasLtMatmulAlgoGetHeuristic(handle, operation, weight, x, out, out, preference, 1, &result,
                                              &num_results));
    CUDA_CHECK(cublasLtMatmulPreferenceDestroy(preference));
    NF_CHECK(num_results > 0) << rows << " x " << in_features << " x " << out_features;
    algorithm = result.algo;
  }
  MatmulPlan(const MatmulPlan&) = delete;
  MatmulPlan& operator=(const MatmulPlan&) = delete;
  ~MatmulPlan() {
    cublasLtMatrixLayoutDestroy(out);
    cublasLtMatrixLayoutDestroy(x);
    cublasLtMatrixLayoutDestroy(weight);
    cublasLtMatmulDescDestroy(operation);
  }
};

void CudaBackend::matmul(ConstTensorView x, ConstTensorView weight, TensorView out) {
  const MatmulKey key{x.size(0),        x.size(1), weight.size(0), x.row_stride(),
                      out.row_stride(), x.dtype(), out.dtype()};
  auto& plan = matmul_plans_[key];
  if (plan == nullptr) plan = std::make_shared<MatmulPlan>(cublas_, x, weight, out);
  const float one = 1;
  const float zero = 0;
  CUDA_CHECK(cublasLtMatmul(cublas_, plan->operation, &one, weight.raw(), plan->weight, x.raw(), plan->x,
                            &zero, out.raw(), plan->out, out.raw(), plan->out, &plan->algorithm,
                            cublas_workspace_, static_cast<size_t>(kCublasWorkspaceBytes), stream_));
}

void CudaBackend::linear(const LinearArgs& args) {
  check(args);
  const int64_t num_rows = args.x.size(0);
  if (num_rows == 0) return;
  const LinearWeight& weight = *args.weight;
  if (num_rows <= kMaxFewRows && few_rows_fit(args.x, weight.weight)) return run_few_rows(args, stream_);
  const int64_t piece = 16 / dtype_bytes(weight.weight.dtype());
  if (num_rows <= kMaxGemvRows && weight.in_features() % piece == 0) {
    return run_gemv(args, args.x, args.out, stream_);
  }
  const bool tensor_cores = args.x.dtype() == DType::kBF16 && weight.weight.dtype() == DType::kBF16;
  ConstTensorView x = args.x;
  ConstTensorView w = weight.weight;
  if (!tensor_cores && x.dtype() != DType::kF32)
    x = as_float(x, scratch(ScratchPurpose::kXAsFloat, x.numel() * 4), stream_);
  if (!tensor_cores && w.dtype() != DType::kF32)
    w = as_float(w, scratch(ScratchPurpose::kWeightAsFloat, w.numel() * 4), stream_);
  if (!weight.bias && (args.out.dtype() == x.dtype() || args.out.dtype() == DType::kF32)) {
    return matmul(x, w, args.out);
  }
  const TensorView sums(scratch(ScratchPurpose::kOutAsFloat, num_rows * weight.out_features() * 4),
                        DType::kF32, Shape{num_rows, weight.out_features()});
  matmul(x, w, sums);
  dispatch_weight(weight.bias ? weight.bias.dtype() : DType::kF32, [&](auto bias_tag) {
    dispatch_activation(args.out.dtype(), [&](auto out_tag) {
      using BiasT = DeviceType<typename decltype(bias_tag)::type>;
      using OutT = DeviceType<typename decltype(out_tag)::type>;
      add_bias_and_round<<<element_grid(num_rows, weight.out_features()), kElementThreads, 0, stream_>>>(
          sums.data<float>(), static_cast<const BiasT*>(weight.bias.raw()),
          static_cast<int>(weight.out_features()), static_cast<OutT*>(args.out.raw()), args.out.row_stride());
    });
  });
  CUDA_CHECK(cudaGetLastError());
}

}  // namespace nemoforge::ops
