// Low-rank adapters. Many rows: all runs in one launch (lora_rows_cuda.h). Few: run by run, x A^T (a warp a
// rank and row) into fp32 scratch, then its product with B^T added to out. rank <= kMaxRank (checked before
// launch).
#include "base/integers.h"
#include "ops/cuda_backend.h"
#include "ops/cuda_check.h"
#include "ops/cuda_elements.cuh"
#include "ops/dtype_dispatch.h"
#include "ops/lora/lora.h"
#include "ops/lora/lora_rows_cuda.h"

namespace nemoforge::ops {
namespace {

constexpr int kWarpsPerBlock = 4;
constexpr int kExpandThreads = 128;
constexpr int64_t kMinManyRows = 64;  // of all runs together
constexpr int kMaxRank = kCudaShapeLimits.lora_rank;

template <typename XT, typename WeightT>
__global__ void shrink(const XT* x, int64_t x_stride, const WeightT* a, int in_features, int rank,
                       float* low_rank) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int component = static_cast<int>(blockIdx.y * kWarpsPerBlock + threadIdx.x / 32);
  if (component >= rank) return;
  float sum = 0;
  for (int k = lane; k < in_features; k += 32) {
    sum += to_float(x[blockIdx.x * x_stride + k]) *
           to_float(a[static_cast<int64_t>(component) * in_features + k]);
  }
  sum = warp_sum(sum);
  if (lane == 0) low_rank[static_cast<int64_t>(blockIdx.x) * rank + component] = sum;
}

template <typename WeightT, typename OutT>
__global__ void expand(const float* low_rank, const WeightT* b, int rank, int out_features, float scale,
                       OutT* out, int64_t out_stride) {
  const int column = static_cast<int>(blockIdx.y * kExpandThreads + threadIdx.x);
  if (column >= out_features) return;
  float sum = 0;
  for (int r = 0; r < rank; ++r) {
    sum += low_rank[static_cast<int64_t>(blockIdx.x) * rank + r] *
           to_float(b[static_cast<int64_t>(column) * rank + r]);
  }
  OutT& element = out[blockIdx.x * out_stride + column];
  element = from_float<OutT>(to_float(element) + scale * sum);
}

void add_in_many_rows(const LoraAddArgs& args, std::span<const LoraTable> tables, float* low,
                      int64_t low_stride, cudaStream_t stream) {
  for (const LoraTable& table : tables) {
    lora_shrink(table, LoraFactor::kA, args.x, low, low_stride, stream);
    lora_expand(table, LoraFactor::kB, low, low_stride, args.x.dtype(), args.out, stream);
  }
}

}  // namespace

void CudaBackend::lora_add(const LoraAddArgs& args) {
  check(args);
  int64_t num_rows_of_runs = 0;
  int64_t max_rank = 0;
  for (const LoraRun& run : args.runs) {
    num_rows_of_runs += run.end - run.begin;
    max_rank = std::max(max_rank, run.weight->a.size(0));
  }
  if (max_rank > 0 && (args.offsets || num_rows_of_runs >= kMinManyRows)) {
    NF_CHECK(max_rank <= kMaxRank) << max_rank;
    const int64_t low_stride = lora_low_stride(max_rank);
    void* low = scratch(ScratchPurpose::kLoraInner, args.x.size(0) * low_stride * 4);
    return add_in_many_rows(args, lora_tables(args.runs, args.offsets, args.x.size(0)),
                            static_cast<float*>(low), low_stride, stream_);
  }
  for (const LoraRun& run : args.runs) {
    const int64_t num_rows = run.end - run.begin;
    if (num_rows == 0) continue;
    const LoraWeight& weight = *run.weight;
    const auto rank = static_cast<int>(weight.a.size(0));
    NF_CHECK(rank <= kMaxRank) << rank;
    auto* low_rank = static_cast<float*>(scratch(ScratchPurpose::kLoraInner, num_rows * rank * 4));
    const ConstTensorView x = args.x.rows(run.begin, num_rows);
    const TensorView out = args.out.rows(run.begin, num_rows);
    const dim3 shrink_grid(static_cast<unsigned>(num_rows),
                           static_cast<unsigned>(ceil_div(rank, kWarpsPerBlock)));
    const dim3 expand_grid(static_cast<unsigned>(num_rows),
                           static_cast<unsigned>(ceil_div<int64_t>(out.size(1), kExpandThreads)));
    dispatch_activation(x.dtype(), [&](auto x_tag) {
      dispatch_activation(weight.a.dtype(), [&](auto weight_tag) {
        using XT = DeviceType<typename decltype(x_tag)::type>;
        using WeightT = DeviceType<typename decltype(weight_tag)::type>;
        shrink<<<shrink_grid, kWarpsPerBlock * 32, 0, stream_>>>(
            static_cast<const XT*>(x.raw()), x.row_stride(), static_cast<const WeightT*>(weight.a.raw()),
            static_cast<int>(x.size(1)), rank, low_rank);
      });
    });
    CUDA_CHECK(cudaGetLastError());
    dispatch_activation(weight.b.dtype(), [&](auto weight_tag) {
      dispatch_activation(out.dtype(), [&](auto out_tag) {
        using WeightT = DeviceType<typename decltype(weight_tag)::type>;
        using OutT = DeviceType<typename decltype(out_tag)::type>;
        expand<<<expand_grid, kExpandThreads, 0, stream_>>>(
            low_rank, static_cast<const WeightT*>(weight.b.raw()), rank, static_cast<int>(out.size(1)),
            weight.scale, static_cast<OutT*>(out.raw()), out.row_stride());
      });
    });
    CUDA_CHECK(cudaGetLastError());
  }
}

}  // namespace nemoforge::ops
