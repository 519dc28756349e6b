// The optimizer.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "tensor/buffer.h"
#include "train/parameters.h"

namespace nemoforge::train {

struct AdamWOptions {
  double beta1 = 0.9;
  double beta2 = 0.999;
  double epsilon = 1e-8;
  double weight_decay = 0.01;  // of the parameters that have weight_decay
};

// AdamW with f32 moments in host memory.
//
// Source: Loshchilov and Hutter, "Decoupled weight decay regularization" (2019), algorithm 2, in the form of
// torch.optim.AdamW, with the rate g, t counted from 1:
//   p <- p - g * weight_decay * p
//   m <- beta1 * m + (1 - beta1) * grad;  v <- beta2 * v + (1 - beta2) * grad^2
//   p <- p - g / (1 - beta1^t) * m / (sqrt(v) / sqrt(1 - beta2^t) + epsilon)
// Elements are independent of each other, so the bits do not depend on the number of threads.
class AdamW {
 public:
  // Moments start at zero. The set's order and shapes must stay as they are.
  AdamW(const ParameterSet& set, const AdamWOptions& options);

  // Step number `step`, from 0, with the gradients times `grad_scale`. Values are in host memory.
  void update(ParameterSet& set, int64_t step, double rate, double grad_scale);

  // Of each parameter, in the set's order: for saving and resuming.
  [[nodiscard]] std::vector<Tensor>& first_moments() { return first_moments_; }
  [[nodiscard]] std::vector<Tensor>& second_moments() { return second_moments_; }

  [[nodiscard]] static int64_t moment_bytes(const ParameterSet& set) { return 8 * set.num_elements(); }

 private:
  AdamWOptions options_;
  std::vector<Tensor> first_moments_;
  std::vector<Tensor> second_moments_;
};

// The Euclidean norm of all gradients together, summed in f64 in a fixed order.
[[nodiscard]] double gradient_norm(const ParameterSet& set);

}  // namespace nemoforge::train
