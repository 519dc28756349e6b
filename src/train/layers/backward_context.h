// What every layer of a backward pass works with, and the linear layers that they share.
#pragma once

#include <cstdint>
#include <span>

#include "model/layers/forward_context.h"
#include "ops/training_backend.h"
#include "train/gradient_map.h"
#include "train/lora_dropout.h"

namespace nemoforge::train {

struct BackwardContext {
  const model::ForwardContext& forward;  // of the layer, whose activations are in its workspace
  ops::TrainingBackend& training;
  const GradientMap& gradients;
  const LoraDropout* dropout =
      nullptr;  // what the forward pass dropped of the adapters' input; null: nothing

  // A gradient [num_rows, num_columns] of zeros, of the activations' type or f32.
  [[nodiscard]] TensorView zeros(int64_t num_rows, int64_t num_columns) const;
  [[nodiscard]] TensorView zeros_f32(int64_t num_rows, int64_t num_columns) const;
  // The adapter that all rows pass through; null for none.
  [[nodiscard]] const model::LoraAdapter* adapter() const;
};

// The backward of model::linear: adds to d_x [num_rows, in_features], and to the gradients of the weight, the
// bias and the adapter pair where they train.
void linear_backward(const BackwardContext& context, const ConstTensorView& x,
                     const ops::LinearWeight& weight, model::LoraTarget target, const ConstTensorView& d_out,
                     const TensorView& d_x);

// The backward of model::add_adapters; `offsets` as of LoraAddArgs.
void adapters_backward(const BackwardContext& context, const ConstTensorView& x, model::LoraTarget target,
                       std::span<const ops::LoraBackwardRun> runs, const ConstTensorView& offsets,
                       const ConstTensorView& d_out, const TensorView& d_x);

}  // namespace nemoforge::train
