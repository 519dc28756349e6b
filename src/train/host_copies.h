// What stands in a device's memory, for writing it to files.
#pragma once

#include <vector>

#include "ops/backend.h"
#include "tensor/buffer.h"
#include "train/parameters.h"
#include "train/trainable_model.h"

namespace nemoforge::train {

// Keeps the copies that it makes.
class HostCopies {
 public:
  explicit HostCopies(ops::Backend& backend) : backend_(&backend) {}

  // `view`, contiguous, itself where the host can read it; else a copy in host memory.
  [[nodiscard]] TensorView of(const TensorView& view);
  [[nodiscard]] ConstTensorView of(const ConstTensorView& view);
  // The values of a set, without their gradients.
  [[nodiscard]] ParameterSet values_of(const ParameterSet& set);
  [[nodiscard]] std::vector<FrozenTensor> of(const std::vector<FrozenTensor>& frozen);

 private:
  ops::Backend* backend_;
  std::vector<Tensor> copies_;
};

}  // namespace nemoforge::train
