// Elements of tensors in device code: as fp32, whatever they are stored as.
#pragma once

#include <cstdint>

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include "tensor/dtype.h"
#include "tensor/tensor_view.h"

namespace nemoforge::ops {

// The device's type for a host element type.
template <typename T>
struct DeviceTypeOf {
  using type = T;
};
template <>
struct DeviceTypeOf<Bf16> {
  using type = __nv_bfloat16;
};
template <>
struct DeviceTypeOf<F16> {
  using type = __half;
};
template <typename T>
using DeviceType = typename DeviceTypeOf<T>::type;

__device__ inline float to_float(float value) {
  return value;
}
__device__ inline float to_float(__nv_bfloat16 value) {
  return __bfloat162float(value);
}
__device__ inline float to_float(__half value) {
  return __half2float(value);
}

// One rounding to nearest even.
template <typename T>
__device__ T from_float(float value) {
  if constexpr (sizeof(T) == sizeof(float)) {
    return value;
  } else {
    return T(value);
  }
}

// N consecutive elements in one aligned access.
template <typename T, int N>
struct alignas(sizeof(T) * N) Pack {
  T values[N];
};

// Whether each row of `rows` is made of whole, aligned packs of N elements.
template <int N>
bool rows_aligned_to(const ConstTensorView& rows) {
  const auto bytes = static_cast<uintptr_t>(N * dtype_bytes(rows.dtype()));
  return rows.size(1) % N == 0 && rows.row_stride() % N == 0 &&
         reinterpret_cast<uintptr_t>(rows.raw()) % bytes == 0;
}

__device__ inline float silu(float value) {
  return value / (1.0f + expf(-value));
}

// log(1 + exp(x)), without overflow.
__device__ inline float softplus(float value) {
  return value > 20.0f ? value : log1pf(expf(value));
}

// Sum over the 32 lanes of a warp; every lane gets it.
__device__ inline float warp_sum(float value) {
#pragma unroll
  for (int offset = 16; offset > 0; offset /= 2) value += __shfl_xor_sync(0xffffffffu, value, offset);
  return value;
}

// Sum over a block of at most 1024 threads (a multiple of 32); every thread gets it. `scratch` holds 32
// floats of shared memory, and the leading barrier lets a caller use it for several sums in a row.
__device__ inline float block_sum(float value, float* scratch) {
  value = warp_sum(value);
  __syncthreads();  // the previous use of scratch is over
  if (threadIdx.x % 32 == 0) scratch[threadIdx.x / 32] = value;
  __syncthreads();  // every warp's sum is written
  const unsigned num_warps = blockDim.x / 32;
  return warp_sum(threadIdx.x % 32 < num_warps ? scratch[threadIdx.x % 32] : 0.0f);
}

}  // namespace nemoforge::ops
