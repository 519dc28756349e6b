// The optimizer.
#pragma once

#include <cstdint>
#include <memory>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "ops/backend.h"
#include "ops/parameter_updates.h"
#include "tensor/buffer.h"
#include "train/parameters.h"

namespace nemoforge::train {

// How moments are kept between steps.
enum class MomentFormat {
  kF32,
  kBlock8,  // block_quantization.h, with an f32 scale a block; tensors below kMinQuantizedElements: f32
};

// "adamw" or "adamw8bit".
[[nodiscard]] std::string_view optimizer_name(MomentFormat format);

// Smaller tensors (norms, biases, state-space parameters) save nothing and are the ones that suffer. Source:
// min_8bit_size of bitsandbytes' optimizers.
constexpr int64_t kMinQuantizedElements = 4096;

struct AdamWOptions {
  double beta1 = 0.9;
  double beta2 = 0.999;
  double epsilon = 1e-8;
  double weight_decay = 0.01;  // of the parameters that have weight_decay
  MomentFormat moments = MomentFormat::kF32;
};

// The moments of one parameter, as they are kept.
struct Moments {
  Tensor m;        // f32 like the parameter, or u8 codes [num_elements]
  Tensor v;        // likewise
  Tensor m_scale;  // f32 [num_blocks] where quantized, else absent
  Tensor v_scale;
};

// AdamW with moments beside the values, in host or device memory, f32 or of eight bits, which are decoded for
// a step and encoded after it: the step itself computes with the f32 values.
//
// Source: Loshchilov and Hutter, "Decoupled weight decay regularization" (2019), algorithm 2, in the form of
// torch.optim.AdamW, with the rate g, t counted from 1:
//   p <- p - g * weight_decay * p
//   m <- beta1 * m + (1 - beta1) * grad;  v <- beta2 * v + (1 - beta2) * grad^2
//   p <- p - g / (1 - beta1^t) * m / (sqrt(v) / sqrt(1 - beta2^t) + epsilon)
// Elements are independent of each other, so the bits do not depend on the number of threads.
class AdamW {
 public:
  // Moments start at zero. The set's order and shapes must stay as they are; it is in host memory.
  AdamW(const ParameterSet& set, const AdamWOptions& options);
  // Likewise for a set in the backend's memory, which must outlive the result. kResourceExhausted.
  [[nodiscard]] static Result<AdamW> on(ops::Backend& backend, const ParameterSet& set,
                                        const AdamWOptions& options);

  // Step number `step`, from 0, with the gradients times `grad_scale`. Copies of values are brought up to
  // date.
  void update(ParameterSet& set, int64_t step, double rate, double grad_scale);
  // The Euclidean norm of all gradients together, summed in f64 in a fixed order; waits for a device.
  [[nodiscard]] double gradient_norm(const ParameterSet& set) const;

  // Of each parameter, in the set's order and beside its value: for saving and resuming.
  [[nodiscard]] std::vector<Moments>& moments() { return moments_; }

  [[nodiscard]] static int64_t moment_bytes(const ParameterSet& set, MomentFormat format);

 private:
  AdamW() = default;

  AdamWOptions options_;
  Buffer device_moments_;  // all of them, where they are on a device
  std::vector<Moments> moments_;
  std::unique_ptr<ops::ParameterUpdates> device_updates_;  // null: in host memory
};

}  // namespace nemoforge::train
