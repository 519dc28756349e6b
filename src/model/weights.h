// The weights of a nemotron_h model, in a backend's memory.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <variant>
#include <vector>

#include "base/result.h"
#include "io/safetensors_folder.h"
#include "model/config.h"
#include "ops/backend.h"
#include "ops/linear/linear.h"
#include "tensor/buffer.h"
#include "tensor/tensor_view.h"

namespace nemoforge::model {

struct MambaWeights {
  ops::LinearWeight in_proj;    // [mamba_projection_size, hidden_size]: z, then x, B and C, then dt
  ops::LinearWeight out_proj;   // [hidden_size, mamba_intermediate_size]
  ConstTensorView conv_weight;  // [mamba_conv_size, conv_kernel]
  ConstTensorView conv_bias;    // [mamba_conv_size]; absent without use_conv_bias
  ConstTensorView a_log;        // [mamba_num_heads] f32
  ConstTensorView d;            // [mamba_num_heads] f32
  ConstTensorView dt_bias;      // [mamba_num_heads] f32
  ConstTensorView norm;         // [mamba_intermediate_size]
};

struct AttentionWeights {
  ops::LinearWeight q_proj;  // [q_size, hidden_size]
  ops::LinearWeight k_proj;  // [kv_size, hidden_size]
  ops::LinearWeight v_proj;  // [kv_size, hidden_size]
  ops::LinearWeight o_proj;  // [hidden_size, q_size]
};

struct MlpWeights {
  ops::LinearWeight up_proj;    // [intermediate size, hidden_size]
  ops::LinearWeight down_proj;  // [hidden_size, intermediate size]
};

struct MoeWeights {
  ops::LinearWeight gate;                    // [n_routed_experts, hidden_size] f32
  ConstTensorView correction_bias;           // [n_routed_experts] f32
  std::vector<ops::LinearWeight> up_proj;    // an expert: [moe_intermediate_size, hidden_size]
  std::vector<ops::LinearWeight> down_proj;  // an expert: [hidden_size, moe_intermediate_size]
  MlpWeights shared_experts;
};

struct LayerWeights {
  ConstTensorView norm;  // [hidden_size]
  std::variant<MambaWeights, AttentionWeights, MoeWeights, MlpWeights> mixer;
};

// What a model computes with.
struct ModelWeights {
  ConstTensorView embeddings;  // [vocab_size, hidden_size]
  std::vector<LayerWeights> layers;
  ConstTensorView norm_f;     // [hidden_size]
  ops::LinearWeight lm_head;  // [vocab_size, hidden_size]; the embeddings where they are tied
};

// Weights with the memory they stand in; move-only.
class Weights {
 public:
  // From the checkpoint folder, under the hub's names or transformers 5's. Linear weights keep their stored
  // element type where activations are fp32, and stay in the mapped files where the backend can read them
  // there; where activations are bf16 (`dtype`), f32 and f16 linear weights are rounded to bf16 once (as
  // `.to(torch.bfloat16)` does). The state-space parameters and the router become f32; norms and convolutions
  // stay as stored. Tensors of multi-token prediction (`mtp.`) are left out, with one log line.
  // kInvalidData: a tensor is missing, extra, of the wrong shape; kUnsupported: a quantised format. One
  // sentence naming file, tensor and shapes.
  [[nodiscard]] static Result<Weights> load(const std::string& folder, const ModelConfig& config, DType dtype,
                                            ops::Backend& backend);

  // Random weights of these dimensions, the linear ones of `dtype`, scaled so that activations stay of order
  // one: for benchmarks and tests without a checkpoint. The same seed gives the same weights.
  [[nodiscard]] static Result<Weights> random(const ModelConfig& config, DType dtype, uint64_t seed,
                                              ops::Backend& backend);

  [[nodiscard]] const ModelWeights& operator*() const { return weights_; }
  [[nodiscard]] const ModelWeights* operator->() const { return &weights_; }

 private:
  ModelWeights weights_;
  std::unique_ptr<io::SafetensorsFolder> checkpoint_;  // where views point into mapped files
  std::vector<Buffer> buffers_;                        // everything else
};

}  // namespace nemoforge::model
