// Dropout on the input of LoRA adapters.
//
//   out = x W^T + scale * (dropout(x) A^T) B^T
//
// Source: Hu et al., "LoRA" (2021), appendix D; where PEFT puts it (peft/tuners/lora/layer.py,
// Linear.forward): each adapted layer draws its own mask, the base's product sees no dropout.
#pragma once

#include <cstdint>

#include "model/layers/forward_context.h"
#include "ops/training_backend.h"

namespace nemoforge::train {

// The masks of one pass: functions of the run's seed, the pass, the layer, the target, and the row and column
// of the input (of routed experts: the sorted row). A layer that is run again drops the same, and so does a
// resumed run.
class LoraDropout final : public model::AdapterInput {
 public:
  // probability: in (0, 1), of an element to be dropped. `training` must outlive this.
  LoraDropout(ops::TrainingBackend& training, double probability, uint64_t seed, int64_t pass_idx)
      : training_(&training), probability_(probability), seed_(seed), pass_idx_(pass_idx) {}

  [[nodiscard]] ConstTensorView apply(const model::ForwardContext& context, model::LoraTarget target,
                                      const ConstTensorView& x) const override;

  // d_x += the gradient of the input, from that of what apply() returned; both [rows, in_features].
  void add_gradient(int64_t layer_idx, model::LoraTarget target, const ConstTensorView& d_dropped,
                    const TensorView& d_x) const;

 private:
  [[nodiscard]] ops::DropoutMask mask(int64_t layer_idx, model::LoraTarget target) const;

  ops::TrainingBackend* training_;
  double probability_;
  uint64_t seed_;
  int64_t pass_idx_;
};

}  // namespace nemoforge::train
