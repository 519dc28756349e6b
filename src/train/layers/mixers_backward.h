// The backward passes of the mixers (model/layers): from the activations of the forward pass and the gradient
// of the output to the gradient of the input.
//
// x and d_x [num_rows, hidden_size], d_out [num_rows, hidden_size] f32; d_x is added to, as are the gradients
// of the weights and of the adapter where they train.
#pragma once

#include "model/layers/attention.h"
#include "model/layers/mamba2.h"
#include "model/layers/mlp.h"
#include "model/layers/moe.h"
#include "train/layers/backward_context.h"

namespace nemoforge::train {

void mamba2_backward(const BackwardContext& context, const model::MambaWeights& weights,
                     const ConstTensorView& x, const model::Mamba2Activations& activations,
                     const ConstTensorView& d_out, const TensorView& d_x);

void attention_backward(const BackwardContext& context, const model::AttentionWeights& weights,
                        const ConstTensorView& x, const model::AttentionActivations& activations,
                        const ConstTensorView& d_out, const TensorView& d_x);

void moe_backward(const BackwardContext& context, const model::MoeWeights& weights, const ConstTensorView& x,
                  const model::MoeActivations& activations, const ConstTensorView& d_out,
                  const TensorView& d_x);

// Of dense_mlp (targets kUpProj and kDownProj) and shared_expert (kSharedUpProj and kSharedDownProj).
void mlp_backward(const BackwardContext& context, const model::MlpWeights& weights, const ConstTensorView& x,
                  const model::MlpActivations& activations, model::LoraTarget up_target,
                  model::LoraTarget down_target, const ConstTensorView& d_out, const TensorView& d_x);

}  // namespace nemoforge::train
