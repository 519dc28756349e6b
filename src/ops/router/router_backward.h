// The backward of the router. The choice of experts is piecewise constant and passes no gradient; nor does
// the correction bias, which only chooses.
//
//   s = sigmoid(logits[ids]);   w = scale * s / S with S = sum(s) + 1e-20, or scale * s where not normalised
//   d_s = scale * (d_w / S - (d_w . s) / S^2), or scale * d_w;   d_logits[ids] += d_s * s (1 - s)
#pragma once

#include <cstdint>

#include "tensor/tensor_view.h"

namespace nemoforge::ops {

struct RouterBackwardArgs {
  ConstTensorView logits;            // [num_tokens, num_experts] f32
  ConstTensorView expert_ids;        // [num_tokens, top_k] i32: what router chose
  bool normalize = true;             // norm_topk_prob
  float scale = 1;                   // routed_scaling_factor
  ConstTensorView d_expert_weights;  // [num_tokens, top_k] f32
  TensorView d_logits;               // [num_tokens, num_experts] f32, added to
};

// Throws InternalError unless shapes, dtypes and aliasing are as above.
void check(const RouterBackwardArgs& args);

}  // namespace nemoforge::ops
