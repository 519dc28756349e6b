// The choice of experts for each token: sigmoid scores, a correction bias for the choice alone, group-limited
// top-k.
//
//   s = sigmoid(logits);   choice = s + correction_bias
//   groups are ranked by the sum of their two largest `choice`; only the best topk_group groups compete
//   (n_group > 1) ids = the top_k largest `choice`;  weights = s[ids] (/ (sum + 1e-20) where norm_topk_prob)
//   * routed_scaling_factor
//
// Source: DeepSeek-V3 technical report (2024), section 2.1.2; transformers
// models/nemotron_h/modeling_nemotron_h.py NemotronHTopkRouter.
#pragma once

#include <cstdint>

#include "tensor/tensor_view.h"

namespace nemoforge::ops {

// All in fp32. Ties go to the lower expert id. Experts are ordered by falling `choice`. NaN logits are an
// InternalError nowhere: a row with NaN yields NaN weights and valid ids, so that the fault shows in the
// output.
struct RouterArgs {
  ConstTensorView logits;           // [num_tokens, num_experts] f32
  ConstTensorView correction_bias;  // [num_experts] f32
  int64_t num_groups = 1;           // n_group; divides num_experts
  int64_t top_k_groups = 1;         // topk_group
  int64_t top_k = 1;                // num_experts_per_tok
  bool normalize = true;            // norm_topk_prob
  float scale = 1;                  // routed_scaling_factor
  TensorView expert_ids;            // [num_tokens, top_k] i32
  TensorView expert_weights;        // [num_tokens, top_k] f32
};

// Throws InternalError unless shapes, dtypes and aliasing are as above.
void check(const RouterArgs& args);

}  // namespace nemoforge::ops
