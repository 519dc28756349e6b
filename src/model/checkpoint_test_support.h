// Small checkpoints that tests write: a tiny model, whole or with a fault.
#pragma once

#include <fstream>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "base/check.h"
#include "base/rng.h"
#include "base/temporary_folder.h"
#include "io/safetensors.h"
#include "tensor/buffer.h"

namespace nemoforge::model {

inline void write_text(const std::string& path, std::string_view text) {
  std::ofstream file(path, std::ios::binary);
  file << text;
  file.flush();
  NF_CHECK(file.good()) << path;
}

// Tensors by name, in memory, to be changed before they are written.
class TensorSet {
 public:
  // Adds or replaces.
  void set(const std::string& name, const Shape& shape, DType dtype = DType::kF32) {
    Tensor tensor = make_host_tensor(dtype, shape);
    auto* bytes = static_cast<unsigned char*>(tensor.view().raw());
    // Any bit pattern will do for other types; floats stay small and finite.
    if (dtype == DType::kF32) {
      for (int64_t i = 0; i < shape.numel(); ++i) {
        tensor.view().data<float>()[i] = static_cast<float>(0.1 * rng_.normal());
      }
    } else {
      for (int64_t i = 0; i < shape.numel() * dtype_bytes(dtype); ++i) bytes[i] = 0x11;
    }
    tensors_[name] = std::move(tensor);
  }
  void erase(const std::string& name) { tensors_.erase(name); }
  void write(const std::string& path) const {
    std::vector<io::NamedTensor> named;
    for (const auto& [name, tensor] : tensors_) named.push_back({name, tensor.view()});
    const auto written = io::write_safetensors(path, named);
    NF_CHECK(written.has_value()) << written.error().message;
  }

 private:
  Rng rng_{5};
  std::map<std::string, Tensor> tensors_;
};

// One layer of each kind, as small as can be.
inline constexpr std::string_view kTinyConfig = R"({
  "model_type": "nemotron_h", "vocab_size": 10, "hidden_size": 8, "hybrid_override_pattern": "ME*-",
  "mamba_num_heads": 2, "mamba_head_dim": 4, "n_groups": 1, "ssm_state_size": 4, "conv_kernel": 4, "chunk_size": 8,
  "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 4, "n_routed_experts": 2, "num_experts_per_tok": 1,
  "moe_intermediate_size": 6, "moe_shared_expert_intermediate_size": 5, "intermediate_size": 7, "eos_token_id": 2})";

// The tensors of that model under the hub's names.
inline TensorSet tiny_tensors() {
  TensorSet tensors;
  const auto layer = [&](int layer_idx, const std::string& name, const Shape& shape) {
    tensors.set("backbone.layers." + std::to_string(layer_idx) + "." + name, shape);
  };
  tensors.set("backbone.embeddings.weight", {10, 8});
  for (int i = 0; i < 4; ++i) layer(i, "norm.weight", {8});
  layer(0, "mixer.in_proj.weight", {26, 8});
  layer(0, "mixer.out_proj.weight", {8, 8});
  layer(0, "mixer.conv1d.weight", {16, 1, 4});
  layer(0, "mixer.conv1d.bias", {16});
  for (const char* name : {"mixer.A_log", "mixer.D", "mixer.dt_bias"}) layer(0, name, {2});
  layer(0, "mixer.norm.weight", {8});
  layer(1, "mixer.gate.weight", {2, 8});
  layer(1, "mixer.gate.e_score_correction_bias", {2});
  for (const char* expert : {"0", "1"}) {
    layer(1, std::string("mixer.experts.") + expert + ".up_proj.weight", {6, 8});
    layer(1, std::string("mixer.experts.") + expert + ".down_proj.weight", {8, 6});
  }
  layer(1, "mixer.shared_experts.up_proj.weight", {5, 8});
  layer(1, "mixer.shared_experts.down_proj.weight", {8, 5});
  layer(2, "mixer.q_proj.weight", {8, 8});
  layer(2, "mixer.k_proj.weight", {4, 8});
  layer(2, "mixer.v_proj.weight", {4, 8});
  layer(2, "mixer.o_proj.weight", {8, 8});
  layer(3, "mixer.up_proj.weight", {7, 8});
  layer(3, "mixer.down_proj.weight", {8, 7});
  tensors.set("backbone.norm_f.weight", {8});
  tensors.set("lm_head.weight", {10, 8});
  return tensors;
}

}  // namespace nemoforge::model
