// The optimizer's work on parameters in the memory of a device. (Those in host memory are updated by train.)
#pragma once

#include <array>
#include <memory>
#include <span>

#include "base/result.h"
#include "ops/backend.h"
#include "tensor/tensor_view.h"

namespace nemoforge::ops {

// A trained tensor with what an AdamW step reads and writes, contiguous, in the device's memory.
struct ParameterSegment {
  TensorView value;    // f32
  TensorView grad;     // f32 like value
  TensorView copy;     // bf16 like value: what is computed with, written along with it; absent for none
  TensorView m;        // f32 like value, or u8 codes
  TensorView v;        // likewise
  TensorView m_scale;  // f32, one a block of kMomentBlock codes; absent for moments of f32
  TensorView v_scale;
  bool weight_decay = false;
};
constexpr int kMomentBlock = 256;

// What codes of moments stand for, ascending; the scale is the largest magnitude of a block.
struct MomentCodes {
  std::array<float, 256> with_sign;     // m
  std::array<float, 256> without_sign;  // v, of which only 0 is stored as 0
};

// The factors of one step: train/adamw.h has the formula.
struct AdamWFactors {
  float grad_scale = 1;
  float decay = 1;  // 1 - rate * weight_decay
  float beta1 = 0;
  float beta2 = 0;
  float step_size = 0;      // rate / (1 - beta1^t)
  float inverse_sqrt2 = 0;  // 1 / sqrt(1 - beta2^t)
  float epsilon = 0;
};

class ParameterUpdates {
 public:
  ParameterUpdates() = default;
  ParameterUpdates(const ParameterUpdates&) = delete;
  ParameterUpdates& operator=(const ParameterUpdates&) = delete;
  virtual ~ParameterUpdates() = default;

  // Of all gradients, in f64 in a fixed order; waits for the device.
  [[nodiscard]] virtual double gradient_square_sum() = 0;
  virtual void adamw(const AdamWFactors& factors) = 0;
  // copy <- value, where there are copies.
  virtual void write_copies() = 0;
};

// For the CUDA backend, which must outlive the result, as must the segments' memory. kResourceExhausted.
// Defined by the CUDA build; a build without CUDA has parameter_updates_absent.cpp.
[[nodiscard]] Result<std::unique_ptr<ParameterUpdates>> make_cuda_parameter_updates(
    Backend& backend, std::span<const ParameterSegment> segments, const MomentCodes& codes);

}  // namespace nemoforge::ops
