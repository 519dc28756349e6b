// Where everything is bf16: on tensor cores (grouped_linear_backward_products_cuda.h). Else tiles of 64 x 64
// in fp32, for every mixture of types.
#include "base/integers.h"
#include "ops/cuda_check.h"
#include "ops/cuda_elements.cuh"
#include "ops/dtype_dispatch.h"
#include "ops/grouped_linear/grouped_linear_backward_cuda.h"
#include "ops/grouped_linear/grouped_linear_backward_products_cuda.h"

namespace nemoforge::ops {
namespace {

constexpr int kTile = 64;
constexpr int kDepth = 16;  // of the sum, in shared memory at once
constexpr int kThreads = 256;
constexpr int kOfThread = 4;  // rows and columns of a thread

// sums[i][j] += sum_s a(row, s) b(s, column) of this thread's rows (threadIdx.x / 16) * 4 + i and columns
// (threadIdx.x % 16) * 4 + j of the tile; a and b give 0 outside.
template <typename A, typename B>
__device__ void multiply_tile(int num_terms, const A& a, const B& b, float (&sums)[kOfThread][kOfThread]) {
  __shared__ float a_tile[kDepth][kTile + 1];
  __shared__ float b_tile[kDepth][kTile + 1];
  const int thread = static_cast<int>(threadIdx.x);
  for (int first = 0; first < num_terms; first += kDepth) {
    __syncthreads();  // the previous part has been read
    for (int i = thread; i < kDepth * kTile; i += kThreads) {
      a_tile[i / kTile][i % kTile] = first + i / kTile < num_terms ? a(i % kTile, first + i / kTile) : 0.0f;
      b_tile[i / kTile][i % kTile] = first + i / kTile < num_terms ? b(first + i / kTile, i % kTile) : 0.0f;
    }
    __syncthreads();  // the part is there
#pragma unroll
    for (int s = 0; s < kDepth; ++s) {
#pragma unroll
      for (int i = 0; i < kOfThread; ++i) {
#pragma unroll
        for (int j = 0; j < kOfThread; ++j) {
          sums[i][j] += a_tile[s][thread / 16 * kOfThread + i] * b_tile[s][thread % 16 * kOfThread + j];
        }
      }
    }
  }
}

// Calls store(row, column, sum) for this thread's elements of the tile.
template <typename Store>
__device__ void for_each_sum(const float (&sums)[kOfThread][kOfThread], const Store& store) {
#pragma unroll
  for (int i = 0; i < kOfThread; ++i) {
#pragma unroll
    for (int j = 0; j < kOfThread; ++j) {
      store(static_cast<int>(threadIdx.x) / 16 * kOfThread + i,
            static_cast<int>(threadIdx.x) % 16 * kOfThread + j, sums[i][j]);
    }
  }
}

// Block (columns, group): all rows of the group, a tile after another.
template <typename T, typename WeightT>
__global__ void __launch_bounds__(kThreads)
    group_d_x(const int32_t* offsets, const T* d_out, int64_t d_out_stride,
              const __grid_constant__ GroupPointers<const WeightT> weights, int in_features, int out_features,
              T* d_x, int64_t d_x_stride) {
  const int group = static_cast<int>(blockIdx.y);
  const int first_column = static_cast<int>(blockIdx.x) * kTile;
  const WeightT* weight = weights.of_group[group];
  for (int first = offsets[group]; first < offsets[group + 1]; first += kTile) {
    const int num_rows = offsets[group + 1] - first;
    float sums[kOfThread][kOfThread] = {};
    multiply_tile(
        out_features,
        [&](int row, int s) {
          return row < num_rows ? to_float(d_out[(first + row) * d_out_stride + s]) : 0.0f;
        },
        [&](int s, int column) {
          const int input = first_column + column;
          return input < in_features ? to_float(weight[static_cast<int64_t>(s) * in_features + input]) : 0.0f;
        },
        sums);
    for_each_sum(sums, [&](int row, int column, float sum) {
      if (row >= num_rows || first_column + column >= in_features) return;
      T& element = d_x[(first + row) * d_x_stride + first_column + column];
      element = from_float<T>(to_float(element) + sum);
    });
  }
}

// Block (inputs, outputs, group).
template <typename T>
__global__ void __launch_bounds__(kThreads)
    group_d_weight(const int32_t* offsets, const T* d_out, int64_t d_out_stride, const T* x, int64_t x_stride,
                   const __grid_constant__ GroupPointers<float> d_weights, int in_features,
                   int out_features) {
  const int group = static_cast<int>(blockIdx.z);
  const int first_row = offsets[group];
  const int first_input = static_cast<int>(blockIdx.x) * kTile;
  const int first_output = static_cast<int>(blockIdx.y) * kTile;
  float sums[kOfThread][kOfThread] = {};
  multiply_tile(
      offsets[group + 1] - first_row,
      [&](int row, int s) {
        const int output = first_output + row;
        return output < out_features ? to_float(d_out[(first_row + s) * d_out_stride + output]) : 0.0f;
      },
      [&](int s, int column) {
        const int input = first_input + column;
        return input < in_features ? to_float(x[(first_row + s) * x_stride + input]) : 0.0f;
      },
      sums);
  for_each_sum(sums, [&](int row, int column, float sum) {
    if (first_output + row >= out_features || first_input + column >= in_features) return;
    d_weights
        .of_group[group][static_cast<int64_t>(first_output + row) * in_features + first_input + column] +=
        sum;
  });
}

void add_d_x(const GroupedLinearBackwardArgs& args, cudaStream_t stream) {
  const dim3 grid(static_cast<unsigned>(ceil_div<int64_t>(args.x.size(1), kTile)),
                  static_cast<unsigned>(args.weights.size()));
  dispatch_activation(args.x.dtype(), [&](auto tag) {
    dispatch_weight(args.weights[0].weight.dtype(), [&](auto weight_tag) {
      using T = DeviceType<typename decltype(tag)::type>;
      using WeightT = DeviceType<typename decltype(weight_tag)::type>;
      GroupPointers<const WeightT> weights{};
      for (size_t group = 0; group < args.weights.size(); ++group) {
        weights.of_group[group] = static_cast<const WeightT*>(args.weights[group].weight.raw());
      }
      group_d_x<T, WeightT><<<grid, kThreads, 0, stream>>>(
          args.offsets.data<int32_t>(), static_cast<const T*>(args.d_out.raw()), args.d_out.row_stride(),
          weights, static_cast<int>(args.x.size(1)), static_cast<int>(args.d_out.size(1)),
          static_cast<T*>(args.d_x.raw()), args.d_x.row_stride());
    });
  });
  CUDA_CHECK(cudaGetLastError());
}

void add_d_weights(const GroupedLinearBackwardArgs& args, cudaStream_t stream) {
  const dim3 grid(static_cast<unsigned>(ceil_div<int64_t>(args.x.size(1), kTile)),
                  static_cast<unsigned>(ceil_div<int64_t>(args.d_out.size(1), kTile)),
                  static_cast<unsigned>(args.weights.size()));
  GroupPointers<float> d_weights{};
  for (size_t group = 0; group < args.d_weights.size(); ++group) {
    d_weights.of_group[group] = args.d_weights[group].data<float>();
  }
  dispatch_activation(args.x.dtype(), [&](auto tag) {
    using T = DeviceType<typename decltype(tag)::type>;
    group_d_weight<T><<<grid, kThreads, 0, stream>>>(
        args.offsets.data<int32_t>(), static_cast<const T*>(args.d_out.raw()), args.d_out.row_stride(),
        static_cast<const T*>(args.x.raw()), args.x.row_stride(), d_weights, static_cast<int>(args.x.size(1)),
        static_cast<int>(args.d_out.size(1)));
  });
  CUDA_CHECK(cudaGetLastError());
}

}  // namespace

void grouped_linear_backward_cuda(const GroupedLinearBackwardArgs& args, CudaTrainingContext& context) {
  if (args.x.size(0) == 0) return;
  NF_CHECK(args.weights.size() <= kMaxGroups) << args.weights.size() << " groups, at most " << kMaxGroups;
  const cudaStream_t stream = context.stream();
  if (grouped_products_apply(args)) {
    add_grouped_d_x(args, stream);
    if (!args.d_weights.empty()) add_grouped_d_weights(args, stream);
    return;
  }
  add_d_x(args, stream);
  if (!args.d_weights.empty()) add_d_weights(args, stream);
}

}  // namespace nemoforge::ops
