// Moving rows to their experts and back. The sort is stable and deterministic: one block counts, scans and
// places, walking the tokens in order (a batch has at most some thousand (token, expert) pairs; the copies
// around it move the bytes).
#include "base/integers.h"
#include "ops/cuda_backend.h"
#include "ops/cuda_check.h"
#include "ops/cuda_elements.cuh"
#include "ops/dtype_dispatch.h"
#include "ops/moe/moe.h"

namespace nemoforge::ops {
namespace {

constexpr int kSortThreads =
    1024;  // one thread an expert: num_experts <= kSortThreads (checked before launch)
constexpr int kCopyThreads = 256;
constexpr int kExpertsAtOnce = 8;

// Counting sort of the pairs by expert, stable in token order. Pairs pass through shared memory in tiles;
// thread e, which owns expert e, finds its pairs by reading the tile: num_pairs broadcast reads in all,
// without atomics, so the order is fixed.
__global__ void sort_by_expert(const int32_t* expert_ids, int num_pairs, int top_k, int num_experts,
                               int32_t* offsets, int32_t* row_tokens, int32_t* row_of) {
  __shared__ int32_t tile[kSortThreads];
  __shared__ int32_t counts[kSortThreads + 1];
  const int thread = static_cast<int>(threadIdx.x);
  int count = 0;
  for (int first = 0; first < num_pairs; first += kSortThreads) {
    __syncthreads();  // the previous tile has been read
    if (first + thread < num_pairs) tile[thread] = expert_ids[first + thread];
    __syncthreads();  // the tile is written
    const int size = min(kSortThreads, num_pairs - first);
    for (int i = 0; i < size; ++i) count += tile[i] == thread ? 1 : 0;
  }
  counts[thread + 1] = count;
  if (thread == 0) counts[0] = 0;
  __syncthreads();  // every count is written
  // Inclusive scan (Hillis-Steele) over the experts' counts.
  for (int distance = 1; distance <= num_experts; distance *= 2) {
    const int add = thread + 1 > distance ? counts[thread + 1 - distance] : 0;
    __syncthreads();  // all have read before any writes
    counts[thread + 1] += add;
    __syncthreads();  // all have written before any reads again
  }
  if (thread <= num_experts) offsets[thread] = counts[thread];
  if (thread == 0 && num_experts == kSortThreads) offsets[num_experts] = counts[num_experts];
  int next = counts[thread];
  for (int first = 0; first < num_pairs; first += kSortThreads) {
    __syncthreads();  // the previous tile has been read
    if (first + thread < num_pairs) tile[thread] = expert_ids[first + thread];
    __syncthreads();  // the tile is written
    const int size = min(kSortThreads, num_pairs - first);
    for (int i = 0; i < size; ++i) {
      if (tile[i] != thread) continue;
      row_tokens[next] = (first + i) / top_k;
      row_of[first + i] = next;
      ++next;
    }
  }
}

template <typename T>
__global__ void gather_tokens(const T* x, int64_t x_stride, const int32_t* row_tokens, int hidden_size,
                              T* out, int64_t out_stride) {
  const int column = static_cast<int>(blockIdx.y * kCopyThreads + threadIdx.x);
  if (column >= hidden_size) return;
  out[static_cast<int64_t>(blockIdx.x) * out_stride + column] =
      x[static_cast<int64_t>(row_tokens[blockIdx.x]) * x_stride + column];
}

template <typename InT, typename OutT>
__global__ void combine_experts(const InT* expert_out, int64_t expert_stride, const int32_t* row_of,
                                const float* expert_weights, int top_k, const InT* shared_out,
                                int64_t shared_stride, int hidden_size, OutT* out, int64_t out_stride) {
  const int64_t token = blockIdx.x;
  const int column = static_cast<int>(blockIdx.y * kCopyThreads + threadIdx.x);
  if (column >= hidden_size) return;
  float sum = 0;
  for (int first = 0; first < top_k; first += kExpertsAtOnce) {
    // All loads before the first use.
    float values[kExpertsAtOnce];
#pragma unroll
    for (int i = 0; i < kExpertsAtOnce; ++i) {
      const int64_t pair = token * top_k + first + i;
      values[i] = first + i < top_k ? to_float(expert_out[row_of[pair] * expert_stride + column]) : 0.0f;
    }
#pragma unroll
    for (int i = 0; i < kExpertsAtOnce; ++i) {
      if (first + i < top_k) sum += expert_weights[token * top_k + first + i] * values[i];
    }
  }
  if (shared_out != nullptr) sum += to_float(shared_out[token * shared_stride + column]);
  out[token * out_stride + column] = from_float<OutT>(sum);
}

}  // namespace

void CudaBackend::moe_dispatch(const MoeDispatchArgs& args) {
  check(args);
  NF_CHECK(args.num_experts <= kSortThreads) << args.num_experts << " experts, at most " << kSortThreads;
  const int64_t num_pairs = args.expert_ids.numel();
  sort_by_expert<<<1, kSortThreads, 0, stream_>>>(
      args.expert_ids.data<int32_t>(), narrow<int32_t>(num_pairs), static_cast<int>(args.expert_ids.size(1)),
      static_cast<int>(args.num_experts), args.offsets.data<int32_t>(), args.row_tokens.data<int32_t>(),
      args.row_of.data<int32_t>());
  CUDA_CHECK(cudaGetLastError());
  if (num_pairs == 0) return;
  dispatch_activation(args.x.dtype(), [&](auto tag) {
    using T = DeviceType<typename decltype(tag)::type>;
    const dim3 grid(static_cast<unsigned>(num_pairs),
                    static_cast<unsigned>(ceil_div<int64_t>(args.x.size(1), kCopyThreads)));
    gather_tokens<<<grid, kCopyThreads, 0, stream_>>>(
        static_cast<const T*>(args.x.raw()), args.x.row_stride(), args.row_tokens.data<int32_t>(),
        static_cast<int>(args.x.size(1)), static_cast<T*>(args.out.raw()), args.out.row_stride());
  });
  CUDA_CHECK(cudaGetLastError());
}

void CudaBackend::moe_combine(const MoeCombineArgs& args) {
  check(args);
  if (args.out.size(0) == 0) return;
  dispatch_activation(args.expert_out.dtype(), [&](auto in_tag) {
    dispatch_activation(args.out.dtype(), [&](auto out_tag) {
      using InT = DeviceType<typename decltype(in_tag)::type>;
      using OutT = DeviceType<typename decltype(out_tag)::type>;
      const dim3 grid(static_cast<unsigned>(args.out.size(0)),
                      static_cast<unsigned>(ceil_div<int64_t>(args.out.size(1), kCopyThreads)));
      combine_experts<<<grid, kCopyThreads, 0, stream_>>>(
          static_cast<const InT*>(args.expert_out.raw()), args.expert_out.row_stride(),
          args.row_of.data<int32_t>(), args.expert_weights.data<float>(),
          static_cast<int>(args.row_of.size(1)), static_cast<const InT*>(args.shared.raw()),
          args.shared ? args.shared.row_stride() : 0, static_cast<int>(args.out.size(1)),
          static_cast<OutT*>(args.out.raw()), args.out.row_stride());
    });
  });
  CUDA_CHECK(cudaGetLastError());
}

}  // namespace nemoforge::ops
