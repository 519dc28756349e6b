// The Mamba-2 mixer.
//
//   [z | xBC | dt] = x in_proj^T;   xBC = silu(conv(xBC));   y = ssd_scan(xBC, dt);
//   out = gated_rms_norm(y, z) out_proj^T
//
// Source: Dao & Gu, "Transformers are SSMs" (2024), section 7; transformers
// models/nemotron_h/modeling_nemotron_h.py NemotronHMamba2Mixer.
#pragma once

#include "model/caches.h"
#include "model/layers/forward_context.h"
#include "model/weights.h"

namespace nemoforge::model {

// What the mixer computes on the way, each in its own memory: the backward pass reads it. With a cache,
// `convolved` and `scanned` may stay unwritten (ops::MambaCoreArgs).
struct Mamba2Activations {
  TensorView projected;  // [num_rows, mamba_projection_size]: z | x | B | C | dt
  TensorView convolved;  // [num_rows, mamba_conv_size]: x | B | C
  TensorView scanned;    // [num_rows, mamba_intermediate_size] f32 (transformers does not round here either)
  TensorView normed;     // [num_rows, mamba_intermediate_size]
  TensorView out;        // [num_rows, hidden_size] f32
};

// x [num_rows, hidden_size]. `cache` is read where a sequence has a context and left up to date; null: every
// sequence begins at position 0 and its state is not kept (training).
[[nodiscard]] Mamba2Activations mamba2(const ForwardContext& context, const MambaWeights& weights,
                                       const ConstTensorView& x, const MambaCache* cache);

}  // namespace nemoforge::model
