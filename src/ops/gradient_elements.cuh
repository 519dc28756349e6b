// Gradients in device code: f32 or bf16 elements that are added to, and parameters of any element type.
#pragma once

#include <cstdint>

#include "ops/cuda_elements.cuh"

namespace nemoforge::ops {

// One rounding to the gradient's dtype.
template <typename T>
__device__ void add_to(T& gradient, float value) {
  gradient = from_float<T>(to_float(gradient) + value);
}

// The rows of a matrix on the device.
template <typename T>
struct DeviceRows {
  T* data;
  int64_t stride;
  __device__ T& at(int64_t row, int64_t column) const { return data[row * stride + column]; }
};

template <typename T>
DeviceRows<T> device_rows(const TensorView& view) {
  return {static_cast<T*>(view.raw()), view.row_stride()};
}
template <typename T>
DeviceRows<const T> device_rows(const ConstTensorView& view) {
  return {static_cast<const T*>(view.raw()), view.row_stride()};
}

// Four consecutive elements of a row of `size` columns, as floats, and zeros beyond its end; in one access
// where `packed`: size and column are multiples of 4, and so is where the row begins.
template <typename T>
__device__ void read_four(const T* row, int column, int size, bool packed, float (&values)[4]) {
  if (packed) {
    const auto elements = *reinterpret_cast<const Pack<T, 4>*>(row + column);
#pragma unroll
    for (int i = 0; i < 4; ++i) values[i] = to_float(elements.values[i]);
    return;
  }
#pragma unroll
  for (int i = 0; i < 4; ++i) values[i] = column + i < size ? to_float(row[column + i]) : 0.0f;
}
template <typename T>
__device__ void write_four(T* row, int column, int size, bool packed, const float (&values)[4]) {
  if (packed) {
    Pack<T, 4> elements;
#pragma unroll
    for (int i = 0; i < 4; ++i) elements.values[i] = from_float<T>(values[i]);
    *reinterpret_cast<Pack<T, 4>*>(row + column) = elements;
    return;
  }
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    if (column + i < size) row[column + i] = from_float<T>(values[i]);
  }
}

// Sums of two values over a block, as block_sum's.
__device__ inline float2 block_sums(float first, float second, float2 (&scratch)[32]) {
  first = warp_sum(first);
  second = warp_sum(second);
  __syncthreads();  // the previous use of scratch is over
  if (threadIdx.x % 32 == 0) scratch[threadIdx.x / 32] = make_float2(first, second);
  __syncthreads();  // every warp's sums are written
  const float2 sums =
      threadIdx.x % 32 < blockDim.x / 32 ? scratch[threadIdx.x % 32] : make_float2(0.0f, 0.0f);
  return make_float2(warp_sum(sums.x), warp_sum(sums.y));
}

// The same for f32 or bf16 elements, chosen at run time: for kernels that are no faster for knowing which.
struct AnyRows {
  void* data;
  int64_t stride;
  bool is_bf16;

  __device__ float load(int64_t row, int64_t column) const {
    const int64_t i = row * stride + column;
    return is_bf16 ? to_float(static_cast<const __nv_bfloat16*>(data)[i])
                   : static_cast<const float*>(data)[i];
  }
  __device__ void add(int64_t row, int64_t column, float value) const {
    const int64_t i = row * stride + column;
    if (is_bf16) {
      add_to(static_cast<__nv_bfloat16*>(data)[i], value);
    } else {
      add_to(static_cast<float*>(data)[i], value);
    }
  }
};

inline AnyRows any_rows(const ConstTensorView& view) {
  return {const_cast<void*>(view.raw()), view.row_stride(), view.dtype() == DType::kBF16};
}

// A small parameter, whose dtype is no template parameter: it is read once a block.
struct ParameterElements {
  const void* data;  // null where the parameter is absent
  DType dtype;       // f32, bf16 or f16

  __device__ float operator[](int64_t i) const {
    if (dtype == DType::kF32) return static_cast<const float*>(data)[i];
    if (dtype == DType::kBF16) return to_float(static_cast<const __nv_bfloat16*>(data)[i]);
    return to_float(static_cast<const __half*>(data)[i]);
  }
};

inline ParameterElements parameter_elements(const ConstTensorView& view) {
  return {view.raw(), view.dtype()};
}

}  // namespace nemoforge::ops
