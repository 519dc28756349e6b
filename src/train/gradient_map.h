// From a weight to its gradient.
#pragma once

#include <unordered_map>

#include "base/check.h"
#include "tensor/tensor_view.h"

namespace nemoforge::train {

// Weights are told apart by where they are in memory, so that tied ones share a gradient.
class GradientMap {
 public:
  void add(const ConstTensorView& weight, const TensorView& gradient) {
    NF_CHECK(gradients_.emplace(weight.raw(), gradient).second);
  }

  // In the shape of the weight; absent where the weight is frozen or itself absent.
  [[nodiscard]] TensorView find(const ConstTensorView& weight) const {
    if (!weight) return {};
    const auto found = gradients_.find(weight.raw());
    return found == gradients_.end() ? TensorView() : found->second.reshape(weight.shape());
  }

 private:
  std::unordered_map<const void*, TensorView> gradients_;
};

}  // namespace nemoforge::train
